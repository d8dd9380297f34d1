"""A node's way to its peers: two connections to each, one for messages and one for beacons.

Everything that is said within one turn of the event loop goes to a peer in one frame, so the beacons of all shards
share one. Beacons and their answers have a connection of their own: they must not queue behind a long Replicate.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any

from .messages import Beacon, BeaconAck, PeerMessage, Store, node_of
from .transport import Connection, Link
from .wire import PEER, WireError, pack_frame, pack_message

_BEACON_QUEUE_FRAMES = 2  # an old beacon is of no use: it would only prolong what a newer one grants


class Outbox:
    """Sends protocol messages to stores of other nodes. Loses them when it must; the protocol tolerates that."""

    def __init__(self, store: Store, peers: Mapping[str, tuple[str, int]], *, rng: random.Random) -> None:
        self._store = store
        self._links: dict[tuple[str, bool], Link] = {}
        for node, address in peers.items():
            self._links[node, False] = Link(address, on_frame=_ignore, rng=rng)
            self._links[node, True] = Link(address, on_frame=_ignore, rng=rng, queue_frames=_BEACON_QUEUE_FRAMES)
        self._pending: dict[tuple[str, bool], list[tuple[Store, Any]]] = {}
        self._scheduled = False
        self.undeliverable = 0  # messages to nodes that the configuration file does not name
        self.sent = 0

    def start(self) -> None:
        for link in self._links.values():
            link.start()

    async def close(self) -> None:
        self._flush()
        await asyncio.gather(*(link.close() for link in self._links.values()))

    def send(self, to: Store, message: PeerMessage) -> None:
        """Queue a message for the end of this turn of the event loop."""
        key = (node_of(to), isinstance(message, Beacon | BeaconAck))
        if key not in self._links:
            self.undeliverable += 1
            return
        self._pending.setdefault(key, []).append((to, pack_message(message)))
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    @property
    def dropped(self) -> int:
        """Frames that no connection took."""
        return sum(link.dropped for link in self._links.values())

    def connected(self) -> dict[str, bool]:
        """Peer -> whether both connections to it are open."""
        nodes = sorted({node for node, _ in self._links})
        return {node: self._links[node, False].connected and self._links[node, True].connected for node in nodes}

    def _flush(self) -> None:
        self._scheduled = False
        pending, self._pending = self._pending, {}
        for key, messages in pending.items():
            self.sent += len(messages)
            for frame in self._frames(messages):
                self._links[key].send(frame)

    def _frames(self, messages: list[tuple[Store, Any]]) -> list[bytes]:
        try:
            return [pack_frame(PEER, self._store, messages)]
        except WireError:
            if len(messages) == 1:
                raise
            # Together they are above the limit of a frame; each alone is not.
            return [pack_frame(PEER, self._store, [message]) for message in messages]


def _ignore(_connection: Connection, _frame: list[Any]) -> None:
    """Peers answer over their own connections, so that a network that is cut one way is cut one way."""
