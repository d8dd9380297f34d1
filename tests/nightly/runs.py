"""Real `aftershock run`s of one fault on any backend, and what nightly tests do to them."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aftershock.harness.identity import ProcessIdentity, send
from aftershock.harness.journal import registrations

from tests.nightly.own_services import PORT, SERVICES, Theirs, write_project
from tests.processes.command import Command

__all__ = ["NotProvenError", "confirmed", "kill_both", "proven", "start", "wait_until", "watchdog_of", "write"]

_REFERENCE = """
[backend]
{backend}
[system]
name = "reference"
nodes = 3
routers = 2
shards = 4
[[workload]]
name = "cas-register"
share = 0.5
[[workload]]
name = "insert-only"
share = 0.5
"""
_OWN = """
[backend]
{backend}
[system]
{system}
ready_path = "/health"
[[workload]]
name = "http-requests"
share = 1
n = [1, 1000]
[[workload.requests]]
path = "/items/{{n}}"
expect_status = [200]
"""
SCENARIO = """
name = "{name}"
settle_s = 60
{system}
[load]
rate_per_s = {rate_per_s}
duration_s = {load_s}
[[fault]]
name = "{fault}"
id = "broken"
start_s = 1
duration_s = {fault_s}
rto_s = {rto_s}
expect = "{expect}"
{settings}
[targets]
success_ratio = 0.1
"""


def write(
    folder: Path,
    backend: str,
    fault: str,
    settings: dict[str, Any],
    *,
    attached: Theirs | None = None,
    fault_s: float = 150.0,
    load_s: float = 240.0,
    rate_per_s: int = 20,
    rto_s: float = 60.0,
    expect: str = "recovers",
) -> Path:
    """A scenario with this one fault in a window that is longer than any test of it."""
    path = folder / "scenario.toml"
    path.write_text(
        SCENARIO.format(
            name=_name(fault),
            system=_system(folder, backend, attached),
            fault=fault,
            settings="\n".join(f"{name} = {json.dumps(value)}" for name, value in settings.items()),
            load_s=load_s,
            fault_s=fault_s,
            rate_per_s=rate_per_s,
            rto_s=rto_s,
            expect=expect,
        )
    )
    return path


def _name(fault: str) -> str:
    return f"nightly-{fault}"


def _system(folder: Path, backend: str, attached: Theirs | None) -> str:
    """Limits and disks where members are containers, so that every fault can be there."""
    match backend:
        case "process":
            return _REFERENCE.format(backend='name = "process"')
        case "docker":
            return _REFERENCE.format(backend='name = "docker"\ncpus = 0.4\nmemory_mb = 128\ndisk_mb = 32')
        case "compose":
            file = write_project(folder)
            system = f'name = "compose"\nentry = "{SERVICES[0]}:{PORT}"'
            return _OWN.format(backend=f'name = "compose"\nfile = "{file}"', system=system)
        case _:
            assert attached is not None
            nodes = [f'services."{name}".role = "node"' for name in attached.names]
            system = "\n".join(['name = "url"', f'url = "{attached.url}"', *nodes])
            named = f'name = "url"\ncontainers = {json.dumps(attached.names)}'
            allowed = f'[safety]\nallow = ["container:{attached.network}-*"]'
            return _OWN.format(backend=named, system=system) + allowed


def start(folder: Path, scenario: Path, *more: str) -> Command:
    return Command(folder, "run", str(scenario), *more)


def confirmed(backend: str, fault: str) -> list[str]:
    """What a person adds to break what is not the tool's own."""
    return ["--yes-break", _name(fault)] if backend == "url" else []


def wait_until(condition: Callable[[], object], what: str, *, deadline_s: float) -> None:
    until = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < until, f"not within {deadline_s:g} s: {what}"
        time.sleep(0.05)


class NotProvenError(Exception):
    """The fault is on, and its proof did not come out: its words."""


def proven(command: Command, *, deadline_s: float = 240) -> None:
    """Until the fault is on and shown to be, as the run's own record says. Raises NotProvenError when it is not."""
    command.wait_for("Load and faults", deadline_s=deadline_s)

    def seen() -> bool:
        assert command.process.poll() is None, f"ended early:\n{command.output}"
        ours = [event for event in command.events() if event.get("fault") == "broken"]
        unproven = [event["facts"] for event in ours if event["kind"] == "fault.unproven"]
        if unproven:
            raise NotProvenError(str(unproven))
        wrong = [event for event in ours if event["kind"] in ("fault.failed", "fault.healing")]
        assert not wrong, wrong
        return any(event["kind"] == "fault.proven" for event in ours)

    wait_until(seen, "the fault is proven", deadline_s=deadline_s)


def watchdog_of(command: Command) -> ProcessIdentity:
    """The watchdog of the only run of this state folder, by the registration that it was started with."""
    [registration] = registrations(command.folder / "state")
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            identity = ProcessIdentity.of(int(entry.name))
            if "aftershock.harness.watchdog" in arguments and str(registration) in arguments and identity is not None:
                found.append(identity)
    [watchdog] = found
    return watchdog


def kill_both(command: Command) -> None:
    """The watchdog first: killed after the tool it might have begun to heal."""
    watchdog = watchdog_of(command)
    send(watchdog, signal.SIGSTOP)
    command.send(signal.SIGKILL)
    command.wait()
    send(watchdog, signal.SIGKILL)
    wait_until(lambda: not watchdog.alive(), "the watchdog is dead", deadline_s=10)
