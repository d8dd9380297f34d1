"""A run folder (docs/run-folder.md) with as many operations as one likes, and what judging it costs, all told.

Used by benchmarks/checker.py. As a program, `python benchmarks/checker_folder.py FOLDER` is what is measured: a fresh
interpreter, from the folder on disk to the verdict on linearizability, as one line of JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Cost", "judge_folder", "write_folder"]

_ROWS_A_STREAM = 2_500_000
_SAMPLED_EVERY_S = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a user waits for and needs. `peak_bytes` is Python's peak and its child's, added up."""

    verdict: str
    seconds: float
    peak_bytes: int
    python_peak_bytes: int
    child_peak_bytes: int


def judge_folder(folder: Path, *, program: Path | None = None) -> Cost:
    """Judge a run folder in a process of its own, and watch it and its children."""
    started_s = time.monotonic()
    command = [sys.executable, __file__, str(folder), *([str(program)] if program else [])]
    peaks: dict[int, int] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE) as judge:
        while judge.poll() is None:
            for pid in (judge.pid, *_children(judge.pid)):
                peaks[pid] = max(peaks.get(pid, 0), _peak_bytes(pid))
            time.sleep(_SAMPLED_EVERY_S)
        seconds = time.monotonic() - started_s
        assert judge.stdout is not None
        said = json.loads(judge.stdout.read())
    # Python says its own peak at its end, which sampling might miss.
    own = max(peaks.pop(judge.pid, 0), said["peak_bytes"])
    child = max(peaks.values(), default=0)
    return Cost(
        verdict=said["verdict"],
        seconds=seconds,
        peak_bytes=own + child,
        python_peak_bytes=own,
        child_peak_bytes=child,
    )


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    except OSError:
        return []


def _peak_bytes(pid: int | str) -> int:
    """The most that a process ever held resident; 0 when it has ended. rusage would count its parent's too."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM:")), 0)


def write_folder(folder: Path, operations: Any) -> None:
    """Write a run in which these operations were recorded; they are the binding's `Operations`, of a CAS register."""
    import polars as pl

    sys.path.insert(0, str(Path(__file__).parent.parent))
    from tests.runs import control, write_table

    run = control(folder, rate_per_s=1000.0, duration_s=len(operations) / 1000.0)
    run.write()
    for stream in (folder / "history").glob("*.arrow"):
        stream.unlink()
    for number, first in enumerate(range(0, len(operations), _ROWS_A_STREAM)):
        table = _recorded(operations, slice(first, first + _ROWS_A_STREAM))
        assert isinstance(table, pl.DataFrame)
        write_table(folder / "history" / f"load-{number}.arrow", table)


def _recorded(operations: Any, rows: slice) -> Any:
    """The columns of the history (harness/operation.py) that these operations would have left."""
    import polars as pl
    from aftershock.harness.history import empty_history
    from aftershock.harness.porcupine import ABSENT, F

    from tests.runs import ORIGIN_NS

    def column(name: str) -> pl.Series:
        return pl.Series(name, getattr(operations, name)[rows])

    def unless_absent(name: str) -> pl.Expr:
        return pl.when(pl.col(name) != ABSENT).then(pl.col(name))

    names: Mapping[int, str] = {F.READ: "read", F.WRITE: "write", F.CAS: "cas"}
    read, lost = pl.col("f") == "read", pl.col("unknown")
    table = pl.DataFrame([column(name) for name in ("process", "key", "f", "value", "expected", "unknown")])
    table = table.with_columns(
        start_ns=column("start_ns") + ORIGIN_NS, end_ns=column("end_ns"), f=pl.col("f").replace_strict(dict(names))
    )
    # An insert is what the history calls a compare-and-set on absence.
    insert = (pl.col("f") == "cas") & (pl.col("expected") == ABSENT)
    return (
        table.with_columns(
            f=pl.when(insert).then(pl.lit("insert")).otherwise("f"),
            end_ns=pl.when(lost).then(None).otherwise(pl.col("end_ns") + ORIGIN_NS),
            worker=pl.col("process") % 64,
            client=pl.format("clients-r{}", 1 + pl.col("process") % 2),
            space=pl.lit("cas-register"),
            final=pl.lit(value=False),
            shard=pl.col("key") % 16,
            key=pl.format("h-{}", "key"),
            value=pl.when(read & lost).then(None).otherwise(unless_absent("value")),
            expected=pl.when(pl.col("f") == "cas").then(unless_absent("expected")),
            observed=None,
            version=None,
            intended_ns=pl.col("start_ns"),
            outcome=pl.when(lost).then(pl.lit("unknown")).otherwise(pl.lit("ok")),
            result=pl.when(lost)
            .then(pl.lit(""))
            .when(read)
            .then(pl.when(pl.col("value") == ABSENT).then(pl.lit("not-found")).otherwise(pl.lit("found")))
            .otherwise(pl.lit("done")),
            error=pl.when(lost).then(pl.lit("timeout")).otherwise(pl.lit("")),
            attempts=1,
        )
        .select(empty_history().columns)
        .cast(empty_history().schema)
    )


def _judge(folder: Path, program: Path | None) -> dict[str, Any]:
    from aftershock.harness.checks.linearizability import check_linearizability
    from aftershock.harness.porcupine import _check
    from aftershock.harness.record import load_record

    if program is not None:
        _check.checker_path = lambda: program  # type: ignore[attr-defined]
    found = check_linearizability(load_record(folder))
    return {"verdict": str(found.result.verdict), "reason": found.result.reason, "peak_bytes": _peak_bytes("self")}


if __name__ == "__main__":
    print(json.dumps(_judge(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)))
