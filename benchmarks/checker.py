"""The history checker against Porcupine, and what judging a run costs all told: the table in docs/checker.md.

    python benchmarks/checker.py [--only TEXT] [--limit-s 60] [--repeat 5] [--markdown]

Ratios count the decision alone on both sides, from the same history in memory, in the same run: ours is what the
program says that it took to decide, the median of several processes, and Porcupine's is one call of its own interface
in Go, partitioned by key. `>`: it had not ended within the limit. The all-told rows count everything that a user waits
for: a fresh interpreter, from a run folder on disk to the verdict, and the memory of Python and of its child.

Needs Go to build Porcupine's side; takes about ten minutes and 16 GB with the limits that are preset.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from aftershock.harness.porcupine import Engine, Model, Operations, programs
from aftershock.harness.porcupine._child import Answer, ask
from aftershock.harness.porcupine._wire import Request, write_request

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.checker_folder import judge_folder, write_folder
from benchmarks.checker_histories import Shape, generate

_NATIVE = Path(__file__).parent.parent / "harness" / "porcupine" / "native"
_OURS_S = 120.0
_OURS_BYTES = 6 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    program: Path  # ours
    porcupine: Path
    limit_s: float  # of one Porcupine call
    memory_bytes: int  # of the same
    repeat: int
    seed: int
    folders: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table."""

    case: str
    operations: int
    ours: str
    porcupine: str
    ratio: str
    aim: str
    met: bool


# ------------------------------------------------------------------------------------------------ one program


def run(program: Path, history: Operations, *, engine: Engine, limit_s: float, memory_bytes: int) -> Answer:
    """Hand a history to a program and wait for its answer."""

    def write_input(target: IO[bytes]) -> None:
        request = Request(
            model=Model.CAS_REGISTER, engine=engine, deadline_ms=int(limit_s * 1000), workers=0, initial={}
        )
        write_request(target, history, request)

    # The limit is of the decision, and reading a large history takes some seconds too.
    until_s = time.monotonic() + limit_s * 1.1 + 10
    return ask(program, write_input=write_input, until_s=until_s, memory_limit_bytes=memory_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    verdict: str  # unknown, with the reason, when we did not decide it
    reason: str
    seconds: float
    peak_bytes: int


def ours(history: Operations, settings: Settings) -> Decided:
    """The median of several processes."""
    found: list[tuple[float, int]] = []
    verdicts: dict[str, str] = {}
    for _ in range(settings.repeat):
        answer = run(settings.program, history, engine=Engine.AUTO, limit_s=_OURS_S, memory_bytes=_OURS_BYTES)
        verdicts = {line["verdict"]: line.get("reason", "") for line in answer.lines}
        seconds = answer.summary.get("decide_seconds", _OURS_S)
        found.append((seconds, answer.peak_bytes))
        if answer.problem or "unknown" in verdicts:
            reason = answer.problem or verdicts["unknown"]
            return Decided(verdict="unknown", reason=reason, seconds=seconds, peak_bytes=answer.peak_bytes)
    return Decided(
        verdict="fail" if "fail" in verdicts else "pass",
        reason="",
        seconds=statistics.median(seconds for seconds, _ in found),
        peak_bytes=max(peak for _, peak in found),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """What Porcupine did: its verdict, or None when it did not end, and then why."""

    verdict: str | None
    seconds: float
    peak_bytes: int

    @property
    def text(self) -> str:
        memory = f", {self.peak_bytes / 1e9:.1f} GB" if self.peak_bytes > 1e9 else ""
        return f"{'' if self.verdict else '> '}{amount(self.seconds)}{memory}"


def porcupine(history: Operations, settings: Settings) -> Peer:
    began_s = time.monotonic()
    answer = run(
        settings.porcupine,
        history,
        engine=Engine.PORCUPINE,
        limit_s=settings.limit_s,
        memory_bytes=settings.memory_bytes,
    )
    took_s = min(time.monotonic() - began_s, settings.limit_s)
    if not answer.summary:
        if answer.problem is None or "ended" not in answer.problem:
            raise SystemExit(f"Porcupine failed: {answer.problem}")
        return Peer(verdict=None, seconds=took_s, peak_bytes=answer.peak_bytes)
    verdict = answer.summary["verdict"]
    return Peer(
        verdict=None if verdict == "unknown" else verdict,
        seconds=answer.summary["decide_seconds"],
        peak_bytes=answer.peak_bytes,
    )


# ------------------------------------------------------------------------------------------------ rows


def ratio_row(
    case: str,
    shape: Shape,
    settings: Settings,
    *,
    ratio: float | None,
    most_s: float | None = None,
    most_bytes: int | None = None,
) -> Row:
    """Both sides on one history. The aim is a ratio, seconds of ours, and memory, whichever are given."""
    history = generate(shape, seed=settings.seed)
    mine, peer = ours(history, settings), porcupine(history, settings)
    if mine.verdict not in ("fail" if shape.stale else "pass", "unknown"):
        raise SystemExit(f"{case}: we say {mine.verdict}")
    if mine.verdict != "unknown" and peer.verdict not in (None, mine.verdict):
        raise SystemExit(f"{case}: we say {mine.verdict}, Porcupine says {peer.verdict}")
    decided = mine.verdict != "unknown"
    aims, met = [], decided
    if ratio is not None:
        aims.append(f"ratio ≥ {ratio:,.0f}")
        met &= peer.seconds / mine.seconds >= ratio
    if most_s is not None:
        aims.append(f"under {amount(most_s)}")
        met &= mine.seconds < most_s
    text = amount(mine.seconds) if decided else f"not decided: {mine.reason}"
    if most_bytes is not None:
        aims.append(f"under {most_bytes / 1e9:g} GB")
        met &= mine.peak_bytes < most_bytes
        text += f", {mine.peak_bytes / 1e9:.2f} GB"
    mark = "" if peer.verdict else "> "
    return Row(
        case=case,
        operations=len(history),
        ours=text,
        porcupine=peer.text,
        ratio=f"{mark}{peer.seconds / mine.seconds:,.0f}",
        aim=", ".join(aims),
        met=met,
    )


def folder_row(case: str, shape: Shape, settings: Settings, *, most_s: float, most_bytes: int, repeat: int) -> Row:
    """All told, from a run folder on disk: the median of several interpreters."""
    with tempfile.TemporaryDirectory(prefix="aftershock-checker-", dir=settings.folders) as name:
        folder = Path(name) / "run"
        history = generate(shape, seed=settings.seed)
        count = len(history)
        write_folder(folder, history)
        del history
        costs = [judge_folder(folder, program=settings.program) for _ in range(repeat)]
    if any(cost.verdict != "pass" for cost in costs):
        raise SystemExit(f"{case}: we say {[cost.verdict for cost in costs]}")
    seconds = statistics.median(cost.seconds for cost in costs)
    peak = max(costs, key=lambda cost: cost.peak_bytes)
    memory = f"{peak.peak_bytes / 1e6:,.0f} MB"
    parts = f"Python {peak.python_peak_bytes / 1e6:,.0f}, its child {peak.child_peak_bytes / 1e6:,.0f}"
    return Row(
        case=case,
        operations=count,
        ours=f"{amount(seconds)}, {memory} ({parts})",
        porcupine="",
        ratio="",
        aim=f"under {amount(most_s)}, under {most_bytes / 1e6:,.0f} MB",
        met=seconds < most_s and peak.peak_bytes < most_bytes,
    )


def counterexample_row(case: str, shape: Shape, settings: Settings, *, most_s: float) -> Row:
    """From a key's verdict to its counterexample, by when the program's two lines on it arrive."""
    history = generate(shape, seed=settings.seed)
    seconds, rows = [], 0
    with tempfile.TemporaryFile() as source:
        request = Request(model=Model.CAS_REGISTER, engine=Engine.AUTO, deadline_ms=60_000, workers=0, initial={})
        write_request(source, history, request)
        for _ in range(settings.repeat):
            source.seek(0)
            arrived = []
            with subprocess.Popen([settings.program], stdin=source, stdout=subprocess.PIPE) as child:
                assert child.stdout is not None
                for line in child.stdout:
                    arrived.append((time.monotonic(), line))
            (said_s, _), (shown_s, shown) = arrived[0], arrived[1]
            if b'"counterexample"' not in shown:
                raise SystemExit(f"{case}: no counterexample: {shown[:200]!r}")
            seconds.append(shown_s - said_s)
            rows = shown.count(b",", shown.index(b'"rows"'), shown.index(b"]", shown.index(b'"rows"'))) + 1
    took_s = statistics.median(seconds)
    return Row(
        case=case,
        operations=len(history),
        ours=f"{amount(took_s)}, of {rows} operations",
        porcupine="",
        ratio="",
        aim=f"under {amount(most_s)}",
        met=took_s < most_s,
    )


def amount(seconds: float) -> str:
    """Seconds in the unit that reads best."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.3g} s"


Maker = Callable[[str, Settings], Row]

ONE_KEY = Shape(operations=10_000, clients=10)
CRASHES = Shape(operations=1_000_000, clients=50, cas=0.1, crashed=0.05, late=5.0)

CASES: dict[str, Maker] = {
    "one key, 10 clients, valid": lambda case, s: ratio_row(case, ONE_KEY, s, ratio=1_000, most_s=2e-3),
    "one key, 10 clients, valid, longer": lambda case, s: ratio_row(
        case, Shape(operations=30_000, clients=10), s, ratio=3_000, most_s=6e-3
    ),
    "one stale read, 18 crashed writes": lambda case, s: ratio_row(
        case, Shape(operations=120, clients=3, writes=0.4, crashed=18, effective=0.0, stale=True), s, ratio=100_000
    ),
    "20 hot keys, 3 % crashed late": lambda case, s: ratio_row(
        case, Shape(operations=100_000, clients=40, keys=20, crashed=0.03, late=100.0), s, ratio=None, most_s=0.05
    ),
    "100 keys, valid": lambda case, s: ratio_row(case, Shape(operations=100_000, clients=20, keys=100), s, ratio=5),
    "1,000 keys, valid": lambda case, s: ratio_row(
        case, Shape(operations=1_000_000, clients=50, keys=1_000), s, ratio=5
    ),
    "1,000 keys, 10 % CAS, 5 % crashed": lambda case, s: ratio_row(
        case, Shape(operations=1_000_000, clients=50, keys=1_000, cas=0.1, crashed=0.05, late=5.0), s, ratio=5
    ),
    "repeated values (5), one key": lambda case, s: ratio_row(
        case,
        Shape(operations=1_000_000, clients=10, cas=0.3, writes=0.5, values=5),
        s,
        ratio=None,
        most_s=20.0,
        most_bytes=3_000_000_000,
    ),
    "repeated values (5), one key, 5 % crashed": lambda case, s: ratio_row(
        case,
        Shape(operations=1_000_000, clients=10, cas=0.3, writes=0.5, values=5, crashed=0.05, late=5.0),
        s,
        ratio=None,
        most_s=20.0,
        most_bytes=3_000_000_000,
    ),
    "counterexample after the verdict": lambda case, s: counterexample_row(
        case, Shape(operations=1_000_000, clients=50, cas=0.1, crashed=0.05, late=5.0, stale=True), s, most_s=0.05
    ),
    "all told: one key, 5 % crashed": lambda case, s: folder_row(
        case, CRASHES, s, most_s=1.0, most_bytes=500_000_000, repeat=s.repeat
    ),
    "all told: 1,000 keys, 5 % crashed": lambda case, s: folder_row(
        case,
        Shape(operations=10_000_000, clients=50, keys=1_000, cas=0.1, crashed=0.05, late=5.0),
        s,
        most_s=12.0,
        most_bytes=3_000_000_000,
        repeat=1,
    ),
}


# ------------------------------------------------------------------------------------------------ table


def rows(settings: Settings, only: str) -> Iterator[Row]:
    for case, make in CASES.items():
        if only in case:
            yield make(case, settings)


def show(row: Row, *, markdown: bool) -> None:
    met = "met" if row.met else "**not met**" if markdown else "NOT MET"
    cells = (row.case, f"{row.operations:,}", row.ours, row.porcupine, row.ratio, row.aim, met)
    if markdown:
        print("| " + " | ".join(cells) + " |", flush=True)
    else:
        print("  ".join(f"{cell:{width}}" for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip(), flush=True)


_WIDTHS = (36, 11, 48, 18, 12, 34, 8)
_TITLES = ("history", "operations", "ours", "Porcupine", "ratio", "aim", "")


def build_porcupine(folder: Path) -> Path:
    """Build Porcupine's side. Raises SystemExit when it cannot be."""
    target = folder / "porcupine-alone"
    try:
        subprocess.run(["go", "build", "-o", target, "./cmd/porcupine-alone"], cwd=_NATIVE, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"Porcupine's side cannot be built; this needs Go 1.23 or newer ({error})") from None
    return target


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="the cases with this text in their names")
    parser.add_argument("--list", action="store_true", help="show the names and stop")
    parser.add_argument("--limit-s", type=float, default=60.0, help="of one Porcupine call (default: %(default)s)")
    parser.add_argument("--memory-gb", type=float, default=14.0, help="of the same (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=5, help="processes of ours, of which the median counts")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--markdown", action="store_true", help="as docs/checker.md has it")
    parser.add_argument("--program", type=Path, help="our checker, when not the one that is installed")
    parser.add_argument("--folders", type=Path, help="where to put run folders for a while (1.5 GB)")
    options = parser.parse_args()
    if options.list:
        print("\n".join(CASES))
        return 0
    with tempfile.TemporaryDirectory(prefix="aftershock-checker-") as name:
        settings = Settings(
            program=options.program or programs.checker_path(),
            porcupine=build_porcupine(Path(name)),
            limit_s=options.limit_s,
            memory_bytes=int(options.memory_gb * 1e9),
            repeat=options.repeat,
            seed=options.seed,
            folders=options.folders or Path(name),
        )
        print(
            f"seed {options.seed}; {os.cpu_count()} cores; Porcupine: {options.limit_s:g} s, {options.memory_gb:g} GB"
        )
        print()
        if options.markdown:
            print("| " + " | ".join(_TITLES) + " |\n|" + "---|" * len(_TITLES))
        else:
            print("  ".join(f"{title:{width}}" for title, width in zip(_TITLES, _WIDTHS, strict=True)).rstrip())
        met = True
        for row in rows(settings, options.only):
            show(row, markdown=options.markdown)
            met &= row.met
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
