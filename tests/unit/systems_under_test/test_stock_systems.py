"""Redis with Sentinel and etcd, as far as they go without a single process: members, links, files, and what is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aftershock.harness.errors import SetupError
from aftershock.harness.interfaces import Address, Link, Member, MemberState, ProcessSpec, Role, Stage, Topology
from aftershock.systems_under_test import _stock_cluster, etcd, redis_sentinel
from aftershock.systems_under_test.etcd import Etcd, EtcdSettings
from aftershock.systems_under_test.redis_sentinel import RedisSentinel, RedisSentinelSettings
from aftershock.systems_under_test.reference_access import NoAnswerError
from pydantic import ValidationError

from tests.fakes import RecordedEvents


class Stopped:
    """No member ever runs: an adapter that asks one here asks too early."""

    ended = ""

    def state(self, member: str) -> MemberState:
        return MemberState.EXITED if member == self.ended else MemberState.ABSENT


class PaperStage:
    """Gives addresses and keeps what it is told to run. `proxied`: links have addresses of their own."""

    backend = "paper"

    def __init__(self, folder: Path, *, proxied: bool = False) -> None:
        self.processes = Stopped()
        self.folder = folder
        self.members: dict[str, Member] = {}
        self.links: set[Link] = set()
        self.specs: dict[str, ProcessSpec] = {}
        self._proxied = proxied

    def add(self, member: Member) -> None:
        assert member.name not in self.members
        self.members[member.name] = member
        (self.folder / member.name).mkdir()

    def listen(self, member: str, port: str) -> Address:
        return Address(f"10.0.0.{1 + list(self.members).index(member)}", {"peer": 7001, "client": 7002}.get(port, 7001))

    def link(self, source: str, target: str, port: str) -> Address:
        self.links.add(Link(source, target))
        to_clients = self.members[source].role is Role.CLIENT
        return Address(f"10.9.9.{len(target)}", 9) if self._proxied or to_clients else self.listen(target, port)

    def log(self, member: str) -> Path:
        return self.folder / f"{member}.log"

    def run(self, spec: ProcessSpec) -> None:
        self.specs[spec.member.name] = spec


def stage(folder: Path, **options: Any) -> Any:
    return PaperStage(folder, **options)


@pytest.fixture(autouse=True)
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers, and nobody waits for it."""
    monkeypatch.setattr(redis_sentinel, "ask_redis", _no_answer)
    monkeypatch.setattr(etcd, "post_json", _no_answer)
    monkeypatch.setattr(_stock_cluster, "poll", lambda missing, *, deadline_s: missing())


def _no_answer(address: Address, *_: Any, **__: Any) -> Any:
    raise NoAnswerError(f"nobody at {address}")


def answering(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, answers: Mapping[tuple[str, str], Any]) -> None:
    """Members answer by (host, first word or path)."""

    def answer(address: Address, word: str, *_: Any, **__: Any) -> Any:
        if (address.host, word) not in answers:
            return _no_answer(address)
        return answers[address.host, word]

    monkeypatch.setattr(module, name, answer)


# ------------------------------------------------------------------------------------------------ both


@pytest.mark.parametrize(
    "deploy",
    [
        lambda stage: RedisSentinel().deploy(stage, RedisSentinelSettings(), seed=1),
        lambda stage: Etcd().deploy(stage, EtcdSettings(), seed=1),
    ],
)
def test_links_with_addresses_of_their_own_are_refused(tmp_path: Path, deploy: Callable[[Stage], Any]) -> None:
    with pytest.raises(
        SetupError, match=r"on backend 'paper' .* faults would miss their traffic; use the backend docker"
    ):
        deploy(stage(tmp_path, proxied=True))


def test_a_system_of_which_nobody_answers_is_told_with_who_was_asked(tmp_path: Path) -> None:
    with Etcd().deploy(stage(tmp_path), EtcdSettings(), seed=1) as cluster:
        with pytest.raises(SetupError, match="nobody tells who leads: no member answers"):
            cluster.topology()
        with pytest.raises(SetupError, match=r"the system was not ready within 0\.1 s: n1 is absent; its log"):
            cluster.wait_ready(deadline_s=0.1)


def test_a_member_that_has_ended_is_not_waited_for_and_its_log_is_shown(tmp_path: Path) -> None:
    made = stage(tmp_path)
    made.processes.ended = "n2"
    (tmp_path / "n2.log").write_text("no such option\n")
    with (
        Etcd().deploy(made, EtcdSettings(), seed=1) as cluster,
        pytest.raises(
            SetupError, match=r"n2 ended while it was starting; the end of its log .*n2\.log:\n  no such option"
        ),
    ):
        cluster.wait_ready(deadline_s=60)


def test_there_is_no_probe_where_there_is_no_link(tmp_path: Path) -> None:
    with (
        Etcd().deploy(stage(tmp_path), EtcdSettings(), seed=1) as cluster,
        pytest.raises(SetupError, match="clients-n1 never opens connections to n2"),
    ):
        cluster.open_probe(Link("clients-n1", "n2"))


# ------------------------------------------------------------------------------------------------ Redis


def test_redis_members_links_and_files(tmp_path: Path) -> None:
    made = stage(tmp_path)
    settings = RedisSentinelSettings(min_replicas_to_write=1, min_replicas_max_lag_s=2, fsync="always")
    with RedisSentinel().deploy(made, settings, seed=1):
        roles = {name: member.role for name, member in made.members.items()}

        assert roles == {
            **dict.fromkeys(("n1", "n2", "n3"), Role.NODE),
            **dict.fromkeys(("s1", "s2", "s3"), Role.CONTROLLER),
            **dict.fromkeys(("clients-s1", "clients-s2", "clients-s3"), Role.CLIENT),
        }
        assert {link.target for link in made.links if link.source == "clients-s2"} == {"s2", "n1", "n2", "n3"}
        assert {link.target for link in made.links if link.source == "n2"} == {"n1", "n3"}
        assert {link.target for link in made.links if link.source == "s3"} == {"s1", "s2", "n1", "n2", "n3"}
        first = (tmp_path / "n1" / "redis.conf").read_text().splitlines()
        assert {"bind 10.0.0.1", "port 7001", "min-replicas-to-write 1", "min-replicas-max-lag 2"} <= set(first)
        assert {"appendfsync always", f"dir {tmp_path / 'n1'}"} <= set(first)
        assert not any(line.startswith("replicaof") for line in first)
        assert "replicaof 10.0.0.1 7001" in (tmp_path / "n3" / "redis.conf").read_text()
        sentinel = (tmp_path / "s2" / "sentinel.conf").read_text().splitlines()
        assert "sentinel monitor aftershock 10.0.0.1 7001 2" in sentinel
        assert sentinel.index("sentinel monitor aftershock 10.0.0.1 7001 2") < sentinel.index(
            "sentinel down-after-milliseconds aftershock 1000"
        )
        assert made.specs["s2"].argv == ("redis-server", str(tmp_path / "s2" / "sentinel.conf"), "--sentinel")
        assert {spec.image for spec in made.specs.values()} == {"redis"}


def test_redis_clients_get_their_sentinel_every_node_and_who_has_which_address(tmp_path: Path) -> None:
    with RedisSentinel().deploy(stage(tmp_path), RedisSentinelSettings(wait=2), seed=1) as cluster:
        spec = cluster.clients()

    assert set(spec.groups["clients-s3"]) == {"s3", "n1", "n2", "n3"}
    assert spec.settings["members"] == {"10.0.0.1:7001": "n1", "10.0.0.2:7001": "n2", "10.0.0.3:7001": "n3"}
    assert spec.settings["wait"] == 2


def view(host: str, epoch: int) -> list[str]:
    return ["name", "aftershock", "ip", host, "port", "7001", "config-epoch", str(epoch), "flags", "master"]


def test_the_newest_configuration_that_a_sentinel_has_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        ("10.0.0.4", "SENTINEL"): view("10.0.0.1", 0),  # cut off with the old primary
        ("10.0.0.5", "SENTINEL"): view("10.0.0.2", 3),
        ("10.0.0.1", "ROLE"): ["master", 7, []],
        ("10.0.0.2", "ROLE"): ["master", 9, []],
        ("10.0.0.3", "ROLE"): ["slave", "10.0.0.2", 7001, "connected", 9],
    }
    with RedisSentinel().deploy(stage(tmp_path), RedisSentinelSettings(), seed=1) as cluster:
        answering(monkeypatch, redis_sentinel, "ask_redis", answers)
        topology = cluster.topology()

        assert topology.controllers == ("s1", "s2", "s3")
        (shard,) = topology.shards
        assert (shard.epoch, shard.primary, shard.in_sync, shard.learners) == (3, "n2", ("n2", "n3"), ("n1",))
        assert cluster.wait_settled(deadline_s=1) == "n1: not in sync with n2"


@pytest.mark.parametrize("role", [["slave", "10.0.0.2", 7001, "sync", 0], ["slave", "10.0.0.1", 7001, "connected", 9]])
def test_a_replica_that_is_still_syncing_or_follows_another_is_not_in_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: list[Any]
) -> None:
    answers = {
        ("10.0.0.5", "SENTINEL"): view("10.0.0.2", 3),
        ("10.0.0.2", "ROLE"): ["master", 9, []],
        ("10.0.0.3", "ROLE"): role,
    }
    with RedisSentinel().deploy(stage(tmp_path), RedisSentinelSettings(), seed=1) as cluster:
        answering(monkeypatch, redis_sentinel, "ask_redis", answers)

        assert cluster.topology().shards[0].in_sync == ("n2",)


@pytest.mark.parametrize("settings", [{"wait": 3}, {"min_replicas_to_write": 3}, {"nodes": 2, "wait": 2}])
def test_redis_cannot_wait_for_more_replicas_than_there_are(settings: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match=r"but there are [12] replicas"):
        RedisSentinelSettings(**settings)


# ------------------------------------------------------------------------------------------------ etcd


def test_etcd_members_links_and_arguments(tmp_path: Path) -> None:
    made = stage(tmp_path)
    with Etcd().deploy(made, EtcdSettings(pre_vote=True), seed=1) as cluster:
        spec = cluster.clients()

    assert {link for link in made.links if link.source.startswith("clients")} == {
        Link(f"clients-{name}", name) for name in ("n1", "n2", "n3")
    }
    argv = made.specs["n2"].argv
    assert argv[0] == "etcd"
    assert "--pre-vote=true" in argv
    assert "--initial-cluster=n1=http://10.0.0.1:7001,n2=http://10.0.0.2:7001,n3=http://10.0.0.3:7001" in argv
    assert {"--listen-client-urls=http://10.0.0.2:7002", f"--data-dir={tmp_path / 'n2' / 'etcd'}"} <= set(argv)
    assert {spec.image for spec in made.specs.values()} == {"etcd"}
    assert {name: set(group) for name, group in spec.groups.items()} == {
        f"clients-{name}": {name} for name in ("n1", "n2", "n3")
    }


@pytest.mark.parametrize(("clients", "kind"), [("register", "EtcdClient"), ("lock-set", "EtcdLockSetClient")])
def test_etcd_clients_are_of_the_kind_that_was_chosen(tmp_path: Path, clients: Any, kind: str) -> None:
    with Etcd().deploy(stage(tmp_path), EtcdSettings(clients=clients, fenced=True), seed=1) as cluster:
        spec = cluster.clients()

    assert spec.client == f"aftershock.workloads.clients.etcd:{kind}"
    assert spec.settings == {"serializable": False, "fenced": True, "lock_ttl_s": 2, "hold_s": 0.1}


def status(member: str, leader: str | None, term: int) -> dict[str, Any]:
    own = {} if leader is None else {"leader": leader}
    return {"header": {"member_id": member}, "raftTerm": str(term), **own}


PATH = "/v3/maintenance/status"


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        ({"1": ("1", 2), "2": ("1", 2), "3": ("1", 2)}, (2, "n1", ("n1", "n2", "n3"), ())),
        # n1 is cut off and still believes that it leads.
        ({"1": ("1", 2), "2": ("3", 5), "3": ("3", 5)}, (5, "n3", ("n2", "n3"), ("n1",))),
        # n2 is cut off and stands for election again and again.
        ({"1": ("1", 2), "2": (None, 9), "3": ("1", 2)}, (2, "n1", ("n1", "n3"), ("n2",))),
        # Nobody leads; one does not answer.
        ({"1": (None, 3), "2": (None, 4)}, (4, None, ("n2",), ("n1", "n3"))),
        # n1 is dead, and nobody has noticed.
        ({"2": ("1", 2), "3": ("1", 2)}, (2, None, (), ("n1", "n2", "n3"))),
    ],
)
def test_who_leads_is_who_says_so_in_the_newest_term(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pages: dict[str, tuple[str | None, int]], expected: Any
) -> None:
    answers = {(f"10.0.0.{name}", PATH): status(name, *page) for name, page in pages.items()}
    with Etcd().deploy(stage(tmp_path), EtcdSettings(), seed=1) as cluster:
        answering(monkeypatch, etcd, "post_json", answers)
        topology: Topology = cluster.topology()

    (shard,) = topology.shards
    assert (shard.epoch, shard.primary, shard.in_sync, shard.learners) == expected
    assert topology.controllers == ()


def test_changes_of_the_topology_become_events_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = {(f"10.0.0.{name}", PATH): status(name, "1", 2) for name in "123"}
    second = {(f"10.0.0.{name}", PATH): status(name, "3", 3) for name in "23"}
    events = RecordedEvents()
    with Etcd().deploy(stage(tmp_path), EtcdSettings(), seed=1) as cluster:
        assert isinstance(cluster, _stock_cluster.StockCluster)
        for answers in (first, first, {}, second, second):
            answering(monkeypatch, etcd, "post_json", answers)
            cluster.look()
        cluster.collect_events(events)

    told = [(event["kind"], event["source"], event["epoch"], event.get("primary")) for event in events.all]
    assert told == [
        ("topology", "observer", 2, "n1"),
        ("primary.open", "n1", 2, None),
        ("topology", "observer", 3, "n3"),
        ("primary.open", "n3", 3, None),
    ]
