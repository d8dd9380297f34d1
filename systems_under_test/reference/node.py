"""A node: the replicas of its shards around one log, their peers, their clients, and heartbeats to the controllers.

The shell carries out the effects of `Replica` in order (see `messages`) and feeds events back. It decides nothing.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from . import log as log_module
from .data_folder import read_store, write_store
from .http_common import MemberApp, Response, Scope, SeenNonces, json_response
from .log import Log, Recovery
from .member import Context, watched
from .messages import (
    Answer,
    Append,
    Config,
    ConfigMessage,
    Effect,
    Heartbeat,
    Note,
    PeerMessage,
    Recovered,
    Reply,
    ReplyKind,
    SaveConfig,
    Send,
    Store,
    Truncate,
    node_of,
)
from .outbox import Outbox
from .replica import Replica
from .settings import MS
from .transport import Connection, FrameServer, Link, listening_socket
from .wire import (
    ASK_TABLE,
    CONFIGS,
    HEARTBEAT,
    OP,
    PEER,
    PING,
    PONG,
    REPLY,
    TABLE,
    WireError,
    pack_config,
    pack_frame,
    pack_heartbeat,
    pack_reply,
    shard_of_message,
    unpack_config,
    unpack_message,
    unpack_op,
)

TICK_NS: Final = 20 * MS
FORGET_NS: Final = 2_000 * MS  # a router's attempt has ended long before
WAITING_LIMIT: Final = 5_000  # clients that may wait for an answer at once
DRAIN_S: Final = 1.0

logger = logging.getLogger("reference")


@dataclass(slots=True)
class _Waiting:
    """A request whose answer is owed."""

    connection: Connection
    frame_id: int
    shard: int
    since_ns: int


class Node:
    """One node process."""

    fatal_errors = True

    def __init__(self, context: Context) -> None:
        self._context = context
        self._config = context.config
        self._clock = context.clock_ns
        self._replicas: dict[int, Replica] = {}
        self._waiting: dict[int, _Waiting] = {}
        self._next_token = 1
        self._incarnation = secrets.randbits(48)
        self._seen = SeenNonces()
        self._server = FrameServer(self._on_frame, self._on_connection_lost)
        rng = random.Random(self._incarnation)
        self._controllers = {
            name: Link(address, on_frame=_no_answer, rng=rng, queue_frames=1)
            for name, address in self._config.controllers.items()
        }
        self._rng = rng
        self._draining = False
        self._started = False
        self._timers: list[asyncio.Task[None]] = []
        self._store: Store = ""
        self._damaged = ""

    # ------------------------------------------------------------------------------------------ life

    def app(self) -> MemberApp:
        return MemberApp(
            metrics=self._context.metrics, missing=self.missing, status=self._status, seen=self._seen, page=self._page
        )

    def missing(self) -> str:
        return "" if self._started else "the log is being read"

    async def start(self) -> None:
        """Recover (X1 to X6), then listen, then speak. Raises OSError and DataFolderError."""
        listener = listening_socket(*self._config.listen["peer"])
        recovery = self._open_store()
        self._log = Log(self._config.data, on_synced=self._synced_from_any_thread)
        self._outbox = Outbox(self._store, self._config.peers, rng=self._rng)
        self._loop = asyncio.get_running_loop()
        self._register_metrics()
        for shard in recovery.shards():
            self._add_replica(shard, recovery.of(shard))
        self._outbox.start()
        for link in self._controllers.values():
            link.start()
        await self._server.start(listener)
        self._started = True
        self._timers = [
            watched(self._every(TICK_NS, self._tick)),
            watched(self._every(self._config.settings.heartbeat_ns, self._heartbeat)),
        ]

    async def stop(self) -> None:
        """Refuse new requests, let those in the log be answered, make the log durable, close."""
        self._draining = True
        self._server.stop_accepting()
        deadline = time.monotonic() + DRAIN_S
        while self._waiting and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        for timer in self._timers:
            timer.cancel()
        await asyncio.gather(*self._timers, return_exceptions=True)
        await self._server.close()  # no more frames, so nothing more to write
        await asyncio.to_thread(self._log.close)
        await self._outbox.close()
        await asyncio.gather(*(link.close() for link in self._controllers.values()))

    def _open_store(self) -> Recovery:
        folder, name = self._config.data, self._config.name
        store = read_store(folder, name)
        if store is None:
            log_module.initialise(folder)
            self._store = write_store(folder, name)
            logger.info("new store %s", self._store)
            return Recovery()
        self._store = store
        recovery = log_module.recover(folder)
        if recovery.tail_cut:
            self._warn(f"the log's end was cut: {recovery.tail_cut}")
        if recovery.damaged:
            self._damaged = recovery.damaged
            self._warn(
                f"the log is damaged: {recovery.damaged}. This store serves nothing; stop the node and empty "
                f"{folder}: it comes back as a new store and copies everything from the other replicas"
            )
        entries = sum(len(log) for log in recovery.entries.values())
        logger.info("store %s shards=%d entries=%d", store, len(recovery.shards()), entries)
        return recovery

    def _warn(self, text: str) -> None:
        logger.warning("%s", text)
        self._context.events.write("warning", {"member": self._config.name, "text": text})

    async def _every(self, period_ns: int, action: Any) -> None:
        """Call on a steady schedule; after a pause, go on from now instead of catching up."""
        period = period_ns / 1e9
        due = self._loop.time()
        while True:
            action()
            due = max(due + period, self._loop.time())
            await asyncio.sleep(due - self._loop.time())

    # ------------------------------------------------------------------------------------------ replicas

    def _add_replica(self, shard: int, recovered: Recovered) -> Replica:
        replica = Replica(
            shard=shard, store=self._store, settings=self._config.settings, clock=self._clock, recovered=recovered
        )
        self._replicas[shard] = replica
        self._run(shard, replica.start())
        return replica

    def _replica_for(self, message: PeerMessage) -> Replica | None:
        """The replica that a message is for. A shard is learnt from the first configuration that names this store."""
        replica = self._replicas.get(shard_of_message(message))
        if replica is None:
            config: Config | None = getattr(message, "config", None)
            if config is None or not (self._store in config.isr or self._store in config.learners):
                return None
            replica = self._add_replica(config.shard, Recovered(damaged=bool(self._damaged)))
        return replica

    def _run(self, shard: int, effects: Iterable[Effect]) -> None:
        """Carry effects out in order; SaveConfig and Truncate are durable before the next one."""
        for effect in effects:
            if isinstance(effect, Send):
                self._outbox.send(effect.to, effect.message)
            elif isinstance(effect, Append):
                self._log.append(effect.shard, effect.entries)
            elif isinstance(effect, Answer):
                self._answer(effect.token, effect.reply)
            elif isinstance(effect, SaveConfig):
                self._log.save_config(effect.config)
            elif isinstance(effect, Truncate):
                self._log.truncate(effect.shard, effect.from_index)
            elif isinstance(effect, Note):
                self._note(shard, effect)

    def _note(self, shard: int, note: Note) -> None:
        self._context.events.write(note.kind, {"shard": shard, **note.fields})
        logger.info("%s shard=%d %s", note.kind, shard, note.fields)

    def _synced_from_any_thread(self, synced: dict[int, tuple[int, int]]) -> None:
        self._loop.call_soon_threadsafe(self._synced, synced)

    def _synced(self, synced: dict[int, tuple[int, int]]) -> None:
        for shard, (generation, index) in synced.items():
            if self._log.is_current(shard, generation):
                self._run(shard, self._replicas[shard].on_synced(index))

    def _tick(self) -> None:
        for shard, replica in list(self._replicas.items()):
            effects = replica.on_tick()
            if effects:
                self._run(shard, effects)
        oldest = time.monotonic_ns() - FORGET_NS
        while self._waiting:  # insertion order is order of age
            token, waiting = next(iter(self._waiting.items()))
            if waiting.since_ns > oldest:
                break
            self._forget(token)

    def _heartbeat(self) -> None:
        statuses = tuple(replica.status() for replica in self._replicas.values())
        heartbeat = Heartbeat(store=self._store, incarnation=self._incarnation, statuses=statuses)
        frame = pack_frame(HEARTBEAT, pack_heartbeat(heartbeat))
        for link in self._controllers.values():
            link.send(frame)

    # ------------------------------------------------------------------------------------------ frames

    def _on_frame(self, connection: Connection, frame: list[Any]) -> None:
        match frame:
            case ["peer", str(sender), list(items)]:
                for item in items:
                    match item:
                        case [str(to), fields]:
                            if to == self._store:  # otherwise it was for the disk that this node had before
                                self._on_peer_message(sender, unpack_message(fields))
                        case _:
                            raise WireError("a message must come with its receiver")
            case ["op", int(frame_id), fields]:
                self._on_op(connection, frame_id, fields)
            case ["table?", int(frame_id), int(version), *_]:
                self._on_ask_table(connection, frame_id, version)
            case ["configs", str(sender), list(blobs)]:
                for blob in blobs:
                    if not isinstance(blob, bytes):
                        raise WireError("a configuration must be a blob")
                    self._on_peer_message(sender, ConfigMessage(unpack_config(blob)))
            case ["ping", str(nonce)]:
                self._seen.add(nonce)
                connection.send(pack_frame(PONG, nonce))
            case _:
                raise WireError(f"a node does not understand frames like {str(frame)[:80]}")

    def _on_peer_message(self, sender: Store, message: PeerMessage) -> None:
        replica = self._replica_for(message)
        if replica is not None:
            self._run(shard_of_message(message), replica.on_message(sender, message))

    def _on_op(self, connection: Connection, frame_id: int, fields: Any) -> None:
        op = unpack_op(fields)
        token = self._next_token
        self._next_token += 1
        self._waiting[token] = _Waiting(connection, frame_id, op.shard, time.monotonic_ns())
        replica = self._replicas.get(op.shard)
        if replica is None:
            self._answer(token, Reply(ReplyKind.REFUSED, reason="this node does not hold the shard"))
        elif self._draining:
            self._answer(token, Reply(ReplyKind.REFUSED, reason="this node is stopping", config=replica.config))
        elif len(self._waiting) > WAITING_LIMIT:
            self._answer(token, Reply(ReplyKind.REFUSED, reason="too many requests are waiting", config=replica.config))
        else:
            self._run(op.shard, replica.on_client(token, op))

    def _answer(self, token: int, reply: Reply) -> None:
        waiting = self._waiting.pop(token, None)
        if waiting is None:
            return
        self._context.metrics.count("reference_replies_total", f'kind="{reply.kind.value}"')
        try:
            frame = pack_frame(REPLY, waiting.frame_id, pack_reply(reply))
        except WireError:
            # It may be the answer to a write that is committed, so it must not say refused.
            unknown = Reply(ReplyKind.UNKNOWN, reason="the answer fits no frame; ask for fewer keys at once")
            frame = pack_frame(REPLY, waiting.frame_id, pack_reply(unknown))
        waiting.connection.send(frame)

    def _on_connection_lost(self, connection: Connection) -> None:
        if connection.problem:
            logger.warning("closed a connection: %s", connection.problem)
        for token in [token for token, waiting in self._waiting.items() if waiting.connection is connection]:
            self._forget(token)

    def _forget(self, token: int) -> None:
        waiting = self._waiting.pop(token)
        self._replicas[waiting.shard].forget(token)

    def _on_ask_table(self, connection: Connection, frame_id: int, known_version: int) -> None:
        configs = [replica.config for replica in self._replicas.values() if replica.config is not None]
        version = sum(config.epoch for config in configs)
        blobs = None if version == known_version else [pack_config(config) for config in configs]
        commits = {shard: replica.commit for shard, replica in self._replicas.items()}
        connection.send(pack_frame(TABLE, frame_id, version, blobs, commits))

    # ------------------------------------------------------------------------------------------ HTTP

    async def _page(self, scope: Scope, _receive: Any) -> Response | None:
        if scope["path"] != "/replicas":
            return None
        return json_response(200, [self._replica_state(shard) for shard in sorted(self._replicas)])

    def _replica_state(self, shard: int) -> dict[str, Any]:
        replica = self._replicas[shard]
        last_index, commit_index, chain, digest = replica.digest()
        return {
            "shard": shard,
            "role": replica.role.value,
            "last_index": last_index,
            "commit_index": commit_index,
            "chain": chain,
            "digest": digest,
        }

    def _status(self) -> dict[str, Any]:
        return {
            "name": self._config.name,
            "role": "node",
            "store": self._store,
            "incarnation": self._incarnation,
            "ready": not self.missing(),
            "damaged": self._damaged,
            "unsafe": self._config.settings.unsafe(),
            "peers_connected": self._outbox.connected(),
            "shards": [self._shard_status(shard) for shard in sorted(self._replicas)],
        }

    def _shard_status(self, shard: int) -> dict[str, Any]:
        status = self._replicas[shard].status()
        config = self._replicas[shard].config
        return {
            "shard": shard,
            "epoch": status.epoch,
            "term": config.term if config is not None else 0,
            "role": status.role.value,
            "active": status.active,
            "last_index": status.last_index,
            "commit_index": status.commit,
            "damaged": status.damaged,
            "needs_install": status.needs_install,
            "primary": node_of(config.primary) if config is not None else None,
            "in_sync": sorted(map(node_of, config.isr)) if config is not None else [],
        }

    def _register_metrics(self) -> None:
        metrics = self._context.metrics
        metrics.describe("reference_replies_total", "Answers to routers, by kind.")
        metrics.gauge("reference_log_syncs", "fsyncs of the log since the start.", lambda: self._log.syncs)
        metrics.gauge(
            "reference_log_records", "Records written to the log since the start.", lambda: self._log.appended_records
        )
        metrics.gauge("reference_messages_sent", "Protocol messages sent to peers.", lambda: self._outbox.sent)
        metrics.gauge("reference_frames_dropped", "Frames that no connection took.", lambda: self._outbox.dropped)
        metrics.gauge("reference_waiting", "Requests whose answer is owed.", lambda: len(self._waiting))
        metrics.gauge("reference_replicas", "Shards held here.", lambda: len(self._replicas))
        metrics.gauge(
            "reference_primaries",
            "Shards served here as primary.",
            lambda: sum(replica.active for replica in self._replicas.values()),
        )


def _no_answer(_connection: Connection, _frame: list[Any]) -> None:
    """Controllers push over connections of their own."""


# The kinds of frames are matched as literals above, because `match` cannot use module constants without a dot.
assert (PEER, OP, ASK_TABLE, CONFIGS, PING) == ("peer", "op", "table?", "configs", "ping")
