"""Choosing the run's address range: what is in use is gone around, and a person is told when all is."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Network
from itertools import islice
from typing import Any, cast

import pytest
from aftershock.harness.backends import docker_network
from aftershock.harness.backends.docker_engine import Engine
from aftershock.harness.backends.docker_network import POOLS, candidates, host_ranges, make_network
from aftershock.harness.errors import SetupError

# /proc/net/fib_trie of a machine with one network card, shortened: both tables, a default route, addresses.
TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 172.17.0.0/16 2 0 2
        |-- 172.17.0.0
           /16 link UNICAST
     |-- 192.0.2.0
        /24 link UNICAST
Id 200:
  |-- 10.0.0.0
     /8 universe UNICAST
Local:
  |-- 127.0.0.1
     /32 host LOCAL
"""


class FakeApi:
    """Networks that are there, and ranges that the engine refuses although they are not."""

    def __init__(self, there: list[str], refused: list[str], other_error: str = "") -> None:
        self._there = there
        self._refused = refused
        self._other_error = other_error
        self.asked: list[str] = []
        self.options: dict[str, Any] = {}

    def networks(self) -> list[dict[str, Any]]:
        configs: list[dict[str, Any]] = [{"IPAM": {"Config": [{"Subnet": subnet}]}} for subnet in self._there]
        return [*configs, {"IPAM": {"Config": None}}, {"IPAM": {"Config": [{"Subnet": "fd00::/64"}]}}]

    def create_network(self, name: str, *, ipam: Any, **options: Any) -> dict[str, str]:
        subnet = ipam["Config"][0]["Subnet"]
        self.asked.append(subnet)
        self.options = options
        if self._other_error:
            raise SetupError(self._other_error)
        if subnet in self._refused:
            raise SetupError("Pool overlaps with other one on this address space")
        return {"Id": f"id-of-{name}"}


class FakeEngine:
    def __init__(self, api: FakeApi) -> None:
        self.api = api

    @contextmanager
    def asked_to(self, what: str) -> Iterator[None]:
        yield


def made(api: FakeApi, *pools: str) -> docker_network.RunNetwork:
    engine = cast(Engine, FakeEngine(api))
    return make_network(engine, name="net", run_id="r", token="/runs/r", pools=[IPv4Network(pool) for pool in pools])


@pytest.fixture(autouse=True)
def bare_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_network, "host_ranges", lambda: [IPv4Network("10.1.0.0/24")])


def test_routes_of_all_tables_count_and_the_default_route_does_not() -> None:
    found = host_ranges(TRIE)
    assert found == [IPv4Network(t) for t in ("10.0.0.0/8", "127.0.0.1/32", "172.17.0.0/16", "192.0.2.0/24")]


def test_this_machine_has_ranges() -> None:
    assert IPv4Network("127.0.0.0/8") in host_ranges()


def test_candidates_come_once_each_and_begin_where_the_run_says() -> None:
    pool = IPv4Network("10.192.0.0/20")
    first = list(candidates([pool], random.Random(1)))
    assert sorted(first) == list(pool.subnets(new_prefix=24))
    assert first[0] != next(candidates([pool], random.Random(2)))
    assert all(any(each.subnet_of(pool) for pool in POOLS) for each in islice(candidates(POOLS, random.Random(3)), 50))


def test_ranges_of_the_engine_and_of_the_host_are_gone_around() -> None:
    api = FakeApi(there=["10.1.1.0/25"], refused=[])
    assert made(api, "10.1.0.0/22").subnet in (IPv4Network("10.1.2.0/24"), IPv4Network("10.1.3.0/24"))
    assert len(api.asked) == 1
    assert api.options["internal"] is True
    assert len(api.options["options"]["com.docker.network.bridge.name"]) <= 15


def test_a_range_that_is_refused_is_followed_by_the_next() -> None:
    api = FakeApi(there=[], refused=["10.1.1.0/24"])
    assert made(api, "10.1.1.0/24", "10.1.2.0/24").subnet == IPv4Network("10.1.2.0/24")
    assert api.asked == ["10.1.1.0/24", "10.1.2.0/24"]


def test_no_range_left_is_said_with_the_engines_words() -> None:
    api = FakeApi(there=["10.1.2.0/24"], refused=["10.1.1.0/24"])
    with pytest.raises(SetupError, match=r"no address range is free .*Pool overlaps.*address_range"):
        made(api, "10.1.0.0/24", "10.1.1.0/24", "10.1.2.0/24")
    assert api.asked == ["10.1.1.0/24"]


def test_what_is_not_about_the_range_is_not_tried_again() -> None:
    api = FakeApi(there=[], refused=[], other_error="the engine would not make the network: no bridge driver")
    with pytest.raises(SetupError, match="no bridge driver"):
        made(api, "10.1.1.0/24", "10.1.2.0/24")
    assert len(api.asked) == 1


def test_members_have_addresses_until_the_range_is_full() -> None:
    network = made(FakeApi(there=[], refused=[]), "10.1.1.0/26")
    hosts = [network.host(index) for index in range(53)]
    assert hosts[0] == "10.1.1.10"
    assert hosts[-1] == "10.1.1.62"  # .63 is for everybody
    with pytest.raises(SetupError, match=r"no address left for member number 54"):
        network.host(53)
