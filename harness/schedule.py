"""The schedule: a scenario and a seed, resolved into fault windows. Pure: the same two give the same schedule.

Which member "the primary" is cannot be known before the cluster runs; everything else is fixed here. Every window has
its own stream of random choices, derived from the seed and the window's id, so that adding a window to a scenario does
not change the choices of the others.
"""

from __future__ import annotations

import hashlib
import random
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .interfaces import Fault
from .registry import Registry
from .scenario import Expect, Scenario

__all__ = ["Schedule", "Window", "plan", "render_text"]


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
        chosen = [str(self.settings[key]) for key in ("shape", "target") if key in self.settings]
        return " ".join([self.id, self.name, *chosen])


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """All windows of a run, in order of their start; they never overlap."""

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
        """Title of the fault that is planned to be on at this second, for the progress line."""
        return next((window.title() for window in self.windows if window.start_s <= at_s < window.end_s), None)


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
            rng_seed=_derive(seed, fault.id),
        )
        for fault in scenario.faults
    ]
    return Schedule(
        scenario=scenario.name,
        seed=seed,
        rate_per_s=scenario.load.rate_per_s,
        load_s=scenario.load.duration_s,
        settle_s=scenario.settle_s,
        windows=tuple(sorted(windows, key=lambda window: window.start_s)),
    )


def _derive(seed: int, fault_id: str) -> int:
    """A seed per window. A hash, and not Python's own, which differs from process to process."""
    return int.from_bytes(hashlib.sha256(f"aftershock/{seed}/fault/{fault_id}".encode()).digest()[:8])


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
        f"Schedule of {schedule.scenario}, seed {schedule.seed}: {how_many}",
        f"{_at(0)}  load begins: {schedule.rate_per_s:g} operations a second",
    ]
    for window in schedule.windows:
        lines.append(f"{_at(window.start_s)}  {window.id} {window.name}, until {window.end_s:g} s")
        lines += _indented(_described(schedule, window, registry))
        lines += _indented(_EXPECTED[window.expect].format(rto_s=window.rto_s))
    lines += [
        f"{_at(schedule.load_s)}  load ends; up to {schedule.settle_s:g} s to be whole again, then every key is read",
        "Also undone when the run is interrupted, and by the watchdog within 10 s when the tool itself is killed.",
        "Nothing was started.",
    ]
    return "\n".join(lines)


def _described(schedule: Schedule, window: Window, registry: Registry | None) -> str:
    if registry is not None:
        return schedule.fault(window.id, registry).describe()
    return ", ".join(f"{key} = {value}" for key, value in window.settings.items()) or "default settings"


def _at(at_s: float) -> str:
    return f"{at_s:8.1f} s"


def _indented(text: str) -> list[str]:
    return textwrap.wrap(text, width=100, initial_indent=" " * 12, subsequent_indent=" " * 12)
