"""What a scenario may touch that Aftershock did not start."""

from __future__ import annotations

from .interfaces import Attaching
from .registry import Registry
from .scenario import Scenario

__all__ = ["attached"]


def attached(scenario: Scenario, registry: Registry) -> list[str]:
    """Names, as `KIND:NAME`, that the scenario's system and backend say they act on without starting them.

    Asks nothing and touches nothing: the answer follows from the settings (`interfaces.Attaching`).
    """
    found: list[str] = []
    for kind, choice in (("system", scenario.system), ("backend", scenario.backend)):
        plugin = registry.get(kind, choice.name)
        if isinstance(plugin, Attaching):
            found += plugin.attached(plugin.settings.model_validate(choice.settings))  # type: ignore[attr-defined]
    return list(dict.fromkeys(found))
