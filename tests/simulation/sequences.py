"""Directed sequences: the faults, in order, that show one removed line. Random schedules rarely find these.

Each takes a world that is settled and under load, and lets it run; healing and judging come after.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from aftershock.systems_under_test.reference.replica import Replica
from aftershock.systems_under_test.reference.settings import ClusterSettings

from .engine import MS
from .world import AGGRESSIVE, DEFAULT, Outcome, Watched, World

READERS = {"c0", "c1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """What is done, and the circumstances that it needs."""

    act: Callable[[World], None]
    settings: ClusterSettings = DEFAULT
    world: dict[str, Any] = field(default_factory=dict)
    settle_s: float = 8.0

    def run(self, seed: int, *, replica_type: type[Replica] = Watched, unsafe: dict[str, Any] | None = None) -> Outcome:
        """Run it with this replica and these settings changed; without either it is the control arm."""
        settings = replace(self.settings, **(unsafe or {}))
        world = World(seed, settings=settings, replica_type=replica_type, **self.world)
        world.run_until(world.settled, seconds=5)
        world.run(0.2 + seed % 7 / 20)
        self.act(world)
        return world.finish(settle_s=self.settle_s)


def _rest(world: World, part: set[str]) -> set[str]:
    return {*world.nodes, *world.controllers, *world.clients, "store"} - part


def isolate_primary_with_readers(world: World) -> None:
    part = {world.primary().name, *READERS}
    world.network.partition(part, _rest(world, part))
    world.run(3.0)


def backups_restart_while_primary_is_cut_off(world: World) -> None:
    part = {world.primary().name, *READERS}
    backups = world.backups()
    world.network.partition(part, _rest(world, part))
    for node in backups:
        node.kill()
    world.run(0.1)
    for node in backups:
        node.start()
    world.run(2.5)


def primary_sleeps_with_reads_in_its_sockets(world: World) -> None:
    primary = world.primary()
    part = {primary.name, *READERS}
    world.network.partition(part, _rest(world, part))
    world.run(0.02)
    primary.pause()
    world.run(1.3)
    primary.resume()
    world.run(0.5)


def restarted_backup_meets_the_old_primary(world: World) -> None:
    old = world.primary()
    old_side = {old.name, *READERS}
    world.network.partition(old_side, _rest(world, old_side))
    world.run_until(lambda: world.primary() is not old and world.primary().replica.active, seconds=5)
    world.run(0.5)
    new = world.primary()
    other = next(node for node in world.nodes.values() if node not in (old, new))
    other.kill()
    world.network.cut.clear()
    part = {old.name, other.name, *READERS}
    world.network.partition(part, _rest(world, part))
    other.start()
    world.run(0.5)
    new.kill()
    world.network.cut.clear()
    world.run(2.0)


def isolated_primary_rejoins(world: World) -> None:
    isolate_primary_with_readers(world)
    world.network.cut.clear()
    world.run(1.5)


def isolated_primary_restarts_then_rejoins(world: World) -> None:
    """It rejoins under the second primary after it: that one must search where the logs meet.

    The rejoining log is hundreds of entries of one term with a wrong end, and its owner, restarted, no longer knows
    what was committed; so the first messages that match lie far below that end.
    """
    old = world.primary()
    world.run(1.0)
    part = {old.name, *READERS}
    world.network.partition(part, _rest(world, part))
    world.run(2.0)
    old.kill()
    old.start()
    world.primary().kill()
    world.run(2.0)
    world.network.cut.clear()
    world.run(0.5)


def links_reorder(world: World) -> None:
    for a in world.nodes:
        for b in world.nodes:
            world.network.slow[a, b] = 30 * MS
    world.network.duplication = 0.2
    world.run(2.0)


def learner_joins_over_a_slow_link(world: World) -> None:
    backup = world.backups()[0]
    primary = world.primary()
    backup.kill()
    world.run_until(lambda: backup.store not in _isr(world), seconds=3)
    world.network.slow[primary.name, backup.name] = 100 * MS
    backup.start()
    world.run_until(lambda: backup.store in _isr(world), seconds=3)
    primary.kill()
    world.run(1.5)


def _isr(world: World) -> frozenset[str]:
    assert world.store.config is not None
    return world.store.config.isr


def primary_dies_and_backups_are_far_apart(world: World) -> None:
    one, other = world.backups()
    world.network.slow[one.name, other.name] = 450 * MS
    world.network.slow[other.name, one.name] = 450 * MS
    world.primary().kill()
    world.run(3.0)


def primary_with_a_slow_disk_loses_power(world: World) -> None:
    primary = world.primary()
    primary.disk.fsync_ns = (150 * MS, 300 * MS)
    world.run(0.6)
    primary.power_loss()
    world.run(0.05)
    primary.disk.fsync_ns = (200_000, 2_000_000)
    primary.start()
    world.run(2.0)


def late_beacon_acks_then_isolation(world: World) -> None:
    primary = world.primary()
    for node in world.backups():
        world.network.slow[node.name, primary.name] = 550 * MS
    world.run(1.0)
    isolate_primary_with_readers(world)


def everybody_loses_power(world: World) -> None:
    for node in world.nodes.values():
        node.disk.fsync_ns = (20 * MS, 60 * MS)
    world.run(0.5)
    for node in world.nodes.values():
        node.power_loss()
    world.run(0.2)
    for node in world.nodes.values():
        node.start()
    world.run(2.0)


def requests_arrive_late_and_twice(world: World) -> None:
    for client in world.clients:
        for node in world.nodes:
            world.network.slow[client, node] = 1500 * MS
    world.network.duplication = 0.4
    world.run(1.0)
    for client in ("c2", "c3"):
        for node in world.nodes:
            del world.network.slow[client, node]
    world.run(3.0)


def cut_replication_of_the_primary(world: World) -> None:
    primary = world.primary().name
    world.network.partition({primary}, set(world.nodes) - {primary})
    world.run(2.5)


def zombie_wakes_unaware(world: World) -> None:
    """Pause the primary past its replacement; after waking no controller can tell it."""
    primary = world.primary()
    primary.pause()
    world.run(2.5)
    world.network.partition(set(world.controllers), {primary.name}, both_ways=False)
    primary.resume()
    world.run(1.5)


def nothing_but_distance(world: World) -> None:
    for a in world.nodes:
        for b in world.nodes:
            world.network.slow[a, b] = 20 * MS
    world.run(2.0)


def primary_alone_then_its_disk_is_emptied(world: World) -> None:
    primary = world.primary()
    backups = world.backups()
    for node in backups:
        node.kill()
    world.run(3.4)
    primary.destroy()
    for node in backups:
        node.start()
    world.run(0.3)
    primary.start()
    world.run(2.5)


READING = {"readers": 2}
# A slow primary and fast backups: every promise ends as early as drift allows.
DRIFTING = {"readers": 2, "rates": {"n0": 1 - AGGRESSIVE.drift, "n1": 1 + AGGRESSIVE.drift, "n2": 1 + AGGRESSIVE.drift}}
