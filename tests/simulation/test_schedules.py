"""Random faults against the safe settings: nothing may break, ever. AFTERSHOCK_SIM_SEEDS=5000 makes it a long sweep."""

from __future__ import annotations

import os
import sys

import pytest

from .faults import random_schedule
from .sequences import Sequence, isolate_primary_with_readers
from .world import World

SEEDS = int(os.environ.get("AFTERSHOCK_SIM_SEEDS", "40"))


@pytest.mark.timeout(max(120, SEEDS * 2))
@pytest.mark.parametrize("aggressive", [False, True], ids=["default", "aggressive"])
def test_random_schedules_break_nothing(aggressive: bool) -> None:
    """Default timing, and suspicion long before the lease ends: there, safety rests on the lease alone."""
    operations = events = 0
    for seed in range(1, SEEDS + 1):
        outcome = random_schedule(seed, aggressive=aggressive)
        again = f"seed {seed}: run random_schedule({seed}, aggressive={aggressive})"
        assert not outcome.violations, f"{again}: {outcome.violations[:5]}"
        assert not outcome.anomalies, f"{again}: {outcome.anomalies[:5]}"
        assert outcome.stuck is None, f"{again}: {outcome.stuck}"
        operations += outcome.operations
        events += outcome.events
    print(f"{SEEDS} schedules, {operations} operations, {events} events", file=sys.stderr)
    assert operations > 300 * SEEDS, "schedules in which nothing was asked prove nothing"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_same_seed_gives_the_same_schedule(seed: int) -> None:
    assert random_schedule(seed, aggressive=True) == random_schedule(seed, aggressive=True)


def test_another_seed_gives_another_schedule() -> None:
    assert random_schedule(1).events != random_schedule(2).events


def test_killing_the_primary_is_recovered_in_time() -> None:
    """From the kill to the first acknowledged write: detection, grant and first round overlap (section 10)."""
    gaps_ms = []
    for seed in range(1, 21):
        world = World(seed)
        assert world.run_until(world.settled, seconds=5)
        world.run(0.3 + seed / 100)
        killed_ns = world.engine.now
        world.primary().kill()
        world.run(3.0)
        first = next(at for at in world.acknowledged_ns if at > killed_ns + 10_000_000)
        gaps_ms.append((first - killed_ns) // 1_000_000)
        assert not world.observer.violations
    gaps_ms.sort()
    print(f"fail-over in ms: median {gaps_ms[10]}, worst {gaps_ms[-1]}", file=sys.stderr)
    assert gaps_ms[0] > 300, "suspicion never comes earlier, so the kill cannot have been seen"
    assert gaps_ms[-1] < 2000


def test_a_world_without_faults_never_changes_its_configuration() -> None:
    world = World(5)
    assert world.run_until(world.settled, seconds=5)
    world.run(10)
    assert world.store.config is not None
    assert world.store.config.epoch == 1
    outcome = world.finish()
    assert not outcome.unsafe
    assert outcome.stuck is None
    assert world.outcomes["unknown"] == world.outcomes["fail"] == 0


def test_a_cut_primary_is_replaced_and_rejoins() -> None:
    outcome = Sequence(act=isolate_primary_with_readers, world={"readers": 2}).run(3)
    assert not outcome.unsafe
    assert outcome.stuck is None
