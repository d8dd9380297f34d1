"""The schedule: a scenario and a seed, resolved into fault windows. Pure: the same two give the same schedule.

Which member "the primary" is cannot be known before the cluster runs; everything else is fixed here. Every window has
its own stream of random choices, derived from the seed and the window's id, so that adding a window to a scenario does
not change the choices of the others. Windows may overlap where the scenario says so.
"""

from __future__ import annotations

import random
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ScenarioError
from .fault_draw import derive, draw
from .fault_plans import HAIR_S
from .interfaces import Fault
from .registry import Registry
from .scenario import Expect, Scenario, frame
from .schedule_chart import Bar, chart

__all__ = ["Schedule", "Window", "plan", "render_text", "resolve"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One planned fault window. Times are seconds from the start of the load."""

    id: str
    name: str
    start_s: float
    end_s: float
    expect: Expect
    rto_s: float
    settings: Mapping[str, Any]
    rng_seed: int

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s

    def rng(self) -> random.Random:
        """A fresh stream of this window's random choices, always the same one."""
        return random.Random(self.rng_seed)

    def title(self) -> str:
        """A few words: `f2 partition isolate primary`."""
        chosen = [self.settings[key] for key in ("shape", "target") if key in self.settings]
        words = ["+".join(map(str, each)) if isinstance(each, list | tuple) else str(each) for each in chosen]
        return " ".join([self.id, self.name, *words])

    def meets(self, other: Window) -> bool:
        """Whether the two are planned to be on at the same time for more than a hair."""
        return min(self.end_s, other.end_s) - max(self.start_s, other.start_s) > HAIR_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """All windows of a run, in order of their start. They overlap only where the scenario says that they may."""

    scenario: str
    seed: int
    rate_per_s: float
    load_s: float
    settle_s: float
    windows: tuple[Window, ...]

    def window(self, fault_id: str) -> Window:
        return next(window for window in self.windows if window.id == fault_id)

    def fault(self, fault_id: str, registry: Registry) -> Fault:
        """The fault of a window, made from its settings. Raises UsageError when the registry has no such plugin."""
        window = self.window(fault_id)
        plugin = registry.get("fault", window.name)
        fault: Fault = plugin(plugin.settings.model_validate(dict(window.settings)))
        return fault

    def current(self, at_s: float) -> str | None:
        """Titles of the faults that are planned to be on at this second, for the progress line."""
        on = [window.title() for window in self.windows if window.start_s <= at_s < window.end_s]
        return " + ".join(on) or None

    def overlapping(self) -> bool:
        """Whether any two windows are planned to be on at the same time."""
        return any(a.meets(b) for n, a in enumerate(self.windows) for b in self.windows[n + 1 :])


def resolve(scenario: Scenario, seed: int) -> Scenario:
    """The scenario under one seed: every window explicit, nothing left to draw. To run it again is to replay it.

    Raises ScenarioError when nothing can be drawn; scenarios that were parsed have room for one window at least.
    """
    if scenario.random is None:
        return scenario.model_copy(update={"seed": seed})
    drawn = draw(scenario.random, seed, frame(scenario))
    if not drawn:
        raise ScenarioError(scenario.name, [f"random: seed {seed} draws no window at all; widen its ranges"])
    faults = sorted([*scenario.faults, *drawn], key=lambda fault: fault.start_s)
    return scenario.model_copy(update={"seed": seed, "faults": tuple(faults), "random": None})


def plan(scenario: Scenario, seed: int) -> Schedule:
    """Resolve a scenario's fault windows under one seed (DESIGN section 4, randomness)."""
    windows = [
        Window(
            id=fault.id,
            name=fault.name,
            start_s=fault.start_s,
            end_s=fault.end_s,
            expect=fault.expect,
            rto_s=fault.rto_s,
            settings=dict(fault.settings),
            rng_seed=derive(seed, f"fault/{fault.id}"),
        )
        for fault in resolve(scenario, seed).faults
    ]
    return Schedule(
        scenario=scenario.name,
        seed=seed,
        rate_per_s=scenario.load.rate_per_s,
        load_s=scenario.load.duration_s,
        settle_s=scenario.settle_s,
        windows=tuple(sorted(windows, key=lambda window: window.start_s)),
    )


_EXPECTED = {
    "available": "the system must stay available throughout",
    "recovers": "the system must be available again within {rto_s:g} s, although the fault is still on",
    "unavailable": "the system may be unavailable until {rto_s:g} s after healing",
}


def render_text(schedule: Schedule, registry: Registry | None = None) -> str:
    """What a run would break, when, whom, and how it is undone: the output of `--dry-run`.

    With a registry each fault describes itself; without one its settings are shown as they stand.
    """
    count = len(schedule.windows)
    how_many = f"{count or 'no'} fault window{'' if count == 1 else 's'}"
    lines = [
        f"Schedule of {schedule.scenario}, seed {schedule.seed}: {how_many}"
        + (", some on at the same time" if schedule.overlapping() else ""),
        f"{_at(0)}  load begins: {schedule.rate_per_s:g} operations a second",
    ]
    for window in schedule.windows:
        lines.append(f"{_at(window.start_s)}  {window.id} {window.name}, until {window.end_s:g} s")
        lines += _indented(_described(schedule, window, registry))
        lines += _indented(_EXPECTED[window.expect].format(rto_s=window.rto_s))
    if schedule.overlapping():
        lines += ["", *chart([_bar(window, schedule.load_s) for window in schedule.windows], schedule.load_s), ""]
    lines += [
        f"{_at(schedule.load_s)}  load ends; up to {schedule.settle_s:g} s to be whole again, then every key is read",
        "Also undone when the run is interrupted, and by the watchdog within 10 s when the tool itself is killed.",
        "Nothing was started.",
    ]
    return "\n".join(lines)


def _bar(window: Window, load_s: float) -> Bar:
    from_s = window.end_s if window.expect == "unavailable" else window.start_s
    excused_s = None if window.expect == "available" else min(from_s + window.rto_s, load_s)
    return Bar(label=window.title(), start_s=window.start_s, end_s=window.end_s, excused_until_s=excused_s)


def _described(schedule: Schedule, window: Window, registry: Registry | None) -> str:
    if registry is not None:
        return schedule.fault(window.id, registry).describe()
    return ", ".join(f"{key} = {value}" for key, value in window.settings.items()) or "default settings"


def _at(at_s: float) -> str:
    return f"{at_s:8.1f} s"


def _indented(text: str) -> list[str]:
    return textwrap.wrap(text, width=100, initial_indent=" " * 12, subsequent_indent=" " * 12)
