"""Finds plugins: systems, backends, faults and workloads, by entry point (`aftershock.systems`, …).

The built-ins are entry points like anybody's. A plugin that cannot be loaded, or does not keep its Protocol, is
reported when the registry is made, with the distribution that it came from: never in the middle of a run.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from .errors import UsageError
from .interfaces import Settings

__all__ = ["GROUPS", "Registry", "installed"]

GROUPS = {
    "system": "aftershock.systems",
    "backend": "aftershock.backends",
    "fault": "aftershock.faults",
    "workload": "aftershock.workloads",
}

_NEEDED = {
    "system": ("name", "settings", "deploy"),
    "backend": ("name", "settings", "available", "open"),
    "fault": ("name", "kind", "settings", "describe", "available", "inject"),
    "workload": ("name", "settings", "hot_keys"),
}


class Registry:
    """Plugins by kind (`system`, `backend`, `fault`, `workload`) and name."""

    def __init__(self) -> None:
        self._plugins: dict[tuple[str, str], Any] = {}
        self._origins: dict[tuple[str, str], str] = {}

    def add(self, kind: str, plugin: Any, *, origin: str) -> None:
        """Register a plugin class. Raises UsageError when it lacks what its kind needs, or its name is taken."""
        missing = [attribute for attribute in _NEEDED[kind] if not hasattr(plugin, attribute)]
        if missing:
            raise UsageError(f"{origin}: {plugin!r} is no {kind}: it lacks {', '.join(missing)}")
        if not (isinstance(plugin.settings, type) and issubclass(plugin.settings, Settings)):
            raise UsageError(f"{origin}: {plugin!r}.settings is {plugin.settings!r}, expected a class of Settings")
        key = (kind, plugin.name)
        if key in self._plugins:
            raise UsageError(f"{origin}: {kind} {plugin.name!r} is already provided by {self._origins[key]}")
        self._plugins[key] = plugin
        self._origins[key] = origin

    def find(self, kind: str, name: str) -> Any | None:
        return self._plugins.get((kind, name))

    def get(self, kind: str, name: str) -> Any:
        """The plugin. Raises UsageError naming those that are known; a parsed scenario never gets there."""
        plugin = self.find(kind, name)
        if plugin is None:
            raise UsageError(f"unknown {kind} {name!r}; known: {', '.join(self.names(kind))}")
        return plugin

    def names(self, kind: str) -> list[str]:
        return sorted(name for k, name in self._plugins if k == kind)

    def origin(self, kind: str, name: str) -> str:
        return self._origins[(kind, name)]


def installed() -> Registry:
    """The registry of everything installed. Raises UsageError naming the distribution of a plugin that is broken."""
    registry = Registry()
    for kind, group in GROUPS.items():
        for point in entry_points(group=group):
            origin = _origin(point)
            try:
                plugin = point.load()
            except Exception as error:
                raise UsageError(f"{origin}: plugin {point.value!r} cannot be loaded: {error}") from error
            registry.add(kind, plugin, origin=origin)
    return registry


def _origin(point: EntryPoint) -> str:
    distribution = point.dist
    return f"{distribution.name} {distribution.version}" if distribution is not None else point.value
