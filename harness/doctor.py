"""What this machine can do: asked by trying, not assumed (DESIGN section 5).

Every backend is really opened, with two members and a link that nobody uses, and every fault is asked on that stage.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from . import environment
from .errors import AftershockError
from .interfaces import Backend, Member, Role, Settings, Stage
from .journal import RunJournal
from .registry import Registry

__all__ = ["examine", "render_text"]


def examine(registry: Registry) -> dict[str, Any]:
    """Facts as one JSON object: `faults[fault][backend]` is null for yes, otherwise the reason and its remedy.

    `usable` is whether at least one backend can run a fault at all.
    """
    names = registry.names("fault")
    table: dict[str, dict[str, str | None]] = {name: {} for name in names}
    backends: dict[str, str | None] = {}
    for name in registry.names("backend"):
        with ExitStack() as stack:
            try:
                stage = _open(registry.get("backend", name), stack)
            except AftershockError as error:
                backends[name] = str(error)
                stage = None
            else:
                backends[name] = None
            for fault in names:
                plugin = registry.get("fault", fault)
                table[fault][name] = f"backend {name!r} cannot be used" if stage is None else _why_not(plugin, stage)
    usable = any(reason is None for row in table.values() for reason in row.values())
    return {"schema": 1, "usable": usable, "environment": environment.facts(), "backends": backends, "faults": table}


def _open(plugin: Any, stack: ExitStack) -> Stage:
    """Open the backend for the length of `stack`. Raises an AftershockError with the reason when it cannot be."""
    backend: Backend = plugin(plugin.settings())
    reason = backend.available()
    if reason is not None:
        raise AftershockError(reason)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aftershock-doctor-")))
    for name in ("logs", "state"):
        (folder / name).mkdir()
    journal = stack.enter_context(RunJournal.open(folder, "doctor", folder / "state"))
    stage = stack.enter_context(backend.open(run_id="doctor", run_folder=folder, journal=journal, events=_unheard))
    for name in ("n1", "n2"):
        stage.add(Member(name=name, role=Role.NODE))
    stage.link("n1", "n2", "peer")
    return stage


def _unheard(kind: str, /, *, source: str = "", t_ns: int | None = None, **fields: Any) -> None:
    """An event sink for a stage on which nothing happens."""


def _why_not(plugin: Any, stage: Stage) -> str | None:
    model: type[Settings] = plugin.settings
    try:
        fault = plugin(model())
    except ValueError:
        # A fault whose settings have no defaults can only be asked with a scenario at hand.
        return None
    reason: str | None = fault.available(stage)
    return reason


def render_text(found: dict[str, Any]) -> str:
    """The same facts for a person: a line a backend, then a line a fault."""
    facts = found["environment"]
    lines = [
        (
            f"Aftershock {facts['tool']} on {facts['system']}, kernel {facts['kernel']}, "
            f"{facts['cpus']} processors, {facts['memory_gib']:g} GiB, Python {facts['python']}"
        ),
        "",
    ]
    for name, reason in found["backends"].items():
        lines.append(f"backend {name:<12} {_yes_or(reason)}")
    for fault, row in found["faults"].items():
        for backend, reason in row.items():
            lines.append(f"fault   {fault:<12} on {backend}: {_yes_or(reason)}")
    return "\n".join(lines)


def _yes_or(reason: str | None) -> str:
    return "yes" if reason is None else f"no: {reason}"
