"""One member that a fault is about, one beside it, and connections between them, looked at from the members' side.

Nothing here uses the proofs of `faults`: what a fault says of itself is checked against it.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from aftershock.harness.backends.cgroups import Cgroups
from aftershock.harness.errors import AftershockError
from aftershock.harness.identity import ProcessIdentity
from aftershock.harness.interfaces import BulkProbe, Cluster, Link, Probe, Role

__all__ = ["Scene", "Seen", "cpu_of", "nodes_of", "tcp_counter"]

HOT_KEY = "h-1"
_NOTHING_S = 1.5  # how long silence is listened to


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """How far one request came and how long it took. `error`: the connection broke, or could not be opened."""

    delivered: bool
    answered: bool
    seconds: float
    error: str = ""


def nodes_of(cluster: Cluster) -> tuple[str, ...]:
    return tuple(name for name, member in cluster.stage.members.items() if member.role is Role.NODE)


class Scene:
    """A whole cluster of three nodes or more, with one of them chosen and connections open since before any fault."""

    def __init__(self, cluster: Cluster, stack: contextlib.ExitStack) -> None:
        self.cluster = cluster
        self.nodes = nodes_of(cluster)
        hot = cluster.shard_of(HOT_KEY)
        primaries = [shard.primary for shard in cluster.topology().shards if shard.shard == hot]
        # A service of somebody's own has no primary that we know.
        self.target = (primaries[0] if primaries else None) or self.nodes[-1]
        self.other, self.third = [name for name in self.nodes if name != self.target][:2]
        self.link = Link(self.other, self.target)
        self.control = Link(self.other, self.third)
        self._old = {
            link: stack.enter_context(contextlib.closing(cluster.open_probe(link)))
            for link in [self.link, self.control, *(Link(a, b) for a in self.nodes for b in self.nodes if a != b)]
        }
        for link in self._old:
            assert self.old(link, timeout_s=20).answered, f"{link} does not answer before the fault"

    def old(self, link: Link | None = None, *, timeout_s: float = _NOTHING_S, size_bytes: int = 0) -> Seen:
        """A request on a connection that was open before the fault; to the target from the member beside it."""
        return _ask(self._old[link or self.link], timeout_s=timeout_s, size_bytes=size_bytes)

    def new(self, link: Link | None = None, *, timeout_s: float = _NOTHING_S, size_bytes: int = 0) -> Seen:
        """A request on a connection that is opened for it, with the time that opening it took."""
        begun_ns = time.monotonic_ns()
        try:
            probe = self.cluster.open_probe(link or self.link)
        except (OSError, AftershockError) as error:
            seconds = (time.monotonic_ns() - begun_ns) / 1e9
            return Seen(delivered=False, answered=False, seconds=seconds, error=f"{type(error).__name__}: {error}")
        opened_s = (time.monotonic_ns() - begun_ns) / 1e9
        with contextlib.closing(probe):
            seen = _ask(probe, timeout_s=timeout_s, size_bytes=size_bytes)
        return Seen(delivered=seen.delivered, answered=seen.answered, seconds=opened_s + seen.seconds, error=seen.error)

    def identity(self, member: str) -> ProcessIdentity:
        """The member's main process, as this machine knows it."""
        pid = self.cluster.stage.processes.pid(member)
        found = ProcessIdentity.of(pid) if pid is not None else None
        assert found is not None, f"{member} has no process"
        return found

    def cgroups(self, member: str) -> Cgroups:
        return Cgroups.of(self.identity(member).pid)

    def disk(self, member: str) -> Path:
        """The member's data folder, which is the same file system for it."""
        return self.cluster.stage.folder / member


def _ask(probe: Probe, *, timeout_s: float, size_bytes: int) -> Seen:
    begun_ns, error = time.monotonic_ns(), ""
    delivered = answered = False
    try:
        if size_bytes:
            assert isinstance(probe, BulkProbe)
            delivered, answered = probe.exchange_bulk(size_bytes=size_bytes, timeout_s=timeout_s)
        else:
            delivered, answered = probe.exchange(timeout_s=timeout_s)
    except (OSError, AftershockError) as problem:
        error = f"{type(problem).__name__}: {problem}"
    seconds = (time.monotonic_ns() - begun_ns) / 1e9
    return Seen(delivered=delivered, answered=answered, seconds=seconds, error=error)


def tcp_counter(pid: int, name: str) -> int:
    """A counter of the TCP of the network namespace that this process is in (`nstat` shows the same)."""
    lines = [line.split() for line in Path(f"/proc/{pid}/net/netstat").read_text().splitlines()]
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        if names[0] == "TcpExt:":
            return int(values[names.index(name)])
    raise AssertionError(f"no {name} in /proc/{pid}/net/netstat")


def cpu_of(pid: int) -> float:
    """Seconds of CPU that this process has used, proc(5) fields 14 and 15."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
