"""Random fault schedules, within the fault budget: any crashes, pauses and cuts, one emptied disk at most."""

from __future__ import annotations

import random
from collections.abc import Callable

from aftershock.systems_under_test.reference.replica import Replica
from aftershock.systems_under_test.reference.settings import ClusterSettings

from .engine import MS
from .world import AGGRESSIVE, DEFAULT, Outcome, Watched, World

Fault = Callable[[World, random.Random], None]


def random_schedule(
    seed: int,
    *,
    aggressive: bool = False,
    replica_type: type[Replica] = Watched,
    settings: ClusterSettings | None = None,
) -> Outcome:
    """Run one schedule of about 11 simulated seconds. The same seed gives the same schedule, event by event."""
    chosen = settings or (AGGRESSIVE if aggressive else DEFAULT)
    world = World(seed, settings=chosen, replica_type=replica_type, readers=seed % 2)
    rng = random.Random(seed * 7919 + 1)
    world.run_until(world.settled, seconds=5)
    world.run(0.3)
    count = rng.randint(5, 11) if aggressive else rng.randint(3, 7)
    kinds = list(FAULTS)
    for _ in range(count):
        world.engine.after(int(rng.random() * 6_000) * MS, _inject, world, rng, rng.choice(kinds))
    if rng.random() < 0.3:
        world.engine.after(int(rng.random() * 6_000) * MS, _empty_one_disk, world, rng)
    world.run(7.0)
    return world.finish(settle_s=10.0 if aggressive else 5.0)


def _inject(world: World, rng: random.Random, fault: Fault) -> None:
    fault(world, rng)


def _for(world: World, rng: random.Random, low_ms: int, high_ms: int, undo: Callable[[], None]) -> None:
    world.engine.after(rng.randint(low_ms, high_ms) * MS, undo)


def _node(world: World, rng: random.Random) -> str:
    """Some node; the primary more often than chance would have it."""
    if world.store.config is not None and rng.random() < 0.5:
        return world.primary().name
    return rng.choice(sorted(world.nodes))


def crash(world: World, rng: random.Random) -> None:
    node = world.nodes[_node(world, rng)]
    node.kill()
    _for(world, rng, 20, 2000, node.start)


def power_loss(world: World, rng: random.Random) -> None:
    nodes = sorted(world.nodes)
    for name in rng.sample(nodes, rng.randint(1, len(nodes))):
        node = world.nodes[name]
        node.power_loss()
        _for(world, rng, 50, 1000, node.start)


def pause(world: World, rng: random.Random) -> None:
    node = world.nodes[_node(world, rng)]
    node.pause()
    _for(world, rng, 20, 2500, node.resume)


def pause_controller(world: World, rng: random.Random) -> None:
    controller = world.controllers[rng.choice(sorted(world.controllers))]
    controller.pause()
    _for(world, rng, 100, 2000, controller.resume)


def crash_controller(world: World, rng: random.Random) -> None:
    controller = world.controllers[rng.choice(sorted(world.controllers))]
    controller.kill()
    _for(world, rng, 100, 2000, controller.start)


def _everyone(world: World) -> set[str]:
    return {*world.nodes, *world.controllers, *world.clients, "store"}


def _cut(world: World, rng: random.Random, one: set[str], other: set[str], *, both_ways: bool) -> None:
    before = set(world.network.cut)
    world.network.partition(one, other, both_ways=both_ways)
    added = world.network.cut - before
    _for(world, rng, 100, 3000, lambda: world.network.cut.difference_update(added))


def halves(world: World, rng: random.Random) -> None:
    everyone = sorted(_everyone(world) - {"store"})
    one = set(rng.sample(everyone, rng.randint(1, len(everyone) - 1)))
    _cut(world, rng, one, _everyone(world) - one, both_ways=rng.random() < 0.6)


def isolate_primary(world: World, rng: random.Random) -> None:
    one = {_node(world, rng), *rng.sample(sorted(world.clients), 2)}
    _cut(world, rng, one, _everyone(world) - one, both_ways=rng.random() < 0.7)


def replication_only(world: World, rng: random.Random) -> None:
    name = _node(world, rng)
    _cut(world, rng, {name}, set(world.nodes) - {name}, both_ways=rng.random() < 0.6)


def one_link(world: World, rng: random.Random) -> None:
    one, other = rng.sample(sorted({*world.nodes, *world.controllers}), 2)
    _cut(world, rng, {one}, {other}, both_ways=rng.random() < 0.5)


def controller_from_store(world: World, rng: random.Random) -> None:
    _cut(world, rng, {rng.choice(sorted(world.controllers))}, {"store"}, both_ways=rng.random() < 0.5)


def lossy(world: World, rng: random.Random) -> None:
    world.network.loss = rng.random() * 0.3
    world.network.duplication = rng.random() * 0.3

    def undo() -> None:
        world.network.loss = world.network.duplication = 0.0

    _for(world, rng, 200, 2000, undo)


def slow_links(world: World, rng: random.Random) -> None:
    everyone = sorted(_everyone(world))
    extra = rng.choice([20, 100, 400, 1500]) * MS
    pairs = [(a, b) for a in everyone for b in everyone if a != b and rng.random() < 0.4]
    for pair in pairs:
        world.network.slow[pair] = extra

    def undo() -> None:
        for pair in pairs:
            world.network.slow.pop(pair, None)

    _for(world, rng, 200, 2000, undo)


def slow_disk(world: World, rng: random.Random) -> None:
    node = world.nodes[_node(world, rng)]
    node.disk.fsync_ns = (5 * MS, rng.choice([30, 200, 800]) * MS)

    def undo() -> None:
        node.disk.fsync_ns = (200_000, 2_000_000)

    _for(world, rng, 300, 2500, undo)


def _empty_one_disk(world: World, rng: random.Random) -> None:
    """The whole budget of permanent losses, so once in a schedule, and only of a disk that is not the last good one.

    With `min_in_sync` 2 every acknowledged write is on two disks at least, so one may always go.
    """
    node = world.nodes[_node(world, rng)]
    node.destroy()
    _for(world, rng, 50, 1500, node.start)


FAULTS: tuple[Fault, ...] = (
    crash,
    power_loss,
    pause,
    pause_controller,
    crash_controller,
    halves,
    isolate_primary,
    replication_only,
    one_link,
    controller_from_store,
    lossy,
    slow_links,
    slow_disk,
)
