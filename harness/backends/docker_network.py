"""A run's own bridge network: an address range that nobody uses, and a fixed address for every member.

The range is ours to choose, so that addresses are known before containers start. It must overlap no network of the
engine and no route or address of this host: the kernel would send what is meant for one to the other.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Final

import docker.types

from ..errors import SetupError
from ..inverses.containers import TOKEN_LABEL
from .docker_engine import Engine

__all__ = ["POOLS", "RUN_LABEL", "RunNetwork", "candidates", "host_ranges", "make_network"]

RUN_LABEL: Final = "aftershock.run"

# Private ranges (RFC 1918) and the range for benchmarks (RFC 2544), the least used first: company networks are often
# 10.0.0.0/8 as a whole, and the engine's own defaults are in the others.
POOLS: Final = tuple(
    IPv4Network(text) for text in ("10.192.0.0/10", "198.18.0.0/15", "172.16.0.0/12", "192.168.0.0/16")
)
_PREFIX_LENGTH: Final = 24
_FIRST_HOST: Final = 10  # below are the bridge's own address and room for what the engine adds
# Routes shorter than this are ways to everywhere, such as 0.0.0.0/0 or a VPN's 0.0.0.0/1, and no network of its own.
_SHORTEST_ROUTE: Final = 4
# Ranges that the engine refuses although its list did not have them, before we believe that it refuses all.
_REFUSALS_MAX: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class RunNetwork:
    """The network of one run. `bridge` is the name of its interface on this host."""

    id: str
    name: str
    bridge: str
    subnet: IPv4Network

    def host(self, index: int) -> str:
        """The fixed address of the member that came as number `index`, from 0. Raises SetupError when all are used."""
        offset = _FIRST_HOST + index
        if offset >= self.subnet.num_addresses - 1:
            raise SetupError(f"{self.subnet} has no address left for member number {index + 1} of this run")
        return str(self.subnet[offset])


def make_network(
    engine: Engine, *, name: str, run_id: str, token: str, pools: Iterable[IPv4Network] = POOLS
) -> RunNetwork:
    """Make the run's network in the first range that is free. Raises SetupError when none is."""
    bridge = "as-" + hashlib.sha256(token.encode()).hexdigest()[:10]
    pools = tuple(pools)
    taken = [*_engine_ranges(engine), *host_ranges()]
    refused = ""
    refusals = 0
    for subnet in candidates(pools, random.Random(f"address-range/{token}")):
        if any(subnet.overlaps(other) for other in taken):
            continue
        try:
            return RunNetwork(
                id=_create(engine, name=name, bridge=bridge, subnet=subnet, run_id=run_id, token=token),
                name=name,
                bridge=bridge,
                subnet=subnet,
            )
        except SetupError as error:
            # Somebody took it since the list was read. Every other refusal is of the network, not of its range.
            if "overlap" not in str(error).lower() and "conflicts with network" not in str(error).lower():
                raise
            refused, refusals = str(error), refusals + 1
            if refusals == _REFUSALS_MAX:
                break
    ranges = ", ".join(map(str, pools))
    raise SetupError(
        f"no address range is free for the run's network among {ranges}: all overlap networks of the Docker engine or "
        f"routes of this host{f' ({refused})' if refused else ''}; look at `docker network ls` and `ip route`, and "
        "remove what is not needed, or name a free range with --set backend.address_range=A.B.C.0/24"
    )


def candidates(pools: Iterable[IPv4Network], rng: random.Random) -> Iterator[IPv4Network]:
    """Ranges to try: each pool from a place of the run's own on, so that runs at once seldom want the same."""
    for pool in pools:
        if pool.prefixlen >= _PREFIX_LENGTH:
            yield pool
            continue
        count = 1 << (_PREFIX_LENGTH - pool.prefixlen)
        begin = rng.randrange(count)
        for step in range(count):
            offset = ((begin + step) % count) << (32 - _PREFIX_LENGTH)
            yield IPv4Network((int(pool.network_address) + offset, _PREFIX_LENGTH))


def host_ranges(table: str | None = None) -> list[IPv4Network]:
    """All that this host has a route or an address in, in every routing table. `table`: text of /proc/net/fib_trie."""
    text = Path("/proc/net/fib_trie").read_text(encoding="ascii") if table is None else table
    found: set[IPv4Network] = set()
    address = ""
    for line in text.splitlines():
        if match := re.search(r"\|-- (\d+\.\d+\.\d+\.\d+)$", line):
            address = match[1]
        elif (match := re.match(r"\s+/(\d+) ", line)) and address and int(match[1]) >= _SHORTEST_ROUTE:
            found.add(IPv4Network((address, int(match[1])), strict=False))
    return sorted(found)


def _engine_ranges(engine: Engine) -> list[IPv4Network]:
    with engine.asked_to("list its networks"):
        networks = engine.api.networks()
    found = []
    for network in networks:
        for config in (network.get("IPAM") or {}).get("Config") or []:
            try:
                found.append(IPv4Network(config["Subnet"], strict=False))
            except (KeyError, AddressValueError, ValueError):
                continue  # IPv6, or none
    return found


def _create(engine: Engine, *, name: str, bridge: str, subnet: IPv4Network, run_id: str, token: str) -> str:
    with engine.asked_to(f"make the network {name} ({subnet})"):
        made: dict[str, Any] = engine.api.create_network(
            name,
            driver="bridge",
            internal=True,
            ipam=docker.types.IPAMConfig(
                pool_configs=[docker.types.IPAMPool(subnet=str(subnet), gateway=str(IPv4Address(int(subnet[1]))))]
            ),
            options={"com.docker.network.bridge.name": bridge},
            labels={RUN_LABEL: run_id, TOKEN_LABEL: token},
        )
    return str(made["Id"])
