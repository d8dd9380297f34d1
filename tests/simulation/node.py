"""A simulated node: disk, clock and process around the real `Replica`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aftershock.systems_under_test.reference.invariants import InvariantError
from aftershock.systems_under_test.reference.messages import (
    Answer,
    Append,
    ClientOp,
    Config,
    ConfigMessage,
    Effect,
    Entry,
    Heartbeat,
    Recovered,
    ReplyKind,
    SaveConfig,
    Send,
    Store,
    Truncate,
    node_of,
)
from aftershock.systems_under_test.reference.replica import Replica

from .engine import MS
from .observer import AppliedTwiceError

if TYPE_CHECKING:
    from .world import World

TICK_NS = 20 * MS


class Clock:
    """An interval clock with its own rate and origin; goes on while its owner is paused or dead."""

    __slots__ = ("_engine", "_origin", "rate")

    def __init__(self, world: World, rate: float) -> None:
        self._engine = world.engine
        self._origin = world.engine.rng.randrange(10**12, 10**13)
        self.rate = rate

    def __call__(self) -> int:
        return self._origin + int(self._engine.now * self.rate)


class Disk:
    """Configuration (atomic, at once) and log: `log` is the page cache, its first `durable` entries are safe."""

    def __init__(self) -> None:
        self.config: Config | None = None
        self.log: list[Entry] = []
        self.durable = 0
        self.syncing = False
        self.generation = 0  # +1 with everything that makes a running fsync meaningless
        self.fsync_ns: tuple[int, int] = (200_000, 2_000_000)


class Node:
    """One process. `name` is also its network endpoint."""

    def __init__(self, world: World, name: str, *, rate: float) -> None:
        self._world = world
        self._engine = world.engine
        self.name = name
        self.disks = 1
        self.disk = Disk()
        self.clock = Clock(world, rate)
        self.alive = False
        self.paused = False
        self.incarnation = 0
        self._inbox: list[tuple[Any, ...]] = []
        self._clients: dict[int, tuple[str, int, ClientOp]] = {}  # own token -> who, with which token, what
        self._token = 0
        self._seen_commit = 0
        self.replica: Replica
        self.start()

    @property
    def store(self) -> Store:
        return f"{self.name}:{self.disks}"

    # ------------------------------------------------------------------------------------------ life

    def start(self) -> None:
        if self.alive:
            return
        self.alive, self.paused = True, False
        self.incarnation += 1
        disk = self.disk
        disk.durable = len(disk.log)  # X1
        disk.syncing = False
        disk.generation += 1
        self._inbox.clear()
        self._clients.clear()
        self._seen_commit = 0
        self.replica = self._world.replica_type(
            shard=0,
            store=self.store,
            settings=self._world.settings,
            clock=self.clock,
            recovered=Recovered(config=disk.config, entries=tuple(disk.log)),
        )
        self._handle(self.replica.start)
        rng = self._engine.rng
        self._engine.after(rng.randrange(TICK_NS), self._tick, self.incarnation)
        self._engine.after(rng.randrange(self._world.settings.heartbeat_ns), self._heartbeat, self.incarnation)

    def kill(self) -> None:
        """The process is gone; what it wrote stays in the page cache."""
        self.alive = self.paused = False
        self.disk.generation += 1

    def power_loss(self) -> None:
        """What was not synced is gone, but for a prefix."""
        self.kill()
        disk = self.disk
        kept = self._engine.rng.randint(disk.durable, len(disk.log))
        del disk.log[kept:]

    def destroy(self) -> None:
        """The disk is emptied: it will come back as another store."""
        self.kill()
        self.disk = Disk()
        self.disks += 1

    def pause(self) -> None:
        if self.alive:
            self.paused = True

    def resume(self) -> None:
        """Sockets, fsync completions and timers fired meanwhile are handled in any order."""
        if not self.paused:
            return
        self.paused = False
        inbox, self._inbox = self._inbox, []
        self._engine.rng.shuffle(inbox)
        for delay, event in enumerate(inbox):
            self._engine.after(delay * 20_000, self._run, self.incarnation, *event)

    # ------------------------------------------------------------------------------------------ events

    def receive(self, source: str, payload: Any) -> None:
        if not self.alive:
            return
        if source[0] == "n":
            self._run(self.incarnation, self._on_peer, *payload)
        elif source[0] == "k":
            self._run(self.incarnation, self._on_peer, source, ConfigMessage(payload))
        else:
            self._run(self.incarnation, self._on_client, source, *payload)

    def _run(self, incarnation: int, call: Any, *arguments: Any) -> None:
        if incarnation != self.incarnation or not self.alive:
            return
        if self.paused:
            self._inbox.append((call, *arguments))
            return
        call(*arguments)

    def _tick(self, incarnation: int) -> None:
        self._run(incarnation, self._on_tick)

    def _on_tick(self) -> None:
        self._handle(self.replica.on_tick)
        self._engine.after(int(TICK_NS / self.clock.rate), self._tick, self.incarnation)

    def _heartbeat(self, incarnation: int) -> None:
        self._run(incarnation, self._on_heartbeat)

    def _on_heartbeat(self) -> None:
        heartbeat = Heartbeat(self.store, self.incarnation, (self.replica.status(),))
        for controller in self._world.controllers:
            self._world.network.send(self.name, controller, heartbeat)
        self._engine.after(self._world.settings.heartbeat_ns, self._heartbeat, self.incarnation)

    def _on_peer(self, sender: Store, message: Any) -> None:
        self._handle(self.replica.on_message, sender, message)

    def _on_client(self, source: str, token: int, op: ClientOp) -> None:
        self._token += 1  # a message that arrives twice is two requests
        self._clients[self._token] = (source, token, op)
        self._handle(self.replica.on_client, self._token, op)

    def _handle(self, call: Any, *arguments: Any) -> None:
        try:
            effects = call(*arguments)
        except InvariantError as error:
            self._world.observer.violate(error.invariant, f"{self.name}: {error}")
            return self.kill()
        except AppliedTwiceError as error:
            self._world.observer.violate("I9", f"{self.name}: {error}")
            return self.kill()
        if effects:
            self._carry_out(effects)
        commit = self.replica.commit
        if commit != self._seen_commit:
            self._world.observer.on_commit(self, before=min(self._seen_commit, commit))
            self._seen_commit = commit
        return None

    # ------------------------------------------------------------------------------------------ effects

    def _carry_out(self, effects: list[Effect]) -> None:
        world = self._world
        for effect in effects:
            if isinstance(effect, Send):
                world.network.send(self.name, node_of(effect.to), (self.store, effect.message))
            elif isinstance(effect, Answer):
                self._answer(effect)
            elif isinstance(effect, Append):
                world.observer.on_append(self, effect.entries)
                self._sync()
            elif isinstance(effect, Truncate):
                self._truncate(effect.from_index)
            elif isinstance(effect, SaveConfig):
                world.observer.on_save(self, effect.config)
                self.disk.config = effect.config
            else:
                world.on_note(self.name, effect)

    def _answer(self, effect: Answer) -> None:
        client = self._clients.pop(effect.token, None)
        if client is None:
            return
        source, token, op = client
        if op.kind in ("get", "multi-get") and effect.reply.kind is ReplyKind.OK:
            self._world.observer.on_read(self)
        self._world.network.send(self.name, source, (token, effect.reply))

    def _truncate(self, from_index: int) -> None:
        disk = self.disk
        del disk.log[from_index - 1 :]
        disk.durable = min(disk.durable, len(disk.log))
        disk.generation += 1
        disk.syncing = False
        self._sync()

    def _sync(self) -> None:
        """Group commit: one fsync at a time, over everything written before it began."""
        disk = self.disk
        if disk.syncing or disk.durable == len(disk.log):
            return
        disk.syncing = True
        low, high = disk.fsync_ns
        delay = low + int(self._engine.rng.random() * (high - low))
        self._engine.after(delay, self._synced, disk, disk.generation, len(disk.log))

    def _synced(self, disk: Disk, generation: int, upto: int) -> None:
        if disk.generation != generation:
            return
        disk.syncing = False
        disk.durable = max(disk.durable, upto)
        self._run(self.incarnation, self._on_synced, generation, upto)
        if self.alive:
            self._sync()

    def _on_synced(self, generation: int, upto: int) -> None:
        if generation == self.disk.generation:  # no truncation while this waited in the queue of a paused process
            self._handle(self.replica.on_synced, upto)
