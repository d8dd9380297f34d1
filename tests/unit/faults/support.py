"""What the fault tests share: every registered fault, a context, and a timeline over one window of the fake cluster."""

from __future__ import annotations

import importlib
import random
import threading
import time
import tomllib
from pathlib import Path
from typing import Any

from aftershock.harness.interfaces import Fault, FaultContext
from aftershock.harness.registry import Registry
from aftershock.harness.schedule import Schedule, Window
from aftershock.harness.timeline import Timeline, WindowRecord

from tests.fakes import FakeCluster, FakeJournal, RecordedEvents

ROOT = Path(__file__).resolve().parents[3]

# Settings with which a fault has an effect in the fake cluster; a fault that is not named here runs with its defaults.
SETTINGS: dict[str, dict[str, Any]] = {
    "latency": {"latency_ms": 400},
    "crash-loop": {"kill_every_s": 0.02, "down_s": 0.005},
    "rolling-restart": {"role": "router"},
    "oom-kill": {"deadline_s": 0.2},
}


def registered() -> dict[str, Any]:
    """Name -> class of every fault that the distribution registers, read from where it registers them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = {}
    for name, place in project["entry-points"]["aftershock.faults"].items():
        module, _, attribute = place.partition(":")
        found[name] = getattr(importlib.import_module(module), attribute)
    return found


def registry() -> Registry:
    made = Registry()
    for plugin in registered().values():
        made.add("fault", plugin, origin="test")
    return made


def fault(name: str, **settings: Any) -> Fault:
    plugin = registered()[name]
    made: Fault = plugin(plugin.settings.model_validate({**SETTINGS.get(name, {}), **settings}))
    return made


def context(cluster: FakeCluster, *, events: RecordedEvents | None = None, **changes: Any) -> FaultContext:
    values: dict[str, Any] = {
        "cluster": cluster,
        "rng": random.Random(7),
        "journal": FakeJournal(),
        "events": events if events is not None else RecordedEvents(),
        "fault_id": "f1",
        "duration_s": 5.0,
        "expires_ns": time.monotonic_ns() + 15_000_000_000,
        "hot_key": "h-1",
    }
    return FaultContext(**{**values, **changes})


def timeline(
    cluster: FakeCluster,
    *names: str,
    events: RecordedEvents,
    settings: dict[str, Any] | None = None,
    length_s: float = 0.05,
) -> Timeline:
    """A timeline with a short window for each of the faults, starting now."""
    windows = [
        Window(
            id=f"f{number}",
            name=name,
            start_s=(number - 1) * 2 * length_s,
            end_s=(number - 1) * 2 * length_s + length_s,
            expect="recovers",
            rto_s=4.0,
            settings=SETTINGS.get(name, {}) if settings is None else settings,
            rng_seed=number,
        )
        for number, name in enumerate(names, start=1)
    ]
    schedule = Schedule(scenario="test", seed=7, rate_per_s=300, load_s=60, settle_s=20, windows=tuple(windows))
    return Timeline(
        schedule=schedule,
        cluster=cluster,
        registry=registry(),
        events=events,
        journal=FakeJournal(),
        origin_ns=time.monotonic_ns(),
        hot_key="h-1",
    )


def carry_out(cluster: FakeCluster, name: str, *, events: RecordedEvents, **settings: Any) -> WindowRecord:
    """One window of one fault, start to end."""
    (record,) = timeline(cluster, name, events=events, settings={**SETTINGS.get(name, {}), **settings}).run(
        threading.Event()
    )
    return record
