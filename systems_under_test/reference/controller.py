"""A controller: watches the nodes, changes configurations in its store, and tells nodes and routers about them."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .config_store import ConfigStore
from .controller_core import ControllerCore
from .data_folder import DataFolderError
from .http_common import MemberApp, SeenNonces
from .member import Context, watched
from .messages import CompareAndSet, Config, ControllerEffect, Note, ReadConfig, SendConfig, Store, node_of
from .ring import place_shards
from .transport import Connection, FrameServer, Link, listening_socket
from .wire import CONFIGS, PONG, TABLE, WireError, pack_config, pack_frame, unpack_heartbeat

STORE_FILE = "configs.sqlite"
_HOLD_LIMIT_MS = 1_000

logger = logging.getLogger("reference")


@dataclass(slots=True)
class _Asker:
    """A router whose question for the table is held until there is news."""

    connection: Connection
    frame_id: int
    version: int
    until: float


class Controller:
    """One controller process."""

    fatal_errors = True

    def __init__(self, context: Context) -> None:
        self._context = context
        self._config = context.config
        self._heard: dict[str, Store] = {}
        self._seen = SeenNonces()
        self._server = FrameServer(self._on_frame)
        rng = random.Random(secrets.randbits(64))
        self._nodes = {
            name: Link(address, on_frame=_no_answer, rng=rng, queue_frames=64)
            for name, address in self._config.nodes.items()
        }
        self._core = ControllerCore(
            settings=self._config.settings,
            clock=context.clock_ns,
            nodes=self._config.expected_nodes,
            place=self._place,
        )
        self._askers: list[_Asker] = []
        self._ticks: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------------------------------ life

    def app(self) -> MemberApp:
        return MemberApp(metrics=self._context.metrics, missing=self.missing, status=self._status, seen=self._seen)

    def missing(self) -> str:
        """Ready when every shard has a configuration, which needs every expected node once."""
        if len(self._core.configs) >= self._config.settings.shards:
            return ""
        silent = sorted(set(self._config.expected_nodes) - self._heard.keys())
        return f"no heartbeat yet from {', '.join(silent)}" if silent else "shards are being placed"

    async def start(self) -> None:
        """Open the store, then listen. Raises OSError and DataFolderError."""
        listener = listening_socket(*self._config.listen["peer"])
        path = self._config.data / STORE_FILE
        try:
            self._store = ConfigStore(path)
            configs = self._store.load()
        except (sqlite3.Error, WireError) as error:
            raise DataFolderError(f"{path} cannot be opened: {error}") from error
        for name in ("decided", "suspected", "topology"):
            self._context.metrics.describe(f"reference_{name}_total", f"Events of kind {name}.")
        self._run(self._core.start(configs.values()))
        for link in self._nodes.values():
            link.start()
        await self._server.start(listener)
        self._ticks = watched(self._tick())

    async def stop(self) -> None:
        if self._ticks is not None:
            self._ticks.cancel()
            await asyncio.gather(self._ticks, return_exceptions=True)
        await self._server.close()
        await asyncio.gather(*(link.close() for link in self._nodes.values()))
        self._store.close()

    def _place(self, stores: Mapping[str, Store]) -> Mapping[int, tuple[Store, ...]]:
        settings = self._config.settings
        weights = dict.fromkeys(sorted(stores), 1.0)
        placed = place_shards(weights, shards=settings.shards, replicas=settings.replicas)
        return {shard: tuple(stores[node] for node in nodes) for shard, nodes in placed.items()}

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        period = self._config.settings.controller_tick_ns / 1e9
        due = loop.time()
        while True:
            self._run(self._core.on_tick())
            self._answer_askers(loop.time())
            due = max(due + period, loop.time())
            await asyncio.sleep(due - loop.time())

    # ------------------------------------------------------------------------------------------ effects

    def _run(self, effects: Iterable[ControllerEffect]) -> None:
        """Carry effects out, and those that they cause. Pushes to one node share a frame."""
        todo = list(effects)
        pushes: dict[str, list[Config]] = {}
        changed = False
        while todo:
            effect = todo.pop(0)
            if isinstance(effect, SendConfig):
                pushes.setdefault(effect.node, []).append(effect.config)
            elif isinstance(effect, CompareAndSet):
                ok, stored = self._compare_and_set(effect)
                changed |= ok
                todo += self._core.on_cas(effect.config.shard, ok, stored)
            elif isinstance(effect, ReadConfig):
                todo += self._core.on_cas(effect.shard, False, self._store.get(effect.shard))
            elif isinstance(effect, Note):
                self._note(effect)
        for node, configs in pushes.items():
            if node in self._nodes:
                self._nodes[node].send(pack_frame(CONFIGS, self._config.name, [pack_config(c) for c in configs]))
        if changed:
            self._answer_askers(0.0)

    def _compare_and_set(self, effect: CompareAndSet) -> tuple[bool, Config | None]:
        try:
            ok = self._store.compare_and_set(effect.expected_epoch, effect.config)
        except sqlite3.Error:
            # The outcome is unknown, so read what stands there (docs/replication.md section 5). If that fails too,
            # the exception ends the process: a controller without its store can do nothing.
            logger.exception("compare-and-set of shard %d", effect.config.shard)
            ok = False
        stored = self._store.get(effect.config.shard)
        return ok or stored == effect.config, stored

    def _note(self, note: Note) -> None:
        self._context.metrics.count(f"reference_{note.kind}_total")
        self._context.events.write(note.kind, note.fields)
        logger.info("%s %s", note.kind, " ".join(f"{key}={value}" for key, value in note.fields.items()))

    # ------------------------------------------------------------------------------------------ frames

    def _on_frame(self, connection: Connection, frame: list[Any]) -> None:
        match frame:
            case ["heartbeat", fields]:
                heartbeat = unpack_heartbeat(fields)
                self._heard[node_of(heartbeat.store)] = heartbeat.store
                self._run(self._core.on_heartbeat(heartbeat))
            case ["table?", int(frame_id), int(version), int(hold_ms)]:
                hold_s = min(hold_ms, _HOLD_LIMIT_MS) / 1000
                until = asyncio.get_running_loop().time() + hold_s
                self._askers.append(_Asker(connection, frame_id, version, until))
                self._answer_askers(0.0)
            case ["ping", str(nonce)]:
                self._seen.add(nonce)
                connection.send(pack_frame(PONG, nonce))
            case _:
                raise WireError(f"a controller does not understand frames like {str(frame)[:80]}")

    def _answer_askers(self, now: float) -> None:
        """Answer those for whom there is news, and, given the time, those who have waited long enough."""
        version = sum(config.epoch for config in self._core.configs.values())
        left: list[_Asker] = []
        for asker in self._askers:
            if asker.version == version and asker.until > now:
                if asker.connection.is_open:
                    left.append(asker)
                continue
            news = asker.version != version
            blobs = [pack_config(config) for config in self._core.configs.values()] if news else None
            asker.connection.send(pack_frame(TABLE, asker.frame_id, version, blobs, {}))
        self._askers = left

    # ------------------------------------------------------------------------------------------ HTTP

    def _status(self) -> dict[str, Any]:
        return {
            "name": self._config.name,
            "role": "controller",
            "ready": not self.missing(),
            "missing": self.missing(),
            "unsafe": self._config.settings.unsafe(),
            "stores": dict(sorted(self._heard.items())),
            "shards": [
                {
                    "shard": config.shard,
                    "epoch": config.epoch,
                    "term": config.term,
                    "primary": node_of(config.primary),
                    "in_sync": sorted(map(node_of, config.isr)),
                    "learners": sorted(map(node_of, config.learners)),
                    "stores": sorted(config.isr | config.learners),
                }
                for _, config in sorted(self._core.configs.items())
            ],
        }


def _no_answer(_connection: Connection, _frame: list[Any]) -> None:
    """Nodes report over connections of their own."""
