"""The small parts of the shell: data folder, configuration store, configuration file, metrics, events, client API."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from aftershock.systems_under_test.reference import data_folder, member_config
from aftershock.systems_under_test.reference.config_store import ConfigStore
from aftershock.systems_under_test.reference.event_log import EventLog
from aftershock.systems_under_test.reference.http_common import SeenNonces
from aftershock.systems_under_test.reference.member import watched
from aftershock.systems_under_test.reference.messages import Config
from aftershock.systems_under_test.reference.metrics import Metrics
from aftershock.systems_under_test.reference.router_http import IN_FLIGHT_LIMIT, ClientApi
from aftershock.systems_under_test.reference.routing import Routing
from aftershock.systems_under_test.reference.settings import ClusterSettings


def config(epoch: int, shard: int = 0) -> Config:
    return Config(shard=shard, epoch=epoch, term=1, primary="n1:a", isr=frozenset({"n1:a"}))


# ---------------------------------------------------------------------------------------------- data folder


def test_a_store_id_is_made_once_and_names_the_disk(tmp_path: Path) -> None:
    assert data_folder.read_store(tmp_path, "n1") is None
    store = data_folder.write_store(tmp_path, "n1")
    assert store.startswith("n1:")
    assert data_folder.read_store(tmp_path, "n1") == store
    with pytest.raises(data_folder.DataFolderError, match="belongs to node n1, not to n2"):
        data_folder.read_store(tmp_path, "n2")
    other = tmp_path / "other"
    other.mkdir()
    assert data_folder.write_store(other, "n1") != store


def test_an_unreadable_store_id_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / data_folder.STORE_FILE).write_text("{")
    with pytest.raises(data_folder.DataFolderError, match="cannot be read"):
        data_folder.read_store(tmp_path, "n1")


def test_a_folder_is_locked_by_one_member_at_a_time(tmp_path: Path) -> None:
    lock = data_folder.FolderLock(tmp_path)
    with pytest.raises(data_folder.DataFolderError, match="in use by another process"):
        data_folder.FolderLock(tmp_path)
    lock.release()
    data_folder.FolderLock(tmp_path).release()


# ---------------------------------------------------------------------------------------------- store


def test_only_the_expected_epoch_is_replaced(tmp_path: Path) -> None:
    store = ConfigStore(tmp_path / "s")
    assert store.compare_and_set(0, config(1))
    assert not store.compare_and_set(0, config(1))
    assert store.compare_and_set(1, config(2))
    assert not store.compare_and_set(1, config(3))
    assert store.get(0) == config(2)
    assert store.get(1) is None
    store.close()
    again = ConfigStore(tmp_path / "s")
    assert again.load() == {0: config(2)}
    again.close()


def test_two_writers_of_one_epoch_never_both_win(tmp_path: Path) -> None:
    first, second = ConfigStore(tmp_path / "s"), ConfigStore(tmp_path / "s")
    assert first.compare_and_set(0, config(1))
    won = [store.compare_and_set(1, config(2)) for store in (second, first)]
    assert won == [True, False]
    first.close()
    second.close()


def test_the_store_is_as_durable_as_sqlite_can(tmp_path: Path) -> None:
    store = ConfigStore(tmp_path / "s")
    assert store._db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.close()


def test_a_failed_write_raises_and_leaves_no_transaction_open(tmp_path: Path) -> None:
    store = ConfigStore(tmp_path / "s")
    store._db.execute("CREATE TRIGGER broken BEFORE INSERT ON configs BEGIN SELECT RAISE(FAIL, 'disk'); END")
    with pytest.raises(sqlite3.Error):
        store.compare_and_set(0, config(1))
    store._db.execute("DROP TRIGGER broken")
    assert store.compare_and_set(0, config(1))
    store.close()


# ---------------------------------------------------------------------------------------------- configuration file

NODE: dict[str, Any] = {
    "name": "n1",
    "data": "/data/n1",
    "listen": {"peer": ["127.0.0.1", 1], "http": ["127.0.0.1", 2]},
    "peers": {"n2": ["127.0.0.1", 3]},
    "controllers": {"c1": ["127.0.0.1", 4]},
    "settings": {"shards": 4, "drift": 0, "lease": False},
}


def test_a_good_configuration() -> None:
    found = member_config.parse(NODE, role="node")
    assert found.listen["peer"] == ("127.0.0.1", 1)
    assert found.settings == ClusterSettings(shards=4, drift=0.0, lease=False)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"name": None}, "name: missing"),
        ({"name": "a:b"}, "holds a colon"),
        ({"peer": {}}, "peer: unknown; did you mean peers"),
        ({"peers": {"n1": ["127.0.0.1", 3]}}, "not its own peer"),
        ({"peers": {"n2": ["127.0.0.1", 0]}}, "not an address"),
        ({"controllers": {}}, "controllers: missing"),
        ({"settings": {"shards": 0}}, "expected a number above 0"),
        ({"settings": {"shards": 2.5}}, "expected a whole number"),
        ({"settings": {"shards": True}}, "expected a whole number"),
        ({"settings": {"lease": 1}}, "expected true or false"),
        ({"settings": {"drift": 0.5}}, "settings.drift"),
        ({"settings": {"read_from": "backup"}}, "one of primary, any"),
        ({"settings": {"quorum": 1}}, "quorum: unknown; known are"),
    ],
)
def test_mistakes_in_the_configuration(change: dict[str, Any], text: str) -> None:
    with pytest.raises(member_config.ConfigError, match=text):
        member_config.parse(NODE | change, role="node")


def test_a_controller_needs_enough_nodes_and_their_addresses() -> None:
    wanted = {"name": "c1", "data": "/d", "listen": NODE["listen"], "nodes": {"n1": ["127.0.0.1", 5]}}
    with pytest.raises(member_config.ConfigError, match="cannot hold 3 replicas"):
        member_config.parse(wanted | {"expected_nodes": ["n1", "n2"]}, role="controller")
    with pytest.raises(member_config.ConfigError, match=r"nodes\.n2: missing"):
        member_config.parse(wanted | {"expected_nodes": ["n1", "n2", "n3"]}, role="controller")


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(member_config.ConfigError, match="cannot be read"):
        member_config.load(tmp_path / "none", role="node")
    (tmp_path / "bad").write_text("{")
    with pytest.raises(member_config.ConfigError, match="not JSON"):
        member_config.load(tmp_path / "bad", role="node")


# ---------------------------------------------------------------------------------------------- reporting


def test_metrics_text() -> None:
    metrics = Metrics(member="n1")
    metrics.describe("a_total", "Help for a.")
    metrics.count("b_total", 'kind="x"')
    metrics.count("b_total", 'kind="x"', 2)
    metrics.gauge("c", "Help for c.", lambda: 0.5)
    lines = metrics.render().splitlines()
    assert 'a_total{member="n1"} 0' in lines
    assert 'b_total{member="n1",kind="x"} 3' in lines
    assert 'c{member="n1"} 0.5' in lines
    assert "# TYPE c gauge" in lines
    assert any(line.startswith("process_resident_memory_bytes") for line in lines)


def test_events_are_whole_lines(tmp_path: Path) -> None:
    events = EventLog(tmp_path, source="n1")
    events.write("topology", {"shard": 1, "in_sync": frozenset({"b", "a"})})
    events.close()
    events = EventLog(tmp_path, source="n1")
    events.write("warning", {"text": "é\n"})
    events.close()
    first, second = map(json.loads, (tmp_path / "events.jsonl").read_text().splitlines())
    assert (first["source"], first["kind"], first["in_sync"]) == ("n1", "topology", ["a", "b"])
    assert second["text"] == "é\n"
    assert first["t_ns"] < second["t_ns"]


def test_the_oldest_nonces_are_forgotten() -> None:
    seen = SeenNonces()
    for number in range(10_001):
        seen.add(str(number))
    assert "0" not in seen
    assert "10000" in seen


def test_a_task_that_fails_is_reported_at_once_although_it_is_kept() -> None:
    async def test() -> None:
        reported: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))

        async def fail() -> None:
            raise RuntimeError("ticks have stopped")

        task = watched(fail())
        cancelled = watched(asyncio.sleep(10))
        cancelled.cancel()
        await asyncio.wait([task, cancelled])
        await asyncio.sleep(0)
        assert list(map(str, reported)) == ["ticks have stopped"]

    asyncio.run(test())


def test_a_saturated_router_refuses_at_once() -> None:
    settings = ClusterSettings()
    metrics = Metrics(member="r1")
    api = ClientApi(
        router="r1",
        settings=settings,
        routing=Routing(settings=settings, nodes={}, rng=random.Random(1)),
        metrics=metrics,
    )
    api.in_flight = IN_FLIGHT_LIMIT
    scope = {"type": "http", "method": "GET", "path": "/v1/keys/a", "raw_path": b"/v1/keys/a", "headers": []}

    async def receive() -> dict[str, Any]:
        raise AssertionError("a refused request is not read")

    response = asyncio.run(api.page(scope, receive))
    assert response is not None
    assert response.status == 503
    assert json.loads(response.body)["error"] == "refused"
    assert (b"retry-after", b"1") in response.headers
    assert api.in_flight == IN_FLIGHT_LIMIT
