"""The url backend without a service: what it may touch, what it refuses, and networks taken for one."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from aftershock.harness.backends.joined_network import JoinedNetwork, WatchedLinks
from aftershock.harness.backends.url import UrlBackend, UrlBackendSettings
from aftershock.harness.errors import HealError, InternalError, SetupError
from aftershock.harness.impairment import Block, Delay, Impairment, Loss
from aftershock.harness.interfaces import Attaching, Flow, Link
from aftershock.harness.safety import SafetyPlan, allowed
from pydantic import ValidationError


def test_attached_containers_and_labels_must_be_allowed() -> None:
    assert isinstance(UrlBackend, Attaching)
    settings = UrlBackendSettings(containers=("web-1",), labels=("app=shop",))
    named = UrlBackend.attached(settings)

    assert list(named) == ["container:web-1", "label:app=shop"]
    assert all(allowed(each, SafetyPlan(allow=("container:web-*", "label:app=shop"))) for each in named)
    assert not allowed(named[1], SafetyPlan(allow=("container:*web",)))
    assert UrlBackend.attached(UrlBackendSettings()) == []


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"labels": ("app",)}, "KEY=VALUE"),
        ({"endpoint": "tcp://there:2375"}, "unix:///PATH"),
        ({"container": "x"}, "Extra inputs"),
    ],
)
def test_settings_that_cannot_be_meant(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        UrlBackendSettings.model_validate(settings)


def test_an_engine_is_wanted_only_to_attach(tmp_path_factory: pytest.TempPathFactory) -> None:
    nowhere = f"unix://{tmp_path_factory.mktemp('no')}/docker.sock"
    assert UrlBackend(UrlBackendSettings(endpoint=nowhere)).available() is None
    reason = UrlBackend(UrlBackendSettings(endpoint=nowhere, containers=("x",))).available()
    assert reason is not None
    assert "docker.sock" in reason or "root" in reason


class Wire:
    """A network that remembers, and can be made to fail."""

    def __init__(self, *links: Link, can: tuple[type[Impairment], ...] = (Block, Delay)) -> None:
        self.links = links
        self._can = can
        self.on: dict[Flow, str] = {}
        self.broken = False

    def why_not(self, kind: type[Impairment]) -> str | None:
        return None if kind in self._can else f"no {kind.kind} here"

    def impair(self, flows: Iterable[Flow], impairment: Impairment, *, expires_ns: int) -> None:
        if self.broken:
            raise SetupError("broken")
        self.on |= dict.fromkeys(flows, impairment.words())

    def mend(self, flows: Iterable[Flow], kind: type[Impairment]) -> None:
        if self.broken:
            raise HealError("stays")
        for flow in flows:
            self.on.pop(flow, None)

    def impaired(self) -> dict[Flow, str]:
        return dict(self.on)

    def counters(self, flows: Iterable[Flow], kind: type[Impairment]) -> dict[Flow, int]:
        return dict.fromkeys(flows, 1)


TO_A, TO_B = Flow("c", "a"), Flow("a", "b")


@pytest.fixture
def wires() -> tuple[Wire, Wire]:
    return Wire(Link("c", "a")), Wire(Link("a", "b"), can=(Block, Loss))


def test_each_flow_goes_to_the_network_that_carries_it(wires: tuple[Wire, Wire]) -> None:
    both = JoinedNetwork(lambda: wires)
    both.impair([TO_A, TO_B, Flow("b", "a")], Block(), expires_ns=1)
    assert [set(wire.on) for wire in wires] == [{TO_A}, {TO_B, Flow("b", "a")}]
    assert set(both.impaired()) == {TO_A, TO_B, Flow("b", "a")}
    assert both.counters([TO_A, TO_B], Block) == {TO_A: 1, TO_B: 1}
    both.mend([TO_A, TO_B, Flow("b", "a")], Block)
    assert both.impaired() == {}


def test_all_or_none(wires: tuple[Wire, Wire]) -> None:
    both = JoinedNetwork(lambda: wires)
    wires[1].broken = True
    with pytest.raises(SetupError, match="broken"):
        both.impair([TO_A, TO_B], Block(), expires_ns=1)
    assert wires[0].on == {}


def test_what_one_of_them_cannot_do_is_refused_before_the_other_is_touched(wires: tuple[Wire, Wire]) -> None:
    both = JoinedNetwork(lambda: wires)
    assert both.why_not(Delay) is None
    with pytest.raises(SetupError, match=r"a -> b cannot be delayed.*no delay here"):
        both.impair([TO_A, TO_B], Delay(latency_ms=10), expires_ns=1)
    assert wires[0].on == {}
    with pytest.raises(InternalError, match="no link carries it"):
        both.impair([Flow("x", "y")], Block(), expires_ns=1)


def test_one_that_cannot_be_mended_keeps_the_others_from_nothing(wires: tuple[Wire, Wire]) -> None:
    both = JoinedNetwork(lambda: wires)
    both.impair([TO_A, TO_B], Block(), expires_ns=1)
    wires[0].broken = True
    with pytest.raises(HealError, match="stays"):
        both.mend([TO_A, TO_B], Block)
    assert wires[1].on == {}


def test_a_watched_link_carries_nothing_that_could_be_broken() -> None:
    watched = WatchedLinks()
    watched.link("service", "web")
    with pytest.raises(SetupError, match="attach the containers"):
        JoinedNetwork(lambda: [watched]).impair([Flow("service", "web")], Block(), expires_ns=1)
