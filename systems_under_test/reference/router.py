"""A router: clients speak HTTP to it, it speaks frames to nodes and keeps itself informed by nodes and controllers."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from typing import Any, Final

from .http_common import MemberApp, SeenNonces
from .member import Context, watched
from .messages import node_of
from .router_http import ClientApi
from .routing import Remote, Routing, Table
from .wire import WireError

ATTEMPT_S: Final = 0.25  # for a question for the table, beyond the time that it is held
HOLD_MS: Final = 250  # a controller answers earlier when there is news
ASK_PAUSE_S: Final = 0.05  # between two questions to one controller
PROBE_S: Final = 0.5  # between two questions to one node while all is well
PROBE_TROUBLE_S: Final = 0.1


class Router:
    """One router process. It holds nothing that matters: its death loses only the answers it still owed."""

    fatal_errors = False

    def __init__(self, context: Context) -> None:
        self._context = context
        config = context.config
        rng = random.Random(secrets.randbits(64))
        self._nodes = {name: Remote(name, address, rng=rng) for name, address in config.nodes.items()}
        self._controllers = {name: Remote(name, address, rng=rng) for name, address in config.controllers.items()}
        self._routing = Routing(settings=config.settings, nodes=self._nodes, rng=rng)
        self._api = ClientApi(
            router=config.name, settings=config.settings, routing=self._routing, metrics=context.metrics
        )
        self._seen = SeenNonces()
        self._tasks: list[asyncio.Task[None]] = []
        context.metrics.gauge("reference_in_flight", "Requests of clients in flight.", lambda: self._api.in_flight)
        context.metrics.gauge(
            "reference_nodes_healthy", "Nodes that answer.", lambda: sum(map(self._routing.healthy, self._nodes))
        )

    # ------------------------------------------------------------------------------------------ life

    def app(self) -> MemberApp:
        return MemberApp(
            metrics=self._context.metrics,
            missing=self.missing,
            status=self._status,
            seen=self._seen,
            page=self._api.page,
        )

    def missing(self) -> str:
        """Ready when the primary of every shard is known and its node answers."""
        configs = self._routing.configs
        unknown = self._context.config.settings.shards - len(configs)
        if unknown > 0:
            return f"the primaries of {unknown} shards are not known"
        primaries = {node_of(config.primary) for config in configs.values()}
        silent = sorted(node for node in primaries if not self._routing.healthy(node))
        return f"no answer from {', '.join(silent)}" if silent else ""

    async def start(self) -> None:
        for remote in (*self._nodes.values(), *self._controllers.values()):
            remote.start()
        self._tasks = [watched(self._follow(remote)) for remote in self._controllers.values()]
        self._tasks += [watched(self._probe(remote)) for remote in self._nodes.values()]

    async def stop(self) -> None:
        """The HTTP server has let running requests end before."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for remote in (*self._nodes.values(), *self._controllers.values()):
            await remote.close()

    # ------------------------------------------------------------------------------------------ knowledge

    async def _follow(self, controller: Remote) -> None:
        """Ask a controller again and again; it holds the answer until there is news."""
        while True:
            await self._ask(controller, HOLD_MS)
            await asyncio.sleep(ASK_PAUSE_S)

    async def _probe(self, node: Remote) -> None:
        """Active health check, which brings what the node knows: its configurations and commit indexes."""
        while True:
            await self._ask(node, 0)
            if self._routing.in_trouble() or not self._routing.configs:
                await asyncio.sleep(PROBE_TROUBLE_S)
                continue
            self._routing.hurry.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PROBE_S):
                    await self._routing.hurry.wait()

    async def _ask(self, remote: Remote, hold_ms: int) -> None:
        try:
            answer = await remote.ask_table(hold_ms=hold_ms, timeout_s=ATTEMPT_S + hold_ms / 1000)
        except WireError:
            return  # of another version: as good as silent
        if isinstance(answer, Table):
            self._routing.learn(answer.configs or ())
            for shard, commit in answer.commits.items():
                self._routing.learn_commit(shard, commit)

    # ------------------------------------------------------------------------------------------ HTTP

    def _status(self) -> dict[str, Any]:
        config = self._context.config
        return {
            "name": config.name,
            "role": "router",
            "ready": not self.missing(),
            "missing": self.missing(),
            "unsafe": config.settings.unsafe(),
            "in_flight": self._api.in_flight,
            "nodes": {
                name: {
                    "healthy": self._routing.healthy(name),
                    "connected": remote.connected,
                    "in_flight": remote.in_flight,
                }
                for name, remote in self._nodes.items()
            },
            "shards": [
                {"shard": shard, "epoch": known.epoch, "primary": node_of(known.primary)}
                for shard, known in sorted(self._routing.configs.items())
            ],
        }
