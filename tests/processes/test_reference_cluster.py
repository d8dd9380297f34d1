"""The reference cluster as real processes on loopback: what it promises its clients under kills, pauses and cuts."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from aftershock.systems_under_test.reference import wire
from aftershock.systems_under_test.reference.messages import Ack

from .reference_cluster import (
    MODULE,
    Client,
    LocalCluster,
    assert_nothing_lost,
    longest_gap_s,
    lost_writes,
    wait_progress,
    wait_until,
    writers,
)

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[Callable[..., LocalCluster]]:
    with contextlib.ExitStack() as stack:

        def make(**options: Any) -> LocalCluster:
            cluster = LocalCluster(tmp_path, **options)
            stack.callback(cluster.close)
            cluster.start_all()
            cluster.wait_ready()
            return cluster

        yield make


# ---------------------------------------------------------------------------------------------- clients


def test_every_operation_through_both_routers(make_cluster: Callable[..., LocalCluster]) -> None:
    cluster = make_cluster(nodes=5)
    first, second = map(cluster.client, cluster.routers)
    assert first.get("a") == (404, {"version": 0})
    status, body = first.put("a", {"x": [1, 2.5, "é", True]})
    assert status == 200
    version = body["version"]
    assert second.get("a") == (200, {"value": {"x": [1, 2.5, "é", True]}, "version": version})
    assert second.insert("a", 1)[0] == 409
    assert second.insert("b%2Fc", 1)[0] == 201
    assert first.insert("b%2Fc", 2) == (409, {"found": True, "value": 1, "version": second.get("b%2Fc")[1]["version"]})
    assert first.cas("a", {"version": version}, 5)[0] == 200
    assert second.cas("a", {"value": 5}, 6)[0] == 200
    status, body = first.cas("a", {"value": 5}, 7)
    assert (status, body["found"], body["value"]) == (409, True, 6)
    assert first.cas("new", {"absent": True}, 1)[0] == 200
    status, deleted = second.call("DELETE", "/v1/keys/a")
    assert (status, first.get("a")) == (200, (404, {"version": deleted["version"]}))
    assert deleted["version"] > version
    status, body = second.call("POST", "/v1/multi-get", {"keys": ["a", "b/c", "never"]})
    assert status == 200
    assert body["failed"] == {}
    assert {key: (entry["found"], entry["value"]) for key, entry in body["entries"].items()} == {
        "a": (False, None),
        "b/c": (True, 1),
        "never": (False, None),
    }
    wait_until(lambda: not cluster.disagreements(), what="replicas agree")


def test_a_request_id_takes_effect_once(make_cluster: Callable[..., LocalCluster]) -> None:
    cluster = make_cluster()
    first, second = map(cluster.client, cluster.routers)
    header = {"X-Request-Id": "tester:1"}
    status, original = first.call("PUT", "/v1/keys/k", {"value": 1}, header)
    assert status == 200
    assert first.put("k", 2)[0] == 200
    # The retry of the first write is answered as it was then, and does not write again.
    assert second.call("PUT", "/v1/keys/k", {"value": 1}, header) == (200, original)
    assert second.get("k")[1]["value"] == 2


@pytest.mark.parametrize(
    ("method", "path", "body", "headers"),
    [
        ("PUT", "/v1/keys/a", {}, {}),
        ("PUT", "/v1/keys/a", {"value": None}, {}),
        ("PUT", "/v1/keys/a", {"value": 1, "valeu": 2}, {}),
        ("PUT", "/v1/keys/a", {"value": 2**70}, {}),
        ("PUT", "/v1/keys/a", {"value": "\ud800"}, {}),
        ("PUT", "/v1/keys/a", {"value": "x" * 70_000}, {}),
        ("PUT", "/v1/keys/" + "k" * 600, {"value": 1}, {}),
        ("PUT", "/v1/keys/%ff", {"value": 1}, {}),
        ("PUT", "/v1/keys/", {"value": 1}, {}),
        ("PUT", "/v1/keys/a", [1], {}),
        ("POST", "/v1/keys/a/cas", {"value": 1}, {}),
        ("POST", "/v1/keys/a/cas", {"value": 1, "expect": {"version": "1"}}, {}),
        ("POST", "/v1/keys/a/cas", {"value": 1, "expect": {"absent": False}}, {}),
        ("POST", "/v1/multi-get", {"keys": "a"}, {}),
        ("POST", "/v1/multi-get", {"keys": []}, {}),
        ("PUT", "/v1/keys/a", {"value": 1}, {"X-Request-Id": "no-number"}),
        ("GET", "/v1/keys/a", None, {"X-Deadline-Ms": "0"}),
    ],
)
def test_malformed_requests(one_router: tuple[str, int], method: str, path: str, body: Any, headers: Any) -> None:
    client = Client(one_router)
    status, answer = client.call(method, path, body, headers)
    assert (status, answer["error"]) == (400, "bad-request")
    client.close()


@pytest.fixture(scope="module")
def one_router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """A router without a cluster."""
    cluster = LocalCluster(tmp_path_factory.mktemp("router"), routers=1)
    try:
        cluster.start("r1")
        wait_until(lambda: cluster.ask("r1", "/status"), what="r1 answers")
        yield cluster.address("r1")
    finally:
        cluster.close()


def test_without_nodes_everything_is_certainly_refused(one_router: tuple[str, int]) -> None:
    client = Client(one_router)
    status, body = client.call("PUT", "/v1/keys/a", {"value": 1}, {"X-Deadline-Ms": "100"})
    assert (status, body["error"]) == (503, "refused")
    assert client.call("GET", "/healthz")[0] == 503
    client.close()


# ---------------------------------------------------------------------------------------------- faults


def test_killed_primary_under_writes(make_cluster: Callable[..., LocalCluster]) -> None:
    cluster = make_cluster(nodes=5)
    with writers(cluster) as found:
        wait_progress(found)
        victim = cluster.primary_of("r1-0-0")
        cluster.kill(victim)
        wait_until(lambda: cluster.primary_of("r1-0-0") != victim, what="another primary")
        wait_progress(found)
        cluster.start(victim)
        cluster.wait_settled()
        wait_progress(found)
    assert longest_gap_s(found) < 10
    assert_nothing_lost(cluster, found)


def test_paused_primary_past_its_lease(make_cluster: Callable[..., LocalCluster]) -> None:
    cluster = make_cluster()
    with writers(cluster) as found:
        wait_progress(found)
        victim = cluster.primary_of("r1-0-0")
        cluster.signal(victim, signal.SIGSTOP)
        wait_until(lambda: cluster.primary_of("r1-0-0") != victim, what="another primary")
        wait_progress(found)
        cluster.signal(victim, signal.SIGCONT)
        cluster.wait_settled()
        wait_progress(found)
    assert_nothing_lost(cluster, found)


def test_kill_of_everything_keeps_everything(make_cluster: Callable[..., LocalCluster]) -> None:
    cluster = make_cluster()
    with writers(cluster) as found:
        wait_progress(found)
        cluster.kill(*cluster.nodes, *cluster.controllers)
    cluster.start(*cluster.controllers, *cluster.nodes)
    cluster.wait_ready()
    assert_nothing_lost(cluster, found)


def test_dead_controller_stops_no_client_and_dead_router_only_its_own(
    make_cluster: Callable[..., LocalCluster],
) -> None:
    cluster = make_cluster()
    cluster.kill("c1", "r2")
    with writers(cluster) as found:
        wait_progress(found[:3])
        cluster.start("r2")  # learns what it needs from the nodes
        wait_progress(found)
    cluster.start("c1")
    cluster.wait_ready()
    assert_nothing_lost(cluster, found)


def test_emptied_disk_comes_back_as_another_store(make_cluster: Callable[..., LocalCluster]) -> None:
    cluster = make_cluster()
    with writers(cluster) as found:
        wait_progress(found)
        before = cluster.ask("n1", "/status")["store"]
        cluster.kill("n1")
        for path in sorted((cluster.folder / "n1").iterdir()):
            path.unlink()
        cluster.start("n1")
        cluster.wait_settled()
        assert cluster.ask("n1", "/status")["store"] != before
        wait_progress(found)
    assert_nothing_lost(cluster, found)


# ---------------------------------------------------------------------------------------------- partitions


def both_ways(some: list[str], others: list[str]) -> list[tuple[str, str]]:
    return [*product(some, others), *product(others, some)]


def test_isolated_primary_with_a_router_serves_nothing_stale(make_cluster: Callable[..., LocalCluster]) -> None:
    cluster = make_cluster(proxied=True)
    assert cluster.proxies is not None
    inside, outside = map(cluster.client, cluster.routers)
    assert inside.put("k", "old")[0] == 200
    victim = cluster.primary_of("k")
    rest = [node for node in cluster.nodes if node != victim]
    with writers(cluster) as found:
        wait_progress(found)
        cluster.proxies.cut(both_ways([victim, "r1"], [*rest, "c1", "r2"]))
        wait_until(lambda: outside.put("k", "new")[0] == 200, what="the majority side accepts a write")
        # The old primary's lease has run out before anybody else could open, so this router has nothing to say.
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            status, body = inside.get("k")
            assert status in (503, 504), (status, body)
        cluster.proxies.heal()
        wait_until(lambda: inside.get("k")[1].get("value") == "new", what="the healed side reads the new value")
        cluster.wait_settled()
        wait_progress(found)
    assert_nothing_lost(cluster, found)


@pytest.mark.parametrize("direction", ["to the primary", "from the primary"])
def test_one_way_cut_between_primary_and_backups(make_cluster: Callable[..., LocalCluster], direction: str) -> None:
    cluster = make_cluster(proxied=True)
    assert cluster.proxies is not None
    victim = cluster.primary_of("r1-0-0")
    rest = [node for node in cluster.nodes if node != victim]
    with writers(cluster) as found:
        wait_progress(found)
        cluster.proxies.cut(product(rest, [victim]) if direction == "to the primary" else product([victim], rest))
        wait_until(lambda: cluster.primary_of("r1-0-0") != victim, what="a backup takes over (rule 5.2c)")
        wait_progress(found)
        cluster.proxies.heal()
        cluster.wait_settled()
        wait_progress(found)
    assert_nothing_lost(cluster, found)


def test_cut_from_the_controller_only_changes_nothing(make_cluster: Callable[..., LocalCluster]) -> None:
    cluster = make_cluster(proxied=True)
    assert cluster.proxies is not None
    before = cluster.ask("c1", "/status")["shards"]
    with writers(cluster) as found:
        cluster.proxies.cut(both_ways(cluster.nodes, ["c1"]))
        wait_until(lambda: '"suspected"' in (cluster.folder / "c1" / "events.jsonl").read_text(), what="suspicion")
        wait_progress(found)
        assert cluster.ask("c1", "/status")["shards"] == before
        cluster.proxies.heal()
        wait_progress(found)
    assert cluster.ask("c1", "/status")["shards"] == before
    assert_nothing_lost(cluster, found)


def test_asynchronous_replication_loses_acknowledged_writes(make_cluster: Callable[..., LocalCluster]) -> None:
    """The broken arm: the same cut of replication only, and the check of these tests must see the loss."""
    cluster = make_cluster(proxied=True, settings={"ack": "primary", "shards": 1})
    assert cluster.proxies is not None
    victim = cluster.primary_of("any")
    rest = [node for node in cluster.nodes if node != victim]
    with writers(cluster) as found:
        wait_progress(found)
        cluster.proxies.cut(both_ways([victim], rest))
        wait_until(lambda: cluster.primary_of("any") != victim, what="a backup takes over")
        wait_progress(found)
        cluster.proxies.heal()
        cluster.wait_settled()
    assert lost_writes(cluster, found) != []


# ---------------------------------------------------------------------------------------------- operations


def test_graceful_stop_exits_0_and_loses_nothing(make_cluster: Callable[..., LocalCluster]) -> None:
    cluster = make_cluster()
    with writers(cluster) as found:
        wait_progress(found)
        assert cluster.stop("n2") == 0
        wait_progress(found, 5)
        cluster.start("n2")
        cluster.wait_settled()
        assert cluster.stop("r2") == 0
    assert cluster.stop("c1") == 0
    cluster.start("c1", "r2")
    cluster.wait_ready()
    assert_nothing_lost(cluster, found)


def test_pings_probes_metrics_and_events(make_cluster: Callable[..., LocalCluster]) -> None:
    cluster = make_cluster(settings={"lease": False})
    for member in ("n1", "c1"):
        connection = wire.connect(cluster.address(member, "peer"), timeout_s=2)
        assert cluster.ask(member, "/probe/seen?nonce=p1") == {"seen": False}
        wire.send_ping(connection, "p1")
        assert wire.wait_pong(connection, "p1", timeout_s=5)
        assert cluster.ask(member, "/probe/seen?nonce=p1") == {"seen": True}
        connection.close()
    assert cluster.ask("r1", "/probe?nonce=77") == 77
    assert cluster.ask("r1", "/probe/seen?nonce=77") == {"seen": True}
    assert cluster.ask("n1", "/status")["unsafe"] == ["lease = false"]
    assert "unsafe settings" in (cluster.folder / "n1.log").read_text()
    connection = http.client.HTTPConnection(*cluster.address("n1"), timeout=5)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    assert 'process_open_fds{member="n1"}' in text
    connection.close()
    kinds = {
        member: [
            json.loads(line)["kind"] for line in (cluster.folder / member / "events.jsonl").read_text().splitlines()
        ]
        for member in ("n1", "c1", "r1")
    }
    assert all({"member.started", "member.ready"} <= set(found) for found in kinds.values())
    assert {"topology", "decided"} <= set(kinds["c1"])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"settings": {"shard": 3}}, "did you mean settings.shards?"),
        ({"settings": {"ack": "none"}}, "expected one of all, primary"),
        ({"settings": {"min_in_sync": 4}}, "above settings.replicas"),
        ({"listen": {"http": ["127.0.0.1", 1]}}, "listen.peer: missing"),
        ({"peers": {"n2": "127.0.0.1"}}, "peers.n2: '127.0.0.1' is not an address"),
    ],
)
def test_bad_configuration_is_one_sentence_and_exit_2(tmp_path: Path, change: Any, sentence: str) -> None:
    config = {
        "name": "n1",
        "data": str(tmp_path / "n1"),
        "listen": {"peer": ["127.0.0.1", 1], "http": ["127.0.0.1", 2]},
        "controllers": {"c1": ["127.0.0.1", 3]},
    }
    path = tmp_path / "n1.json"
    path.write_text(json.dumps(config | change))
    done = subprocess.run([sys.executable, "-m", MODULE, "node", "--config", str(path)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_broken_invariant_ends_the_node_at_once(make_cluster: Callable[..., LocalCluster]) -> None:
    """An acknowledgement beyond the end of the log (I8): going on could corrupt data, so the process ends with 70."""
    cluster = make_cluster()
    shard = cluster.ask("c1", "/status")["shards"][0]
    primary = shard["primary"]
    stores = {store.partition(":")[0]: store for store in shard["stores"]}
    backup = next(node for node in cluster.nodes if node != primary)
    message = wire.pack_message(Ack(shard["shard"], shard["epoch"], 10**9))
    with wire.connect(cluster.address(primary, "peer"), timeout_s=5) as connection:
        connection.sendall(wire.pack_frame(wire.PEER, stores[backup], [(stores[primary], message)]))
        assert cluster.processes[primary].wait(timeout=10) == 70
    assert "I8" in (cluster.folder / f"{primary}.log").read_text()


def test_garbage_on_the_peer_port_harms_nobody(make_cluster: Callable[..., LocalCluster]) -> None:
    cluster = make_cluster()
    frames = [b"GET / HTTP/1.1\r\n\r\n", wire.pack_frame("what?"), wire.pack_frame(wire.PEER, "x", [1]), b"\xff" * 9]
    frames += [
        wire.pack_frame(wire.OP, 1, []),
        wire.pack_frame(wire.CONFIGS, "c1", [[1]]),
        wire.pack_frame("heartbeat", 1),
    ]
    for member in ("n1", "c1"):
        for garbage in frames:
            with wire.connect(cluster.address(member, "peer"), timeout_s=5) as connection:
                connection.sendall(garbage)
                with contextlib.suppress(ConnectionResetError):
                    assert connection.recv(1) == b""
    assert cluster.unready() == []


def test_two_nodes_on_one_folder_are_impossible(make_cluster: Callable[..., LocalCluster], tmp_path: Path) -> None:
    make_cluster()
    path = tmp_path / "n1.json"
    done = subprocess.run([sys.executable, "-m", MODULE, "node", "--config", str(path)], capture_output=True, text=True)
    assert done.returncode == 2
    assert "is in use by another process" in done.stderr
