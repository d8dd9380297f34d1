"""What a scenario says of its fault windows: single, repeated, or drawn at random. Values; what repeats is unrolled.

Which windows a seed draws is `schedule`'s to say, within the limits of `fault_budget`. docs/scenarios.md is the
reference of the file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

__all__ = [
    "Expect",
    "FaultPlan",
    "Placed",
    "RandomFault",
    "RandomPlan",
    "Range",
    "excused_spans",
    "misplaced",
    "unrolled",
]

Expect = Literal["available", "recovers", "unavailable"]

# Times in a scenario are decimal, sums of them are not: 12.34 + 3.21 is a hair more than 15.55.
HAIR_S = 1e-6


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= value[0] <= value[1]:
        raise ValueError("a range is two numbers, the smaller first, such as [2, 6]")
    return value


Range = Annotated[tuple[float, float], AfterValidator(_ordered)]


def _longer_than_nothing(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] <= 0:
        raise ValueError("a window lasts longer than 0 s")
    return value


_Duration = Annotated[Range, AfterValidator(_longer_than_nothing)]


class FaultPlan(_Model):
    """One fault window, or one that is repeated. `settings` are the fault's own."""

    id: str
    name: str
    start_s: float = Field(ge=0)
    duration_s: float = Field(gt=0)
    expect: Expect = "recovers"
    rto_s: float = Field(default=5.0, gt=0)
    overlap: bool = Field(default=False, description="it may be on while another window is")
    every_s: float | None = Field(default=None, gt=0, description="start again this long after the last start")
    times: int | None = Field(default=None, ge=1, le=1000, description="with every_s; default: until the load ends")
    settings: dict[str, Any] = Field(default_factory=dict)

    @property
    def end_s(self) -> float:
        return self.start_s + self.duration_s


class RandomFault(_Model):
    """A kind of window that may be drawn. `duration_s` takes the place of the one of all."""

    name: str
    weight: float = Field(default=1.0, gt=0)
    duration_s: _Duration | None = None
    expect: Expect = "recovers"
    rto_s: float = Field(default=5.0, gt=0)
    loses_disk: bool = Field(default=False, description="said by the fault itself, not by who writes a scenario")
    settings: dict[str, Any] = Field(default_factory=dict)


class RandomPlan(_Model):
    """Windows that the seed draws, one after another, each after a gap since there was room for it."""

    from_s: float | None = Field(default=None, ge=0, description="default: when the last [[fault]] has ended, or 0")
    until_s: float | None = Field(default=None, gt=0, description="default: the end of the load")
    gap_s: Range = (3.0, 8.0)
    duration_s: _Duration = (2.0, 6.0)
    at_once: int = Field(default=1, ge=1, le=100, description="members that are broken at the same time, at most")
    count: int | None = Field(default=None, ge=1, le=1000, description="windows at most; default: as many as fit")
    faults: tuple[RandomFault, ...] = Field(min_length=1)

    def span_s(self, explicit: Iterable[FaultPlan], load_s: float) -> tuple[float, float]:
        """From when to when windows may be drawn."""
        from_s = max((fault.end_s for fault in explicit), default=0.0) if self.from_s is None else self.from_s
        return from_s, load_s if self.until_s is None else self.until_s

    def duration_of(self, fault: RandomFault) -> tuple[float, float]:
        return self.duration_s if fault.duration_s is None else fault.duration_s


# ------------------------------------------------------------------------------------------------ repeating


@dataclass(frozen=True, slots=True)
class Placed:
    """A window, and where in the file it is, for messages."""

    where: str
    plan: FaultPlan


def unrolled(faults: Sequence[FaultPlan], load_s: float) -> list[Placed]:
    """Every window on its own: f3 with `every_s` becomes f3.1, f3.2, …; by start."""
    found = []
    for number, fault in enumerate(faults):
        where = f"fault.{number} ({fault.name})"
        if fault.every_s is None:
            found.append(Placed(where, fault))
            continue
        for turn in range(_times(fault, load_s)):
            changes = {
                "id": f"{fault.id}.{turn + 1}",
                "start_s": round(fault.start_s + turn * fault.every_s, 9),
                "every_s": None,
                "times": None,
            }
            found.append(Placed(f"{where}, turn {turn + 1}", fault.model_copy(update=changes)))
    return sorted(found, key=lambda placed: placed.plan.start_s)


def _times(fault: FaultPlan, load_s: float) -> int:
    """How often it is repeated; without `times` as long as a window, and the recovery from it, end with the load."""
    if fault.times is not None or fault.every_s is None:
        return fault.times or 1
    needs_s = max(fault.duration_s, fault.rto_s) if fault.expect == "recovers" else fault.duration_s
    return max(1, math.floor((load_s - needs_s - fault.start_s + HAIR_S) / fault.every_s) + 1)


# ------------------------------------------------------------------------------------------------ mistakes


def misplaced(faults: Sequence[FaultPlan], windows: Sequence[Placed], load_s: float) -> list[str]:
    """Mistakes in when windows are: on top of each other unasked, or beyond the load."""
    found = []
    for number, fault in enumerate(faults):
        where = f"fault.{number} ({fault.name})"
        if fault.times is not None and fault.every_s is None:
            found.append(f"{where}: times = {fault.times} needs every_s, the time from one start to the next")
        if fault.every_s is not None and fault.every_s < fault.duration_s - HAIR_S and not fault.overlap:
            found.append(
                f"{where}: every_s = {fault.every_s:g} is shorter than duration_s = {fault.duration_s:g}, so it would "
                "be on twice at once; say overlap = true if that is meant"
            )
    for number, placed in enumerate(windows):
        window = placed.plan
        found += _overlapping(placed, windows[:number])
        if window.end_s > load_s + HAIR_S:
            found.append(f"{placed.where}: ends at {window.end_s:g} s, after the load ({load_s:g} s)")
        if window.expect == "recovers" and window.rto_s > load_s - window.start_s + HAIR_S:
            found.append(
                f"{placed.where}: rto_s = {window.rto_s:g} reaches past the end of the load; recovery could not be seen"
            )
    return found


def _overlapping(placed: Placed, earlier: Sequence[Placed]) -> list[str]:
    """One mistake at most: the window that is on longest of those that this one meets."""
    window = placed.plan
    met = [other for other in earlier if other.plan.end_s > window.start_s + HAIR_S]
    for other in met:
        if "noop" in (window.name, other.plan.name):
            text = (
                f"{placed.where}: starts at {window.start_s:g} s, before {other.plan.id} ({other.plan.name}) has "
                f"ended ({other.plan.end_s:g} s); the control arm says nothing beside a fault, so noop overlaps nothing"
            )
            return [text]
    unasked = [
        # A fault with `every_s` that meets itself has been told of already.
        other
        for other in met
        if not (window.overlap or other.plan.overlap) and other.where.split(",")[0] != placed.where.split(",")[0]
    ]
    if not unasked:
        return []
    last = max(unasked, key=lambda other: other.plan.end_s).plan
    text = (
        f"{placed.where}: starts at {window.start_s:g} s, before {last.id} ({last.name}) has ended ({last.end_s:g} s); "
        "say overlap = true on one of them if that is meant"
    )
    return [text]


# ------------------------------------------------------------------------------------------------ excuses


def excused_spans(faults: Iterable[FaultPlan], load_s: float) -> list[tuple[float, float]]:
    """Times in which only the gap is judged (DESIGN section 4, targets under faults), merged where they meet."""
    spans = []
    for fault in faults:
        if fault.expect != "available":
            until_s = fault.start_s + fault.rto_s if fault.expect == "recovers" else fault.end_s + fault.rto_s
            spans.append((fault.start_s, min(until_s, load_s)))
    merged: list[tuple[float, float]] = []
    for start_s, until_s in sorted(spans):
        if merged and start_s <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], until_s))
        else:
            merged.append((start_s, until_s))
    return merged
