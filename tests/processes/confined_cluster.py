"""A small cluster without any container, whose members have cgroups and disks of their own as a container has.

Echo members; `r1` stands for whoever probes them. Everything that the faults of resources and disks use is real.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from aftershock.harness.backends.confinement import CgroupConfinement
from aftershock.harness.backends.disks import LoopDisks
from aftershock.harness.backends.ports import PortReserver
from aftershock.harness.identity import ProcessIdentity, os_state
from aftershock.harness.interfaces import Address, Cluster, Link, Member, MemberState, ProbeOutcome, Role, Topology
from aftershock.harness.journal import RunJournal

from tests.fakes import RecordedEvents
from tests.processes.confined import ConfinedMember, confined_member
from tests.processes.stages import SCRIPTS, Connection, answers, wait_until

NAMES = ("n1", "n2")


class Processes:
    """interfaces.Processes, as far as these faults use it."""

    def __init__(self, members: Mapping[str, ConfinedMember], journal: RunJournal) -> None:
        self._members, self._journal = members, journal
        self._entries: dict[str, str] = {}

    def state(self, member: str) -> MemberState:
        process = self._process(member)
        if process is None:
            return MemberState.ABSENT
        if process.poll() is not None:
            return MemberState.EXITED
        identity = ProcessIdentity.of(process.pid)
        paused = identity is not None and os_state(identity) == "T"
        return MemberState.PAUSED if paused else MemberState.RUNNING

    def pid(self, member: str) -> int | None:
        return self._members[member].pid() if member in self._members else None

    def start(self, member: str) -> None:
        self._forget(member)
        self._members[member].start(token=self._journal.token)
        process = self._process(member)
        identity = ProcessIdentity.of(process.pid) if process is not None else None
        assert identity is not None
        self._entries[member] = self._journal.record(
            "end-process", expires_ns=None, process=identity.to_json(), what=member
        )

    def kill(self, member: str) -> int:
        return self._end(member, signal.SIGKILL)

    def stop(self, member: str, *, deadline_s: float) -> int:
        return self._end(member, signal.SIGTERM)

    def close(self) -> None:
        for member in self._members:
            self.kill(member)

    def _end(self, member: str, number: signal.Signals) -> int:
        process = self._process(member)
        assert process is not None
        process.send_signal(number)
        status = process.wait(30)
        self._forget(member)
        return status

    def _forget(self, member: str) -> None:
        if member in self._entries:
            self._journal.done(self._entries.pop(member))

    def _process(self, member: str) -> subprocess.Popen[bytes] | None:
        return self._members[member].process if member in self._members else None


class Probe:
    """Speaks to an echo member: what is answered was delivered."""

    def __init__(self, address: Address) -> None:
        self._connection, self._count = Connection(address), 0

    def exchange(self, *, timeout_s: float) -> ProbeOutcome:
        self._count += 1
        try:
            answered = self._connection.exchange(f"nonce-{self._count}", timeout_s=timeout_s)
        except (TimeoutError, ConnectionError):
            answered = False
        return ProbeOutcome(delivered=answered, answered=answered)

    def close(self) -> None:
        self._connection.__exit__()


class ConfinedCluster:
    """interfaces.Cluster, as far as these faults use it; `stage` has the real confinement and disks."""

    def __init__(self, stage: Any, addresses: Mapping[str, Address]) -> None:
        self.stage = stage
        self._addresses = addresses

    def topology(self) -> Topology:
        return Topology()

    def shard_of(self, key: str) -> int | None:
        return None

    def open_probe(self, link: Link) -> Probe:
        return Probe(self._addresses[link.target])

    def wait_member(self, member: str, *, deadline_s: float) -> str | None:
        wait_until(lambda: answers(self._addresses[member]), f"{member} answers", deadline_s=deadline_s + 30)
        return None


@contextmanager
def confined_cluster(folder: Path, journal: RunJournal, events: RecordedEvents) -> Iterator[Cluster]:
    """n1 and n2, which serve; afterwards nothing of them is left."""
    data = folder / "data"
    data.mkdir()
    with ExitStack() as stack:
        ports = stack.enter_context(closing(PortReserver()))
        members = {name: stack.enter_context(confined_member(name, cpus=0.1, start=False)) for name in NAMES}
        addresses = {name: ports.reserve() for name in NAMES}
        processes = Processes(members, journal)
        disks = LoopDisks(folder=data, size_mb=16, journal=journal, events=events, pid=processes.pid)
        stack.enter_context(closing(disks))
        confinement = CgroupConfinement(
            pid=processes.pid, limits=lambda name: members[name].limits, journal=journal, token=journal.token
        )
        for name, member in members.items():
            disks.prepare(name)
            host, port = addresses[name]
            script = str(SCRIPTS / "echo_member.py")
            member.argv = [sys.executable, script, host, str(port), str(data / name / "received")]
            processes.start(name)
        stack.callback(processes.close)
        stack.enter_context(closing(confinement))
        roles: dict[str, Sequence[str]] = {Role.NODE: NAMES}
        stage = SimpleNamespace(
            backend="confined",
            folder=data,
            members={name: Member(name=name, role=Role(role)) for role, names in roles.items() for name in names},
            processes=processes,
            # Each is probed over a link from the other, which in truth begins at the test.
            network=SimpleNamespace(links=[Link("n1", "n2"), Link("n2", "n1")], impaired=dict),
            confinement=confinement,
            disks=disks,
        )
        cluster = ConfinedCluster(stage, addresses)
        for name in NAMES:
            cluster.wait_member(name, deadline_s=30)
        yield cast("Cluster", cluster)
