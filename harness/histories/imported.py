"""Somebody's history as one frozen value: what every reader makes, and what is judged and converted.

A reader says what it found; `imported` holds it against what is true of every history, and names the line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from ..errors import UsageError
from ..operation import Outcome

__all__ = ["FUNCTIONS", "SCHEMA", "ImportedHistory", "imported", "problem"]

FUNCTIONS: Final = (
    "read",
    "write",
    "cas",
    "insert",
    "delete",
    "add",
    "contains",
    "read-all",
    "enqueue",
    "dequeue",
    "increment",
    "acquire",
    "release",
    "append",
    "transfer",
)
"""What an operation may be called. An `insert` is a compare-and-set on absence."""

_RESULTS: Final = ("", "done", "mismatch", "found", "not-found", "held", "not-compared")

SCHEMA: Final[Mapping[str, type[pl.DataType]]] = {
    "line": pl.Int64,
    "end_line": pl.Int64,
    "process": pl.Int64,
    "f": pl.String,
    "key": pl.String,
    "value": pl.String,
    "observed": pl.String,
    "version": pl.Int64,
    "start_ns": pl.Int64,
    "end_ns": pl.Int64,
    "outcome": pl.String,
    "result": pl.String,
    "answer": pl.String,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedHistory:
    """Operations of a file, a row each, in the file's order.

    `frame` has the columns of `SCHEMA`. `key`, `value` and `observed` are canonical JSON texts, null for absence. Of a
    compare-and-set `value` is the list of the value that it asked for and the new one; when it did not match,
    `observed` is what stood there, null when that was not told, and the result `not-found` says that nothing did.
    `answer` is for models of users' own: the canonical text of whatever the result is. `line` and `end_line` say where
    in the file, null in formats without lines.
    """

    path: Path
    format: str
    frame: pl.DataFrame
    clock: str = "ns"
    """`ns`, or `lines`: the file has no times to go by, so they are line numbers (positions, if lines are shared)."""
    notes: tuple[str, ...] = ()
    """What the reader noticed, one sentence each."""
    holes: tuple[str, ...] = ()
    """What is known to be missing. Such a history is never a pass."""


def problem(path: Path, line: int | None, text: str) -> UsageError:
    """An error at a place of a file. `text` says what was found, what was expected, and what to do."""
    return UsageError(f"{path}: {text}" if line is None else f"{path}:{line}: {text}")


def imported(path: Path, frame: pl.DataFrame, *, free: bool = False, **more: Any) -> ImportedHistory:
    """Check what is true of every history. Raises UsageError with the line of the first row of which it is not.

    `free`: it is for a model of the user's own, so functions and results may be whatever it takes.
    """
    frame = frame.select([pl.col(name).cast(kind) for name, kind in SCHEMA.items()])
    if not frame.height:
        raise problem(path, None, "holds no operation of a client; expected at least one")
    start, end, outcome = pl.col("start_ns"), pl.col("end_ns"), pl.col("outcome")
    _refuse(path, frame, ~outcome.is_in([str(o) for o in Outcome]), _wrong_outcome)
    if not free:
        _refuse(path, frame, ~pl.col("f").is_in(FUNCTIONS), _wrong_function)
        _refuse(path, frame, ~pl.col("result").is_in(_RESULTS), _wrong_result)
        _refuse(path, frame, (pl.col("result") == "mismatch") & ~pl.col("f").is_in(["cas", "insert"]), _odd_mismatch)
    _refuse(path, frame, start.is_null(), _no_start)
    _refuse(path, frame, (outcome == "ok") & end.is_null(), _no_end)
    _refuse(path, frame, end < start, _clock_step)
    _refuse_overlap(path, frame)
    return ImportedHistory(path=path, frame=frame, **more)


def _refuse(path: Path, frame: pl.DataFrame, wrong: pl.Expr, say: Callable[[Mapping[str, Any]], str]) -> None:
    found = frame.filter(wrong).head(1)  # null is no row
    if found.height:
        row = found.row(0, named=True)
        raise problem(path, row["line"], say(row))


def _wrong_outcome(row: Mapping[str, Any]) -> str:
    return (
        f"the outcome is {row['outcome']!r}; expected ok (it happened), fail (it certainly did not) or unknown (nobody "
        "knows, such as after a timeout)"
    )


def _wrong_function(row: Mapping[str, Any]) -> str:
    return f"`f` is {row['f']!r}; expected one of {', '.join(FUNCTIONS)}"


def _wrong_result(row: Mapping[str, Any]) -> str:
    return f"the result is {row['result']!r}; expected one of {', '.join(filter(None, _RESULTS))}, or nothing"


def _no_start(row: Mapping[str, Any]) -> str:
    return f"this {row['f']} has no start_ns; expected the time just before it was sent, in nanoseconds"


def _no_end(row: Mapping[str, Any]) -> str:
    return (
        f"this {row['f']} is ok, and has no end_ns; expected the time when its answer came, in nanoseconds. If no "
        "answer came, its outcome is unknown"
    )


def _clock_step(row: Mapping[str, Any]) -> str:
    return (
        f"this {row['f']} by process {row['process']} ends at {row['end_ns']}, before it starts at {row['start_ns']}: "
        "the clock was set back in between. Which operation came first is not known then; record with a monotonic "
        "clock (CLOCK_MONOTONIC) on one host"
    )


def _odd_mismatch(row: Mapping[str, Any]) -> str:
    return f"a {row['f']} cannot have the result mismatch; only a compare-and-set or an insert can"


def _refuse_overlap(path: Path, frame: pl.DataFrame) -> None:
    """A process is one sequential client. What it gave up waiting for stays open, and it may go on."""
    overlap = (pl.col("process") == pl.col("process").shift(1)) & (pl.col("start_ns") < pl.col("end_ns").shift(1))
    by_process = frame.sort("process", "start_ns", "end_ns", maintain_order=True)
    overlaps = by_process.select(overlap.alias("overlap"))["overlap"].fill_null(value=False)
    position = overlaps.arg_max()
    if position is None or not overlaps[position]:
        return
    first, second = by_process[position - 1 : position + 1].iter_rows(named=True)
    there = "" if first["line"] is None else f" (line {first['line']})"
    raise problem(
        path,
        second["line"],
        f"process {second['process']} starts this {second['f']} at {second['start_ns']}, while its {first['f']}{there} "
        f"goes on until {first['end_ns']}; expected one operation at a time. Give each concurrent client a number of "
        "its own",
    )
