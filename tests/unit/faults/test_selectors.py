"""Selectors: whom each means on a running cluster, and what is said when it means nobody."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from aftershock.faults._selectors import Selector, select, words
from aftershock.harness.errors import UsageError
from pydantic import TypeAdapter, ValidationError

from tests.fakes import small_cluster
from tests.unit.faults.support import context


@pytest.mark.parametrize(
    ("selector", "member"),
    [("node:n3", "n3"), ("n3", "n3"), ("router:r1", "r1"), ("r2", "r2"), ("controller", "c1"), ("controller:c1", "c1")],
)
def test_named_members(selector: str, member: str) -> None:
    assert select(selector, context(small_cluster())) == member


def test_primary_is_the_primary_of_the_hot_keys_shard() -> None:
    cluster = small_cluster()
    shard = cluster.shard_of("h-1")
    (state,) = (s for s in cluster.shards if s.shard == shard)

    assert select("primary", context(cluster, hot_key="h-1")) == state.primary


def test_primary_of_a_key_and_backups_follow_the_key() -> None:
    cluster = small_cluster()
    for key in ("a", "b", "c", "d:e"):
        state = next(s for s in cluster.shards if s.shard == cluster.shard_of(key))
        assert select(f"primary:{key}", context(cluster)) == state.primary
        for seed in range(10):
            backup = select(f"backup:{key}", context(cluster, rng=random.Random(seed)))
            assert backup in set(state.in_sync) - {state.primary}


def test_choices_are_made_by_the_seed() -> None:
    cluster = small_cluster()
    chosen = {
        s: {select(s, context(cluster, rng=random.Random(i))) for i in range(40)}
        for s in ("random-node", "random-router", "backup")
    }

    assert chosen["random-node"] == {"n1", "n2", "n3", "n4", "n5"}
    assert chosen["random-router"] == {"r1", "r2"}
    assert len(chosen["backup"]) == 2
    assert select("random-node", context(cluster)) == select("random-node", context(cluster))


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("node:n9", "no node has this name; there are n1, n2, n3, n4, n5"),
        ("node:r1", "no node has this name"),
        ("router:n1", "no router has this name; there are r1, r2"),
        ("primry", "did you mean 'primary'"),
        ("n33", "did you mean 'n3'"),
        ("leader-of-all", "expected primary, primary:KEY"),
    ],
)
def test_what_matches_nothing_is_told_with_what_there_is(selector: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        select(selector, context(small_cluster()))


def test_a_shard_without_primary_or_backup_or_a_system_without_shards_matches_nothing() -> None:
    cluster = small_cluster()
    cluster.shards = tuple(replace(s, primary=None, in_sync=()) for s in cluster.shards)
    with pytest.raises(UsageError, match="has no primary at this moment"):
        select("primary", context(cluster))
    with pytest.raises(UsageError, match="has no in-sync backup at this moment"):
        select("backup", context(cluster))
    cluster.shards = ()
    with pytest.raises(UsageError, match="no shards"):
        select("primary", context(cluster))
    with pytest.raises(UsageError, match="this system has no controller"):
        select("controller", context(small_cluster(controllers=0)))


@pytest.mark.parametrize("selector", ["", "node:", "primary:", "leader:x", ":n1"])
def test_malformed_selectors_are_found_with_the_scenario(selector: str) -> None:
    with pytest.raises(ValidationError, match="expected primary, primary:KEY"):
        TypeAdapter(Selector).validate_python(selector)


def test_words() -> None:
    assert words("primary") == "the primary of the hot key's shard"
    assert words("backup:k1") == "an in-sync backup of the shard of key k1"
    assert words("router:r1") == "router r1"
    assert words("n3") == "member n3"
