"""Single rules of the replica, by hand: what it answers to one message in one state. Interplay is the simulator's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import pytest
from aftershock.systems_under_test.reference.invariants import InvariantError
from aftershock.systems_under_test.reference.messages import (
    Ack,
    Answer,
    Append,
    Beacon,
    BeaconAck,
    ClientOp,
    Config,
    ConfigMessage,
    Effect,
    Entry,
    Kind,
    Nack,
    PeerMessage,
    Recovered,
    Replicate,
    Reply,
    ReplyKind,
    Role,
    SaveConfig,
    Send,
    Stale,
    Truncate,
)
from aftershock.systems_under_test.reference.replica import Replica
from aftershock.systems_under_test.reference.replica_primary import BATCH
from aftershock.systems_under_test.reference.router_http import KEY_LIMIT, VALUE_LIMIT
from aftershock.systems_under_test.reference.settings import MS, ClusterSettings
from aftershock.systems_under_test.reference.wire import FRAME_LIMIT, PEER, pack_frame, pack_message

SETTINGS = ClusterSettings(shards=1)
ISR = frozenset({"a:1", "b:1", "c:1"})
CONFIG = Config(shard=0, epoch=5, term=5, primary="a:1", isr=ISR)
G = SETTINGS.grant_ns
_Message = TypeVar("_Message")


class Clock:
    now = 10**12

    def __call__(self) -> int:
        return self.now


def _entry(index: int, term: int, value: Any = "v") -> Entry:
    return Entry(index, term, Kind.PUT, ("c", index), 0, "k", (value,))


def _replica(
    store: str, clock: Clock, *, config: Config | None = CONFIG, log: tuple[Entry, ...] = (), **settings: Any
) -> Replica:
    return Replica(
        shard=0,
        store=store,
        settings=replace(SETTINGS, **settings),
        clock=clock,
        recovered=Recovered(config=config, entries=log),
    )


def _sent(effects: list[Effect], kind: type[_Message]) -> list[_Message]:
    return [e.message for e in effects if isinstance(e, Send) and isinstance(e.message, kind)]


def _answers(effects: list[Effect]) -> list[Reply]:
    return [effect.reply for effect in effects if isinstance(effect, Answer)]


def _put(number: int = 1, value: Any = "v") -> ClientOp:
    return ClientOp(0, ("c", number), 0, "put", "k", (value,))


GET = ClientOp(0, ("c", 99), 0, "get", "k")


def _open_primary(clock: Clock, *, config: Config = CONFIG, **settings: Any) -> Replica:
    """A primary that has waited, opened, and has its first entry acknowledged by everybody; its lease holds."""
    replica = _replica("a:1", clock, config=None, **settings)
    replica.on_message("k", ConfigMessage(config))
    clock.now += G
    replica.on_tick()
    replica.on_synced(1)
    _acknowledge(replica, config, 1)
    _lease(replica, clock)
    return replica


def _acknowledge(replica: Replica, config: Config, index: int) -> list[Effect]:
    effects: list[Effect] = []
    for store in sorted(config.isr - {"a:1"}):
        effects += replica.on_message(store, Ack(0, config.epoch, index))
    return effects


def _lease(replica: Replica, clock: Clock, *, sent_ns: int | None = None) -> None:
    for store in ("b:1", "c:1"):
        replica.on_message(store, BeaconAck(0, CONFIG.term, clock.now if sent_ns is None else sent_ns))


def _replicate(config: Config, prev: int, prev_term: int, *entries: Entry, commit: int = 0) -> Replicate:
    return Replicate(config, prev, prev_term, entries, commit)


# ---------------------------------------------------------------------------------------------- R, A


def test_r1_a1_a_newer_configuration_is_saved_before_anything_is_sent() -> None:
    replica = _replica("b:1", Clock(), config=None)
    effects = replica.on_message("a:1", Beacon(CONFIG, 1, 123))
    assert isinstance(effects[0], SaveConfig)
    assert _sent(effects, BeaconAck) == [BeaconAck(0, 5, 123)]


def test_r2_an_older_epoch_is_told_the_newer_one_and_nothing_else_happens() -> None:
    replica = _replica("b:1", Clock())
    old = replace(CONFIG, epoch=4)
    effects = replica.on_message("a:1", _replicate(old, 0, 0, _entry(1, 4)))
    assert effects == [Send("a:1", Stale(CONFIG))]
    assert replica.last_index == 0


@pytest.mark.parametrize("sender", ["c:1", "z:1"])
def test_r3_only_the_primary_is_listened_to(sender: str) -> None:
    assert _replica("b:1", Clock()).on_message(sender, _replicate(CONFIG, 0, 0, _entry(1, 5))) == []


def test_r3_who_is_no_member_drops_it() -> None:
    assert _replica("z:1", Clock()).on_message("a:1", Beacon(CONFIG, 1, 0)) == []


def test_r4_acknowledgements_of_another_epoch_do_not_count() -> None:
    clock = Clock()
    replica = _open_primary(clock)
    replica.on_client(1, _put())
    replica.on_synced(2)
    for store in ("b:1", "c:1"):
        assert _answers(replica.on_message(store, Ack(0, CONFIG.epoch - 1, 2))) == []
    assert _answers(_acknowledge(replica, CONFIG, 2))[0].kind is ReplyKind.OK


def test_a2_a3_a_change_within_the_term_keeps_it_active_but_verifies_again() -> None:
    clock = Clock()
    replica = _open_primary(clock)
    replica.on_client(1, _put())
    replica.on_synced(2)
    replica.on_message("b:1", Ack(0, CONFIG.epoch, 2))
    smaller = replace(CONFIG, epoch=6, isr=frozenset({"a:1", "b:1"}), learners=frozenset({"c:1"}))
    effects = replica.on_message("k", ConfigMessage(smaller))
    assert replica.active
    assert _answers(effects) == []  # b's acknowledgement was of the epoch before
    assert _answers(replica.on_message("b:1", Ack(0, 6, 2)))[0].kind is ReplyKind.OK


def test_a4_a_released_primary_never_comes_back_in_its_term() -> None:
    clock = Clock()
    replica = _open_primary(clock)
    assert replica.primary is not None
    replica.primary.released = True  # what a hand-over does (rule H)
    replica.on_message("k", ConfigMessage(replace(CONFIG, epoch=6)))
    assert replica.status().needs_install
    assert _answers(replica.on_client(1, GET))[0].kind is ReplyKind.REFUSED
    assert _answers(replica.on_client(2, _put()))[0].kind is ReplyKind.REFUSED
    replica.on_message("k", ConfigMessage(replace(CONFIG, epoch=7, term=7)))
    assert not replica.status().needs_install


def test_a6_who_is_deposed_cannot_say_what_became_of_waiting_writes() -> None:
    replica = _open_primary(Clock())
    replica.on_client(1, _put())
    effects = replica.on_message("k", ConfigMessage(replace(CONFIG, epoch=6, term=6, primary="b:1")))
    assert [reply.kind for reply in _answers(effects)] == [ReplyKind.UNKNOWN]
    assert replica.role is Role.BACKUP


def test_i1_the_epoch_on_disk_never_falls() -> None:
    replica = _replica("b:1", Clock())
    replica.on_message("k", ConfigMessage(replace(CONFIG, epoch=3)))
    assert replica.config == CONFIG
    with pytest.raises(InvariantError, match="I1"):
        replica._adopt(replace(CONFIG, epoch=5))


# ---------------------------------------------------------------------------------------------- W, C, Q


def test_w1_before_it_is_active_everything_is_refused() -> None:
    replica = _replica("a:1", Clock(), config=None)
    replica.on_message("k", ConfigMessage(CONFIG))
    for token, op in enumerate((GET, _put())):
        reply = _answers(replica.on_client(token, op))[0]
        assert (reply.kind, reply.config) == (ReplyKind.REFUSED, CONFIG)


def test_w2_too_few_in_sync_is_refused_before_it_is_logged() -> None:
    clock = Clock()
    alone = replace(CONFIG, isr=frozenset({"a:1"}))
    replica = _open_primary(clock, config=alone, min_in_sync=1)
    assert _answers(replica.on_client(1, _put())) == []
    strict = _open_primary(Clock())
    strict.on_message("k", ConfigMessage(replace(alone, epoch=6)))
    last = strict.last_index
    assert _answers(strict.on_client(1, _put()))[0].kind is ReplyKind.REFUSED
    assert strict.last_index == last


def test_w3_a_repeated_request_is_answered_from_the_table() -> None:
    replica = _open_primary(Clock())
    replica.on_client(1, _put())
    replica.on_synced(2)
    first = _answers(_acknowledge(replica, CONFIG, 2))[0]
    again = replica.on_client(2, _put())
    assert [reply.version for reply in _answers(again)] == [first.version]
    assert not [effect for effect in again if isinstance(effect, Append)]


def test_a_malformed_operation_is_refused_before_it_is_logged() -> None:
    replica = _open_primary(Clock())
    reply = _answers(replica.on_client(1, ClientOp(0, ("c", 1), 0, "cas", "k", ("x", "y"))))[0]
    assert reply.kind is ReplyKind.REFUSED
    assert replica.last_index == 1


def test_c2_a_write_is_answered_when_every_in_sync_replica_and_the_own_disk_have_it() -> None:
    replica = _open_primary(Clock())
    replica.on_client(1, _put())
    assert _answers(replica.on_message("b:1", Ack(0, 5, 2))) == []
    assert _answers(replica.on_message("c:1", Ack(0, 5, 2))) == []
    reply = _answers(replica.on_synced(2))[0]
    assert (reply.kind, reply.version, reply.commit) == (ReplyKind.OK, 2, 2)


def test_unsafe_ack_primary_needs_the_own_disk_alone() -> None:
    replica = _open_primary(Clock(), ack="primary")
    replica.on_client(1, _put())
    assert _answers(replica.on_synced(2))[0].kind is ReplyKind.OK


def test_i8_nobody_can_acknowledge_what_is_not_in_the_log() -> None:
    replica = _open_primary(Clock())
    with pytest.raises(InvariantError, match="I8"):
        replica.on_message("b:1", Ack(0, 5, 7))


def test_a_forgotten_client_is_not_answered() -> None:
    replica = _open_primary(Clock())
    replica.on_client(1, _put())
    replica.forget(1)
    replica.on_synced(2)
    assert _answers(_acknowledge(replica, CONFIG, 2)) == []
    assert replica.commit == 2


def test_q3_a_read_needs_the_lease_of_every_in_sync_replica_now() -> None:
    clock = Clock()
    replica = _open_primary(clock)
    assert _answers(replica.on_client(1, GET))[0].kind is ReplyKind.OK
    clock.now += SETTINGS.lease_ns
    assert _answers(replica.on_client(2, GET))[0].kind is ReplyKind.REFUSED
    replica.on_message("b:1", BeaconAck(0, 5, clock.now))
    assert _answers(replica.on_client(3, GET))[0].kind is ReplyKind.REFUSED
    replica.on_message("c:1", BeaconAck(0, 5, clock.now))
    assert _answers(replica.on_client(4, GET))[0].kind is ReplyKind.OK


def test_l3_the_lease_counts_from_the_sending_of_the_beacon() -> None:
    clock = Clock()
    replica = _open_primary(clock)
    sent = clock.now
    clock.now += SETTINGS.lease_ns - MS
    _lease(replica, clock, sent_ns=sent)
    assert _answers(replica.on_client(1, GET))[0].kind is ReplyKind.OK
    clock.now += MS
    assert _answers(replica.on_client(2, GET))[0].kind is ReplyKind.REFUSED


def test_multi_get_answers_every_key_from_applied_state() -> None:
    replica = _open_primary(Clock())
    replica.on_client(1, _put())
    replica.on_synced(2)
    _acknowledge(replica, CONFIG, 2)
    reply = _answers(replica.on_client(2, ClientOp(0, ("c", 2), 0, "multi-get", "", ("k", "none"))))[0]
    assert reply.value == {"k": (True, "v", 2), "none": (False, None, 0)}


def test_unsafe_read_from_any_lets_a_backup_answer() -> None:
    assert _answers(_replica("b:1", Clock()).on_client(1, GET))[0].kind is ReplyKind.REFUSED
    assert _answers(_replica("b:1", Clock(), read_from="any").on_client(1, GET))[0].kind is ReplyKind.OK


# ---------------------------------------------------------------------------------------------- F


def test_f2_a_gap_is_answered_with_the_own_end() -> None:
    replica = _replica("b:1", Clock(), log=(_entry(1, 1),))
    assert _sent(replica.on_message("a:1", _replicate(CONFIG, 5, 1)), Nack) == [Nack(0, 5, 1)]


def test_f2_a_wrong_term_is_answered_with_the_end_before_its_run() -> None:
    replica = _replica("b:1", Clock(), log=(_entry(1, 1), _entry(2, 2), _entry(3, 2)))
    assert _sent(replica.on_message("a:1", _replicate(CONFIG, 3, 4)), Nack) == [Nack(0, 5, 1)]


def test_f3_a_late_shorter_message_cuts_nothing_and_a_conflict_does() -> None:
    replica = _replica("b:1", Clock(), log=(_entry(1, 1), _entry(2, 1), _entry(3, 1)))
    effects = replica.on_message("a:1", _replicate(CONFIG, 0, 0, _entry(1, 1)))
    assert not [effect for effect in effects if isinstance(effect, Truncate)]
    assert replica.last_index == 3
    effects = replica.on_message("a:1", _replicate(CONFIG, 1, 1, _entry(2, 5)))
    assert [effect for effect in effects if isinstance(effect, Truncate)] == [Truncate(0, 2)]
    assert replica.last_index == 2


def test_i7_what_is_committed_is_never_cut() -> None:
    replica = _replica("b:1", Clock(), log=(_entry(1, 1), _entry(2, 1)))
    replica.on_message("a:1", _replicate(CONFIG, 2, 1, commit=2))
    with pytest.raises(InvariantError, match="I7"):
        replica.on_message("a:1", _replicate(CONFIG, 0, 0, _entry(1, 5)))


def test_f5_the_acknowledgement_waits_for_the_disk() -> None:
    replica = _replica("b:1", Clock())
    assert _sent(replica.on_message("a:1", _replicate(CONFIG, 0, 0, _entry(1, 5))), Ack) == []
    assert _sent(replica.on_synced(1), Ack) == [Ack(0, 5, 1)]


def test_f5_nothing_is_acknowledged_to_an_epoch_that_has_passed() -> None:
    replica = _replica("b:1", Clock())
    replica.on_message("a:1", _replicate(CONFIG, 0, 0, _entry(1, 5)))
    replica.on_message("k", ConfigMessage(replace(CONFIG, epoch=6)))
    assert _sent(replica.on_synced(1), Ack) == []


def test_f6_the_own_unverified_end_is_not_committed() -> None:
    replica = _replica("b:1", Clock(), log=(_entry(1, 1), _entry(2, 1), _entry(3, 1)))
    replica.on_message("a:1", _replicate(CONFIG, 0, 0, _entry(1, 1), commit=3))
    assert replica.commit == 1


def test_an_fsync_that_speaks_of_entries_beyond_the_end_is_not_believed() -> None:
    replica = _replica("b:1", Clock())
    replica.on_message("a:1", _replicate(CONFIG, 0, 0, _entry(1, 5)))
    assert replica.on_synced(9) == []


# ---------------------------------------------------------------------------------------------- L, P, X


def test_l2_an_old_beacon_is_ignored_and_a_new_one_promises() -> None:
    clock = Clock()
    replica = _replica("b:1", clock)
    assert _sent(replica.on_message("a:1", Beacon(CONFIG, 2, 7)), BeaconAck) == [BeaconAck(0, 5, 7)]
    assert replica.on_message("a:1", Beacon(CONFIG, 1, 6)) == []
    clock.now += G - MS
    mine = replace(CONFIG, epoch=6, term=6, primary="b:1")
    replica.on_message("k", ConfigMessage(mine))
    replica.on_tick()
    assert replica.primary is not None
    assert not replica.primary.open
    clock.now += MS
    replica.on_tick()
    assert replica.primary.open


def test_l5_p1_after_a_start_nothing_opens_for_a_whole_grant() -> None:
    clock = Clock()
    replica = _replica("b:1", clock)
    replica.on_message("k", ConfigMessage(replace(CONFIG, epoch=6, term=6, primary="b:1")))
    clock.now += G - 1
    assert _sent(replica.on_tick(), Replicate) == []
    clock.now += 1
    assert len(_sent(replica.on_tick(), Replicate)) == 2


def test_x4_a_restarted_primary_asks_for_a_new_term() -> None:
    clock = Clock()
    replica = _replica("a:1", clock)
    assert replica.role is Role.WAITING
    assert replica.status().needs_install
    clock.now += 10 * G
    assert replica.on_tick() == []
    replica.on_message("k", ConfigMessage(replace(CONFIG, epoch=6)))  # a late shrink or bump: the same term
    assert replica.role is Role.WAITING
    replica.on_message("k", ConfigMessage(replace(CONFIG, epoch=7, term=7)))
    assert replica.role is Role.PRIMARY


def test_x5_a_damaged_replica_does_nothing_but_say_so() -> None:
    clock = Clock()
    recovered = Recovered(config=CONFIG, damaged=True)
    replica = Replica(shard=0, store="b:1", settings=SETTINGS, clock=clock, recovered=recovered)
    assert replica.on_message("a:1", Beacon(CONFIG, 1, 0)) == []
    assert replica.on_message("a:1", _replicate(CONFIG, 0, 0, _entry(1, 5))) == []
    replica.on_message("k", ConfigMessage(replace(CONFIG, epoch=6, term=6, primary="b:1")))
    assert replica.primary is None
    assert replica.status().damaged
    assert replica.status().needs_install


def _cut(config: Config) -> Replica:
    recovered = Recovered(config=config, tail_cut=True)
    return Replica(shard=0, store="c:1", settings=SETTINGS, clock=Clock(), recovered=recovered)


def test_x6_a_cut_end_is_forgotten_when_the_store_is_taken_in_again() -> None:
    """Otherwise a shard could wait for ever: the others gone, and this one never believed again."""
    replica = _cut(CONFIG)
    replica.on_message("k", ConfigMessage(replace(WITH_LEARNER, epoch=6)))
    assert replica.status().tail_cut
    replica.on_message("k", ConfigMessage(replace(CONFIG, epoch=7)))
    assert not replica.status().tail_cut


def test_x6_an_addition_that_was_under_way_before_the_cut_proves_nothing() -> None:
    """J counted what the process before acknowledged as a learner, and that may be just what was cut."""
    replica = _cut(WITH_LEARNER)
    replica.on_message("k", ConfigMessage(replace(CONFIG, epoch=6)))
    assert replica.status().tail_cut


def test_x6_a_change_that_leaves_it_in_sync_proves_nothing() -> None:
    replica = _cut(CONFIG)
    for epoch in (6, 7):
        replica.on_message("k", ConfigMessage(replace(CONFIG, epoch=epoch)))
    assert replica.status().tail_cut


def test_a_beacon_to_the_disk_that_this_one_replaced_is_no_promise_to_oneself() -> None:
    """Found by simulation (seed 20309, aggressive): the primary never opened."""
    clock = Clock()
    mine = replace(CONFIG, epoch=6, term=6, primary="b:2", isr=frozenset({"b:1", "b:2"}))
    replica = _replica("b:2", clock)
    replica.on_message("k", ConfigMessage(mine))
    for _ in range(50):
        clock.now += 20 * MS
        for beacon in _sent(replica.on_tick(), Beacon):
            assert replica.on_message("b:2", beacon) == []
    assert replica.primary is not None
    assert replica.primary.open


# ---------------------------------------------------------------------------------------------- J, S


WITH_LEARNER = replace(CONFIG, isr=frozenset({"a:1", "b:1"}), learners=frozenset({"c:1"}))


def _joining(clock: Clock) -> Replica:
    replica = _open_primary(clock, config=WITH_LEARNER)
    replica.on_message("c:1", Ack(0, 5, 1))
    replica.on_tick()
    return replica


def test_j1_a_learner_that_has_caught_up_counts_before_it_is_asked_for() -> None:
    clock = Clock()
    replica = _joining(clock)
    assert replica.primary is not None
    assert replica.primary.joining == "c:1"
    replica.on_client(1, _put())
    replica.on_synced(2)
    assert _answers(replica.on_message("b:1", Ack(0, 5, 2))) == []
    assert _answers(replica.on_message("c:1", Ack(0, 5, 2)))[0].kind is ReplyKind.OK


def test_j2_the_request_needs_its_promise_too() -> None:
    clock = Clock()
    replica = _joining(clock)
    request = replica.status().request
    assert request is not None
    assert (request.kind, request.store) == ("add", "c:1")
    clock.now += SETTINGS.lease_ns
    assert replica.status().request is None


def test_j4_giving_up_asks_for_a_bump_and_goes_on_counting() -> None:
    clock = Clock()
    replica = _joining(clock)
    for _ in range(40):
        clock.now += 20 * MS
        replica.on_message("b:1", Ack(0, 5, 1))
        replica.on_tick()
    request = replica.status().request
    assert request is not None
    assert request.kind == "bump"
    assert replica.primary is not None
    assert replica.primary.joining == "c:1"
    replica.on_message("k", ConfigMessage(replace(WITH_LEARNER, epoch=6)))
    assert replica.primary.joining is None


def test_s_who_is_silent_is_suspected_but_still_needed() -> None:
    clock = Clock()
    replica = _open_primary(clock)
    replica.on_client(1, _put())
    replica.on_synced(2)
    for _ in range(40):
        clock.now += 20 * MS
        replica.on_message("b:1", Ack(0, 5, 2))
        assert _answers(replica.on_tick()) == []
    assert replica.status().suspects == {"c:1"}


def test_s_members_cut_off_in_one_instant_are_named_together() -> None:
    """They were last heard up to a beacon apart; one at a time, rule 2c could never see who is cut off."""
    clock = Clock()
    replica = _open_primary(clock)
    replica.on_message("b:1", Ack(0, 5, 1))
    clock.now += SETTINGS.beacon_ns
    replica.on_message("c:1", Ack(0, 5, 1))
    seen = []
    while not seen:
        clock.now += 20 * MS
        replica.on_tick()
        seen = sorted(replica.status().suspects)
    assert seen == ["b:1", "c:1"]


def test_s_a_pause_beside_a_dead_member_is_not_held_against_the_one_that_paused() -> None:
    """b is dead, c silent for 450 ms: to name both would depose a healthy primary (rule 2c)."""
    clock = Clock()
    replica = _open_primary(clock)
    named: set[str] = set()
    for tick in range(1, 60):
        clock.now += 20 * MS
        if not 200 <= 20 * tick < 650:
            replica.on_message("c:1", Ack(0, 5, 1))
        replica.on_tick()
        named |= replica.status().suspects
    assert named == {"b:1"}


def test_s_a_dead_member_is_named_however_the_others_take_turns_to_pause() -> None:
    clock = Clock()
    replica = _open_primary(clock, config=replace(CONFIG, isr=ISR | {"d:1"}))
    for now_ms in range(20, 840, 20):
        clock.now += 20 * MS
        if now_ms <= 200 or now_ms == 720:
            replica.on_message("c:1", Ack(0, 5, 1))
        if now_ms <= 300:
            replica.on_message("d:1", Ack(0, 5, 1))
        replica.on_tick()
        # c is near the limit from 600 ms to 700 ms, d from 700 ms on.
        assert replica.status().suspects == (frozenset({"b:1"}) if now_ms > 800 else frozenset()), now_ms


def test_a_primary_that_stood_still_suspects_nobody_for_it() -> None:
    clock = Clock()
    replica = _open_primary(clock)
    clock.now += 5_000 * MS
    assert replica.status().suspects == frozenset()


def test_a_nack_is_answered_from_further_down_with_one_message() -> None:
    clock = Clock()
    replica = _open_primary(clock)
    for number in range(5):
        replica.on_client(number, _put(number))
    sent = _sent(replica.on_message("b:1", Nack(0, 5, 0)), Replicate)
    assert [(message.prev_index, len(message.entries)) for message in sent] == [(0, 6)]
    assert _sent(replica.on_message("b:1", Nack(0, 5, 0)), Replicate) == []


def test_a_replicate_fits_a_frame_whatever_clients_write() -> None:
    """What fits no frame ends the process: one client could end every primary in turn."""
    assert BATCH * (2 * VALUE_LIMIT + KEY_LIMIT + 512) < FRAME_LIMIT
    clock = Clock()
    replica = _open_primary(clock)
    value = "v" * (VALUE_LIMIT - 5)  # with the head that msgpack gives it, as large as a value may be
    for number in range(2 * BATCH):
        args = (["value", value], value)
        replica.on_client(number, ClientOp(0, ("c" * 255, number), 2**63, "cas", "k" * KEY_LIMIT, args))
    messages = _sent(replica.on_message("b:1", Nack(0, 5, 0)), Replicate)
    assert [len(message.entries) for message in messages] == [BATCH]
    pack_frame(PEER, "a:1", [("b:1", pack_message(messages[0]))])


def test_every_message_type_is_handled() -> None:
    messages: list[PeerMessage] = [
        Ack(0, 5, 0),
        Nack(0, 5, 0),
        Stale(CONFIG),
        BeaconAck(0, 5, 0),
        ConfigMessage(CONFIG),
        Beacon(CONFIG, 1, 0),
        _replicate(CONFIG, 0, 0),
    ]
    for message in messages:
        _replica("b:1", Clock()).on_message("a:1", message)
        _open_primary(Clock()).on_message("b:1", message)
