"""Which shard a key belongs to, and which stores hold a shard.

Keys hash to a fixed number of shards for ever. Shards are placed on nodes by consistent hashing (Karger et al., STOC
1997) with virtual nodes in proportion to a node's weight, and with bounded load (Mirrokni et al., SODA 2018): no
node gets more than `slack` times its share, so one unlucky arc of the ring does not overload a node.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping
from hashlib import blake2b


def stable_hash(text: str) -> int:
    """64 bits of BLAKE2b, big-endian: the same in every process, version and language."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def shard_of(key: str, shards: int) -> int:
    """Shard of a key: the first 8 bytes of BLAKE2b-64 of its UTF-8 form, big-endian, modulo the number of shards."""
    return stable_hash(key) % shards


class HashRing:
    """Nodes on a ring, each at `virtual_nodes` times its weight points."""

    def __init__(self, weights: Mapping[str, float], *, virtual_nodes: int = 128) -> None:
        """Raises ValueError for an empty ring or a weight that is not positive."""
        if not weights:
            raise ValueError("a ring needs at least one node")
        self.weights = dict(weights)
        points: list[tuple[int, str]] = []
        for node, weight in self.weights.items():
            if not weight > 0:
                raise ValueError(f"weight of node {node} is {weight}; it must be above 0")
            count = max(1, round(virtual_nodes * weight))
            points.extend((stable_hash(f"{node}#{number}"), node) for number in range(count))
        points.sort()
        self._points = [point for point, _ in points]
        self._owners = [node for _, node in points]

    def walk(self, key: str) -> Iterator[str]:
        """Every node once, in the order in which the ring meets them from the key's point on."""
        start = bisect_right(self._points, stable_hash(key))
        seen: set[str] = set()
        for step in range(len(self._owners)):
            node = self._owners[(start + step) % len(self._owners)]
            if node not in seen:
                seen.add(node)
                yield node

    def owner(self, key: str) -> str:
        """The first node of `walk`."""
        return next(self.walk(key))


def place_shards(
    weights: Mapping[str, float], *, shards: int, replicas: int, slack: float = 1.25
) -> dict[int, tuple[str, ...]]:
    """Nodes of every shard, the primary first. Deterministic in its arguments.

    Replicas go to the first `replicas` nodes of the ring's walk that have room; a node has room below
    ceil(slack * its share). Should too few have room (small clusters, skewed weights), the least loaded take the rest.
    Primaries are then spread as evenly as the replica sets allow. Raises ValueError when there are too few nodes.
    """
    if replicas > len(weights):
        raise ValueError(f"{replicas} replicas need at least {replicas} nodes; there are {len(weights)}")
    ring = HashRing(weights)
    total = sum(weights.values())
    room = {node: math.ceil(slack * shards * replicas * weight / total) for node, weight in weights.items()}
    load = dict.fromkeys(weights, 0)
    placed: dict[int, tuple[str, ...]] = {}
    for shard in range(shards):
        order = list(ring.walk(f"shard-{shard}"))
        chosen = [node for node in order if load[node] < room[node]][:replicas]
        if len(chosen) < replicas:
            others = sorted((node for node in order if node not in chosen), key=lambda node: load[node] / weights[node])
            chosen += others[: replicas - len(chosen)]
        for node in chosen:
            load[node] += 1
        placed[shard] = tuple(chosen)
    return spread_primaries(placed, weights)


def spread_primaries(placed: Mapping[int, tuple[str, ...]], weights: Mapping[str, float]) -> dict[int, tuple[str, ...]]:
    """Reorder each replica set so that primaries follow the weights as evenly as the sets allow.

    Starting from the ring's own choice, primaries are pushed from the most loaded node along a shortest chain of
    shards to a less loaded one (augmenting paths), until no push makes the maximum smaller.
    """
    primary = {shard: nodes[0] for shard, nodes in placed.items()}
    count = dict.fromkeys(weights, 0)
    for node in primary.values():
        count[node] += 1
    while True:
        for full in sorted(weights, key=lambda node: (-count[node] / weights[node], node)):
            if _push(full, primary, placed, count, weights):
                break
        else:
            return {
                shard: (primary[shard], *(n for n in nodes if n != primary[shard])) for shard, nodes in placed.items()
            }


def _push(
    full: str,
    primary: dict[int, str],
    placed: Mapping[int, tuple[str, ...]],
    count: dict[str, int],
    weights: Mapping[str, float],
) -> bool:
    """Move one primary away from `full` to a node that stays below it afterwards. Breadth first over nodes."""
    came: dict[str, tuple[str, int] | None] = {full: None}
    queue = deque([full])
    while queue:
        node = queue.popleft()
        if node != full and (count[node] + 1) / weights[node] < count[full] / weights[full]:
            count[node] += 1
            count[full] -= 1
            while (step := came[node]) is not None:
                previous, shard = step
                primary[shard] = node
                node = previous
            return True
        for shard in sorted(shard for shard, owner in primary.items() if owner == node):
            for other in placed[shard]:
                if other not in came:
                    came[other] = (node, shard)
                    queue.append(other)
    return False
