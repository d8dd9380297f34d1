"""latency: round trips must grow by what was asked, on old and new connections, and be short again afterwards."""

from __future__ import annotations

import math

import pytest
from aftershock.faults._round_trips import Connection, grown, short_again
from aftershock.faults.latency import LatencySettings
from aftershock.harness.errors import UsageError
from aftershock.harness.interfaces import Flow, Link
from pydantic import ValidationError

from tests.fakes import RecordedEvents, small_cluster
from tests.unit.faults.support import carry_out, context, fault


@pytest.mark.parametrize(("direction", "grown_ms"), [("both", 800), ("out", 400), ("in", 400)])
def test_round_trips_grow_by_the_latency_of_each_direction(direction: str, grown_ms: int) -> None:
    cluster, events = small_cluster(), RecordedEvents()

    record = carry_out(cluster, "latency", events=events, direction=direction, target="n1")

    assert (record.proven, record.heal_verified) == (True, True)
    fact, beside = events.of("fault.proven")[0]["facts"]
    measured_ms = int(fact.split(" by ")[1].split(" ms")[0])
    assert measured_ms == pytest.approx(grown_ms, abs=80)
    assert "24 connections, old and new" in fact
    assert "those of 8 connections that are not held grew by" in beside


def test_what_the_machine_itself_became_slower_by_does_not_count() -> None:
    control, link = Link("n2", "n3"), Link("n1", "n2")
    before = {Connection(each, old=False): 0.01 for each in (control, link)}

    def proven(*, link_s: float, control_s: float) -> bool:
        now = {Connection(link, old=False): link_s, Connection(control, old=False): control_s}
        return grown(before, now, control=[control], least_s=0.15, broken=()).proven

    assert proven(link_s=0.21, control_s=0.01)
    assert proven(link_s=0.21, control_s=0.001)
    assert proven(link_s=0.21, control_s=0.05)
    assert not proven(link_s=0.21, control_s=0.08)
    assert not proven(link_s=0.21, control_s=math.inf)
    assert not proven(link_s=math.inf, control_s=0.01)


def test_where_every_link_touches_the_target_the_facts_say_so() -> None:
    cluster, events = small_cluster(nodes=2, routers=0, controllers=0), RecordedEvents()

    assert carry_out(cluster, "latency", events=events, target="n1").proven

    assert "every link touches the target, so nothing shows" in events.of("fault.proven")[0]["facts"][1]


def test_no_answer_before_and_none_now_is_not_short_again() -> None:
    cluster = small_cluster()
    cluster.world.held.add(Flow("n1", "n2"))

    def again(before_s: float) -> bool:
        before = {Connection(Link("n1", "n2"), old=False): before_s}
        return short_again(cluster, before, most_s=0.1, longest_s=0.2, deadline_s=0.0).proven

    assert not again(math.inf)
    cluster.world.held.clear()
    assert again(math.inf)


@pytest.mark.parametrize("direction", ["both", "out", "in"])
def test_flows_are_those_of_the_target_in_this_direction(direction: str) -> None:
    cluster = small_cluster()
    with fault("latency", direction=direction, target="n1").inject(context(cluster)) as injection:
        flows = set(cluster.world.delays_ms)
        assert injection.cut_off == {}
        assert injection.reaction is None
    assert all((direction != "in" and a == "n1") or (direction != "out" and b == "n1") for a, b in flows)
    assert (Flow("n1", "c1") in flows) == (direction != "in")
    assert (Flow("r2", "n1") in flows) == (direction != "out")


def test_a_delay_of_half_of_what_was_asked_is_no_proof() -> None:
    cluster = small_cluster()
    with fault("latency", direction="out", target="n1").inject(context(cluster)) as injection:
        cluster.world.delays_ms = dict.fromkeys(cluster.world.delays_ms, 150)
        assert not injection.prove().proven
        cluster.world.delays_ms = dict.fromkeys(cluster.world.delays_ms, 300)
        assert injection.prove().proven


@pytest.mark.parametrize(
    ("settings", "least_s"),
    [
        ({"latency_ms": 100}, 0.150),
        ({"latency_ms": 100, "direction": "in"}, 0.050),
        ({"latency_ms": 100, "jitter_ms": 50}, 0.080),
        ({"latency_ms": 100, "jitter_ms": 50, "direction": "out"}, 0.040),
    ],
)
def test_growth_that_a_proof_needs(settings: dict[str, object], least_s: float) -> None:
    """Never more than the least that a working delay adds: directions x (latency - jitter)."""
    chosen = LatencySettings.model_validate(settings)

    assert chosen.least_growth_s == pytest.approx(least_s)
    assert chosen.least_growth_s < chosen.ways * (chosen.latency_ms - chosen.jitter_ms) / 1000


@pytest.mark.parametrize(
    "settings", [{"latency_ms": 100, "jitter_ms": 51}, {"latency_ms": 5}, {"latency_ms": -1}, {"latency_ms": 20_000}]
)
def test_what_could_not_be_proven_is_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        LatencySettings.model_validate(settings)


def test_a_target_without_links_fails() -> None:
    cluster = small_cluster(nodes=1, routers=0, controllers=1)
    cluster.world.links = tuple(link for link in cluster.world.links if "n1" not in link) or cluster.world.links[:1]
    cluster.world.states["c1"] = cluster.world.states["c1"].EXITED

    with pytest.raises(UsageError, match="n1 has no link"), fault("latency", target="n1").inject(context(cluster)):
        pass
