"""loss, duplicate, reorder, bandwidth and reset: whom they hit, what their proofs count, and what is refused."""

from __future__ import annotations

import time

import pytest
from aftershock.faults._counted import rounds
from aftershock.harness.errors import UsageError
from aftershock.harness.interfaces import Flow, Link, MemberState, Probe, ProbeOutcome
from pydantic import ValidationError

from tests.fakes import FakeProbe, RecordedEvents, small_cluster
from tests.unit.faults.support import carry_out, context, fault, registered

PACKETS = ["loss", "duplicate", "reorder", "bandwidth", "reset"]


@pytest.mark.parametrize("name", PACKETS)
@pytest.mark.parametrize("direction", ["both", "out", "in"])
def test_flows_are_those_of_the_target_in_this_direction(name: str, direction: str) -> None:
    cluster = small_cluster()
    with fault(name, direction=direction, target="n1").inject(context(cluster)) as injection:
        flows = {flow for _, flow in cluster.world.packets.on}
        assert injection.prove().proven
        assert injection.cut_off == {}
        assert injection.reaction is None
    assert all((direction != "in" and a == "n1") or (direction != "out" and b == "n1") for a, b in flows)
    assert (Flow("n1", "c1") in flows) == (direction != "in")
    assert (Flow("r2", "n1") in flows) == (direction != "out")


@pytest.mark.parametrize("name", PACKETS)
def test_members_that_are_down_are_left_out(name: str) -> None:
    cluster = small_cluster()
    cluster.world.states["n3"] = MemberState.EXITED
    with fault(name, target="n1").inject(context(cluster)) as injection:
        assert injection.prove().proven
        assert not any("n3" in flow for _, flow in cluster.world.packets.on)


@pytest.mark.parametrize("name", PACKETS)
def test_a_target_without_links_fails(name: str) -> None:
    cluster = small_cluster(nodes=1, routers=0, controllers=1)
    cluster.world.states["c1"] = MemberState.EXITED
    with pytest.raises(UsageError, match="n1 has no link"), fault(name, target="n1").inject(context(cluster)):
        pass


@pytest.mark.parametrize("name", PACKETS)
def test_where_the_network_cannot_the_fault_says_why(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = small_cluster().stage
    monkeypatch.setattr(stage.network, "why_not", lambda _kind: "no such kernel")
    assert fault(name).available(stage) == "no such kernel"


@pytest.mark.parametrize("percent", [1, 5, 20, 50])
@pytest.mark.parametrize("name", ["loss", "duplicate", "reorder"])
def test_a_small_chance_is_proven_too(name: str, percent: int) -> None:
    assert carry_out(small_cluster(), name, events=RecordedEvents(), percent=percent, target="n1").proven


@pytest.mark.parametrize("percent", [1, 5, 20, 50, 90])
def test_all_rounds_together_miss_a_fault_once_in_a_million(percent: float) -> None:
    most, each = rounds(percent)
    assert (1 - percent / 100) ** (most * each) <= 1e-6


def test_a_limit_in_one_direction_where_two_were_asked_is_told_where_nobody_counts() -> None:
    events = RecordedEvents()
    assert carry_out(small_cluster(lies=["packets-uncounted"]), "bandwidth", events=events).proven
    assert any("only the slower one was seen" in fact for fact in events.of("fault.proven")[0]["facts"])


class SmallProbe:
    """A probe that is no BulkProbe."""

    def __init__(self, probe: FakeProbe) -> None:
        self._probe = probe

    def exchange(self, *, timeout_s: float) -> ProbeOutcome:
        return self._probe.exchange(timeout_s=timeout_s)

    def close(self) -> None:
        self._probe.close()


class LateAtFirst(SmallProbe):
    """A probe whose first exchange waited for a busy machine, nearly as long as the limit will take."""

    late_s = 0.35

    def exchange_bulk(self, *, size_bytes: int, timeout_s: float) -> ProbeOutcome:
        time.sleep(self.late_s)
        self.late_s = 0.0
        return self._probe.exchange_bulk(size_bytes=size_bytes, timeout_s=timeout_s)


@pytest.mark.parametrize("lies", [[], ["packets-ignored"]])
def test_one_late_exchange_before_a_limit_neither_hides_nor_makes_it(
    lies: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, events, late = small_cluster(lies=lies), RecordedEvents(), set[Link]()
    opened = cluster.open_probe

    def open_probe(link: Link) -> Probe:
        first = link not in late
        late.add(link)
        return LateAtFirst(opened(link)) if first else opened(link)

    monkeypatch.setattr(cluster, "open_probe", open_probe)
    assert carry_out(cluster, "bandwidth", events=events).proven is (not lies), events.of("fault.unproven")


@pytest.mark.parametrize("name", ["reorder", "bandwidth"])
def test_probes_that_cannot_fill_a_connection_prove_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, events = small_cluster(), RecordedEvents()
    opened = cluster.open_probe
    monkeypatch.setattr(cluster, "open_probe", lambda link: SmallProbe(opened(link)))
    assert carry_out(cluster, name, events=events).proven is False
    assert "exchange single small messages" in events.of("fault.unproven")[0]["facts"][0]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("loss", {"percent": 0.5}),
        ("loss", {"percent": 51}),
        ("duplicate", {"percent": 91}),
        ("reorder", {"percent": 60}),
        ("reorder", {"hold_ms": 1}),
        ("bandwidth", {"kbit_per_s": 8}),
        ("bandwidth", {"kbit_per_s": 1001}),
        ("bandwidth", {"kbit_per_s": 20_000}),
        ("reset", {"percent": 5}),
    ],
)
def test_what_could_not_be_proven_is_refused(name: str, settings: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        registered()[name].settings.model_validate(settings)
