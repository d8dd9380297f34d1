"""Single decisions of a controller, by hand: what it writes when it hears this. Interplay is the simulator's."""

from __future__ import annotations

from dataclasses import replace

import pytest
from aftershock.systems_under_test.reference.controller_core import ControllerCore
from aftershock.systems_under_test.reference.messages import (
    CompareAndSet,
    Config,
    ControllerEffect,
    Heartbeat,
    Note,
    ReadConfig,
    Request,
    Role,
    SendConfig,
    ShardStatus,
    Store,
    node_of,
)
from aftershock.systems_under_test.reference.settings import MS, ClusterSettings

SETTINGS = ClusterSettings(shards=1)
ISR = frozenset({"a:1", "b:1", "c:1"})
CONFIG = Config(shard=0, epoch=5, term=5, primary="a:1", isr=ISR)
LONG = 10_000 * MS


class Cluster:
    """A controller core and what it hears."""

    def __init__(self, config: Config | None = CONFIG, *, min_in_sync: int = 2) -> None:
        self.now = 10**12
        self.config = config
        self.core = ControllerCore(
            settings=replace(SETTINGS, min_in_sync=min_in_sync),
            clock=lambda: self.now,
            nodes=("a", "b", "c"),
            place=lambda stores: {0: tuple(stores[name] for name in sorted(stores))},
        )
        self.core.start([config] if config is not None else [])

    def hear(self, store: Store, **status: object) -> list[ControllerEffect]:
        config = self.config
        incarnation = status.pop("incarnation", 1)
        assert isinstance(incarnation, int)
        fields: dict[str, object] = {
            "shard": 0,
            "epoch": config.epoch if config is not None else 0,
            "role": Role.PRIMARY if config is not None and store == config.primary else Role.BACKUP,
            "active": True,
            "last_term": 5,
            "last_index": 10,
            "commit": 10,
        }
        line = ShardStatus(**(fields | status))  # type: ignore[arg-type]
        return self.core.on_heartbeat(Heartbeat(store, incarnation, (line,) if config is not None else ()))

    def install(self, config: Config) -> None:
        """It was written, by this controller or another one."""
        self.config = config
        self.core.on_cas(0, True, config)

    def wait(self, ms: int, *stores: Store, **status: object) -> None:
        """Let time pass in ticks without decisions being carried out; these stores go on reporting."""
        for _ in range(ms // 50):
            self.now += 50 * MS
            for store in stores:
                self.hear(store, **status)
            self.decided()

    def decided(self) -> Config | None:
        """What it writes now, which is then refused, so that it can be asked again."""
        for effect in self.core.on_tick():
            if isinstance(effect, CompareAndSet):
                assert effect.config.epoch == effect.expected_epoch + 1
                self.core.on_cas(0, False, self.config)
                return effect.config
            if isinstance(effect, ReadConfig):
                self.core.on_cas(0, False, self.config)
        return None


def _warm(cluster: Cluster) -> None:
    cluster.wait(1000, "a:1", "b:1", "c:1")
    assert cluster.decided() is None


def test_bootstrap_waits_for_every_expected_node() -> None:
    cluster = Cluster(None)
    cluster.hear("a:1")
    cluster.hear("b:1")
    assert cluster.decided() is None
    cluster.hear("c:1")
    config = cluster.decided()
    assert config == Config(shard=0, epoch=1, term=1, primary="a:1", isr=ISR)


def test_a_stored_change_is_an_event_and_goes_to_every_member() -> None:
    cluster = Cluster(None)
    for store in sorted(ISR):
        cluster.hear(store)
    effect = next(e for e in cluster.core.on_tick() if isinstance(e, CompareAndSet))
    effects = cluster.core.on_cas(0, True, effect.config)
    notes = [e for e in effects if isinstance(e, Note)]
    assert [(note.kind, note.fields["primary"], note.fields["in_sync"]) for note in notes] == [
        ("topology", "a", ["a", "b", "c"])
    ]
    assert [e.node for e in effects if isinstance(e, SendConfig)] == ["a", "b", "c"]


def test_6_nobody_is_suspected_before_it_is_warm() -> None:
    cluster = Cluster()
    cluster.hear("b:1", beacon_age_ns=LONG)
    cluster.now += 700 * MS
    cluster.hear("b:1", beacon_age_ns=LONG)
    assert cluster.decided() is None


def test_2a_a_silent_primary_is_replaced_only_if_a_backup_misses_it_too() -> None:
    cluster = Cluster()
    _warm(cluster)
    cluster.wait(700, "b:1", "c:1", beacon_age_ns=0)
    assert cluster.decided() is None
    cluster.hear("b:1", beacon_age_ns=LONG, last_index=12)
    config = cluster.decided()
    assert config is not None
    assert (config.primary, config.term, config.isr) == ("b:1", 6, ISR - {"a:1"})
    assert config.learners == {"a:1"}


def test_2b_a_restarted_primary_gets_a_new_term_and_stays_in_sync() -> None:
    cluster = Cluster()
    _warm(cluster)
    cluster.hear("a:1", needs_install=True, role=Role.WAITING, last_index=12)
    config = cluster.decided()
    assert config is not None
    assert (config.primary, config.term, config.isr) == ("a:1", 6, ISR)
    cluster.hear("a:1", needs_install=True, role=Role.WAITING)
    config = cluster.decided()
    assert config is not None
    assert config.primary != "a:1"  # as long a log elsewhere, and less to wait for


def test_2c_a_primary_that_is_cut_off_from_all_backups_is_replaced() -> None:
    cluster = Cluster()
    _warm(cluster)
    cluster.hear("a:1", suspects=frozenset({"b:1", "c:1"}))
    config = cluster.decided()
    assert config is not None
    assert config.primary in ("b:1", "c:1")
    assert config.isr == {"b:1", "c:1"}


PROMOTED = replace(CONFIG, epoch=6, term=6, primary="b:1")


def _promoted() -> Cluster:
    """b has just been made the primary."""
    cluster = Cluster()
    _warm(cluster)
    cluster.install(PROMOTED)
    return cluster


def _deaf(cluster: Cluster, ms: int, *, others_epoch: int | None = None) -> Config | None:
    """The first decision while the primary goes on to report an epoch that is one behind."""
    assert cluster.config is not None
    epoch, primary = cluster.config.epoch, cluster.config.primary
    for _ in range(ms // 50):
        cluster.now += 50 * MS
        for store in sorted(ISR):
            cluster.hear(store, epoch=epoch - 1 if store == primary else others_epoch or epoch)
        config = cluster.decided()
        if config is not None:
            return config
    return None


def test_2d_a_primary_that_never_learns_that_it_is_one_is_replaced_and_each_time_has_its_time() -> None:
    cluster = _promoted()
    assert _deaf(cluster, 1200) is None
    config = _deaf(cluster, 50)
    assert config is not None
    assert (config.primary, config.term, config.isr) == ("c:1", 7, ISR - {"b:1"})
    cluster.install(config)
    assert _deaf(cluster, 1200) is None
    config = _deaf(cluster, 50)
    assert config is not None
    assert config.primary == "a:1"


def test_2d_a_controller_that_nobody_hears_elects_nobody() -> None:
    assert _deaf(_promoted(), 5_000, others_epoch=5) is None


def test_2d_a_controller_that_has_just_started_gives_it_the_same_time() -> None:
    cluster = Cluster(PROMOTED)
    assert _deaf(cluster, 1200) is None
    assert _deaf(cluster, 100) is not None


def test_2d_a_controller_that_stood_still_gives_it_the_same_time_again() -> None:
    cluster = _promoted()
    assert _deaf(cluster, 1000) is None
    cluster.now += 400 * MS  # too short for the primary to have been missed
    assert _deaf(cluster, 1200) is None
    assert _deaf(cluster, 100) is not None


@pytest.mark.parametrize("silent_ms", [0, 650])
def test_2d_a_primary_that_has_just_come_back_is_told_first(silent_ms: int) -> None:
    """It was stopped (a gap), or restarted (another incarnation), and reports what it knew before."""
    cluster = _promoted()
    assert _deaf(cluster, 1000) is None
    cluster.wait(silent_ms, "a:1", "c:1")
    incarnation = 1 if silent_ms else 2
    for _ in range(1000 // 50):
        cluster.now += 50 * MS
        cluster.hear("b:1", incarnation=incarnation, epoch=5)
        cluster.hear("a:1")
        cluster.hear("c:1")
        assert cluster.decided() is None


def test_3_suspects_are_dropped_dead_ones_first_and_never_below_the_bound() -> None:
    cluster = Cluster()
    _warm(cluster)
    cluster.wait(700, "a:1", "b:1")
    cluster.hear("a:1", suspects=frozenset({"b:1", "c:1"}))
    config = cluster.decided()
    assert config is not None
    assert config.isr == {"a:1", "b:1"}
    assert config.term == CONFIG.term
    small = Cluster(replace(CONFIG, isr=frozenset({"a:1", "b:1"}), learners=frozenset({"c:1"})))
    _warm(small)
    small.hear("a:1", suspects=frozenset({"b:1"}))
    assert small.decided() is None


@pytest.mark.parametrize("epoch", [4, 5])
def test_4_a_request_counts_only_for_its_epoch(epoch: int) -> None:
    cluster = Cluster(replace(CONFIG, isr=frozenset({"a:1", "b:1"}), learners=frozenset({"c:1"})))
    _warm(cluster)
    cluster.hear("a:1", epoch=epoch, request=Request("add", "c:1"))
    config = cluster.decided()
    if epoch == 4:
        assert config is None
    else:
        assert config is not None
        assert config.isr == ISR
        assert not config.learners


def test_4_a_bump_changes_the_epoch_alone() -> None:
    cluster = Cluster()
    _warm(cluster)
    cluster.hear("a:1", request=Request("bump"))
    assert cluster.decided() == replace(CONFIG, epoch=6)


def test_4_what_is_no_learner_is_never_added() -> None:
    cluster = Cluster()
    _warm(cluster)
    cluster.hear("a:1", request=Request("add", "z:1"))
    assert cluster.decided() is None


def test_1_a_damaged_backup_is_dropped() -> None:
    cluster = Cluster()
    _warm(cluster)
    cluster.hear("b:1", damaged=True)
    config = cluster.decided()
    assert config is not None
    assert config.isr == ISR - {"b:1"}


def test_x6_a_cut_log_is_promoted_last_and_only_when_all_have_reported() -> None:
    cluster = Cluster()
    _warm(cluster)
    cluster.wait(700, "b:1", tail_cut=True, beacon_age_ns=LONG)
    assert cluster.decided() is None
    cluster.hear("c:1", beacon_age_ns=LONG, last_index=3)
    config = cluster.decided()
    assert config is not None
    assert config.primary == "c:1"


def test_5_an_emptied_disk_comes_back_as_a_learner_and_the_old_store_goes_when_that_is_proven() -> None:
    cluster = Cluster(replace(CONFIG, isr=frozenset({"a:1", "b:1"}), learners=frozenset({"c:1"})))
    _warm(cluster)
    cluster.hear("c:2", epoch=0, role=Role.NONE)
    config = cluster.decided()
    assert config is not None
    assert config.learners == {"c:1", "c:2"}
    cluster.config = config
    cluster.core.on_cas(0, True, config)
    cluster.hear("c:2", role=Role.LEARNER)
    config = cluster.decided()
    assert config is not None
    assert config.learners == {"c:2"}


def test_5_an_emptied_disk_does_not_stand_for_a_copy() -> None:
    """Found by simulation (seed 20309, aggressive): the last good copy was dropped, the emptied disk stayed."""
    both = replace(CONFIG, isr=frozenset({"a:1", "c:1", "c:2"}), learners=frozenset({"b:1"}))
    cluster = Cluster(both)
    cluster.wait(1000, "a:1", "b:1", "c:2")
    cluster.wait(700, "b:1", "c:2", beacon_age_ns=LONG)
    config = cluster.decided()
    assert config is not None
    assert (config.primary, config.isr) == ("c:2", both.isr)
    cluster.hear("a:1", suspects=frozenset({"c:2"}))
    config = cluster.decided()
    assert config is None
    cluster.hear("a:1", suspects=frozenset({"c:1", "c:2"}))
    config = cluster.decided()
    assert config is not None
    assert config.isr == {"a:1", "c:2"}


def test_7_a_store_that_went_back_stops_everything() -> None:
    cluster = Cluster()
    _warm(cluster)
    assert ReadConfig(0) in cluster.hear("b:1", epoch=9)
    effects = cluster.core.on_cas(0, False, CONFIG)
    assert [e.kind for e in effects if isinstance(e, Note)] == ["warning"]
    cluster.hear("a:1", request=Request("bump"))
    assert cluster.decided() is None


def test_7_another_controller_was_faster_and_that_is_fine() -> None:
    cluster = Cluster()
    _warm(cluster)
    newer = replace(CONFIG, epoch=9)
    cluster.hear("b:1", epoch=9)
    effects = cluster.core.on_cas(0, False, newer)
    assert [e.kind for e in effects if isinstance(e, Note)] == ["topology"]
    assert cluster.core.configs[0] == newer


def test_a_change_that_was_stored_after_it_was_given_up_is_found() -> None:
    """Found by simulation (seed 20910): the read overtook the compare-and-set, and nobody ever looked again."""
    cluster = Cluster()
    _warm(cluster)
    seen: list[ControllerEffect] = []
    for _ in range(25):
        cluster.now += 50 * MS
        for store in sorted(ISR):
            cluster.hear(store)
        seen += cluster.core.on_tick()
    assert seen == [ReadConfig(0)]
    effects = cluster.core.on_cas(0, False, replace(CONFIG, epoch=6))
    assert [e.node for e in effects if isinstance(e, SendConfig)] == ["a", "b", "c"]


def test_a_read_that_finds_nothing_new_says_nothing() -> None:
    assert Cluster().core.on_cas(0, False, CONFIG) == []


def test_8_data_loss_is_recovered_only_when_every_in_sync_copy_is_certified_gone() -> None:
    lost = replace(CONFIG, isr=frozenset({"a:1"}), learners=frozenset({"b:1", "c:1"}))
    cluster = Cluster(lost, min_in_sync=1)
    cluster.wait(1500, "b:1", "c:1", role=Role.LEARNER)
    assert cluster.decided() is None  # a may come back
    cluster.hear("a:2", epoch=0, role=Role.NONE)
    config = cluster.decided()
    assert config is not None
    assert config.isr == {"a:1"}
    assert "a:2" in config.learners
    cluster.config = config
    cluster.core.on_cas(0, True, config)
    cluster.hear("a:2", role=Role.LEARNER, last_index=0, last_term=0)
    cluster.hear("b:1", role=Role.LEARNER, last_index=7)
    assert cluster.decided() is None  # c holds perhaps more, and has not reported in this epoch
    cluster.hear("c:1", role=Role.LEARNER, last_index=9)
    config = cluster.decided()
    assert config is not None
    assert (config.primary, config.isr) == ("c:1", {"c:1"})
    assert config.learners == {"a:2", "b:1"}


def test_a_late_heartbeat_of_the_disk_before_does_not_testify() -> None:
    """Otherwise rule 8 could throw away a good copy on the word of a process that died long ago."""
    config = replace(CONFIG, isr=frozenset({"a:2"}), learners=frozenset({"b:1"}))
    cluster = Cluster(config, min_in_sync=1)
    cluster.wait(1500, "b:1", role=Role.LEARNER)
    cluster.hear("a:1", epoch=4)
    decided = cluster.decided()
    assert decided is None or decided.isr == {"a:2"}


def test_a_controller_that_stood_still_is_not_warm() -> None:
    cluster = Cluster()
    _warm(cluster)
    cluster.now += 5_000 * MS
    cluster.hear("b:1", beacon_age_ns=LONG)
    assert cluster.decided() is None


def test_a_node_that_lags_is_told() -> None:
    cluster = Cluster()
    assert cluster.hear("b:1", epoch=3) == [SendConfig(node_of("b:1"), CONFIG)]


def test_suspicions_are_events_once() -> None:
    cluster = Cluster()
    _warm(cluster)
    cluster.now += 250 * MS
    cluster.core.on_tick()
    notes: list[str] = []
    for _ in range(20):
        cluster.now += 50 * MS
        cluster.hear("a:1")
        cluster.hear("b:1")
        notes += [e.fields["member"] for e in cluster.core.on_tick() if isinstance(e, Note) and e.kind == "suspected"]
    assert notes == ["c"]
