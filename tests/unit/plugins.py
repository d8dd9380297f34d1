"""Small plugins for tests of whatever only needs names and settings."""

from __future__ import annotations

from typing import Any, Literal

from aftershock.harness.interfaces import Settings
from aftershock.harness.registry import Registry


class _Base:
    settings = Settings
    kind = "none"

    def __init__(self, settings: Any = None) -> None: ...
    def deploy(self) -> None: ...
    def available(self) -> None: ...
    def open(self) -> None: ...
    def describe(self) -> str:
        return ""

    def inject(self) -> None: ...
    @staticmethod
    def hot_keys(settings: Any) -> list[str]:
        return []


def plugin(name: str, **fields: Any) -> Any:
    """A plugin class of that name whose settings model has these fields: name -> (type, default)."""
    model = type(
        "PluginSettings",
        (Settings,),
        {"__annotations__": {k: t for k, (t, _) in fields.items()}, **{k: d for k, (_, d) in fields.items()}},
    )
    return type(name, (_Base,), {"name": name, "settings": model})


def registry() -> Registry:
    """A registry as small as can be: one system, one backend, two workloads, two faults."""
    made = Registry()
    made.add("system", plugin("reference", nodes=(int, 3), ack=(Literal["all", "primary"], "all")), origin="test")
    made.add("backend", plugin("process"), origin="test")
    made.add("workload", plugin("cas-register", keys=(int, 20)), origin="test")
    made.add("workload", plugin("insert-only"), origin="test")
    made.add("fault", plugin("noop"), origin="test")
    made.add("fault", plugin("partition", shape=(str, "isolate")), origin="test")
    return made
