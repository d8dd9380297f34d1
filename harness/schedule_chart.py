"""A schedule as a small text chart: one row a window, time across, 100 columns at most. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Bar", "chart"]

_WIDTH = 100
_LABEL_MAX = 30
_AXIS = "seconds"
# Distances between marks on the axis, in seconds; the first with enough room for its numbers is taken.
_STEPS_S = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 28800)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One window: on from start to end; `excused_until_s` is until when the system may be unavailable for it."""

    label: str
    start_s: float
    end_s: float
    excused_until_s: float | None


def chart(bars: Sequence[Bar], load_s: float) -> list[str]:
    """Lines: an axis in seconds, a row a bar, and what the signs mean."""
    label = min(_LABEL_MAX, max(len(_AXIS), *(len(bar.label) for bar in bars)))
    columns = _WIDTH - label - 2
    per_s = columns / load_s
    lines = [f"{_AXIS:<{label}}  {_axis(columns, load_s)}"]
    for bar in bars:
        text = bar.label if len(bar.label) <= label else bar.label[: label - 1] + "…"
        lines.append(f"{text:<{label}}  {_row(bar, columns, per_s)}".rstrip())
    return [*lines, f"{'':<{label}}  # on   - over, and the system may still be unavailable   . neither"]


def _axis(columns: int, load_s: float) -> str:
    per_s = columns / load_s
    step_s = next((step for step in _STEPS_S if step * per_s >= len(f"{load_s:.0f}") + 3), _STEPS_S[-1])
    line = ""
    for mark in range(0, int(load_s) + 1, step_s):
        at = int(mark * per_s)
        if at >= len(line) and at + len(str(mark)) <= columns:
            line = line.ljust(at) + str(mark)
    return line


def _row(bar: Bar, columns: int, per_s: float) -> str:
    """A window is one column at least, however short it is."""

    def column(at_s: float) -> int:
        return min(int(at_s * per_s), columns)

    first = min(column(bar.start_s), columns - 1)
    signs = ["."] * columns
    if bar.excused_until_s is not None:
        for place in range(first, max(column(bar.excused_until_s), first)):
            signs[place] = "-"
    for place in range(first, max(column(bar.end_s), first + 1)):
        signs[place] = "#"
    return "".join(signs)
