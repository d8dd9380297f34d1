"""The primary's part of one shard: rules W, C, L1, L3, L4, Q, P, J and S of docs/replication.md.

One object lives for one term of one process. Whatever must not outlive a term (leases, `open`, `active`, waiting
clients: rule A5) is cleared by making a new one.
"""

from __future__ import annotations

from typing import Final

from .invariants import InvariantError
from .messages import (
    Ack,
    Answer,
    Beacon,
    BeaconAck,
    ClientOp,
    Config,
    Entry,
    Kind,
    Nack,
    Note,
    Replicate,
    Reply,
    ReplyKind,
    Request,
    Store,
)
from .replica_state import ReplicaState
from .settings import MS
from .state_machine import Result, malformed

__all__ = ["PrimaryRole"]

# Entries in one Replicate. However large its values, it must fit a frame (`FRAME_LIMIT` of wire.py): a message that
# cannot be sent ends the process, and the next primary would meet the same entries. A unit test holds them together.
BATCH: Final = 96
WINDOW: Final = 1024  # entries on the way to one follower before its acknowledgements are waited for
RESEND_NS: Final = 100 * MS  # nothing was acknowledged for so long: the message or its answer is taken for lost
REMIND_NS: Final = 1_000 * MS  # an idle in-sync member is told the commit index again, in case it was lost
NEAR: Final = 20  # J1: entries by which a learner may lag and still be taken in
FRESH_NS: Final = 200 * MS  # J1: a learner that acknowledged within this time


class Follower:
    """What the primary knows of one member that receives its log, in this epoch (A2 starts it anew)."""

    __slots__ = ("acked_ns", "heard_ns", "match", "next", "probing", "sent_ns", "told")

    def __init__(self, *, following: int, heard_ns: int) -> None:
        self.match = 0  # its log equals mine up to here, durably, as acknowledged in this epoch
        self.next = following  # index of the next entry to send
        self.probing = True  # where its log meets mine is not known yet: one message at a time
        self.sent_ns = 0
        self.acked_ns = 0
        self.heard_ns = heard_ns  # last Ack or BeaconAck
        self.told = 0  # commit index in the last message to it


class PrimaryRole:
    """A replica's service as the primary of `term`, from the adoption of that term until another one."""

    def __init__(self, state: ReplicaState, *, term: int) -> None:
        self._state = state
        self.term = term
        self.open = False  # P2: the wait is over, this log is the truth
        self.active = False  # C4: reads and client writes are served
        self.released = False  # H2: handed over; for the rest of this term
        self.noop_index = 0
        self.lease: dict[Store, int] = {}  # member -> until when its promise covers my reads, on my clock
        self.joining: Store | None = None  # J1: a learner that already counts like an in-sync member
        self._gave_up = False  # J4
        self._followers: dict[Store, Follower] = {}
        self._waiting: dict[int, int] = {}  # log index -> token of the client that waits for it
        self._tokens: dict[int, int] = {}  # the other way round
        self._beacon_number = 0
        self._next_beacon_ns = 0
        self._ticked_ns = state.clock()
        self.on_config()

    # ------------------------------------------------------------------------------------------ configuration

    @property
    def _config(self) -> Config:
        config = self._state.config
        assert config is not None  # a primary was made by a configuration
        return config

    def on_config(self) -> None:
        """A configuration of this term was adopted (A2, A3): only the sets change, `active` and `lease` stay."""
        now = self._state.clock()
        config = self._config
        before = self._followers
        self.joining = None
        self._gave_up = False
        self._followers = {}
        for member in sorted((config.isr | config.learners) - {self._state.store}):
            known = before.get(member)
            heard_ns = known.heard_ns if known is not None else now
            self._followers[member] = Follower(following=self._state.last_index + 1, heard_ns=heard_ns)
        if self.open:
            for member, follower in self._followers.items():
                self._replicate(member, follower)
        self._advance_commit()

    def _counted(self) -> list[Store]:
        """The members besides me that must hold every write and promise every lease: isr and joining."""
        counted = [member for member in self._config.isr if member != self._state.store]
        if self.joining is not None and self.joining not in self._config.isr:
            counted.append(self.joining)  # J1
        return counted

    def resign(self) -> None:
        """A6: another term or primary. What waits may be committed by it or not: unknown, never failed."""
        for token in self._waiting.values():
            self._answer(token, Reply(ReplyKind.UNKNOWN, reason="no longer primary", config=self._state.config))
        self._waiting.clear()
        self._tokens.clear()

    # ------------------------------------------------------------------------------------------ clients

    def on_write(self, token: int, op: ClientOp) -> None:
        """Rule W: log a write; the answer comes when it is committed."""
        state = self._state
        if not self.active or self.released:  # W1
            return self._refuse(token, "not active")
        if len(self._config.isr) < state.settings.min_in_sync:  # W2
            return self._refuse(token, "too few in-sync replicas")
        problem = malformed(op.kind, op.args)
        if problem is not None:
            return self._refuse(token, problem)
        known = state.machine.answered(op.request_id, op.born)  # W3
        if known is not None:
            return self._answer(token, self._reply(known))
        index = state.last_index + 1
        entry = Entry(index, self.term, Kind(op.kind), op.request_id, op.born, op.key, op.args)
        self._waiting[index] = token
        self._tokens[token] = index
        self._append(entry)  # W4
        return None

    def on_read(self, token: int, op: ClientOp) -> None:
        """Rule Q: answer from applied state, if the lease still holds after the value was taken."""
        if not self.active:  # Q1
            return self._refuse(token, "not active")
        reply = read(self._state, op)  # Q2
        if self._state.settings.lease and not self.lease_holds(self._state.clock()):  # Q3
            return self._refuse(token, "no lease")
        return self._answer(token, reply)  # Q4

    def forget(self, token: int) -> None:
        """Nobody waits for this answer any more; the entry stays in the log."""
        index = self._tokens.pop(token, None)
        if index is not None:
            self._waiting.pop(index, None)

    def _reply(self, result: Result) -> Reply:
        cell = result.cell
        return Reply(result.kind, cell.found, cell.value, cell.version, self._state.commit)

    def _answer(self, token: int, reply: Reply) -> None:
        self._state.effects.append(Answer(token, reply))

    def _refuse(self, token: int, reason: str) -> None:
        reply = Reply(ReplyKind.REFUSED, commit=self._state.commit, reason=reason, config=self._state.config)
        self._answer(token, reply)

    # ------------------------------------------------------------------------------------------ replication

    def _append(self, entry: Entry) -> None:
        self._state.append((entry,))
        for member, follower in self._followers.items():
            if not follower.probing:
                self._pump(member, follower)

    def _pump(self, member: Store, follower: Follower) -> None:
        """Send what the follower lacks, as far as the window allows."""
        last = self._state.last_index
        while follower.next <= last and follower.next - follower.match <= WINDOW:
            self._replicate(member, follower)

    def _replicate(self, member: Store, follower: Follower) -> None:
        state = self._state
        start = follower.next
        entries = tuple(state.entries[start - 1 : start - 1 + BATCH])
        if not follower.probing:
            follower.next = start + len(entries)
        follower.sent_ns = state.clock()
        follower.told = state.commit
        state.send(member, Replicate(self._config, start - 1, state.term_at(start - 1), entries, state.commit))

    def on_ack(self, sender: Store, message: Ack) -> None:
        """Rule C, on an acknowledgement."""
        state = self._state
        if state.settings.fencing and message.epoch != self._config.epoch:  # R4
            return
        follower = self._followers.get(sender)
        if follower is None or not self.open:
            return
        if message.match > state.last_index and state.settings.fencing:
            raise InvariantError(
                "I8", f"shard {state.shard}: {sender} acknowledged {message.match}, the log ends at {state.last_index}"
            )
        follower.heard_ns = follower.acked_ns = state.clock()
        follower.match = max(follower.match, min(message.match, state.last_index))
        follower.next = max(follower.next, follower.match + 1)
        follower.probing = False
        self._advance_commit()
        self._pump(sender, follower)

    def on_nack(self, sender: Store, message: Nack) -> None:
        """The follower's log does not meet mine there: try further down."""
        state = self._state
        if state.settings.fencing and message.epoch != self._config.epoch:  # R4
            return
        follower = self._followers.get(sender)
        if follower is None or not self.open:
            return
        # A late Nack may say less than was acknowledged since. Believing it costs a few entries sent again; not
        # believing it would wait for ever for a member that really lost its tail (X6).
        follower.match = min(follower.match, message.hint)
        following = min(message.hint, state.last_index) + 1
        if following < follower.next:
            follower.next = following
            follower.probing = True
            self._replicate(sender, follower)

    def on_synced(self) -> None:
        """Rule C, on the own fsync."""
        self._advance_commit()

    def on_truncated(self) -> None:
        """Without fencing, another primary has cut this log: keep what is known of it within its end."""
        last = self._state.last_index
        for follower in self._followers.values():
            follower.match = min(follower.match, last)
            follower.next = min(follower.next, last + 1)
        for index in [index for index in self._waiting if index > last]:
            self._tokens.pop(self._waiting.pop(index), None)

    def _advance_commit(self) -> None:
        state = self._state
        if not self.open or len(self._config.isr) < state.settings.min_in_sync:  # C1
            return
        commit = state.synced  # C2
        if state.settings.ack == "all":
            for member in self._counted():
                commit = min(commit, self._followers[member].match)
        if commit > state.commit:
            self._commit(commit)
        if state.commit >= self.noop_index and not self.active and not self.released:  # C4, P4
            self.active = True
            epoch = self._config.epoch
            state.effects.append(Note("primary.open", {"shard": state.shard, "epoch": epoch}))

    def _commit(self, commit: int) -> None:
        """C3: apply in order, then answer who waits."""
        state = self._state
        first = state.commit + 1
        for index, result in enumerate(state.advance(commit), start=first):
            token = self._waiting.pop(index, None)
            if token is not None:
                self._tokens.pop(token, None)
                self._answer(token, self._reply(result))

    # ------------------------------------------------------------------------------------------ lease

    def _beacon(self) -> None:
        """L1: ask every member for its promise. The clock is read before anything is sent."""
        state = self._state
        t_sent_ns = state.clock()
        self._beacon_number += 1
        self._next_beacon_ns = t_sent_ns + state.settings.beacon_ns
        message = Beacon(self._config, self._beacon_number, t_sent_ns, self._stalled(t_sent_ns))
        for member in self._followers:
            state.send(member, message)

    def on_beacon_ack(self, sender: Store, message: BeaconAck) -> None:
        """L3: my interval starts at *sending*, the member's later, at handling."""
        if message.term != self.term:  # R4
            return
        until_ns = message.t_sent_ns + self._state.settings.lease_ns
        self.lease[sender] = max(self.lease.get(sender, 0), until_ns)
        follower = self._followers.get(sender)
        if follower is not None:
            follower.heard_ns = self._state.clock()

    def lease_holds(self, now_ns: int) -> bool:
        """L4: everybody who could be promoted has promised not to open before `now_ns`."""
        if self.released:
            return False
        return all(self.lease.get(member, 0) > now_ns for member in self._counted())

    # ------------------------------------------------------------------------------------------ time

    def on_tick(self) -> None:
        """Everything that waits for time to pass; about every 20 ms."""
        now = self._state.clock()
        self._notice_pause(now)
        if self.released:
            return
        self._try_open(now)
        if now >= self._next_beacon_ns:
            self._beacon()
        if self.open:
            for member, follower in self._followers.items():
                self._resend(member, follower, now)
            self._expand(now)

    def _notice_pause(self, now: int) -> None:
        """This process stood still: it did not listen, so the silence of others says nothing about them."""
        if now - self._ticked_ns > self._state.settings.suspect_ns // 2:
            for follower in self._followers.values():
                follower.heard_ns = now
        self._ticked_ns = now

    def _try_open(self, now: int) -> None:
        """Rule P: become the truth, once every promise of mine has run out."""
        state = self._state
        if self.open:
            return
        if state.settings.lease and now < state.grant_until_ns:  # P1
            return
        self.open = True  # P2
        self.noop_index = state.last_index + 1
        self._append(Entry(self.noop_index, self.term, Kind.NOOP, ("", 0), 0, ""))  # P3
        for member, follower in self._followers.items():
            self._replicate(member, follower)

    def _resend(self, member: Store, follower: Follower, now: int) -> None:
        behind = follower.probing or follower.match < self._state.last_index
        if behind:
            if now - max(follower.sent_ns, follower.acked_ns) >= RESEND_NS:
                follower.probing = True
                follower.next = follower.match + 1 if follower.match else follower.next
                self._replicate(member, follower)
            return
        # J1 wants fresh acknowledgements of learners; in-sync members only need to learn the commit index.
        every_ns = REMIND_NS if member in self._config.isr else RESEND_NS
        if self._state.commit > follower.told or now - follower.sent_ns >= every_ns:
            self._replicate(member, follower)

    # ------------------------------------------------------------------------------------------ members

    def suspects(self) -> frozenset[Store]:
        """Rule S: in-sync members that are silent. They go on counting until a newer configuration says otherwise.

        While one is over the limit and another near it, nobody is named yet. When all are cut off in one instant, they
        were last heard up to a beacon apart; named one by one, the first would be dropped, and then too few would be
        left for controller rule 2c to see that it is the primary that is cut off: the shard would wait for the healing.
        The one that is near it is not named early either: it may only have paused beside a member that is dead, and
        the two names together would depose a healthy primary.
        """
        now = self._state.clock()
        self._notice_pause(now)
        limit_ns = self._state.settings.suspect_ns
        silent = {m: now - f.heard_ns for m, f in self._followers.items() if m in self._config.isr}
        over = frozenset(m for m, silent_ns in silent.items() if silent_ns > limit_ns)
        near = any(limit_ns * 2 // 3 < silent_ns <= limit_ns for silent_ns in silent.values())
        if near and max(silent.values()) <= limit_ns * 4 // 3:
            return frozenset()  # cut off together, or one pause beside a dead one: known within a third of the limit
        return over

    def request(self) -> Request | None:
        """J2, J4: what this primary asks of the controller, in every heartbeat until a newer epoch is seen."""
        if self.joining is None:
            return None
        if self._gave_up:
            return Request("bump")
        joined = self._followers[self.joining].match >= max(self._state.commit, self.noop_index)
        if joined and self.lease.get(self.joining, 0) > self._state.clock():
            return Request("add", self.joining)
        return None

    def _expand(self, now: int) -> None:
        """Rule J: take in one learner at a time."""
        state = self._state
        if self.joining is not None:
            if now - self._followers[self.joining].heard_ns > state.settings.suspect_ns:
                self._gave_up = True  # J4: it still counts, because the request may be executed later
            return
        for member in sorted(self._config.learners):
            follower = self._followers.get(member)
            if follower is None or follower.probing or now - follower.acked_ns > FRESH_NS:
                continue
            enough = max(state.commit, self.noop_index, state.last_index - NEAR)
            if follower.match >= enough:
                self.joining = member  # J1
                return

    def _stalled(self, now: int) -> bool:
        """Whether a change of configuration is needed and does not come, so that others should speak up for us."""
        limit_ns = 2 * self._state.settings.suspect_ns
        needed = self._counted()
        return any(now - self._followers[member].heard_ns > limit_ns for member in needed)


def read(state: ReplicaState, op: ClientOp) -> Reply:
    """The reply to a "get" or a "multi-get" from applied state."""
    if op.kind == "multi-get":
        cells = {key: tuple(state.machine.get(key)) for key in op.args}
        return Reply(ReplyKind.OK, found=True, value=cells, commit=state.commit)
    cell = state.machine.get(op.key)
    return Reply(ReplyKind.OK, cell.found, cell.value, cell.version, state.commit)
