"""Logs of events: an invocation and its completion are two entries, and become one operation here."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from .imported import SCHEMA, ImportedHistory, imported, problem

__all__ = ["Event", "from_events"]

_OUTCOMES: Final = {"ok": "ok", "fail": "fail", "info": "unknown"}
# The value of all others is what was asked for, and is known from the invocation on.
_ANSWERS: Final = frozenset(("read", "read-all", "dequeue", "acquire", "increment"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One entry. `kind` is invoke, ok, fail or info; `key` and `value` are canonical texts, None for nothing."""

    line: int
    kind: str
    process: int
    f: str
    key: str | None
    value: str | None
    time_ns: int | None = None
    result: str = ""


def from_events(
    path: Path, events: Iterable[Event], *, format_: str, notes: Iterable[str] = (), free: bool = False
) -> ImportedHistory:
    """Pair invocations with completions, by process. An invocation without completion is unknown.

    The order of the entries is the clock: an entry was written after everything above it. Where the file has times
    that say the same, these are used, to be shown. Raises UsageError with the line of an entry that has no partner.
    """
    entries = list(events)
    times = _usable_times(entries)
    said = list(notes)
    if times is None and any(event.time_ns is not None for event in entries):
        said.append("The times are not all there and rising, so the order of the entries is the clock.")
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA}
    waiting: dict[int, tuple[Event, int]] = {}
    row_of: dict[int, int] = {}
    for event, at in zip(entries, times or _places(entries), strict=True):
        if event.kind == "invoke":
            if event.process in waiting:
                raise problem(path, event.line, _still_open(event, waiting[event.process][0]))
            waiting[event.process] = (event, at)
            row_of[event.process] = _append(columns, event, at)
            continue
        asked, _ = waiting.pop(event.process, (None, 0))
        if asked is None:
            raise problem(path, event.line, _no_invocation(event))
        _complete(columns, row_of[event.process], asked, event, at, path, free=free)
    frame = pl.DataFrame(columns, schema=dict(SCHEMA))
    clock = "lines" if times is None else "ns"
    return imported(path, frame, format=format_, clock=clock, notes=tuple(said), free=free)


def _usable_times(entries: list[Event]) -> list[int] | None:
    """The times, when all are there and each is later than the one above; then they and the order say the same."""
    times = [event.time_ns for event in entries if event.time_ns is not None]
    rising = len(times) == len(entries) and all(a < b for a, b in itertools.pairwise(times))
    return times if rising else None


def _places(entries: list[Event]) -> list[int]:
    """Line numbers; where entries share a line, positions."""
    lines = [event.line for event in entries]
    distinct = all(a < b for a, b in itertools.pairwise(lines))
    return lines if distinct else list(range(1, len(entries) + 1))


def _append(columns: dict[str, list[Any]], event: Event, at: int) -> int:
    """A row of which no more is known than that it began."""
    for name, value in (
        ("line", event.line),
        ("end_line", None),
        ("process", event.process),
        ("f", event.f),
        ("key", event.key),
        ("value", event.value),
        ("observed", None),
        ("version", None),
        ("start_ns", at),
        ("end_ns", None),
        ("outcome", "unknown"),
        ("result", ""),
        ("answer", None),
    ):
        columns[name].append(value)
    return len(columns["line"]) - 1


def _complete(
    columns: dict[str, list[Any]], row: int, asked: Event, event: Event, at: int, path: Path, *, free: bool
) -> None:
    if asked.f != event.f or (event.key != asked.key and (event.key is not None or event.kind == "ok")):
        raise problem(path, event.line, _other_operation(event, asked))
    if asked.time_ns is not None and event.time_ns is not None and event.time_ns < asked.time_ns:
        raise problem(
            path,
            event.line,
            f"this {event.f} by process {event.process} ends at {event.time_ns}, before it starts at {asked.time_ns} "
            f"(line {asked.line}): the clock was set back in between. Leave the times out, and the order of the "
            "entries is the clock",
        )
    if free:  # what was asked for and what was answered are two things, whatever the function
        given = asked.value
        columns["answer"][row] = event.value
    elif event.f in _ANSWERS:
        # An increment that tells nothing was by as much as it asked for.
        given = event.value if event.value is not None or event.f != "increment" else asked.value
    else:
        given = asked.value if asked.value is not None else event.value
        if event.kind == "ok" and event.value not in (None, given):
            raise problem(
                path,
                event.line,
                f"this {event.f} by process {event.process} was invoked with {asked.value} (line {asked.line}) and is "
                f"ok with {event.value}; expected the same value twice, or none here",
            )
    outcome = _OUTCOMES[event.kind]
    if outcome == "ok" or free or event.f not in _ANSWERS:
        columns["value"][row] = given
    columns["end_line"][row] = event.line
    # Nobody waits any more, but what is unknown may still happen.
    columns["end_ns"][row] = at
    columns["outcome"][row] = outcome
    columns["result"][row] = event.result


def _still_open(event: Event, open_: Event) -> str:
    return (
        f"process {event.process} invokes a {event.f} while its {open_.f} of line {open_.line} is open; expected its "
        "completion (ok, fail or info) before. Either entries are missing, or two clients share the number"
    )


def _no_invocation(event: Event) -> str:
    return (
        f"process {event.process} completes a {event.f} ({event.kind}) that it did not invoke; expected an invocation "
        "above. Is the beginning of the file missing?"
    )


def _other_operation(event: Event, asked: Event) -> str:
    where = "" if event.key == asked.key else f" of key {event.key}"
    there = "" if event.key == asked.key else f" of key {asked.key}"
    return (
        f"process {event.process} completes a {event.f}{where}, but what it has open is the {asked.f}{there} of line "
        f"{asked.line}; expected the completion of that one"
    )
