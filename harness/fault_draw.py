"""Draws the windows of a random schedule: the same scenario and seed give the same windows, on any machine.

Every window has its own streams of random numbers, derived from the seed and the window's number: one for its gap and
duration, and one for each template that stands for election. The template with the greatest u^(1/weight) wins
(Efraimidis and Spirakis, 2006, algorithm A-Res with a reservoir of one), which chooses in proportion to the weights.
So a template that is added wins some of the windows and leaves which fault each other window is as it was.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from .fault_budget import Away, Cost, FaultBudget, cost_of
from .fault_plans import HAIR_S, FaultPlan, RandomFault, RandomPlan, excused_spans

__all__ = ["DRAWN", "Frame", "derive", "draw", "drawn_mistakes"]

DRAWN = "random-"  # how the ids of drawn windows begin
_STEP_S = 0.01  # times are drawn in hundredths of a second, for people read them


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What a random schedule must fit into."""

    load_s: float
    explicit: tuple[FaultPlan, ...]
    budget: FaultBudget
    least_steady_s: float  # outside excused times, for the scenario's targets to be told from broken

    def steady_s(self, drawn: Sequence[FaultPlan]) -> float:
        spans = excused_spans([*self.explicit, *drawn], self.load_s)
        return self.load_s - sum(end_s - start_s for start_s, end_s in spans)

    def fits(self, window: FaultPlan, until_s: float) -> bool:
        seen_s = window.start_s + window.rto_s if window.expect == "recovers" else window.end_s
        return window.end_s <= until_s + HAIR_S and seen_s <= self.load_s + HAIR_S


def derive(seed: int, what: str) -> int:
    """A seed for one purpose. A hash, and not Python's own, which differs from process to process."""
    return int.from_bytes(hashlib.sha256(f"aftershock/{seed}/{what}".encode()).digest()[:8])


def draw(plan: RandomPlan, seed: int, frame: Frame) -> list[FaultPlan]:
    """The windows that this seed draws, by start: until one does not fit any more, or `count` is reached."""
    keys = _keys(plan)
    from_s, until_s = plan.span_s(frame.explicit, frame.load_s)
    drawn: list[FaultPlan] = []
    away: list[Away] = []
    while plan.count is None or len(drawn) < plan.count:
        number = len(drawn) + 1
        rng = random.Random(derive(seed, f"random/{number}"))
        gap_s, share = _between(plan.gap_s, rng.random()), rng.random()
        chosen = _elected(plan, keys, seed, number, away, frame.budget, from_s)
        if chosen is None:
            break
        fault, cost, room_s = chosen
        window = FaultPlan(
            id=f"{DRAWN}{number}",
            name=fault.name,
            start_s=_hundredths(room_s + gap_s),
            duration_s=_between(plan.duration_of(fault), share),
            expect=fault.expect,
            rto_s=fault.rto_s,
            overlap=plan.at_once > 1,
            settings=fault.settings,
        )
        if not frame.fits(window, until_s) or frame.steady_s([*drawn, window]) < frame.least_steady_s - HAIR_S:
            break
        drawn.append(window)
        away.append(Away(start_s=window.start_s, end_s=window.end_s, cost=cost))
        from_s = window.start_s
    return drawn


def _elected(
    plan: RandomPlan,
    keys: Sequence[str],
    seed: int,
    number: int,
    away: Sequence[Away],
    budget: FaultBudget,
    from_s: float,
) -> tuple[RandomFault, Cost, float] | None:
    """The template that wins this window among those for which the budget has, or will have, room."""
    standing = []
    for fault, key in zip(plan.faults, keys, strict=True):
        cost = cost_of(fault.settings, loses_disk=fault.loses_disk)
        room_s = budget.room_s(away, cost, from_s=from_s)
        if room_s is not None:
            lot = random.Random(derive(seed, f"random/{number}/{key}")).random()
            # log u / w orders as u^(1/w) does, and does not underflow for small weights.
            standing.append((math.log(max(lot, 1e-300)) / fault.weight, key, (fault, cost, room_s)))
    return max(standing, key=lambda each: each[:2])[2] if standing else None


def _keys(plan: RandomPlan) -> list[str]:
    """Templates by name, those of one name numbered: what a template is called must not depend on the others."""
    names = [fault.name for fault in plan.faults]
    return [f"{name}#{names[: number + 1].count(name)}" for number, name in enumerate(names)]


def _between(bounds: tuple[float, float], share: float) -> float:
    """The place between two bounds, in hundredths, and never outside them."""
    return min(max(round(bounds[0] + share * (bounds[1] - bounds[0]), 2), bounds[0]), bounds[1])


def _hundredths(at_s: float) -> float:
    """Rounded up, so that no window begins before there is room for it."""
    return round(math.ceil((at_s - HAIR_S) / _STEP_S) * _STEP_S, 2)


# ------------------------------------------------------------------------------------------------ mistakes


def drawn_mistakes(plan: RandomPlan, frame: Frame) -> list[str]:
    """What makes a [random] section one that some seeds cannot be drawn from, or none."""
    found = []
    from_s, until_s = plan.span_s(frame.explicit, frame.load_s)
    if until_s > frame.load_s:
        found.append(f"random.until_s = {until_s:g}: after the load ({frame.load_s:g} s)")
    if from_s >= until_s:
        found.append(f"random: windows are to be drawn from {from_s:g} s until {until_s:g} s, which leaves no time")
        return found
    for fault in frame.explicit:
        if fault.start_s < until_s - HAIR_S and fault.end_s > from_s + HAIR_S:
            found.append(
                f"random: windows are drawn from {from_s:g} to {until_s:g} s, and {fault.id} ({fault.name}) is on from "
                f"{fault.start_s:g} to {fault.end_s:g} s; set random.from_s or random.until_s so that they do not meet"
            )
        if fault.id.startswith(DRAWN):
            found.append(f"fault: the id {fault.id!r} belongs to the windows that [random] draws; choose another")
    for number, template in enumerate(plan.faults):
        found += _never_drawn(f"random.fault.{number} ({template.name})", plan, template, frame, (from_s, until_s))
    return found


def _never_drawn(
    where: str, plan: RandomPlan, fault: RandomFault, frame: Frame, span_s: tuple[float, float]
) -> list[str]:
    """Every template must have room as the first window of every seed: otherwise some seeds would draw nothing."""
    reason = frame.budget.ever(cost_of(fault.settings, loses_disk=fault.loses_disk))
    if reason is not None:
        return [f"{where}: can never be drawn, because {reason}"]
    longest_s = plan.duration_of(fault)[1]
    latest = FaultPlan(
        id="-",
        name=fault.name,
        start_s=_hundredths(span_s[0] + plan.gap_s[1]),
        duration_s=longest_s,
        expect=fault.expect,
        rto_s=fault.rto_s,
    )
    if not frame.fits(latest, span_s[1]):
        text = (
            f"{where}: a window of up to {longest_s:g} s (rto_s = {fault.rto_s:g}) after a gap of up to "
            f"{plan.gap_s[1]:g} s does not fit between {span_s[0]:g} s and {span_s[1]:g} s for every seed; make the "
            "load longer, or the ranges smaller"
        )
        return [text]
    if frame.steady_s([latest]) < frame.least_steady_s - HAIR_S:
        text = (
            f"{where}: one window already leaves too few operations outside recovery windows for the scenario's "
            "targets; make the load longer"
        )
        return [text]
    return []
