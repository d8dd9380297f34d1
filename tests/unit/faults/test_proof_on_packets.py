"""Proofs where packets are cut: new connections do not even open there, and one-way cuts are for old ones to show."""

from __future__ import annotations

import pytest
from aftershock.faults._proof import answers_again, judge, old_connections
from aftershock.harness.interfaces import Evidence, Flow, Link, MemberState, ProbeOutcome

from tests.fakes import FakeCluster, FakeProbe, small_cluster

CUT, WHOLE_LINK = Link("n1", "n2"), Link("n3", "n4")
ONE_WAY = ProbeOutcome(delivered=True, answered=False)
SILENT = ProbeOutcome(delivered=False, answered=False)
WHOLE = ProbeOutcome(delivered=True, answered=True)


class Packets(FakeCluster):
    """A connection opens only when packets pass both ways."""

    def open_probe(self, link: Link) -> FakeProbe:
        both = {Flow(link.source, link.target), Flow(link.target, link.source)}
        if both & self.world.held or self.world.states[link.target] is not MemberState.RUNNING:
            raise TimeoutError("timed out")
        return super().open_probe(link)


def proof(wanted: ProbeOutcome, *held: Flow, endings_allowed: bool = False) -> Evidence:
    plain = small_cluster()
    cluster = Packets(plain.world, plain.shards)
    links = {CUT: wanted, WHOLE_LINK: WHOLE}
    with old_connections(cluster, links) as old:
        cluster.world.changed = True
        cluster.world.held |= set(held)
        return judge(cluster, old, links, endings_allowed=endings_allowed)


THERE, BACK = Flow("n1", "n2"), Flow("n2", "n1")


@pytest.mark.parametrize(
    ("wanted", "held"), [(SILENT, (THERE, BACK)), (SILENT, (THERE,)), (ONE_WAY, (BACK,))], ids=["both", "there", "back"]
)
def test_a_cut_as_asked_is_proven(wanted: ProbeOutcome, held: tuple[Flow, ...]) -> None:
    evidence = proof(wanted, *held)
    assert evidence.proven, evidence.facts


@pytest.mark.parametrize(
    ("wanted", "held"),
    [(ONE_WAY, (THERE, BACK)), (ONE_WAY, (THERE,)), (ONE_WAY, ()), (SILENT, ()), (SILENT, (BACK,))],
    ids=["both for one", "the wrong one", "none for one", "none for both", "the answers alone"],
)
def test_any_other_cut_is_not(wanted: ProbeOutcome, held: tuple[Flow, ...]) -> None:
    assert not proof(wanted, *held).proven


def test_a_whole_link_that_does_not_open_is_no_proof() -> None:
    assert not proof(SILENT, THERE, BACK, Flow("n4", "n3")).proven


def test_links_that_do_not_open_have_not_healed() -> None:
    plain = small_cluster()
    cluster = Packets(plain.world, plain.shards)
    cluster.world.held.add(BACK)
    evidence = answers_again(cluster, [CUT], deadline_s=0.05)
    assert not evidence.proven
    assert "does not open" in evidence.facts[0]


def test_without_a_whole_link_to_compare_with_a_stall_of_the_first_look_proves_nothing() -> None:
    """As with a service of which the clients' link is the only one: nothing is cut, and the machine stalls once."""
    cluster = small_cluster(lies=["stalls-first-look"])
    with old_connections(cluster, [CUT]) as old:
        cluster.world.changed = True
        evidence = judge(cluster, old, {CUT: SILENT})

    assert not evidence.proven
