"""The faults on packets, by their own proofs, on a small system of echo servers in network namespaces."""

from __future__ import annotations

import random
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aftershock.harness.backends.packet_network import PacketNetwork
from aftershock.harness.impairment import Bandwidth, Delay, Duplicate, Loss, Reorder, Reset
from aftershock.harness.interfaces import (
    Cluster,
    FaultContext,
    Flow,
    Link,
    Member,
    MemberState,
    Probe,
    ProbeOutcome,
    Role,
    Topology,
)
from aftershock.harness.network_namespace import inside

from tests.fakes import RecordedEvents
from tests.processes.namespace_bed import BRIDGE, Bed, bed
from tests.processes.test_packet_network import pytestmark as pytestmark
from tests.unit.faults.support import fault

PORT = 5000


class Echo:
    """A server in a member's namespace. It sends back what comes, and remembers the nonces in it."""

    def __init__(self, host: Bed, name: str) -> None:
        self.seen: set[bytes] = set()
        self._stop = threading.Event()
        self._listener = inside(host.identity(name), lambda: socket.create_server((host.address(name), PORT)))
        self._listener.settimeout(0.1)
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._stop.is_set():
            with suppress(TimeoutError):
                connection, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
                self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        rest = b""
        with connection, suppress(ConnectionError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while not self._stop.is_set():
                connection.settimeout(0.1)
                with suppress(TimeoutError):
                    data = connection.recv(1 << 16)
                    if not data:
                        return
                    *lines, rest = (rest + data).split(b"\n")
                    self.seen.update(line for line in lines if line[:1] == b"n")
                    connection.settimeout(20)
                    connection.sendall(data)


class EchoProbe:
    def __init__(self, connection: socket.socket, server: Echo) -> None:
        self._connection, self._server = connection, server
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def exchange(self, *, timeout_s: float) -> ProbeOutcome:
        return self.exchange_bulk(size_bytes=0, timeout_s=timeout_s)

    def exchange_bulk(self, *, size_bytes: int, timeout_s: float) -> ProbeOutcome:
        nonce = f"n{secrets.token_hex(8)}".encode()
        until, seen = time.monotonic() + timeout_s, b""
        answered = False
        try:
            self._connection.settimeout(timeout_s)
            self._connection.sendall(b"x" * size_bytes + b"\n" + nonce + b"\n")
            while not answered and (left_s := until - time.monotonic()) > 0:
                self._connection.settimeout(left_s)
                data = self._connection.recv(1 << 16)
                if not data:
                    break
                seen = (seen + data)[-100_000:]
                answered = nonce in seen
        except OSError:
            pass
        return ProbeOutcome(delivered=answered or nonce in self._server.seen, answered=answered)

    def close(self) -> None:
        self._connection.close()


class EchoCluster:
    """Everybody opens connections to everybody."""

    def __init__(self, host: Bed, network: PacketNetwork) -> None:
        self._host = host
        self.servers = {name: Echo(host, name) for name in host.members}
        members = {name: Member(name=name, role=Role.NODE) for name in host.members}
        processes = SimpleNamespace(state=lambda _name: MemberState.RUNNING)
        self.stage = SimpleNamespace(backend="namespaces", members=members, network=network, processes=processes)

    def topology(self) -> Topology:
        return Topology()

    def open_probe(self, link: Link) -> Probe:
        address = (self._host.address(link.target), PORT)
        process = self._host.identity(link.source)
        return EchoProbe(
            inside(process, lambda: socket.create_connection(address, timeout=2)), self.servers[link.target]
        )

    def close(self) -> None:
        for server in self.servers.values():
            server.close()


class ListJournal:
    def __init__(self) -> None:
        self.open: dict[str, Mapping[str, Any]] = {}
        self._count = 0

    def record(self, inverse: str, /, *, expires_ns: int | None, **arguments: Any) -> str:
        self._count += 1
        self.open[f"e{self._count}"] = {"inverse": inverse, **arguments}
        return f"e{self._count}"

    def done(self, entry: str) -> None:
        del self.open[entry]


@contextmanager
def echo_cluster() -> Iterator[tuple[Cluster, ListJournal]]:
    journal = ListJournal()
    with bed(4) as host:
        network = PacketNetwork(
            run_id="faults",
            bridge=BRIDGE,
            address=host.address,
            pid=host.pid,
            journal=journal,
            events=RecordedEvents(),
        )
        for source in host.members:
            for target in host.members:
                if source != target:
                    network.link(source, target)
        cluster = EchoCluster(host, network)
        before = host.state()
        try:
            yield cast("Cluster", cluster), journal
            assert host.state() == before
        finally:
            cluster.close()
            network.close()


@pytest.fixture(scope="module")
def deployed() -> Iterator[tuple[Cluster, ListJournal]]:
    with echo_cluster() as made:
        yield made


def context(cluster: Cluster) -> FaultContext:
    return FaultContext(
        cluster=cluster,
        rng=random.Random(7),
        journal=ListJournal(),
        events=RecordedEvents(),
        fault_id="f1",
        duration_s=10,
        expires_ns=time.monotonic_ns() + 120_000_000_000,
        hot_key="k",
    )


SETTINGS: list[tuple[str, type, dict[str, Any]]] = [
    ("loss", Loss, {"percent": 20}),
    ("loss", Loss, {"percent": 5, "direction": "in"}),
    ("duplicate", Duplicate, {"percent": 20}),
    ("duplicate", Duplicate, {"percent": 5, "direction": "out"}),
    ("reorder", Reorder, {"percent": 10, "hold_ms": 10}),
    ("reorder", Reorder, {"percent": 10, "direction": "in"}),
    ("bandwidth", Bandwidth, {"kbit_per_s": 1000}),
    ("bandwidth", Bandwidth, {"kbit_per_s": 8000, "direction": "out"}),
    ("reset", Reset, {}),
    ("reset", Reset, {"direction": "out"}),
    ("latency", Delay, {"latency_ms": 100}),
    ("latency", Delay, {"latency_ms": 100, "jitter_ms": 50, "direction": "in"}),
]


@pytest.mark.parametrize(("name", "kind", "settings"), SETTINGS, ids=str)
def test_it_is_proven_and_healed_on_real_packets(
    deployed: tuple[Cluster, ListJournal], name: str, kind: type, settings: dict[str, Any]
) -> None:
    cluster, journal = deployed
    with fault(name, target="n2", **settings).inject(context(cluster)) as injection:
        evidence = injection.prove()
        assert evidence.proven, evidence.facts
        assert injection.still_on is not None
        assert injection.still_on().proven
    healed = injection.verify_healed()
    assert healed.proven, healed.facts
    assert journal.open == {}


@pytest.mark.parametrize(("name", "kind", "settings"), SETTINGS[::2], ids=str)
def test_it_is_not_proven_when_somebody_took_it_away(
    deployed: tuple[Cluster, ListJournal], name: str, kind: type, settings: dict[str, Any]
) -> None:
    cluster, _ = deployed
    network = cluster.stage.network
    with fault(name, target="n2", **settings).inject(context(cluster)) as injection:
        network.mend([Flow(a, b) for a, b in network.impaired()], kind)
        evidence = injection.prove()
    assert not evidence.proven, evidence.facts


def test_reset_is_not_proven_by_old_connections_alone(deployed: tuple[Cluster, ListJournal]) -> None:
    """Open connections were reset when it came on; taken away since, it does nothing to new ones."""
    cluster, _ = deployed
    with fault("reset", target="n2").inject(context(cluster)) as injection:
        cluster.stage.network.mend(list(cluster.stage.network.impaired()), Reset)
        evidence = injection.prove()
    assert not evidence.proven
    assert all("new connection" in fact for fact in evidence.facts if "expected" in fact)
