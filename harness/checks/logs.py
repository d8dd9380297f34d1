"""What the targets of each fault printed around it. Lines are data: whatever a member prints is shown as it is."""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from typing import Any, Final

from ..record import RunRecord
from .result import Span
from .view import View

__all__ = ["log_excerpts"]

_AROUND_S: Final = 1.0
_MOST_LINES: Final = 40
_MOST_CHARACTERS: Final = 500
# CLOCK_MONOTONIC at the start of a line, in nanoseconds (`123456789012345 text`) or seconds (`[123456.789] text`).
_NANOSECONDS: Final = re.compile(r"^\[?(\d{10,19})\]?\s")
_SECONDS: Final = re.compile(r"^\[?\s*(\d{1,9}\.\d{3,9})\]?\s")


def log_excerpts(view: View) -> list[dict[str, Any]]:
    """Last lines of the logs of each target, and of those who decided on it, in the window and a second around it."""
    timed = {member: _timed(view.record, text) for member, text in view.record.logs.items()}
    found = []
    for fault in view.faults:
        if fault.injected_s is None or fault.is_control:
            continue
        span = (fault.injected_s - _AROUND_S, fault.ends_s + _AROUND_S)
        for member in dict.fromkeys([*fault.targets, *_deciders(view, span)]):
            if member in timed:
                found.append(_excerpt(fault.id, member, span, timed[member]))
    return found


def _deciders(view: View, span: Span) -> list[str]:
    """Who suspected or decided in this time: what the target itself cannot tell, being cut off or dead."""
    inside = (e for e in view.record.events if span[0] <= view.record.seconds(e.t_ns) <= span[1])
    return sorted({e.source for e in inside if e.kind in ("suspected", "decided")})


def _timed(record: RunRecord, text: str) -> list[tuple[float | None, str]]:
    """Lines with their time; one without takes that of the line before it (a traceback belongs to its message)."""
    lines: list[tuple[float | None, str]] = []
    last: float | None = None
    # Split at newlines only: members may print the other characters that str.splitlines takes for line ends.
    for line in text.split("\n"):
        if not line.strip():
            continue
        t_ns = _time_ns(line)
        last = last if t_ns is None else record.seconds(t_ns)
        lines.append((last, line.rstrip("\r")))
    return lines


def _time_ns(line: str) -> int | None:
    if line.startswith("{"):
        try:
            t_ns = json.loads(line).get("t_ns")
        except (ValueError, AttributeError, RecursionError):
            return None
        return t_ns if isinstance(t_ns, int) else None
    if found := _NANOSECONDS.match(line):
        return int(found[1])
    if found := _SECONDS.match(line):
        return round(float(found[1]) * 1e9)
    return None


def _excerpt(incident: str, member: str, span: Span, lines: list[tuple[float | None, str]]) -> dict[str, Any]:
    if any(t_s is not None for t_s, _ in lines):
        known = [(t_s, text) for t_s, text in lines if t_s is not None]
        times = [t_s for t_s, _ in known]
        first, last = bisect_left(times, span[0]), bisect_right(times, span[1])
        inside: list[tuple[float | None, str]] = list(known[first:last])
    else:
        # Nobody knows which lines belong to the fault, so the newest are shown, without a time.
        inside = lines
    chosen = inside[-_MOST_LINES:]
    return {
        "incident": incident,
        "member": member,
        "span_s": [round(span[0], 3), round(span[1], 3)],
        "lines": [
            {"t_s": None if t_s is None else round(t_s, 3), "text": text[:_MOST_CHARACTERS]} for t_s, text in chosen
        ],
        "lines_more": len(inside) - len(chosen),
    }
