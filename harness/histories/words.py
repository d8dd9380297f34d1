"""An operation as one would say it, and the verdict on a history as text for a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

__all__ = ["call_of", "verdict_text"]

_MOST_KEYS: Final = 5
_MOST_OPERATIONS: Final = 40
_UNITS: Final = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us"), (1, "ns"))


def call_of(operation: Mapping[str, Any]) -> str:
    """`write 7`, `read -> 7`, `cas 3 to 0`: what was asked, and after the arrow what was answered."""
    f, value, result = operation["f"], operation["value"], operation["result"]
    unknown = operation["outcome"] == "unknown"
    if f in ("read", "read-all", "dequeue"):
        answer = "nothing" if value is None else _json(value)
        return f"{f} (no answer)" if unknown else f"{f} -> {answer}"
    asked = f
    if f == "cas":
        asked = f"cas {_json(operation['expected'])} to {_json(value)}"
    elif f == "acquire" and value is not None:
        return f"acquire -> token {_json(value)}"
    elif value is not None:
        asked = f"{f} {_json(value)}"
    if unknown:
        return f"{asked} (no answer)"
    if result == "mismatch" or operation["outcome"] == "fail":
        observed = operation["observed"]
        return f"{asked} -> no match" + ("" if observed is None else f", found {_json(observed)}")
    return f"{asked} -> {result}" if result in ("found", "not-found", "held") else asked


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def verdict_text(judged: Mapping[str, Any]) -> str:
    """The object of `judge_history` as lines: verdict and reason first, then why, key by key."""
    lines = [f"{str(judged['verdict']).upper()}  {judged['reason']}"]
    keys = judged["keys"]
    total = keys["checked"] + len(keys["unknown"])
    counted = f"{judged['operations']:,} operations on {'1 key' if total == 1 else f'{total:,} keys'}"
    lines.append(
        f"      {judged['file']} ({judged['format']}) as {judged['model']}: {counted}, {judged['seconds']:.3f} s"
    )
    lines += [f"      note: {note}" for note in judged["notes"]]
    for violation in keys["violated"][:_MOST_KEYS]:
        lines += ["", *_violation(violation, clock=judged["clock"])]
    more = keys["violated"][_MOST_KEYS:]
    if more:
        lines += ["", f"{len(more)} more keys are violated: {_names(more)} (--json has them all)"]
    if keys["unknown"]:
        lines += ["", f"{len(keys['unknown'])} keys were not decided: {_names(keys['unknown'])}"]
        lines.append(f"  {keys['unknown'][0]['reason']}")
    if judged["sessions"] is not None:
        lines += ["", *_sessions(judged["sessions"])]
    return "\n".join(lines) + "\n"


def _names(entries: Sequence[Mapping[str, Any]]) -> str:
    names = [_json(entry["key"]) for entry in entries[:_MOST_KEYS]]
    return ", ".join(names) + (", ..." if len(entries) > _MOST_KEYS else "")


def _violation(violation: Mapping[str, Any], *, clock: str) -> Iterator[str]:
    of = "" if violation["key"] is None else f"Key {_json(violation['key'])}: "
    yield f"{of}{violation['reason']}"
    operations = violation["operations"][:_MOST_OPERATIONS]
    if operations:
        yield ""
        yield from _table(operations, clock=clock)
    if len(violation["reasons"]) > 1:
        yield ""
        yield from (f"  {i}. {step}" for i, step in enumerate(violation["reasons"], start=1))
    prefix = list(_prefix(violation))
    yield from ["", *prefix] if prefix else []


def _prefix(violation: Mapping[str, Any]) -> Iterator[str]:
    """How far one order explains the key's answers, where that is known."""
    count, line = violation["prefix_operations"], violation["prefix_end_line"]
    if count is None:
        return
    until = (
        f"the answer in line {line} is the first that none explains" if line is not None else "no order explains more"
    )
    answers = "answer" if count == 1 else f"{count:,} answers"
    yield f"  One order explains the first {answers} on this key; {until}."


def _table(operations: Sequence[Mapping[str, Any]], *, clock: str) -> Iterator[str]:
    times = [t for one in operations for t in (one["start_ns"], one["end_ns"]) if t is not None]
    first, span = min(times, default=0), max(times, default=0) - min(times, default=0)
    divisor, unit = next(((d, u) for d, u in _UNITS if span >= 10 * d), _UNITS[-1])

    def at(time_ns: int | None, *, otherwise: str) -> str:
        if time_ns is None:
            return otherwise
        return f"line {time_ns}" if clock == "lines" else f"{(time_ns - first) / divisor:.3f} {unit}"

    rows = [
        (
            _lines_of(one),
            "" if one["process"] < 0 else f"process {one['process']}",
            one["text"],
            at(one["start_ns"], otherwise="at first"),
            at(one["end_ns"], otherwise="at first" if one["start_ns"] is None else "open"),
            one.get("note", ""),
        )
        for one in operations
    ]
    titles = ("line", "client", "operation", "from", "to", "")
    widths = [max(len(row[i]) for row in [titles, *rows]) for i in range(5)]
    for row in [titles, *rows]:
        cells = "  ".join(cell.ljust(width) for cell, width in zip(row[:5], widths, strict=True))
        yield f"  {cells}  {row[5]}".rstrip()


def _lines_of(operation: Mapping[str, Any]) -> str:
    line, end = operation["line"], operation["end_line"]
    if line is None:
        return "-"
    return f"{line}" if end in (None, line) else f"{line}, {end}"


def _sessions(sessions: Mapping[str, Any]) -> Iterator[str]:
    yield "Session guarantees, by each client's own answers alone (when others' writes were acknowledged is not used):"
    for one in sessions["guarantees"]:
        yield f"  {one['verdict'].upper():<8}{one['guarantee']}" + (
            "" if one["verdict"] == "pass" else f": {one['reason']}"
        )
