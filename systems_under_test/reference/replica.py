"""One shard on one store: rules R, A, F, L2, L5 and X of docs/replication.md, and the way to the primary's part.

Free of I/O: events in, effects out (see `messages`). Effects are carried out in order. A broken invariant raises
`InvariantError`: the process must end rather than corrupt data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .invariants import InvariantError
from .messages import (
    Ack,
    Answer,
    Beacon,
    BeaconAck,
    ClientOp,
    Config,
    ConfigMessage,
    Effect,
    Nack,
    PeerMessage,
    Recovered,
    Replicate,
    Reply,
    ReplyKind,
    Role,
    SaveConfig,
    ShardStatus,
    Stale,
    Store,
)
from .replica_primary import PrimaryRole, read
from .replica_state import ReplicaState
from .settings import ClusterSettings
from .state_machine import StateMachine, extend_chain

__all__ = ["Replica"]

READS: Final = ("get", "multi-get")
FOR_EVER_NS: Final = 2**62  # the beacon age of a primary that nobody should wait for


class Replica:
    """One replica. Every method returns the effects to carry out, in order."""

    primary_type: type[PrimaryRole] = PrimaryRole
    machine_type: type[StateMachine] = StateMachine

    def __init__(
        self,
        *,
        shard: int,
        store: Store,
        settings: ClusterSettings,
        clock: Callable[[], int],
        recovered: Recovered,
    ) -> None:
        """`clock`: nanoseconds of an interval clock that goes on while the process is stopped."""
        self._state = ReplicaState(
            shard=shard,
            store=store,
            settings=settings,
            clock=clock,
            recovered=recovered,
            machine_type=self.machine_type,
        )
        self._tail_cut = recovered.tail_cut
        self._adopted = False  # whether the configuration was adopted by this process, or found on disk
        self._primary: PrimaryRole | None = None  # X4: a configuration found on disk never makes a primary
        self._verified = 0  # my log equals the primary's up to here, as far as I know
        self._ack_due: tuple[Store, int] | None = None  # who waits for my fsync, and the epoch of its message
        self._beacon_seen = (0, 0)  # (term, number) of the last beacon
        self._heard_ns = clock()  # when the primary was last known to be able to serve
        self._stalled = False
        self._chain = (0, b"")  # (index, running hash up to it)

    # ------------------------------------------------------------------------------------------ what it is

    @property
    def config(self) -> Config | None:
        """The newest configuration that this replica knows; it is on disk."""
        return self._state.config

    @property
    def primary(self) -> PrimaryRole | None:
        """The primary's part, while this replica is the primary of the current term."""
        return self._primary

    @property
    def role(self) -> Role:
        config = self._state.config
        me = self._state.store
        if config is None:
            return Role.NONE
        if config.primary == me:
            return Role.PRIMARY if self._primary is not None else Role.WAITING
        if me in config.isr:
            return Role.BACKUP
        return Role.LEARNER if me in config.learners else Role.NONE

    @property
    def active(self) -> bool:
        """Whether this replica serves as primary now (reads still depend on the lease)."""
        return self._primary is not None and self._primary.active

    @property
    def last_index(self) -> int:
        return self._state.last_index

    @property
    def commit(self) -> int:
        return self._state.commit

    def status(self) -> ShardStatus:
        """This shard's line in the next heartbeat."""
        state = self._state
        config = state.config
        primary = self._primary
        waiting = config is not None and config.primary == state.store and (primary is None or primary.released)
        return ShardStatus(
            shard=state.shard,
            epoch=config.epoch if config is not None else 0,
            role=self.role,
            active=self.active,
            last_term=state.term_at(state.last_index),
            last_index=state.last_index,
            commit=state.commit,
            damaged=state.damaged,
            needs_install=waiting,  # X4, A4
            beacon_age_ns=FOR_EVER_NS if self._stalled else state.clock() - self._heard_ns,
            suspects=primary.suspects() if primary is not None else frozenset(),
            request=primary.request() if primary is not None else None,
            tail_cut=self._tail_cut,
        )

    def digest(self) -> tuple[int, int, str, str]:
        """(last index, commit index, running hash of the log up to commit, hash of the applied state)."""
        state = self._state
        done, chain = self._chain
        if done > state.commit:  # only an unsafe setting takes the commit index back
            done, chain = 0, b""
        chain = extend_chain(chain, state.entries[done : state.commit])
        self._chain = (state.commit, chain)
        return state.last_index, state.commit, chain.hex(), state.machine.digest()

    # ------------------------------------------------------------------------------------------ events

    def start(self) -> list[Effect]:
        """The process has started; X1 and X2 are done, L5 holds."""
        return self._take()

    def on_message(self, sender: Store, message: PeerMessage) -> list[Effect]:
        """A message of another store arrived."""
        if sender == self._state.store:
            # Meant for a disk that this one replaced and that still counts as a member. Taken for news, its beacons
            # would make a new primary promise itself for ever not to open.
            return []
        if isinstance(message, Replicate):
            if self._admit(sender, message.config):
                self._on_replicate(sender, message)
        elif isinstance(message, Beacon):
            if self._admit(sender, message.config):
                self._on_beacon(sender, message)
        elif isinstance(message, ConfigMessage):
            self._learn(message.config)
        elif isinstance(message, Stale):
            if self._state.settings.fencing or self._primary is None:
                self._learn(message.config)
        elif self._primary is not None:
            if isinstance(message, Ack):
                self._primary.on_ack(sender, message)
            elif isinstance(message, BeaconAck):
                self._primary.on_beacon_ack(sender, message)
            else:
                self._primary.on_nack(sender, message)
        return self._take()

    def on_synced(self, index: int) -> list[Effect]:
        """The log is durable up to `index`, by an fsync that no truncation has overtaken."""
        state = self._state
        if state.synced < index <= state.last_index:
            state.synced = index
            self._send_ack()
            if self._primary is not None:
                self._primary.on_synced()
        return self._take()

    def on_client(self, token: int, op: ClientOp) -> list[Effect]:
        """A router's request; an `Answer` with `token` follows, now or later, or never if this replica cannot tell."""
        state = self._state
        reading = op.kind in READS
        if reading and state.settings.read_from == "any" and self.role is not Role.NONE and not state.damaged:
            state.effects.append(Answer(token, read(state, op)))
        elif self._primary is None:  # W1, Q1
            reply = Reply(ReplyKind.REFUSED, commit=state.commit, reason="not the primary", config=state.config)
            state.effects.append(Answer(token, reply))
        elif reading:
            self._primary.on_read(token, op)
        else:
            self._primary.on_write(token, op)
        return self._take()

    def forget(self, token: int) -> None:
        """The router gave up: no answer for this token is wanted any more."""
        if self._primary is not None:
            self._primary.forget(token)

    def on_tick(self) -> list[Effect]:
        """Time has passed; call it about every 20 ms."""
        if self._primary is not None:
            self._primary.on_tick()
        return self._take()

    def _take(self) -> list[Effect]:
        effects = self._state.effects
        self._state.effects = []
        return effects

    # ------------------------------------------------------------------------------------------ R and A

    def _admit(self, sender: Store, config: Config) -> bool:
        """Rules R1-R3: whether a Replicate or Beacon may be handled."""
        state = self._state
        fencing = state.settings.fencing
        mine = state.config
        if not fencing and self._primary is not None and mine is not None and config.epoch > mine.epoch:
            return False  # a zombie steps down for the controller only, never for data messages
        if mine is None or config.epoch > mine.epoch:  # R1
            self._adopt(config)
        elif config.epoch < mine.epoch and fencing:  # R2
            state.send(sender, Stale(mine))
            return False
        member = state.store in config.isr or state.store in config.learners
        if fencing and (sender != config.primary or not member):  # R3
            return False
        return not state.damaged  # X5

    def _learn(self, config: Config) -> None:
        """Somebody tells a configuration; adopt it if it is news."""
        mine = self._state.config
        if mine is None or config.epoch > mine.epoch:
            self._adopt(config)

    def _adopt(self, config: Config) -> None:
        state = self._state
        old = state.config
        if old is not None and config.epoch <= old.epoch:
            raise InvariantError("I1", f"shard {state.shard}: epoch {config.epoch} after {old.epoch}")
        if self._adopted and old is not None and state.store in old.learners and state.store in config.isr:
            # X6: rule J counted what I acknowledged as a learner in `old`, so I hold everything acknowledged. Only if
            # this process adopted `old`: otherwise it may have counted what the process before acknowledged and lost.
            self._tail_cut = False
        self._adopted = True
        state.effects.append(SaveConfig(config))  # A1: durable before anything is sent in that epoch
        state.config = config
        self._verified = state.commit  # A2
        self._ack_due = None
        new_term = old is None or config.term > old.term
        if new_term:
            self._heard_ns = state.clock()
            self._stalled = False
        if config.primary != state.store or new_term:  # A5, A6
            if self._primary is not None:
                self._primary.resign()
            self._primary = None
        if config.primary == state.store:
            if self._primary is not None:
                self._primary.on_config()  # A3; A4: a released primary stays released
            elif new_term and not state.damaged:
                # A5. In the same term there is no way back: before a restart, or a hand-over, this term's names
                # (term, index) may have been given to entries that are lost here (X4, A4).
                self._primary = self.primary_type(state, term=config.term)
                self._primary.on_tick()

    # ------------------------------------------------------------------------------------------ F

    def _on_replicate(self, sender: Store, message: Replicate) -> None:
        """Rule F: make the own log equal to the primary's, as far as the message reaches."""
        state = self._state
        epoch = message.config.epoch
        prev = message.prev_index
        if prev > state.last_index:  # F2
            return state.send(sender, Nack(state.shard, epoch, state.last_index))
        if state.term_at(prev) != message.prev_term:
            return state.send(sender, Nack(state.shard, epoch, self._before_run(prev)))
        entries = message.entries
        skip = 0
        for entry in entries:
            if entry.index > state.last_index:
                break
            if state.term_at(entry.index) != entry.term:
                # F3: only on conflict, so that a late, shorter message cuts nothing.
                state.truncate(entry.index)
                if self._primary is not None:  # only without fencing
                    self._primary.on_truncated()
                break
            skip += 1
        if skip < len(entries):
            state.append(entries[skip:])
        # F4. Without fencing the log may have been cut below what was verified; otherwise `min` changes nothing.
        self._verified = max(min(self._verified, state.last_index), prev + len(entries))
        self._ack_due = (sender, epoch)
        if state.synced >= self._verified:  # F5; otherwise on_synced acknowledges
            self._send_ack()
        commit = min(message.commit, self._verified)  # F6: not the own end, which may be a wrong tail
        if commit > state.commit:
            state.advance(commit)
        return None

    def _before_run(self, index: int) -> int:
        """F2: highest index before the run of the wrong term at `index`, never below commit."""
        state = self._state
        wrong = state.term_at(index)
        floor = state.commit if state.commit_is_final else 0
        while index > floor and state.term_at(index) == wrong:
            index -= 1
        return index

    def _send_ack(self) -> None:
        """F5: acknowledge what is both verified and durable."""
        if self._ack_due is None:
            return
        state = self._state
        to, epoch = self._ack_due
        state.send(to, Ack(state.shard, epoch, min(self._verified, state.synced)))
        if state.synced >= self._verified:
            self._ack_due = None

    # ------------------------------------------------------------------------------------------ L

    def _on_beacon(self, sender: Store, message: Beacon) -> None:
        """L2: promise not to open as primary for G from now, whatever the epoch."""
        state = self._state
        term = message.config.term
        seen_term, seen_number = self._beacon_seen
        if term == seen_term and message.number <= seen_number:
            return
        self._beacon_seen = (term, message.number)
        now = state.clock()
        state.grant_until_ns = max(state.grant_until_ns, now + state.settings.grant_ns)
        self._stalled = message.stalled
        if not message.stalled:
            self._heard_ns = now
        state.send(sender, BeaconAck(state.shard, term, message.t_sent_ns))
