"""Slots to history: Arrow IPC streams with the columns of `harness/operation.py`, and `load.json`.

A pure function of the load's folder, so it can be done after a SIGKILL of anything, and done again. Column by column
in numpy: a million slots take a few seconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..harness.errors import InternalError, RunFolderError
from ..harness.operation import HISTORY_SCHEMA_VERSION, OPERATION_COLUMNS
from .outcomes import ERROR_CODES, RESULTS, UNANSWERED
from .page import Counter, Page
from .slots import (
    FINAL,
    FUNCTIONS,
    HAS_EXPECTED,
    HAS_SEEN,
    HAS_VALUE,
    HAS_VERSION,
    OUTCOMES,
    State,
    read_all,
)
from .spec import SPEC_FILE, LoadFile, Space, read_spec

__all__ = ["ON_TIME_NS", "convert", "operations", "schema"]

ON_TIME_NS: Final = 50_000_000
_BATCH_ROWS: Final = 65_536
_UNKNOWN: Final = 2  # place of "unknown" in OUTCOMES

Slots: TypeAlias = np.ndarray[Any, Any]


def schema() -> pa.Schema:
    """The Arrow schema of a history stream."""
    fields = []
    for name, kind in OPERATION_COLUMNS.items():
        plain = kind.removesuffix("?")
        arrow = pa.bool_() if plain == "bool" else getattr(pa, plain)()
        fields.append(pa.field(name, arrow, nullable=kind.endswith("?")))
    return pa.schema(fields, metadata={"aftershock.history": str(HISTORY_SCHEMA_VERSION)})


def convert(
    folder: Path, history: Path, *, shard_of: Callable[[str], int | None], compression: str | None = "zstd"
) -> dict[str, Any]:
    """Write `history/*.arrow` and `history/load.json` from the slots in `folder`; returns what `load.json` holds.

    `shard_of` is asked once per key. Raises RunFolderError when the folder holds no load.
    """
    if not (folder / SPEC_FILE).exists():
        raise RunFolderError(f"{folder}: holds no {SPEC_FILE}, so it is not the record of a load")
    spec = read_spec(folder)
    history.mkdir(parents=True, exist_ok=True)
    streams: dict[str, list[Slots]] = {}
    holes = 0
    for path, slots, unreadable in read_all(folder):
        streams.setdefault(path.name.rpartition("-")[0], []).append(slots)
        holes += unreadable
    options = pa.ipc.IpcWriteOptions(compression=compression)
    every = []
    for name, parts in streams.items():
        slots = np.concatenate(parts)
        table = operations(slots, spec, shard_of=shard_of)
        with (
            pa.OSFile(str(history / f"{name}.arrow"), "wb") as file,
            pa.ipc.new_stream(file, schema(), options=options) as writer,
        ):
            writer.write_table(table, max_chunksize=_BATCH_ROWS)
        every.append(slots)
    generator_cpu, died = _account(folder, spec)
    summary = {
        **_summary(spec, np.concatenate(every) if every else None),
        "holes": holes,
        "generator_cpu": generator_cpu,
        "died": died,
    }
    (history / "load.json").write_text(json.dumps(summary, indent=1) + "\n")
    return summary


def operations(slots: Slots, spec: LoadFile, *, shard_of: Callable[[str], int | None]) -> pa.Table:
    """The operations that these slots hold, as a table of `schema()`."""
    state = slots["state"]
    complete = state == State.COMPLETE
    not_sent = state == State.NOT_SENT
    f = slots["f"]
    is_read = f == FUNCTIONS.index("read")
    # The completion of a slot that is only invoked was never finished: none of its fields counts.
    outcome = np.where(complete | not_sent, slots["outcome"], _UNKNOWN)
    has_seen = complete & ((slots["has"] & HAS_SEEN) != 0)
    keys, shards = _keys(slots, spec, shard_of)
    columns: dict[str, pa.Array] = {
        "process": pa.array(slots["process"]),
        "worker": pa.array(slots["worker"]),
        "client": _named([group.name for group in spec.groups], slots["group"]),
        "space": _named([space.name for space in spec.spaces], slots["space"]),
        "f": _named(FUNCTIONS, f),
        "final": pa.array((slots["flags"] & FINAL) != 0),
        "key": keys,
        "shard": shards,
        "value": _optional(
            np.where(is_read, slots["seen"], slots["value"]),
            np.where(is_read, has_seen, (slots["flags"] & HAS_VALUE) != 0),
        ),
        "expected": _optional(slots["expected"], (slots["flags"] & HAS_EXPECTED) != 0),
        "observed": _optional(slots["seen"], has_seen & ~is_read),
        "version": _optional(slots["version"], complete & ((slots["has"] & HAS_VERSION) != 0)),
        "intended_ns": pa.array(slots["intended_ns"]),
        "start_ns": _optional(slots["start_ns"], ~not_sent),
        # When the client stopped waiting. An unknown operation stays open for ever all the same: `outcome` says so.
        "end_ns": _optional(slots["end_ns"], complete),
        "outcome": _named([str(name) for name in OUTCOMES], outcome),
        "result": _named(RESULTS, np.where(complete, slots["result"], 0)),
        "error": _named(ERROR_CODES, np.where(complete | not_sent, slots["error"], UNANSWERED)),
        "attempts": pa.array(np.where(complete | not_sent, slots["attempts"], 1).astype(np.int32)),
    }
    return pa.Table.from_arrays([columns[name] for name in OPERATION_COLUMNS], schema=schema())


def _optional(values: Slots, present: Slots) -> pa.Array:
    return pa.array(np.ascontiguousarray(values), mask=~present)


def _named(names: list[str] | tuple[str, ...], numbers: Slots) -> pa.Array:
    return pa.array(list(names), pa.string()).take(pa.array(numbers.astype(np.int64)))


def _keys(slots: Slots, spec: LoadFile, shard_of: Callable[[str], int | None]) -> tuple[pa.Array, pa.Array]:
    """Names and shards of the slots' keys; each distinct key is named and placed once."""
    spaces = len(spec.spaces)
    if len(slots) and int(slots["space"].max()) >= spaces:
        raise InternalError(f"a slot names key space {slots['space'].max()}, but the load has {spaces}")
    names: list[pa.Array] = []
    place = np.zeros(len(slots), dtype=np.int64)
    known = 0
    for number, space in enumerate(spec.spaces):
        mine = slots["space"] == number
        distinct, inverse = np.unique(slots["key"][mine], return_inverse=True)
        place[mine] = inverse + known
        known += len(distinct)
        names.append(_key_names(space, distinct))
    table = pa.concat_arrays(names)
    shards = pa.array([shard_of(key) for key in table.to_pylist()], pa.int32())
    where = pa.array(place)
    return table.take(where), shards.take(where)


def _key_names(space: Space, numbers: Slots) -> pa.Array:
    if space.key_names is not None:
        return pa.array(list(space.key_names), pa.string()).take(pa.array(numbers))
    digits = pa.array(numbers).cast(pa.string())
    return pc.call_function("binary_join_element_wise", [pa.scalar(space.key_prefix), digits, pa.scalar("")])


def _account(folder: Path, spec: LoadFile) -> tuple[float | None, str | None]:
    """From the pages of counters: the share of one core that the busiest load process used while load ran (None when
    none began), and which of them did not come to their end, in words (None when all did)."""
    shares, died = [], []
    for number in range(spec.processes):
        path = folder / f"load-{number}.page"
        if not path.exists():
            died.append(f"load process {number} never started")
            continue
        page = Page(path)
        clock_ns = page[Counter.CLOCK_NOW_NS] - page[Counter.CLOCK_BEGIN_NS]
        if clock_ns > 0:
            shares.append((page[Counter.CPU_NOW_NS] - page[Counter.CPU_BEGIN_NS]) / clock_ns)
        problem = page.problem()
        if problem is not None:
            died.append(f"load process {number} {problem}")
        page.close()
    return (round(max(shares), 4) if shares else None), "; ".join(died) or None


def _summary(spec: LoadFile, slots: Slots | None) -> dict[str, Any]:
    """What the load generator says of itself (docs/load.md lists the keys)."""
    planned = spec.planned
    found = slots[(slots["flags"] & FINAL) == 0] if slots is not None else np.zeros(0, dtype=[("state", "u1")])
    not_sent = int(np.count_nonzero(found["state"] == State.NOT_SENT))
    sent = len(found) - not_sent
    errors: dict[str, int] = {}
    late_ms: dict[str, float | None] = {"late_p50_ms": None, "late_p99_ms": None, "late_max_ms": None}
    on_time = 0
    if len(found):
        assert slots is not None
        # How late the generator was with an arrival, whether a client was free for it or not.
        late_ns = found["start_ns"] - found["intended_ns"]
        on_time = int(np.count_nonzero(late_ns <= ON_TIME_NS))
        p50, p99, largest = (round(float(x) / 1e6, 3) for x in np.percentile(late_ns, [50, 99, 100]))
        late_ms = {"late_p50_ms": p50, "late_p99_ms": p99, "late_max_ms": largest}
        codes = np.where(found["state"] == State.INVOKED, UNANSWERED, found["error"])
        counts = np.bincount(codes, minlength=len(ERROR_CODES))
        errors = {code: int(count) for code, count in zip(ERROR_CODES, counts, strict=True) if code and count}
    return {
        "schema": 1,
        "planned": planned,
        "sent": sent,
        "not_sent": not_sent,
        "unplayed": planned - sent - not_sent,
        "rate_per_s": spec.rate_per_s,
        "processes": spec.processes,
        "on_time_ratio": on_time / planned,
        **late_ms,
        "errors": errors,
        "final_reads": len(slots) - len(found) if slots is not None else 0,
    }
