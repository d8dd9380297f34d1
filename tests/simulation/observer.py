"""Invariants I1-I11 of docs/replication.md, checked on all replicas as a simulation goes.

The observer sees what no replica can: every log, every disk, the stored configuration. It never changes anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aftershock.systems_under_test.reference.messages import Config, Entry, Kind
from aftershock.systems_under_test.reference.state_machine import Result, StateMachine

if TYPE_CHECKING:
    from .node import Node
    from .world import World


class AppliedTwiceError(Exception):
    """I9, raised from inside a state machine and turned into a violation by the node."""


def watched(machine: type[StateMachine]) -> type[StateMachine]:
    """`machine`, but it refuses to let a request take effect twice (I9), whatever its own table says."""

    class Watching(machine):  # type: ignore[valid-type,misc]
        __slots__ = ("_effective",)

        def __init__(self, *, dedupe_entries: int) -> None:
            super().__init__(dedupe_entries=dedupe_entries)
            self._effective: set[tuple[str, int]] = set()

        def _change(self, entry: Entry, *, found: bool, value: object) -> Result:
            if entry.request_id in self._effective:
                raise AppliedTwiceError(f"request {entry.request_id} took effect again at {entry.index}")
            self._effective.add(entry.request_id)
            result: Result = super()._change(entry, found=found, value=value)
            return result

    return Watching


class Observer:
    """Collects violations as (time in ns, invariant, text)."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.violations: list[tuple[int, str, str]] = []
        self._names: dict[tuple[int, int], tuple[Entry, int]] = {}  # (term, index) -> entry, term of the one before
        self._committed: list[Entry] = []
        self._primaries: dict[int, str] = {}  # term -> primary
        self._acknowledged = (0, 0)  # (index, term) of the last entry that a primary called committed
        self._acknowledged_in: dict[int, tuple[int, int]] = {}  # the same, by the primary's term

    def violate(self, invariant: str, text: str) -> None:
        self.violations.append((self._world.engine.now, invariant, text))

    # ------------------------------------------------------------------------------------------ logs

    def on_append(self, node: Node, entries: tuple[Entry, ...]) -> None:
        """I2: one name, one entry, one predecessor, for ever. I4: nothing acknowledged is missing at `open`."""
        log = node.disk.log
        for entry in entries:
            if entry.index != len(log) + 1:
                self.violate("I2", f"{node.name} wrote entry {entry.index} at place {len(log) + 1}")
            before = log[-1].term if log else 0
            known, known_before = self._names.setdefault((entry.term, entry.index), (entry, before))
            if (known is not entry and known != entry) or known_before != before:
                self.violate("I2", f"{node.name}: two entries are called ({entry.term}, {entry.index})")
            log.append(entry)
            if entry.kind is Kind.NOOP:
                self._check_open(node, entry.index)

    def _check_open(self, node: Node, index: int) -> None:
        """I4. Only what *earlier* terms acknowledged: one that slept through later terms may open without theirs.

        Nobody follows it then, nobody grants it a lease, so it can neither commit nor read (seed 1077, aggressive).
        """
        primary = node.replica.primary
        if primary is None or not primary.open or primary.noop_index != index:
            return
        for term, (last, last_term) in self._acknowledged_in.items():
            if term < primary.term and not _holds(node.disk.log, last, last_term):
                self.violate("I4", f"{node.name} opened without ({last_term}, {last}), acknowledged in term {term}")

    def on_commit(self, node: Node, *, before: int) -> None:
        """I3, after a replica moved its commit index; and what the primary committed is acknowledged from now on."""
        replica = node.replica
        entries = node.disk.log
        commit = replica.commit
        canon = self._committed
        for index in range(before, commit):
            entry = entries[index]
            if index < len(canon):
                if canon[index] is not entry and canon[index] != entry:
                    self.violate("I3", f"{node.name} committed another entry {index + 1}")
                    break
            else:
                canon.append(entry)
        primary = replica.primary
        if primary is not None and commit > 0:
            last = (commit, entries[commit - 1].term)
            self._acknowledged_in[primary.term] = last
            self._acknowledged = max(self._acknowledged, last)

    def on_read(self, node: Node) -> None:
        """I6: at the moment of a read no primary of a higher term is open."""
        mine = node.replica.primary
        term = mine.term if mine is not None else 0
        for other in self._world.nodes.values():
            if other is node or not other.alive:
                continue
            primary = other.replica.primary
            if primary is not None and primary.open and primary.term > term:
                self.violate("I6", f"{node.name} read in term {term} while {other.name} was open in {primary.term}")

    # ------------------------------------------------------------------------------------------ configurations

    def on_save(self, node: Node, config: Config) -> None:
        """I1 at a replica."""
        old = node.disk.config
        if old is not None and config.epoch <= old.epoch:
            self.violate("I1", f"{node.name} went from epoch {old.epoch} to {config.epoch}")

    def on_stored(self, old: Config | None, new: Config) -> None:
        """I1 and I10 at the configuration store, then I5."""
        if self._primaries.setdefault(new.term, new.primary) != new.primary:
            self.violate("I1", f"term {new.term} has two primaries")
        if new.primary not in new.isr:
            self.violate("I1", f"epoch {new.epoch}: the primary is not in sync")
        if old is not None:
            if new.epoch != old.epoch + 1:
                self.violate("I1", f"epoch {new.epoch} was stored after {old.epoch}")
            if new.primary not in old.isr:
                self.violate("I1", f"epoch {new.epoch}: {new.primary} was promoted without being in sync")
            smallest = min(len(old.isr), self._world.settings.min_in_sync)
            if len(new.isr) < smallest:
                self.violate("I10", f"epoch {new.epoch}: {len(new.isr)} in sync")
        self.check_in_sync()

    def check_in_sync(self) -> None:
        """I5: every member of the stored in-sync set holds every acknowledged entry on its disk."""
        config = self._world.store.config
        if config is None:
            return
        index, term = self._acknowledged
        for store in config.isr:
            node = self._world.node_with(store)
            if node is None:
                continue  # emptied: out of service
            if node.disk.durable < index or not _holds(node.disk.log, index, term):
                self.violate("I5", f"{node.name} is in sync without the acknowledged entry ({term}, {index})")

    def check_agreement(self) -> None:
        """I11, at the end: equal logs and equal states up to commit."""
        config = self._world.store.config
        assert config is not None
        digests = {node.name: node.replica.digest()[1:] for node in self._world.nodes.values() if node.alive}
        if len(set(digests.values())) > 1:
            self.violate("I11", f"replicas differ: {digests}")


def _holds(log: list[Entry], index: int, term: int) -> bool:
    return index == 0 or (len(log) >= index and log[index - 1].term == term)
