"""Selectors: whom each means on a running cluster, and what is said when it means nobody."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from aftershock.faults._selectors import Selector, Selectors, select, select_many, words, words_of_many
from aftershock.harness.errors import UsageError
from aftershock.harness.interfaces import MemberState
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


# ------------------------------------------------------------------------------------------------ several


@pytest.mark.parametrize(
    ("selectors", "members"),
    [
        ("every:node", ("n1", "n2", "n3", "n4", "n5")),
        ("every:router", ("r1", "r2")),
        ("every:clients", ("clients-r1", "clients-r2")),
        ("n3", ("n3",)),
        (["n1", "node:n2", "n1"], ("n1", "n2")),
        (["controller", "every:router"], ("c1", "r1", "r2")),
        ("clients:r1", ("clients-r1",)),
        ("clients:clients-r1", ("clients-r1",)),
    ],
)
def test_several_members(selectors: str | list[str], members: tuple[str, ...]) -> None:
    assert select_many(selectors, context(small_cluster())) == members


@pytest.mark.parametrize(
    ("selector", "nodes", "count"),
    [
        ("half:node", 5, 2),  # the smaller half
        ("half:node", 4, 2),
        ("half:node", 2, 1),
        ("1%:node", 5, 1),  # one at least
        ("99%:node", 5, 4),  # never all
        ("40%:node", 5, 2),
        ("33.4%:node", 6, 2),
        ("60%:node", 3, 2),
    ],
)
def test_a_share_is_one_member_at_least_and_never_all(selector: str, nodes: int, count: int) -> None:
    cluster, names = small_cluster(nodes=nodes), {f"n{i}" for i in range(1, nodes + 1)}
    drawn = [select_many(selector, context(cluster, rng=random.Random(seed))) for seed in range(60)]

    assert {len(set(each)) for each in drawn} == {count}
    assert {name for each in drawn for name in each} == names, "every member is chosen by some seed"
    assert select_many(selector, context(cluster)) == select_many(selector, context(cluster))


def test_the_seed_chooses_among_those_that_run() -> None:
    cluster = small_cluster()
    cluster.world.states |= {"n1": MemberState.EXITED, "n2": MemberState.PAUSED, "n4": MemberState.EXITED}
    for seed in range(20):
        its = context(cluster, rng=random.Random(seed))
        assert set(select_many("half:node", its)) <= {"n3", "n5"}
        assert select("random-node", its) in {"n3", "n5"}
    assert select_many("every:node", context(cluster))[0] == "n1", "every means every one"


@pytest.mark.parametrize(
    ("selectors", "message"),
    [
        ("half:controller", "c1 is the only controller, and a share never means all; name it, or use every:controller"),
        ("clients:r9", "no client group is pinned to r9; there are r1, r2"),
        (["n1", "n9"], "target = 'n9': no member has this name"),
        ("every:controller", "this system has no controller"),
        ("60%:node", "3 of 5 are wanted, and only n1, n2 run"),
        ("random-node", "no node runs at this moment, of n1, n2, n3, n4, n5"),
    ],
)
def test_several_that_match_nothing_are_told(selectors: str | list[str], message: str) -> None:
    cluster = small_cluster(controllers=0 if selectors == "every:controller" else 1)
    down = {"60%:node": ("n3", "n4", "n5"), "random-node": ("n1", "n2", "n3", "n4", "n5")}
    for name in down.get(str(selectors), ()):
        cluster.world.states[name] = MemberState.EXITED

    with pytest.raises(UsageError, match=message):
        select_many(selectors, context(cluster))


def test_one_member_is_insisted_on() -> None:
    with pytest.raises(UsageError, match="means n1, n2, and this fault hits one member only"):
        select(["n1", "n2"], context(small_cluster()))


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("every:node", "this fault hits one member, 'every:node' means several"),
        ("40%:node", "means several"),
        ("nod:n3", "did you mean 'node'"),
    ],
)
def test_a_fault_of_one_member_refuses_shares_with_the_scenario(selector: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(Selector).validate_python(selector)


@pytest.mark.parametrize(
    ("selectors", "message"),
    [
        ("0%:node", "a share is more than 0 % and less than 100 %"),
        ("100%:node", "a share is more than 0 % and less than 100 %"),
        ("x%:node", "a share is more than 0 % and less than 100 %"),
        ("half:nod", "did you mean 'node'"),
        ("evry:node", "did you mean 'every'"),
        ([], "an empty list hits nobody"),
        (["n1", "half:"], "expected every:ROLE"),
        (["n1", ""], "expected primary, primary:KEY"),
    ],
)
def test_malformed_lists_and_shares_are_found_with_the_scenario(selectors: str | list[str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(Selectors).validate_python(selectors)


def test_words_of_several() -> None:
    assert words_of_many(["primary", "node:n3"]) == "the primary of the hot key's shard and node n3"
    assert words_of_many("every:node") == "every node"
    assert words_of_many("40%:node") == "40% of the nodes, chosen by the seed (one at least, never all)"
    assert words_of_many("half:clients") == "half of the client groups, chosen by the seed (one at least, never all)"
