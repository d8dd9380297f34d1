"""A router's knowledge and its retry rules (docs/replication.md section 6): table, nodes, attempts of an operation.

Outcome of an operation: answered if any attempt was answered; **refused only if every attempt was refused or never left
this process**; unknown otherwise. All attempts of an operation carry the same request id and the same `born`.
"""

from __future__ import annotations

import asyncio
import enum
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .messages import ClientOp, Config, Reply, ReplyKind, Store, node_of
from .settings import ClusterSettings
from .transport import Connection, Link
from .wire import ASK_TABLE, OP, WireError, pack_frame, pack_op, unpack_config, unpack_reply

BACKOFF_S: Final = (0.010, 0.060)
TROUBLE_S: Final = 2.0  # after the last refusal or silence, for so long knowledge is asked for more often
SILENT_S: Final = 1.0  # a node that was not heard for so long counts as unhealthy
READS: Final = ("get", "multi-get")


class Failure(enum.Enum):
    """How an attempt ended without a reply."""

    NOT_SENT = "could not connect"  # certainly did not happen
    TIMED_OUT = "timed out"
    LOST = "connection lost"
    SUPERSEDED = "another primary took over"

    @property
    def certain(self) -> bool:
        return self is Failure.NOT_SENT


class Certainty(enum.Enum):
    """What a client may conclude."""

    ANSWERED = "answered"
    REFUSED = "refused"  # certainly did not happen
    UNKNOWN = "unknown"  # may have happened, or may still happen


@dataclass(frozen=True, slots=True)
class Outcome:
    certainty: Certainty
    attempts: int
    reply: Reply | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Answer of a controller or a node to the question for what it knows."""

    version: int
    configs: tuple[Config, ...] | None  # None: nothing newer than what was asked with
    commits: Mapping[int, int]


@dataclass(slots=True)
class _Pending:
    future: asyncio.Future[Any]
    shard: int  # -1 for a question for the table


class Remote:
    """One node or controller: a connection on which requests are told apart by id.

    A request that is not answered in time ends the connection if nothing at all was heard on it since: after a cut
    the old one may never carry anything again.
    """

    def __init__(self, name: str, address: tuple[str, int], *, rng: random.Random) -> None:
        self.name = name
        self.heard_at = float("-inf")  # loop time of the last frame
        self.table_version = -1  # what its last table said; asked with, so that it answers only with news
        self._pending: dict[int, _Pending] = {}
        self._next_id = 1
        self._link = Link(address, on_frame=self._on_frame, rng=rng, on_lost=self._on_lost, queue_frames=0)

    def start(self) -> None:
        self._link.start()

    async def close(self) -> None:
        await self._link.close()

    @property
    def connected(self) -> bool:
        return self._link.connected

    @property
    def in_flight(self) -> int:
        return len(self._pending)

    async def attempt(self, op: ClientOp, *, timeout_s: float) -> Reply | Failure:
        """Send a client operation. Raises WireError for one that fits no frame."""
        answer = await self._request(lambda number: pack_frame(OP, number, pack_op(op)), op.shard, timeout_s)
        return answer if isinstance(answer, Failure) else unpack_reply(answer)

    async def ask_table(self, *, hold_ms: int, timeout_s: float) -> Table | Failure:
        """Ask what it knows; a controller holds the answer for `hold_ms` unless it has news."""
        version = self.table_version
        answer = await self._request(lambda number: pack_frame(ASK_TABLE, number, version, hold_ms), -1, timeout_s)
        if isinstance(answer, Failure):
            self.table_version = -1
            return answer
        self.table_version, blobs, commits = answer
        configs = None if blobs is None else tuple(map(unpack_config, blobs))
        return Table(self.table_version, configs, commits)

    def supersede(self, shard: int) -> None:
        """End the attempts of a shard here: another node is its primary now."""
        for pending in self._pending.values():
            if pending.shard == shard and not pending.future.done():
                pending.future.set_result(Failure.SUPERSEDED)

    async def _request(self, make_frame: Callable[[int], bytes], shard: int, timeout_s: float) -> Any:
        loop = asyncio.get_running_loop()
        number = self._next_id
        self._next_id += 1
        frame = make_frame(number)
        if not self._link.send(frame):
            return Failure.NOT_SENT
        connection = self._link.connection
        sent_at = loop.time()
        future: asyncio.Future[Any] = loop.create_future()
        self._pending[number] = _Pending(future, shard)
        timer = loop.call_later(timeout_s, _time_out, future)
        try:
            answer = await future
        finally:
            timer.cancel()
            del self._pending[number]
        if answer is Failure.TIMED_OUT and self.heard_at < sent_at and connection is self._link.connection:
            self._link.reset()
        return answer

    def _on_frame(self, _connection: Connection, frame: list[Any]) -> None:
        self.heard_at = asyncio.get_running_loop().time()
        match frame:
            case ["reply", int(number), fields]:
                answer: Any = fields
            case ["table", int(number), int(version), list() | None as blobs, dict(commits)]:
                answer = (version, blobs, commits)
            case _:
                raise WireError(f"a router does not understand frames like {str(frame)[:80]}")
        pending = self._pending.get(number)
        if pending is not None and not pending.future.done():  # otherwise its time was over
            pending.future.set_result(answer)

    def _on_lost(self) -> None:
        for pending in self._pending.values():
            if not pending.future.done():
                pending.future.set_result(Failure.LOST)


def _time_out(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_result(Failure.TIMED_OUT)


class Routing:
    """Shard -> configuration and commit index, as far as this router knows; and how operations use them."""

    def __init__(self, *, settings: ClusterSettings, nodes: Mapping[str, Remote], rng: random.Random) -> None:
        self._settings = settings
        self._nodes = nodes
        self._rng = rng
        self._configs: dict[int, Config] = {}
        self._commits: dict[int, int] = {}
        self._trouble_until = 0.0
        self._turn = 0
        self.hurry = asyncio.Event()  # knowledge is wanted at once

    @property
    def configs(self) -> Mapping[int, Config]:
        return self._configs

    def in_trouble(self) -> bool:
        return asyncio.get_running_loop().time() < self._trouble_until

    # ------------------------------------------------------------------------------------------ knowledge

    def learn(self, configs: Iterable[Config]) -> None:
        """Take over what is newer. Attempts at a primary that is none any more are ended."""
        for config in configs:
            known = self._configs.get(config.shard)
            if known is not None and config.epoch <= known.epoch:
                continue
            self._configs[config.shard] = config
            if known is not None and known.primary != config.primary and self._settings.read_from == "primary":
                remote = self._nodes.get(node_of(known.primary))
                if remote is not None:
                    remote.supersede(config.shard)

    def learn_commit(self, shard: int, commit: int) -> None:
        """`born` of later requests: the highest commit index of the shard known here."""
        if commit > self._commits.get(shard, 0):
            self._commits[shard] = commit

    def _worry(self) -> None:
        self._trouble_until = asyncio.get_running_loop().time() + TROUBLE_S
        self.hurry.set()

    # ------------------------------------------------------------------------------------------ operations

    async def execute(
        self,
        *,
        shard: int,
        kind: str,
        key: str,
        args: tuple[Any, ...],
        request_id: tuple[str, int],
        deadline: float,
    ) -> Outcome:
        """Try until there is an answer or `deadline` (loop time) has come. Raises WireError for what fits no frame."""
        loop = asyncio.get_running_loop()
        op = ClientOp(shard, request_id, self._commits.get(shard, 0), kind, key, args)
        certain = True  # so far no attempt may have left a trace
        detail = "the deadline was too short for an attempt"
        attempts = 0
        while (left := deadline - loop.time()) > 0:
            target = self._target(shard, kind)
            if target is None:
                detail = f"no primary of shard {shard} is known"
            else:
                attempts += 1
                timeout_s = min(self._settings.router_attempt_ns / 1e9, left)
                result = await target.attempt(op, timeout_s=timeout_s)
                if isinstance(result, Reply):
                    self.learn_commit(shard, result.commit)
                    if result.kind in (ReplyKind.OK, ReplyKind.CAS_FAILED):
                        return Outcome(Certainty.ANSWERED, attempts, result)
                    if result.kind is ReplyKind.TOO_OLD:
                        return Outcome(Certainty.UNKNOWN, attempts, detail="too old: it may have been applied long ago")
                    if result.config is not None:
                        self.learn((result.config,))
                    certain &= result.kind is ReplyKind.REFUSED
                    detail = f"{target.name}: {result.reason}"
                else:
                    certain &= result.certain
                    detail = f"{target.name}: {result.value}"
                if result is Failure.SUPERSEDED:
                    continue  # the new primary is known: no reason to wait
            self._worry()
            pause = self._rng.uniform(*BACKOFF_S)
            await asyncio.sleep(max(0.0, min(pause, deadline - loop.time())))
        return Outcome(Certainty.REFUSED if certain else Certainty.UNKNOWN, attempts, detail=detail)

    def _target(self, shard: int, kind: str) -> Remote | None:
        config = self._configs.get(shard)
        if config is None:
            return None
        if kind in READS and self._settings.read_from == "any":
            stores: list[Store] = sorted(config.isr | config.learners)
            healthy = [store for store in stores if self.healthy(node_of(store))] or stores
            self._turn += 1
            return self._nodes.get(node_of(healthy[self._turn % len(healthy)]))
        return self._nodes.get(node_of(config.primary))

    def healthy(self, node: str) -> bool:
        """Active and passive: connected, and heard within the last second (it is asked more often than that)."""
        remote = self._nodes.get(node)
        if remote is None or not remote.connected:
            return False
        return asyncio.get_running_loop().time() - remote.heard_at < SILENT_S
