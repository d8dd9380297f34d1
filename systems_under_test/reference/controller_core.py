"""Decisions of a controller: section 5 of docs/replication.md. Free of I/O: events in, effects out.

Several may run at once. None of them can do harm: every change is one compare-and-set from the epoch that it was
decided on, only an in-sync store is promoted, and each candidate itself waits out what it promised (rule P1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from .messages import (
    CompareAndSet,
    Config,
    ControllerEffect,
    Heartbeat,
    Note,
    ReadConfig,
    SendConfig,
    ShardStatus,
    Store,
    node_of,
)
from .settings import MS, ClusterSettings

__all__ = ["ControllerCore"]

# A compare-and-set whose outcome was unknown may be executed after the read that asked for it, and another controller
# may have died before it told anybody: what is stored is read again from time to time although nothing is wanted.
READ_AGAIN_NS: Final = 1_000 * MS

Placement = Callable[[Mapping[str, Store]], Mapping[int, tuple[Store, ...]]]


@dataclass(slots=True)
class _Node:
    """A node as its last heartbeat told."""

    store: Store
    heard_ns: int
    statuses: dict[int, ShardStatus]
    incarnation: int
    since_ns: int  # this process has been heard without a gap since then
    silent: bool = False  # said in the event log


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """A configuration to write, what it is (word of the event log) and why (sentence for people)."""

    config: Config
    what: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What is on its way to the configuration store for one shard: a change, or a read because of `known_epoch`."""

    change: _Change | None = None
    known_epoch: int = 0


class ControllerCore:
    """One controller."""

    def __init__(
        self,
        *,
        settings: ClusterSettings,
        clock: Callable[[], int],
        nodes: tuple[str, ...],
        place: Placement,
    ) -> None:
        """`place`: node -> store gives shard -> stores, the primary first; asked once all `nodes` have reported."""
        self._settings = settings
        self._clock = clock
        self._expected = nodes
        self._place = place
        self._configs: dict[int, Config] = {}
        self._changed_ns: dict[int, int] = {}  # shard -> when its configuration became known here
        self._nodes: dict[str, _Node] = {}
        self._asked: dict[int, _Asked] = {}
        self._read_again_ns: dict[int, int] = {}
        self._halted: set[int] = set()
        self._blamed: set[tuple[str, str]] = set()
        self._since_ns = self._ticked_ns = clock()

    @property
    def configs(self) -> Mapping[int, Config]:
        """Shard -> newest configuration known here."""
        return self._configs

    # ------------------------------------------------------------------------------------------ events

    def start(self, configs: Iterable[Config]) -> list[ControllerEffect]:
        """What the configuration store holds now; empty before the bootstrap."""
        self._configs = {config.shard: config for config in configs}
        self._since_ns = self._ticked_ns = self._clock()
        self._changed_ns = dict.fromkeys(self._configs, self._since_ns)
        return [_topology(config, "controller started") for config in self._configs.values()]

    def on_heartbeat(self, heartbeat: Heartbeat) -> list[ControllerEffect]:
        """A node reports. Tells it whatever configuration it lacks."""
        name = node_of(heartbeat.store)
        now = self._clock()
        statuses = {status.shard: status for status in heartbeat.statuses}
        known = self._nodes.get(name)
        same = known is not None and (known.store, known.incarnation) == (heartbeat.store, heartbeat.incarnation)
        unbroken = known is not None and same and now - known.heard_ns <= self._settings.suspect_ns
        since_ns = known.since_ns if known is not None and unbroken else now
        self._nodes[name] = _Node(heartbeat.store, now, statuses, heartbeat.incarnation, since_ns)
        effects: list[ControllerEffect] = []
        for shard, config in self._configs.items():
            status = statuses.get(shard)
            if status is None:
                if heartbeat.store in config.isr or heartbeat.store in config.learners:
                    effects.append(SendConfig(name, config))
            elif status.epoch < config.epoch:
                effects.append(SendConfig(name, config))
            elif status.epoch > config.epoch and shard not in self._asked:
                self._asked[shard] = _Asked(known_epoch=status.epoch)
                effects.append(ReadConfig(shard))
        return effects

    def on_cas(self, shard: int, ok: bool, stored: Config | None) -> list[ControllerEffect]:
        """Answer of the configuration store. `stored`: what stands there now.

        A compare-and-set whose outcome is unknown is answered by reading again: `ok` False, `stored` as read.
        """
        asked = self._asked.pop(shard, _Asked())
        self._read_again_ns[shard] = self._clock() + READ_AGAIN_NS
        change = asked.change
        before = self._configs.get(shard)
        if ok and stored is None and change is not None:
            stored = change.config
        epoch = stored.epoch if stored is not None else 0
        if epoch < max(asked.known_epoch, before.epoch if before is not None else 0):
            return self._halt(shard, epoch)
        if stored is None:
            return []
        self._configs[shard] = stored
        if before is None or stored.epoch > before.epoch:
            self._changed_ns[shard] = self._clock()
        if change is not None and stored == change.config:
            why = change.why
        elif before is None or stored.epoch > before.epoch:
            why = "as read from the configuration store"
        else:
            return []
        effects: list[ControllerEffect] = [_topology(stored, why)]
        members = stored.isr | stored.learners
        if before is not None:
            members |= before.isr | before.learners
        effects.extend(SendConfig(name, stored) for name in sorted({node_of(store) for store in members}))
        return effects

    def on_tick(self) -> list[ControllerEffect]:
        """Look at every shard; call it every `controller_tick_ns`."""
        now = self._clock()
        if now - self._ticked_ns > self._settings.suspect_ns // 2:
            self._since_ns = now  # this process stood still: the silence of others says nothing (rule 6)
        self._ticked_ns = now
        warm = now - self._since_ns >= self._settings.warm_ns  # rule 6
        effects: list[ControllerEffect] = self._note_suspicions(now) if warm else []
        effects.extend(self._bootstrap())
        for shard, config in self._configs.items():
            if shard in self._asked or shard in self._halted:
                continue
            change = self._decide(config, now, warm)
            if change is not None:
                effects.extend(self._write(change, expected_epoch=config.epoch))
            elif now >= self._read_again_ns.get(shard, 0):
                self._asked[shard] = _Asked()
                effects.append(ReadConfig(shard))
        return effects

    # ------------------------------------------------------------------------------------------ writing

    def _write(self, change: _Change, *, expected_epoch: int) -> list[ControllerEffect]:
        config = change.config
        self._asked[config.shard] = _Asked(change=change)
        fields = {"shard": config.shard, "epoch": config.epoch, "what": change.what, "why": change.why}
        return [Note("decided", fields), CompareAndSet(expected_epoch, config)]

    def _halt(self, shard: int, epoch: int) -> list[ControllerEffect]:
        """Rule 7: the store went back. Epochs would be used twice, so nothing is decided for this shard any more."""
        self._halted.add(shard)
        text = (
            f"shard {shard}: the configuration store holds epoch {epoch}, but a newer one was already in use. It was "
            "restored from a copy, or lost a commit. Nothing is changed for this shard until it is repaired by hand"
        )
        return [Note("warning", {"text": text})]

    def _bootstrap(self) -> list[ControllerEffect]:
        missing = [s for s in range(self._settings.shards) if s not in self._configs and s not in self._asked]
        if not missing or any(name not in self._nodes for name in self._expected):
            return []
        placed = self._place({name: node.store for name, node in self._nodes.items()})
        effects: list[ControllerEffect] = []
        for shard in missing:
            stores = placed[shard]
            config = Config(shard=shard, epoch=1, term=1, primary=stores[0], isr=frozenset(stores))
            change = _Change(config=config, what="bootstrap", why="first configuration")
            effects.extend(self._write(change, expected_epoch=0))
        return effects

    # ------------------------------------------------------------------------------------------ deciding

    def _alive(self, store: Store, now: int) -> bool:
        node = self._nodes.get(node_of(store))
        return node is not None and node.store == store and now - node.heard_ns <= self._settings.suspect_ns

    def _gone(self, store: Store, config: Config, now: int) -> bool:
        """Certified: its node runs with another disk, and that one knows this very configuration.

        The latter, because a late heartbeat of the disk before must not testify against the one that replaced it:
        only a store that was alive after `store` had become a member can know a configuration that names it.
        """
        node = self._nodes.get(node_of(store))
        return node is not None and node.store != store and self._status(node.store, config, now) is not None

    def _may_leave(self, isr: frozenset[Store], config: Config, now: int) -> bool:
        """Whether the in-sync set may shrink to `isr`: to `min_in_sync` members, not counting emptied disks.

        Such a disk can no longer be lost, so it must not stand for one of the copies that survive the next loss.
        """
        gone = {store for store in config.isr if self._gone(store, config, now)}
        left = len(isr - gone)
        enough = left >= self._settings.min_in_sync or left == len(config.isr - gone)
        return enough and len(isr) >= self._settings.min_in_sync

    def _status(self, store: Store, config: Config, now: int) -> ShardStatus | None:
        """What a live store says of this very configuration."""
        if not self._alive(store, now):
            return None
        status = self._nodes[node_of(store)].statuses.get(config.shard)
        return status if status is not None and status.epoch == config.epoch else None

    def _decide(self, config: Config, now: int, warm: bool) -> _Change | None:
        """The first rule that wants a change."""
        return (
            self._drop_damaged(config, now)
            or self._recover_from_loss(config, now, warm)
            or self._replace_primary(config, now, warm)
            or self._shrink(config, now)
            or self._grant_request(config, now)
            or self._replace_stores(config, now)
        )

    def _drop_damaged(self, config: Config, now: int) -> _Change | None:
        """Rule 1."""
        for store in sorted(config.isr - {config.primary}):
            status = self._status(store, config, now)
            if status is not None and status.damaged and self._may_leave(config.isr - {store}, config, now):
                why = f"{node_of(store)} found its log damaged"
                return _Change(config=_without(config, frozenset({store})), what="shrink", why=why)
        return None

    def _replace_primary(self, config: Config, now: int, warm: bool) -> _Change | None:
        """Rule 2."""
        why = self._primary_failure(config, now, warm)
        if why is None:
            return None
        primary = config.primary
        status = self._status(primary, config, now)
        # One that restarted holds its log: it stays in sync, and may even be the only one to go on.
        waiting = status is not None and status.needs_install and not status.damaged
        candidate = self._candidate(config, now, include_primary=waiting)
        if candidate is None:
            return None
        isr, learners = config.isr, config.learners
        if not waiting and self._may_leave(isr - {primary}, config, now):
            isr, learners = isr - {primary}, learners | {primary}
        epoch = config.epoch + 1
        new = replace(config, epoch=epoch, term=epoch, primary=candidate, isr=isr, learners=learners)
        return _Change(config=new, what="promote", why=why)

    def _primary_failure(self, config: Config, now: int, warm: bool) -> str | None:
        primary = config.primary
        name = node_of(primary)
        others = [self._status(store, config, now) for store in config.isr if store != primary]
        if not self._alive(primary, now):  # 2a
            unheard = any(s is not None and s.beacon_age_ns > self._settings.suspect_ns for s in others)
            return f"{name} is silent, also to its backups" if warm and unheard else None
        status = self._status(primary, config, now)
        if status is None:
            deaf = warm and self._deaf_primary(config, now)  # 2d
            return f"{name} does not learn that it is the primary" if deaf else None
        if status.damaged:  # 2b
            return f"{name} found its log damaged"
        if status.needs_install:
            return f"{name} has restarted and must not go on in its old term"
        suspects = status.suspects & config.isr
        alive = [store for store in config.isr if store != primary and self._alive(store, now)]
        room = len(config.isr) - self._settings.min_in_sync
        if len(suspects) > room and len(alive) >= self._settings.min_in_sync:  # 2c
            return f"{name} is cut off from its backups"
        return None

    def _deaf_primary(self, config: Config, now: int) -> bool:
        """Whether a primary that is heard has had its time to learn this configuration, and still reports an older one.

        A chosen primary that cannot hear the controllers is told by nobody else: backups speak only to a primary that
        has spoken to them. That another in-sync store did learn it shows that the fault is not here. Both this
        controller and the primary must have been there all the time, so a start or a pause of either counts anew.
        """
        node = self._nodes[node_of(config.primary)]
        known = node.statuses.get(config.shard)
        if known is not None and known.epoch >= config.epoch:
            return False
        since_ns = max(self._changed_ns[config.shard], self._since_ns, node.since_ns)
        if now - since_ns <= 2 * self._settings.suspect_ns:
            return False
        return any(self._status(store, config, now) is not None for store in config.isr - {config.primary})

    def _candidate(self, config: Config, now: int, *, include_primary: bool) -> Store | None:
        """A live, undamaged in-sync store. Any is safe; the longest log is only the fastest.

        Rule X6: one whose last record was cut comes last, and only when all have reported.
        """
        found: list[tuple[bool, int, int, bool, Store]] = []
        reported = 0
        for store in config.isr:
            node = self._nodes.get(node_of(store))
            status = node.statuses.get(config.shard) if node is not None and self._alive(store, now) else None
            if status is None:
                continue
            reported += 1
            if status.damaged or (store == config.primary and not include_primary):
                continue
            other = store != config.primary
            found.append((not status.tail_cut, status.last_term, status.last_index, other, store))
        if not found:
            return None
        clean, *_, best = max(found)
        return best if clean or reported == len(config.isr) else None

    def _shrink(self, config: Config, now: int) -> _Change | None:
        """Rule 3: drop what a live primary suspects, those that are silent here too first."""
        status = self._status(config.primary, config, now)
        if status is None:
            return None
        suspects = status.suspects & (config.isr - {config.primary})
        dropped: frozenset[Store] = frozenset()
        for store in sorted(suspects, key=lambda s: (not self._gone(s, config, now), self._alive(s, now), s)):
            if self._may_leave(config.isr - dropped - {store}, config, now):
                dropped |= {store}
        if not dropped:
            return None
        names = ", ".join(sorted(map(node_of, dropped)))
        return _Change(config=_without(config, dropped), what="shrink", why=f"{names} did not answer the primary")

    def _grant_request(self, config: Config, now: int) -> _Change | None:
        """Rule 4."""
        status = self._status(config.primary, config, now)
        if status is None or status.request is None:
            return None
        request = status.request
        epoch = config.epoch + 1
        if request.kind == "bump":
            why = "a learner fell silent while it was taken in"
            return _Change(config=replace(config, epoch=epoch), what="bump", why=why)
        if request.kind != "add" or request.store not in config.learners:
            return None
        store = frozenset({request.store})
        new = replace(config, epoch=epoch, isr=config.isr | store, learners=config.learners - store)
        return _Change(config=new, what="expand", why=f"{node_of(request.store)} has caught up")

    def _replace_stores(self, config: Config, now: int) -> _Change | None:
        """Rule 5, as far as it is about emptied disks: a node's new store learns what its old one held."""
        members = config.isr | config.learners
        current = {self._nodes[name].store for name in map(node_of, members) if name in self._nodes}
        new = {store for store in current - members if self._alive(store, now)}
        gone = {store for store in config.learners if self._gone(store, config, now)}
        if not new and not gone:
            return None
        changed = replace(config, epoch=config.epoch + 1, learners=(config.learners - gone) | new)
        names = ", ".join(sorted(map(node_of, new | gone)))
        return _Change(config=changed, what="bump", why=f"{names} came back with an empty disk")

    def _recover_from_loss(self, config: Config, now: int, warm: bool) -> _Change | None:
        """Rule 8: every in-sync copy is certified gone. Take the best of what is left, and say so aloud.

        Waits until every learner has been heard or is gone: one that is still down may hold more than those that
        answer, and an emptied disk must never win for being there first.
        """
        for store in config.isr:
            status = self._status(store, config, now)
            if not self._gone(store, config, now) and not (status is not None and status.damaged):
                return None
        found: list[tuple[int, int, Store]] = []
        for store in config.learners:
            if self._gone(store, config, now):
                continue
            status = self._status(store, config, now)
            if status is None:
                return None
            if not status.damaged:
                found.append((status.last_term, status.last_index, store))
        if not found or not warm:
            return None
        *_, best = max(found)
        epoch = config.epoch + 1
        left = frozenset(s for s in config.isr | config.learners if s != best and not self._gone(s, config, now))
        new = replace(config, epoch=epoch, term=epoch, primary=best, isr=frozenset({best}), learners=left)
        why = f"data loss recovery: every in-sync copy is gone, {node_of(best)} holds the most of what is left"
        return _Change(config=new, what="promote", why=why)

    # ------------------------------------------------------------------------------------------ event log

    def _note_suspicions(self, now: int) -> list[ControllerEffect]:
        """One event for each new suspicion, here or by a primary."""
        effects: list[ControllerEffect] = []
        for name, node in self._nodes.items():
            silent = now - node.heard_ns > self._settings.suspect_ns
            if silent and not node.silent:
                age_ms = (now - node.heard_ns) // 1_000_000
                effects.append(Note("suspected", {"member": name, "why": f"no heartbeat for {age_ms} ms"}))
            node.silent = silent
        blamed: set[tuple[str, str]] = set()
        for config in self._configs.values():
            status = self._status(config.primary, config, now)
            for store in status.suspects if status is not None else ():
                blamed.add((node_of(config.primary), node_of(store)))
        for primary, name in sorted(blamed - self._blamed):
            effects.append(Note("suspected", {"member": name, "why": f"it does not answer {primary}"}))
        self._blamed = blamed
        return effects


def _without(config: Config, dropped: frozenset[Store]) -> Config:
    """The next configuration, in which `dropped` are learners."""
    return replace(config, epoch=config.epoch + 1, isr=config.isr - dropped, learners=config.learners | dropped)


def _topology(config: Config, why: str) -> Note:
    fields: dict[str, Any] = {
        "shard": config.shard,
        "epoch": config.epoch,
        "term": config.term,
        "primary": node_of(config.primary),
        "in_sync": sorted(map(node_of, config.isr)),
        "learners": sorted(map(node_of, config.learners)),
        "why": why,
    }
    return Note("topology", fields)
