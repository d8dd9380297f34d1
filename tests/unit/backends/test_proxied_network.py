"""Which streams of which proxies carry a flow, and which journal entry stands for each toxic."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, cast

import pytest
from aftershock.harness.backends.ports import PortReserver
from aftershock.harness.backends.proxied_network import ProxiedNetwork
from aftershock.harness.errors import InternalError, SetupError
from aftershock.harness.identity import ProcessIdentity
from aftershock.harness.impairment import Bandwidth, Block, Delay, Duplicate, Loss, Reorder, Reset
from aftershock.harness.interfaces import Address, Flow
from aftershock.harness.toxiproxy import Proxy, Toxic, Toxiproxy, ToxiproxyError

from tests.processes.stages import Events


class FakeToxiproxy:
    """A server in memory; `fail_on` is a proxy on which every addition fails."""

    address = Address("127.0.0.1", 1)

    def __init__(self) -> None:
        self.there: dict[str, Proxy] = {}
        self.fail_on = ""
        self.populated = 0

    def populate(self, proxies: Sequence[Proxy]) -> None:
        self.populated += 1
        self.there |= {proxy.name: proxy for proxy in proxies}

    def proxies(self) -> dict[str, Proxy]:
        return dict(self.there)

    def add(self, toxics: Iterable[tuple[str, Toxic]]) -> None:
        for name, toxic in toxics:
            if name == self.fail_on:
                raise ToxiproxyError("planted")
            proxy = self.there[name]
            others = tuple(each for each in proxy.toxics if each.name != toxic.name)
            self.there[name] = replace(proxy, toxics=(*others, toxic))

    def remove(self, toxics: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        gone = []
        for name, toxic in toxics:
            left = tuple(each for each in self.there[name].toxics if each.name != toxic)
            if len(left) == len(self.there[name].toxics):
                gone.append((name, toxic))
            self.there[name] = replace(self.there[name], toxics=left)
        return gone

    def streams(self) -> set[tuple[str, str]]:
        return {(name, toxic.stream) for name, proxy in self.there.items() for toxic in proxy.toxics}


class FakeJournal:
    def __init__(self) -> None:
        self.open: dict[str, dict[str, Any]] = {}
        self.count = 0

    def record(self, inverse: str, /, *, expires_ns: int | None, **arguments: Any) -> str:
        assert inverse == "remove-toxics"
        self.count += 1
        self.open[f"e{self.count}"] = {"expires_ns": expires_ns, **arguments}
        return f"e{self.count}"

    def done(self, entry: str) -> None:
        del self.open[entry]

    def covered(self, *, until_ns: int) -> set[tuple[str, str]]:
        """Toxics that somebody is going to remove, none of them before this time."""
        assert all(entry["expires_ns"] >= until_ns for entry in self.open.values())
        return {(proxy, toxic.split("-")[1]) for entry in self.open.values() for proxy, toxic in entry["toxics"]}


class Bed:
    def __init__(self, ports: PortReserver) -> None:
        self.api, self.journal, self.events = FakeToxiproxy(), FakeJournal(), Events()
        self.network = ProxiedNetwork(
            api=cast(Toxiproxy, self.api), ports=ports, journal=self.journal, events=self.events
        )
        for pair in (("a", "b"), ("b", "a"), ("c", "a")):
            self.network.link(*pair, "p", Address("127.0.0.1", 2))
        self.network.populate()


@pytest.fixture
def bed() -> Any:
    with closing(PortReserver()) as ports:
        yield Bed(ports)


def test_links_before_the_first_populate_are_one_call_and_later_ones_are_made_at_once(bed: Bed) -> None:
    assert bed.api.populated == 1
    first = bed.network.link("c", "b", "p", Address("127.0.0.1", 2))
    assert bed.api.populated == 2
    assert bed.network.link("c", "b", "p", Address("127.0.0.1", 2)) == first
    assert bed.api.there["c>b:p"].listen == first


@pytest.mark.parametrize(
    ("flow", "streams"),
    [
        (Flow("a", "b"), {("a>b:p", "upstream"), ("b>a:p", "downstream")}),
        (Flow("b", "a"), {("b>a:p", "upstream"), ("a>b:p", "downstream")}),
        (Flow("c", "a"), {("c>a:p", "upstream")}),
        (Flow("a", "c"), {("c>a:p", "downstream")}),
    ],
)
def test_a_flow_is_cut_where_its_bytes_travel_and_nowhere_else(
    bed: Bed, flow: Flow, streams: set[tuple[str, str]]
) -> None:
    bed.network.impair([flow], Block(), expires_ns=5)
    assert bed.api.streams() == streams == bed.journal.covered(until_ns=5)
    assert bed.network.impaired() == {flow: "blocked"}
    bed.network.mend([flow], Block)
    assert bed.api.streams() == set()
    assert bed.journal.open == {}


def test_a_later_block_is_not_ended_by_the_expiry_of_an_earlier_one(bed: Bed) -> None:
    bed.network.impair([Flow("a", "b")], Block(), expires_ns=5)
    bed.network.impair([Flow("a", "b"), Flow("c", "a")], Block(), expires_ns=9)
    assert bed.journal.covered(until_ns=9) == bed.api.streams()
    bed.network.impair([Flow("a", "b")], Block(), expires_ns=7)  # nor shortened by one that ends earlier
    assert bed.journal.covered(until_ns=9) == bed.api.streams()


def test_an_entry_stands_until_the_last_of_its_toxics_is_gone(bed: Bed) -> None:
    bed.network.impair([Flow("a", "b"), Flow("c", "a")], Block(), expires_ns=5)
    bed.network.impair([Flow("a", "b")], Delay(latency_ms=1, jitter_ms=0), expires_ns=5)
    bed.network.mend([Flow("a", "b")], Block)
    assert len(bed.journal.open) == 2
    assert bed.network.impaired() == {Flow("a", "b"): "delayed by 1 ± 0 ms", Flow("c", "a"): "blocked"}
    bed.network.heal()
    assert bed.network.impaired() == bed.journal.open == {}


def test_half_a_partition_is_taken_back(bed: Bed) -> None:
    bed.api.fail_on = "c>a:p"
    with pytest.raises(ToxiproxyError, match="planted"):
        bed.network.impair([Flow("a", "b"), Flow("c", "a")], Block(), expires_ns=5)
    assert bed.api.streams() == set()
    assert bed.journal.open == {}


def test_the_inverse_is_written_before_the_act(bed: Bed) -> None:
    def look(_toxics: object) -> None:
        assert bed.journal.covered(until_ns=5) == {("c>a:p", "upstream")}
        raise ToxiproxyError("looked")

    bed.api.add = look  # type: ignore[method-assign]
    with pytest.raises(ToxiproxyError, match="looked"):
        bed.network.impair([Flow("c", "a")], Block(), expires_ns=5)


def test_a_flow_that_is_cut_on_one_of_its_streams_says_so(bed: Bed) -> None:
    bed.api.add([("a>b:p", Toxic(name="x", type="timeout", stream="upstream"))])
    assert bed.network.impaired() == {Flow("a", "b"): "blocked (1 of 2 streams)"}


def test_flows_that_no_link_carries_are_passed_over_unless_they_are_all(bed: Bed) -> None:
    bed.network.impair([Flow("a", "b"), Flow("b", "c")], Block(), expires_ns=5)
    assert bed.network.impaired() == {Flow("a", "b"): "blocked"}
    with pytest.raises(InternalError, match="cannot block b -> c: no link carries it"):
        bed.network.impair([Flow("b", "c")], Block(), expires_ns=5)


def test_toxics_end_with_their_server(bed: Bed) -> None:
    bed.network.impair([Flow("a", "b")], Block(), expires_ns=5)
    bed.network.server_ended()
    assert bed.journal.open == {}


def test_the_journal_says_which_process_the_server_is(bed: Bed) -> None:
    server = ProcessIdentity(7, 8, "boot")
    with closing(PortReserver()) as ports:
        network = ProxiedNetwork(
            api=cast(Toxiproxy, bed.api), ports=ports, journal=bed.journal, events=bed.events, server=lambda: server
        )
        network.link("a", "b", "p", Address("127.0.0.1", 2))
        network.impair([Flow("a", "b")], Block(), expires_ns=5)
    assert [entry["server"] for entry in bed.journal.open.values()] == [server.to_json()]


def test_a_limit_and_a_reset_are_toxics_of_their_own(bed: Bed) -> None:
    bed.network.impair([Flow("c", "a")], Bandwidth(kbit_per_s=1000), expires_ns=5)
    (limit,) = bed.api.there["c>a:p"].toxics
    assert (limit.type, dict(limit.attributes)) == ("bandwidth", {"rate": 125})
    assert bed.network.impaired() == {Flow("c", "a"): "limited to 1000 kbit/s"}
    bed.network.impair([Flow("a", "c")], Reset(), expires_ns=5)
    assert bed.network.impaired()[Flow("a", "c")] == "reset"
    bed.network.mend([Flow("c", "a")], Bandwidth)
    bed.network.mend([Flow("a", "c")], Reset)
    assert bed.network.impaired() == bed.journal.open == {}


@pytest.mark.parametrize("impairment", [Loss(percent=5), Duplicate(percent=5), Reorder(percent=5, hold_ms=5)])
def test_what_takes_packets_is_refused_with_a_reason(bed: Bed, impairment: Any) -> None:
    assert "not packets" in (bed.network.why_not(type(impairment)) or "")
    with pytest.raises(SetupError, match="not packets"):
        bed.network.impair([Flow("c", "a")], impairment, expires_ns=5)
    assert bed.network.counters([Flow("c", "a")], type(impairment)) == {}
