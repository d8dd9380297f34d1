"""Placement: stable, even, and little moves when a node joins or leaves."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from aftershock.systems_under_test.reference.ring import HashRing, place_shards, shard_of
from uhashring import HashRing as OtherRing

KEYS = [f"key-{number}" for number in range(5_000)]


def nodes(count: int) -> dict[str, float]:
    return {f"n{number}": 1.0 for number in range(1, count + 1)}


def moved(before: dict[str, str], after: dict[str, str]) -> float:
    return sum(before[key] != after[key] for key in before) / len(before)


def test_shard_of_is_the_documented_function() -> None:
    # `printf a | b2sum -l 64` begins with 40f89e395b66422f; é is the two bytes of its UTF-8 form.
    assert {key: shard_of(key, 2**64) for key in ("a", "é")} == {"a": 0x40F89E395B66422F, "é": 0xCB1ABF8BEFF3192F}
    assert {key: shard_of(key, 16) for key in ("a", "b", "é", "key-1")} == {"a": 15, "b": 5, "é": 15, "key-1": 15}
    counts = Counter(shard_of(key, 16) for key in KEYS)
    assert len(counts) == 16
    assert max(counts.values()) < 1.3 * len(KEYS) / 16


@pytest.mark.parametrize("count", [3, 5, 9])
def test_join_and_leave_move_about_one_nth_like_a_known_library(count: int) -> None:
    ring, other = HashRing(nodes(count)), OtherRing(nodes=list(nodes(count)), vnodes=128)
    bigger, other_bigger = HashRing(nodes(count + 1)), OtherRing(nodes=list(nodes(count + 1)), vnodes=128)
    before, after = ({key: r.owner(key) for key in KEYS} for r in (ring, bigger))
    share = 1 / (count + 1)
    assert moved(before, after) == pytest.approx(share, rel=0.35)
    theirs = moved(*({key: str(r.get_node(key)) for key in KEYS} for r in (other, other_bigger)))
    assert moved(before, after) < 1.5 * theirs
    newcomer = f"n{count + 1}"
    # Nothing moves between nodes that stay: to the newcomer on joining, from the leaver on leaving.
    assert all(after[key] == newcomer for key in KEYS if before[key] != after[key])


def test_weights_are_shares() -> None:
    counts = Counter(map(HashRing({"small": 1, "large": 3}, virtual_nodes=256).owner, KEYS))
    assert counts["large"] / len(KEYS) == pytest.approx(0.75, abs=0.08)


def test_a_walk_meets_every_node_once() -> None:
    ring = HashRing(nodes(7))
    for key in KEYS[:100]:
        assert sorted(ring.walk(key)) == sorted(nodes(7))


@pytest.mark.parametrize(("count", "shards"), [(3, 16), (4, 16), (5, 16), (5, 64), (9, 100)])
def test_replicas_are_bounded_and_primaries_even(count: int, shards: int) -> None:
    placed = place_shards(nodes(count), shards=shards, replicas=3)
    assert all(len(set(replicas)) == 3 for replicas in placed.values())
    load = Counter(node for replicas in placed.values() for node in replicas)
    assert max(load.values()) <= math.ceil(1.25 * shards * 3 / count)
    primaries = Counter(replicas[0] for replicas in placed.values())
    assert len(primaries) == count
    assert max(primaries.values()) - min(primaries.values()) <= 1
    assert place_shards(nodes(count), shards=shards, replicas=3) == placed


@pytest.mark.parametrize("count", [4, 5, 8])
def test_a_new_node_moves_about_its_share_of_replicas(count: int) -> None:
    """Bounded load moves somewhat more than the ring alone; a modulo placement would move nearly everything."""
    shards = 256
    before, after = (place_shards(nodes(size), shards=shards, replicas=3) for size in (count, count + 1))
    moved_replicas = sum(len(set(after[shard]) - set(before[shard])) for shard in range(shards))
    assert moved_replicas / (shards * 3) < 2 / (count + 1)


def test_impossible_placements_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 3 nodes"):
        place_shards(nodes(2), shards=4, replicas=3)
    with pytest.raises(ValueError, match="above 0"):
        HashRing({"a": 0})
    with pytest.raises(ValueError, match="at least one"):
        HashRing({})
