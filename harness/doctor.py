"""What this machine can do: asked by trying, not assumed (DESIGN section 5).

Every backend is really opened, with members that are announced and never started, and every fault is asked on that
stage. So a docker stage costs a network and no container. The stage is registered as a run is, and what a killed doctor
leaves is for `aftershock heal`.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from . import environment, machine
from .errors import AftershockError
from .interfaces import Backend, Member, Role, Settings, Stage
from .journal import RunJournal, default_state_folder
from .registry import Registry

__all__ = ["SCHEMA", "examine"]

SCHEMA: Final = 2  # of what `examine` returns; docs/doctor.md

# Limits without which some faults have nothing to act on. A backend that knows them is asked a second time with them.
_LIMITS: Final = {"cpus": 1.0, "memory_mb": 256, "disk_mb": 64}
_MEMBERS: Final = {"n1": Role.NODE, "n2": Role.NODE, "r1": Role.ROUTER, "c1": Role.CONTROLLER}


def examine(registry: Registry) -> dict[str, Any]:
    """Facts as one JSON object (docs/doctor.md). Never raises for what is wrong with the machine.

    `faults[fault][backend]` is `{"available": bool, "reason": str | null}`; a reason beside true says under which
    condition. `usable` is whether at least one backend can run a fault that breaks something.
    """
    table: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in registry.names("fault")}
    backends: dict[str, str | None] = {}
    for name in registry.names("backend"):
        problem, answers = _ask_backend(registry, name)
        backends[name] = problem
        for fault, answer in answers.items():
            table[fault][name] = answer
    breaking = [row for fault, row in table.items() if registry.get("fault", fault).kind != "none"]
    return {
        "schema": SCHEMA,
        "usable": any(answer["available"] for row in breaking for answer in row.values()),
        "environment": environment.facts(),
        "privileges": machine.privileges(),
        "programs": machine.programs(),
        "kernel": machine.kernel(),
        "engine": _engine(),
        "backends": backends,
        "faults": table,
    }


def _engine() -> dict[str, Any]:
    try:
        return machine.engine()
    except Exception as error:  # whatever is wrong there, the rest must still be told
        return {"problem": f"cannot be asked: {type(error).__name__}: {error}"}


def _ask_backend(registry: Registry, name: str) -> tuple[str | None, dict[str, dict[str, Any]]]:
    """Why the backend cannot be used (or None), and the answer of every fault on it."""
    plugin, faults = registry.get("backend", name), registry.names("fault")
    try:
        settings = plugin.settings()
    except ValidationError:
        problem = f"what backend {name!r} can do depends on its settings: aftershock run SCENARIO --dry-run"
        return problem, {fault: _answer(problem) for fault in faults}
    first = _ask(registry, plugin, settings)
    if isinstance(first, str):
        return first, {fault: _answer(f"backend {name!r} cannot be used") for fault in faults}
    second: Mapping[str, str | None] = {}
    limits = {key: value for key, value in _LIMITS.items() if key in plugin.settings.model_fields}
    if limits and any(reason is not None for reason in first.values()):
        with_limits = _ask(registry, plugin, plugin.settings(**limits))
        second = {} if isinstance(with_limits, str) else with_limits
    return None, {fault: _both(reason, second.get(fault, reason)) for fault, reason in first.items()}


def _both(reason: str | None, with_limits: str | None) -> dict[str, Any]:
    """The answer from both askings: a yes that only the limits give keeps the reason that names them."""
    if reason is not None and with_limits is None:
        return {"available": True, "reason": reason}
    # What is refused with the limits too is refused for the better reason.
    return _answer(None if reason is None else with_limits)


def _answer(reason: str | None) -> dict[str, Any]:
    return {"available": reason is None, "reason": reason}


def _ask(registry: Registry, plugin: Any, settings: Settings) -> dict[str, str | None] | str:
    """Every fault's own reason on this backend's stage (None is yes), or why that cannot be opened."""
    try:
        with ExitStack() as stack:
            stage = _open(plugin, settings, stack)
            return {fault: _why_not(registry.get("fault", fault), stage) for fault in registry.names("fault")}
    except AftershockError as error:
        return str(error)
    except Exception as error:  # a backend that crashes cannot be used, and the others are still asked
        return f"it crashed when it was tried ({type(error).__name__}: {error}); please report that"


def _open(plugin: Any, settings: Settings, stack: ExitStack) -> Stage:
    """Open the backend for the length of `stack`. Raises an AftershockError with the reason when it cannot be."""
    backend: Backend = plugin(settings)
    reason = backend.available()
    if reason is not None:
        raise AftershockError(reason)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aftershock-doctor-")))
    (folder / "logs").mkdir()
    run_id = f"doctor-{secrets.token_hex(4)}"
    journal = stack.enter_context(RunJournal.open(folder, run_id, default_state_folder()))
    stage = stack.enter_context(backend.open(run_id=run_id, run_folder=folder, journal=journal, events=_unheard))
    for name, role in _MEMBERS.items():
        stage.add(Member(name=name, role=role))
    stage.link("n1", "n2", "peer")
    return stage


def _unheard(kind: str, /, *, source: str = "", t_ns: int | None = None, **fields: Any) -> None:
    """An event sink for a stage on which nothing happens."""


def _why_not(plugin: Any, stage: Stage) -> str | None:
    model: type[Settings] = plugin.settings
    try:
        settings = model()
    except ValidationError as error:
        missing = ", ".join(str(item["loc"][0]) for item in error.errors() if item["loc"])
        return f"it cannot be asked without settings ({missing}): aftershock run SCENARIO --dry-run"
    try:
        reason: str | None = plugin(settings).available(stage)
    except Exception as error:
        return f"it crashed when it was asked ({type(error).__name__}: {error}); please report that"
    return reason
