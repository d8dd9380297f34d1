"""Containers that somebody else started: killed, stopped, paused, and always brought back. Keeps interfaces.Processes.

They are never ours. Nothing of theirs is removed or changed for good: what ends one is asked of the engine, which then
leaves its restart policy aside, and its inverse, starting that very container again, is in the journal before.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any, Final

from ..errors import HealError, SetupError
from ..identity import ProcessIdentity, os_state, wait_gone
from ..interfaces import EventSink, Journal, MemberState
from ..inverses import undo
from ..pid_namespace import continue_all, processes_inside, stop_all
from .docker_engine import Engine
from .docker_exec import run_inside

__all__ = ["AttachedContainers", "attach"]

_DEADLINE_S: Final = 10.0
_LOOK_EVERY_S: Final = 0.2
_SIGKILL_STATUS: Final = -int(signal.SIGKILL)
_SHELL_SIGNAL_BASE: Final = 128


@dataclass(slots=True)
class _Container:
    id: str
    name: str
    labels: Mapping[str, str]
    init: ProcessIdentity | None
    start_entry: str | None = None  # in the journal: starts it again
    continue_entry: str | None = None  # in the journal: continues it
    told: bool = True  # whether the events have its end, when it has ended
    lock: threading.RLock = field(default_factory=threading.RLock)


class AttachedContainers:
    """The containers of one stage that it did not start, by name; none is a usual number of them."""

    def __init__(
        self, found: Sequence[tuple[str, str, Mapping[str, str]]], *, engine: Engine | None, journal: Journal,
        events: EventSink,
    ) -> None:  # fmt: skip
        """`found`: id, name and labels of each."""
        self._engine = engine
        self._journal = journal
        self._events = events
        self._containers = {
            name: _Container(id=identifier, name=name, labels=labels, init=None) for identifier, name, labels in found
        }
        for container in self._containers.values():
            container.init = self._init(container)
            if container.init is not None:
                self._insist_contained(container)
        # Members that are reached by their address alone; whether they serve is for the system to say.
        self.reached: set[str] = set()
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="attached", daemon=True)
        if self._containers:
            self._watcher.start()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._containers)

    def labels(self, member: str) -> Mapping[str, str]:
        return self._containers[member].labels

    def networks(self, member: str) -> dict[str, tuple[str, str]]:
        """Id of each network that the container is on -> its name, and the container's IPv4 address there."""
        seen = self._inspect(self._containers[member])
        found = (seen.get("NetworkSettings") or {}).get("Networks") or {}
        return {
            each["NetworkID"]: (name, each["IPAddress"])
            for name, each in found.items()
            if _is_address(each["IPAddress"])
        }

    def health(self, member: str) -> str | None:
        """See interfaces.Hosting.unhealthy."""
        health = (self._inspect(self._containers[member])["State"].get("Health") or {}).get("Status", "none")
        return None if health in ("none", "healthy", "") else f"its health check says {health!r}"

    def command(self, member: str, argv: Sequence[str], *, timeout_s: float) -> str | None:
        """See interfaces.Hosting."""
        return run_inside(self._asked(), self._known(member).id, argv, timeout_s=timeout_s)

    # ------------------------------------------------------------------------------------------ Processes

    def state(self, member: str) -> MemberState:
        container = self._containers.get(member)
        if container is None:
            return MemberState.RUNNING if member in self.reached else MemberState.ABSENT
        letter = os_state(container.init) if container.init is not None else None
        if letter in (None, "Z", "X"):
            self._look(container)  # its own restart policy may have started it anew
            letter = os_state(container.init) if container.init is not None else None
        if letter in (None, "Z", "X"):
            return MemberState.EXITED
        return MemberState.PAUSED if letter in ("T", "t") else MemberState.RUNNING

    def pid(self, member: str) -> int | None:
        container = self._containers.get(member)
        init = container.init if container is not None else None
        return init.pid if init is not None and init.alive() else None

    def start(self, member: str) -> None:
        container = self._known(member)
        with container.lock:
            arguments, engine = self._arguments(container), self._asked()
            # With the patience that a busy engine may need; the inverse, which has less, then sees what came of it.
            with suppress(SetupError), engine.asked_to(f"start {member}"):
                engine.api.start(container.id)
            try:
                undo("start-container", arguments)
            except (OSError, RuntimeError) as error:
                raise HealError(f"{error}; by hand: docker start {container.name}") from error
            container.init = self._init(container)
            self._done(container, "start_entry")
            container.told = True
        self._tell("member.started", member=member, pid=self.pid(member))

    def kill(self, member: str) -> int:
        container = self._known(member)
        self._end(container, "kill it", lambda api: api.kill(container.id, signal="SIGKILL"))
        return _SIGKILL_STATUS

    def stop(self, member: str, *, deadline_s: float) -> int:
        """See interfaces.Processes. The signal is the one that the container names for this, SIGTERM if none."""
        container = self._known(member)
        return self._end(container, "stop it", lambda api: api.stop(container.id, timeout=max(1, round(deadline_s))))

    def pause(self, member: str, *, expires_ns: int) -> None:
        container = self._known(member)
        with container.lock:
            init = self._running(container)
            entry = self._journal.record("continue-container", expires_ns=expires_ns, init=init.to_json(), what=member)
            self._done(container, "continue_entry")
            container.continue_entry = entry
            if not stop_all(init, deadline_s=_DEADLINE_S):
                raise SetupError(f"{member} (process {init.pid}) did not stop on SIGSTOP: {self.state(member)}")
        self._events("member.paused", member=member)

    def resume(self, member: str) -> None:
        container = self._known(member)
        with container.lock:
            init = self._running(container)
            try:
                were = continue_all(init, deadline_s=_DEADLINE_S)
            except RuntimeError as error:
                raise HealError(f"{member}: {error}; by hand: kill -CONT those") from error
            self._done(container, "continue_entry")
        if were:
            self._tell("member.resumed", member=member)

    def close(self) -> None:
        """Bring back whatever is still away. Raises HealError for what does not come back."""
        self._ended.set()
        if self._containers:
            self._watcher.join()
        problems = []
        for container in self._containers.values():
            try:
                if container.continue_entry is not None and container.init is not None:
                    continue_all(container.init, deadline_s=_DEADLINE_S)
                    self._done(container, "continue_entry")
                if container.start_entry is not None:
                    self.start(container.name)
            except (OSError, RuntimeError, HealError, SetupError) as error:
                problems.append(str(error))
        if problems:
            raise HealError("; ".join(problems))

    # ------------------------------------------------------------------------------------------ inside

    def _end(self, container: _Container, what: str, ask: Any) -> int:
        engine = self._asked()
        with container.lock:
            init = self._running(container)
            if container.start_entry is None:
                container.start_entry = self._journal.record(
                    "start-container", expires_ns=None, **self._arguments(container)
                )
            with engine.asked_to(f"{what} ({container.name})"):
                ask(engine.api)
            if not wait_gone(init, deadline_s=_DEADLINE_S):
                raise SetupError(f"{container.name} (process {init.pid}) did not end, although the engine was asked to")
            status = self._status(container)
            container.told = True
        self._tell("member.exited", member=container.name, status=status, expected=True)
        return status

    def _status(self, container: _Container) -> int:
        """As subprocess counts it; the engine writes it down an instant after the end."""
        until = time.monotonic() + _DEADLINE_S
        while True:
            state = self._inspect(container)["State"]
            if not state["Running"]:
                code = int(state["ExitCode"])
                return _SHELL_SIGNAL_BASE - code if code > _SHELL_SIGNAL_BASE else code
            if time.monotonic() > until:
                raise SetupError(f"{container.name} has ended, and the Docker engine says that it runs")
            time.sleep(0.01)

    def _look(self, container: _Container) -> None:
        if not container.lock.acquire(blocking=False):
            return  # somebody is just ending or starting it
        try:
            with suppress(SetupError):
                container.init = self._init(container) or container.init
        finally:
            container.lock.release()

    def _watch(self) -> None:
        """Tell of ends and starts that are not ours, as they are seen."""
        while not self._ended.wait(_LOOK_EVERY_S):
            for container in self._containers.values():
                if container.start_entry is not None or container.init is None:
                    continue
                alive = container.init.alive()
                if not alive and container.told:
                    container.told = False
                    self._tell("member.exited", member=container.name, status=None, expected=False)
                if not alive:
                    self._look(container)
                    if container.init.alive():
                        container.told = True
                        self._tell("member.started", member=container.name, pid=container.init.pid)

    def _init(self, container: _Container) -> ProcessIdentity | None:
        """Process 1 of the container, None when it does not run; by the container's own id in its cgroup."""
        pid = int(self._inspect(container)["State"]["Pid"])
        return ProcessIdentity.of(pid) if pid > 0 else None

    @staticmethod
    def _insist_contained(container: _Container) -> None:
        """Raises SetupError when its processes are this machine's own, which no fault of ours may stop."""
        assert container.init is not None
        try:
            processes_inside(container.init)
        except RuntimeError as error:
            raise SetupError(
                f"container {container.name} cannot be attached: {error}. It was started with --pid host, or the "
                "engine runs on another machine"
            ) from None

    def _inspect(self, container: _Container) -> Any:
        engine = self._asked()
        with engine.asked_to(f"look at container {container.name}"):
            return engine.api.inspect_container(container.id)

    def _asked(self) -> Engine:
        if self._engine is None:
            raise SetupError("no container is attached; name some in the scenario: [backend] containers = [...]")
        return self._engine

    def _known(self, member: str) -> _Container:
        container = self._containers.get(member)
        if container is None:
            attached = f"attached: {', '.join(self._containers)}" if self._containers else "none is attached"
            raise SetupError(
                f"{member} is no attached container, so it has no process that could be ended or stopped; {attached} "
                "([backend] containers = [...])"
            )
        return container

    @staticmethod
    def _running(container: _Container) -> ProcessIdentity:
        if container.init is None or not container.init.alive():
            raise SetupError(f"{container.name} does not run")
        return container.init

    def _arguments(self, container: _Container) -> dict[str, Any]:
        return {"endpoint": self._asked().endpoint, "container": container.id, "what": container.name}

    def _done(self, container: _Container, which: str) -> None:
        entry = getattr(container, which)
        setattr(container, which, None)
        if entry is not None:
            self._journal.done(entry)

    def _tell(self, kind: str, **fields: Any) -> None:
        """A full disk must not stop what remains to be brought back."""
        with suppress(OSError):
            self._events(kind, **fields)


def attach(
    engine: Engine, *, containers: Sequence[str], labels: Sequence[str]
) -> list[tuple[str, str, Mapping[str, str]]]:
    """Id, name and labels of the running containers of these names and with any of these labels (`KEY=VALUE`).

    Raises SetupError for a name or a label that no running container has.
    """
    with engine.asked_to("list its containers"):
        running = engine.api.containers()
    found: dict[str, tuple[str, Mapping[str, str]]] = {}
    for wanted in containers:
        matching = [each for each in running if f"/{wanted}" in each["Names"]]
        if not matching:
            there = ", ".join(sorted(name[1:] for each in running for name in each["Names"])) or "none"
            raise SetupError(f"no container named {wanted!r} runs on {engine.endpoint}; running: {there}")
        found[wanted] = (matching[0]["Id"], matching[0]["Labels"] or {})
    for label in labels:
        key, _, value = label.partition("=")
        matching = [each for each in running if (each["Labels"] or {}).get(key) == value]
        if not matching:
            raise SetupError(f"no running container on {engine.endpoint} has the label {label}; see `docker ps`")
        for each in matching:
            found.setdefault(each["Names"][0][1:], (each["Id"], each["Labels"] or {}))
    return [(identifier, name, its) for name, (identifier, its) in sorted(found.items())]


def _is_address(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True
