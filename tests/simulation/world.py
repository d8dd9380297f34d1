"""One simulated cluster: three nodes, two controllers, a configuration store and four clients, from one seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from aftershock.systems_under_test.reference.messages import Note
from aftershock.systems_under_test.reference.replica import Replica
from aftershock.systems_under_test.reference.settings import ClusterSettings
from aftershock.systems_under_test.reference.state_machine import StateMachine

from .client import Client
from .control import ConfigStore, Controller
from .engine import MS, SECOND, Engine, Network
from .node import Node
from .observer import Observer, watched
from .register_check import Operation, check

DEFAULT = ClusterSettings(shards=1)
# Suspicion long before the lease ends: constant reconfiguration, and safety rests on the lease alone. With default
# timing both take about as long, which hides every lease bug.
AGGRESSIVE = replace(DEFAULT, suspect_ns=160 * MS, lease_ns=1_500 * MS, drift=0.08)


class Watched(Replica):
    """The real replica with the state machine that watches for requests applied twice."""

    machine_type = watched(StateMachine)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one schedule came to."""

    seed: int
    violations: tuple[tuple[int, str, str], ...]  # (ns, invariant, text): "inv"
    anomalies: tuple[str, ...]  # of the clients' history: "lin"
    stuck: str | None  # liveness: what was not well again in time
    operations: int
    events: int

    @property
    def unsafe(self) -> bool:
        return bool(self.violations or self.anomalies)


class World:
    """Everything of one schedule. `engine.now` is real time; nodes see it through their own clocks."""

    def __init__(
        self,
        seed: int,
        *,
        settings: ClusterSettings = DEFAULT,
        replica_type: type[Replica] = Watched,
        keys: int = 3,
        think_ms: int = 14,
        rates: dict[str, float] | None = None,
        readers: int = 0,
        read_share: float = 0.3,
    ) -> None:
        """`rates`: clock rates of nodes, drawn within the stated drift by default.

        `readers`: how many of the clients only read; `read_share`: how much the others do.
        """
        self.seed = seed
        self.settings = settings
        self.replica_type = replica_type
        self.engine = Engine(random.Random(seed))
        self.network = Network(self.engine, self._receive)
        self.keys = keys
        self.read_share = read_share
        self.think_ns = think_ms * MS
        self.tokens = 0
        self.load = True
        self.history: list[Operation] = []
        self.outcomes: Counter[str] = Counter()
        self.final_missing: set[str] = set()
        self.notes: list[tuple[int, str, Note]] = []
        self.acknowledged_ns: list[int] = []
        self.observer = Observer(self)
        self.store = ConfigStore(self)
        rho = settings.drift
        drawn = rates or {}
        self.controllers: dict[str, Controller] = {}
        self.clients: dict[str, Client] = {}
        self.nodes: dict[str, Node] = {}
        for name in ("n0", "n1", "n2"):
            rate = drawn.get(name, 1 + self.engine.rng.uniform(-rho, rho))
            self.nodes[name] = Node(self, name, rate=rate)
        for name in ("k0", "k1"):
            self.controllers[name] = Controller(self, name)
        for number in range(4):
            self.clients[f"c{number}"] = Client(self, f"c{number}", reads_only=number < readers)
        self._watch()

    # ------------------------------------------------------------------------------------------ parts

    def _receive(self, source: str, target: str, payload: Any) -> None:
        kind = target[0]
        if kind == "n":
            self.nodes[target].receive(source, payload)
        elif kind == "c":
            self.clients[target].receive(source, payload)
        elif kind == "k":
            self.controllers[target].receive(source, payload)
        else:
            self.store.receive(source, payload)

    def node_with(self, store: str) -> Node | None:
        """The node whose disk is `store`, unless that disk is gone."""
        node = self.nodes[store.partition(":")[0]]
        return node if node.store == store else None

    def primary(self) -> Node:
        """The node of the stored configuration's primary."""
        assert self.store.config is not None
        return self.nodes[self.store.config.primary.partition(":")[0]]

    def backups(self) -> list[Node]:
        primary = self.primary()
        return [node for node in self.nodes.values() if node is not primary]

    def record(self, operation: Operation) -> None:
        self.history.append(operation)

    def on_note(self, source: str, note: Note) -> None:
        self.notes.append((self.engine.now, source, note))

    def on_acknowledged(self, now: int) -> None:
        self.acknowledged_ns.append(now)

    def _watch(self) -> None:
        self.observer.check_in_sync()
        self.engine.after(100 * MS, self._watch)

    # ------------------------------------------------------------------------------------------ course

    def run(self, seconds: float) -> None:
        """Let simulated time pass."""
        self.engine.run_until(self.engine.now + int(seconds * SECOND))

    def run_until(self, condition: Callable[[], bool], *, seconds: float) -> bool:
        """Let time pass until `condition`, at most `seconds`. Returns whether it came true."""
        end = self.engine.now + int(seconds * SECOND)
        while not condition():
            if self.engine.now >= end:
                return False
            self.engine.run_until(self.engine.now + 10 * MS)
        return True

    def heal(self) -> None:
        """Everything works again from now on."""
        self.network.heal()
        for node in self.nodes.values():
            node.disk.fsync_ns = (200_000, 2_000_000)
            node.resume()
            node.start()
        for controller in self.controllers.values():
            controller.resume()
            controller.start()

    def settled(self) -> bool:
        """The shard serves and all three nodes are in sync."""
        config = self.store.config
        if config is None or config.isr != {node.store for node in self.nodes.values()}:
            return False
        primary = self.primary()
        return primary.alive and primary.replica.active and primary.replica.config == config

    def finish(self, *, settle_s: float = 5.0) -> Outcome:
        """Heal, wait, read every key once more, compare replicas, judge the history."""
        self.heal()
        stuck = None
        self.run(1.6)  # the slowest messages land: a late heartbeat may yet cost a member its place for a moment
        if not self.run_until(self.settled, seconds=settle_s - 1.6):
            stuck = f"not settled {settle_s} s after healing: {self.store.config}"
        self.load = False
        self.run_until(lambda: all(client.idle() for client in self.clients.values()), seconds=3)
        written = sorted({operation.key for operation in self.history})
        self.final_missing = set(written)
        reader = self.clients["c0"]
        for at in range(0, len(written), 50):
            reader.begin("multi-get", "", tuple(written[at : at + 50]))
            self.run_until(reader.idle, seconds=3)
        if self.final_missing and stuck is None:
            stuck = f"{len(self.final_missing)} final reads were not answered"
        if stuck is None:
            self.run(1.2)
            self.observer.check_agreement()
            if not self.settled():
                stuck = "did not stay settled"
        return Outcome(
            seed=self.seed,
            violations=tuple(self.observer.violations),
            anomalies=tuple(check(self.history)),
            stuck=stuck,
            operations=sum(self.outcomes.values()),
            events=self.engine.events,
        )
