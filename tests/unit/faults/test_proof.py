"""The proof's own parts: what must be seen on a link, which links are looked at, and second looks."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import pytest
from aftershock.faults import _proof
from aftershock.faults._links import PAIRS_MAX, SILENT, WHOLE, WHOLE_LINKS_MAX, cut_links, expected, whole_links
from aftershock.faults._proof import OldConnections, judge
from aftershock.harness.interfaces import Flow, Link, ProbeOutcome

from tests import fakes
from tests.fakes import FakeCluster, RecordedEvents, small_cluster
from tests.unit.faults.support import carry_out

LINK, BACK = Link("a", "b"), Link("b", "a")


@pytest.mark.parametrize(
    ("flows", "there", "back"),
    [
        ([], WHOLE, WHOLE),
        ([Flow("a", "b")], SILENT, ProbeOutcome(delivered=True, answered=False)),
        ([Flow("b", "a")], ProbeOutcome(delivered=True, answered=False), SILENT),
        ([Flow("a", "b"), Flow("b", "a")], SILENT, SILENT),
    ],
)
def test_what_must_be_seen_on_the_two_links_of_a_pair(
    flows: list[Flow], there: ProbeOutcome, back: ProbeOutcome
) -> None:
    assert (expected(LINK, flows), expected(BACK, flows)) == (there, back)


def test_links_of_a_cut_pair_are_looked_at_both_ways_and_whole_ones_are_not_cut() -> None:
    links = small_cluster().world.links
    flows = [Flow("n1", "n2"), Flow("n3", "r1")]

    cut = cut_links(links, flows, always="n1", rng=random.Random(1))
    whole = whole_links(links, flows, near=["n1"], rng=random.Random(1))

    assert cut == [Link("n1", "n2"), Link("n2", "n1"), Link("r1", "n3")]
    assert not set(whole) & set(cut)
    assert sum("n1" in link for link in whole) >= 4
    assert len(whole) == 8


class Scripted:
    """A probe that answers as it is told, one outcome an exchange."""

    def __init__(self, *outcomes: ProbeOutcome) -> None:
        self._outcomes = list(outcomes)

    def exchange(self, *, timeout_s: float) -> ProbeOutcome:
        outcome = self._outcomes.pop(0)
        if not outcome.answered:
            fakes._delay_ms(round(timeout_s * 1000))
        return outcome

    def close(self) -> None: ...


def judged(monkeypatch: pytest.MonkeyPatch, wanted: ProbeOutcome, old: Scripted, new: Callable[[], Scripted]) -> bool:
    cluster: FakeCluster = small_cluster()
    monkeypatch.setattr(cluster, "open_probe", lambda link: new())
    return judge(cluster, OldConnections(probes={LINK: old}, broken=()), {LINK: wanted}).proven


def test_what_should_answer_and_was_late_gets_a_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    half = ProbeOutcome(delivered=True, answered=False)

    assert judged(monkeypatch, half, Scripted(SILENT, half), lambda: Scripted(half))
    assert not judged(monkeypatch, half, Scripted(SILENT, SILENT), lambda: Scripted(half))


def test_what_should_be_silent_and_was_not_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not judged(monkeypatch, SILENT, Scripted(WHOLE, SILENT), lambda: Scripted(SILENT))
    assert not judged(monkeypatch, SILENT, Scripted(SILENT), lambda: Scripted(WHOLE, SILENT))


def test_a_stall_of_the_first_look_proves_nothing_and_hides_nothing() -> None:
    """Silence of the stall does not count beside whole links that answer only after it."""
    events = RecordedEvents()
    record = carry_out(small_cluster(lies=["block-ignored", "stalls-first-look"]), "partition", events=events)
    assert record.proven is False
    assert any("request delivered and answered" in fact for fact in events.of("fault.unproven")[0]["facts"])

    assert carry_out(small_cluster(lies=["stalls-first-look"]), "partition", events=RecordedEvents()).proven is True


def test_what_came_through_in_any_look_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, whole = small_cluster(), Link("c", "d")

    def proven(cut: Scripted) -> bool:
        monkeypatch.setattr(cluster, "open_probe", lambda link: Scripted(WHOLE if link == whole else SILENT))
        old = OldConnections(probes={LINK: cut, whole: Scripted(SILENT, WHOLE)}, broken=())
        return judge(cluster, old, {LINK: SILENT, whole: WHOLE}).proven

    assert proven(Scripted(SILENT, SILENT))
    assert not proven(Scripted(SILENT, WHOLE))
    assert not proven(Scripted(WHOLE, SILENT))
    assert not proven(Scripted(ProbeOutcome(delivered=True, answered=False), SILENT))


def test_all_probes_of_a_proof_run_at_the_same_time() -> None:
    most = 2 * (2 * PAIRS_MAX + WHOLE_LINKS_MAX)
    together = threading.Barrier(most)
    _proof.at_once(lambda _key: together.wait(timeout=5), range(most))


def test_a_proof_without_a_link_that_the_fault_touches_is_none() -> None:
    evidence = judge(small_cluster(), OldConnections(probes={}, broken=()), {})

    assert not evidence.proven
    assert "nothing could be probed" in evidence.facts[-1]


def test_long_lists_of_what_was_wrong_are_cut_short() -> None:
    assert _proof._shortened([str(i) for i in range(9)]) == ["0", "1", "2", "3", "4", "5", "and 3 more"]
