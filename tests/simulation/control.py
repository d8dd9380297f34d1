"""A simulated controller process around the real `ControllerCore`, and the configuration store that all share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aftershock.systems_under_test.reference.controller_core import ControllerCore
from aftershock.systems_under_test.reference.messages import (
    CompareAndSet,
    Config,
    ControllerEffect,
    Note,
    ReadConfig,
    SendConfig,
    Store,
)

from .engine import MS
from .node import Clock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .world import World

HINT_NS = 100 * MS
STORE_TIMEOUT_NS = 100 * MS


class ConfigStore:
    """Linearizable, durable, compare-and-set on the epoch; endpoint "store"."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.config: Config | None = None

    def receive(self, source: str, payload: Any) -> None:
        request, effect = payload
        ok = False
        if isinstance(effect, CompareAndSet):
            epoch = self.config.epoch if self.config is not None else 0
            ok = effect.expected_epoch == epoch
            if ok:
                old, self.config = self.config, effect.config
                self._world.observer.on_stored(old, effect.config)
        self._world.network.send("store", source, (request, ok, self.config))


class Controller:
    """One controller process."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._engine = world.engine
        self.name = name
        self.clock = Clock(world, 1.0)
        self.alive = False
        self.paused = False
        self.incarnation = 0
        self._inbox: list[tuple[Any, ...]] = []
        self._request = 0
        self._pending: dict[int, int] = {}  # request -> shard
        self.core: ControllerCore
        self.start()

    def start(self) -> None:
        if self.alive:
            return
        if (self.name, "store") in self._world.network.cut or ("store", self.name) in self._world.network.cut:
            self._engine.after(50 * MS, self.start)  # it cannot read the store yet
            return
        self.alive, self.paused = True, False
        self.incarnation += 1
        self._inbox.clear()
        self._pending.clear()
        self.core = ControllerCore(
            settings=self._world.settings, clock=self.clock, nodes=tuple(self._world.nodes), place=_place
        )
        stored = self._world.store.config
        self._carry_out(self.core.start([stored] if stored is not None else []))
        offset = self._engine.rng.randrange(self._world.settings.controller_tick_ns)
        self._engine.after(offset, self._run, self.incarnation, self._tick)
        self._engine.after(offset, self._run, self.incarnation, self._hint)

    def kill(self) -> None:
        self.alive = self.paused = False

    def pause(self) -> None:
        if self.alive:
            self.paused = True

    def resume(self) -> None:
        if not self.paused:
            return
        self.paused = False
        inbox, self._inbox = self._inbox, []
        self._engine.rng.shuffle(inbox)
        for event in inbox:
            self._engine.after(0, self._run, self.incarnation, *event)

    def receive(self, source: str, payload: Any) -> None:
        if not self.alive:
            return
        if source == "store":
            self._run(self.incarnation, self._on_store, *payload)
        else:
            self._run(self.incarnation, self._on_heartbeat, payload)

    def _run(self, incarnation: int, call: Any, *arguments: Any) -> None:
        if incarnation != self.incarnation or not self.alive:
            return
        if self.paused:
            self._inbox.append((call, *arguments))
            return
        call(*arguments)

    def _on_heartbeat(self, heartbeat: Any) -> None:
        self._carry_out(self.core.on_heartbeat(heartbeat))

    def _tick(self) -> None:
        self._carry_out(self.core.on_tick())
        self._engine.after(self._world.settings.controller_tick_ns, self._run, self.incarnation, self._tick)

    def _hint(self) -> None:
        """Routers hear the newest configuration from time to time."""
        config = self.core.configs.get(0)
        if config is not None:
            for client in self._world.clients:
                self._world.network.send(self.name, client, config)
        self._engine.after(HINT_NS, self._run, self.incarnation, self._hint)

    def _carry_out(self, effects: list[ControllerEffect]) -> None:
        for effect in effects:
            if isinstance(effect, SendConfig):
                self._world.network.send(self.name, effect.node, effect.config)
            elif isinstance(effect, CompareAndSet):
                self._ask(effect.config.shard, effect)
            elif isinstance(effect, ReadConfig):
                self._ask(effect.shard, effect)
            elif isinstance(effect, Note):
                self._world.on_note(self.name, effect)

    def _ask(self, shard: int, effect: CompareAndSet | ReadConfig) -> None:
        self._request += 1
        self._pending[self._request] = shard
        self._world.network.send(self.name, "store", (self._request, effect))
        self._engine.after(STORE_TIMEOUT_NS, self._run, self.incarnation, self._give_up, self._request)

    def _give_up(self, request: int) -> None:
        """No answer: the outcome is unknown, so what is stored is read, until it can be."""
        shard = self._pending.pop(request, None)
        if shard is not None:
            self._ask(shard, ReadConfig(shard))

    def _on_store(self, request: int, ok: bool, stored: Config | None) -> None:
        shard = self._pending.pop(request, None)
        if shard is not None:
            self._carry_out(self.core.on_cas(shard, ok, stored))


def _place(stores: Mapping[str, Store]) -> Mapping[int, tuple[Store, ...]]:
    return {0: tuple(stores[name] for name in sorted(stores))}
