"""Somebody's own services: containers that are attached to, and a Compose project of one run."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from aftershock.harness import images
from aftershock.harness.backends.attached_containers import attach
from aftershock.harness.backends.compose import ComposeBackend, ComposeBackendSettings
from aftershock.harness.backends.compose_tool import find_tool
from aftershock.harness.backends.docker_engine import DEFAULT_ENDPOINT, Engine
from aftershock.harness.backends.url import UrlBackend, UrlBackendSettings
from aftershock.harness.errors import HealError, SetupError, UsageError
from aftershock.harness.heal import undo_all
from aftershock.harness.interfaces import Address, Cluster, Hosting, Link, MemberState, ProbeOutcome
from aftershock.harness.journal import JournalReader, RunJournal
from aftershock.systems_under_test.compose_system import ComposeSettings, ComposeSystem
from aftershock.systems_under_test.url_system import UrlSettings, UrlSystem

from tests.docker.stages import engine, left_behind
from tests.docker.stock_systems import injected
from tests.fakes import RecordedEvents

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "own-system"
READY_S = 60.0
OURS = "aftershock.test.own-system"
WHOLE = ProbeOutcome(delivered=True, answered=True)


@pytest.fixture(autouse=True, scope="module")
def image() -> str:
    reason = images.missing(DEFAULT_ENDPOINT, ["nginx", "toxiproxy"])
    if reason is not None:
        pytest.skip(reason)
    return images.tag("nginx")


# ------------------------------------------------------------------------------------------------ attached


class Theirs:
    """Two application servers that somebody started, on a network of their own."""

    def __init__(self, api: docker.APIClient, image: str, key: str) -> None:
        self.api = api
        self.network = f"as-own-{key}"
        self.names = [f"as-own-{key}-app1", f"as-own-{key}-app2"]
        self.label = f"{OURS}={key}"
        self._image = image

    def start(self) -> None:
        labels = {OURS: self.label.partition("=")[2]}
        self.api.create_network(self.network, driver="bridge", internal=True, labels=labels)
        for name in self.names:
            mounts = [docker.types.Mount(target="/app.py", source=str(EXAMPLE / "app.py"), type="bind", read_only=True)]
            # A restart policy, as services have them: it must not bring back what a fault has ended.
            host = self.api.create_host_config(mounts=mounts, restart_policy={"Name": "always"})
            self.api.create_container(
                self._image,
                command=["python3", "-u", "/app.py"],
                name=name,
                labels={**labels, "aftershock.port": "8000", "aftershock.path": "/health"},
                host_config=host,
                networking_config=self.api.create_networking_config({self.network: self.api.create_endpoint_config()}),
            )
            self.api.start(name)

    def remove(self) -> None:
        for name in self.names:
            with contextlib.suppress(docker.errors.NotFound):
                self.api.remove_container(name, force=True, v=True)
        with contextlib.suppress(docker.errors.NotFound):
            self.api.remove_network(self.network)

    def seen(self) -> list[tuple[str, str, bool, bool]]:
        """Id, name, and whether it runs and is paused."""
        found = []
        for name in self.names:
            each = self.api.inspect_container(name)
            found.append((each["Id"], name, each["State"]["Running"], each["State"]["Paused"]))
        return found

    def url(self) -> str:
        address = self.api.inspect_container(self.names[0])["NetworkSettings"]["Networks"][self.network]["IPAddress"]
        return f"http://{address}:8000"


@pytest.fixture(scope="module")
def theirs(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Theirs]:
    with engine() as api:
        made = Theirs(api, image, tmp_path_factory.mktemp("theirs").name + str(os.getpid()))
        try:
            made.start()
            yield made
        finally:
            made.remove()


@contextlib.contextmanager
def attached(theirs: Theirs, folder: Path, **settings: Any) -> Iterator[Cluster]:
    run_folder = folder / "run"
    run_folder.mkdir()
    backend = UrlBackend(UrlBackendSettings(**(settings or {"containers": theirs.names})))
    assert backend.available() is None
    with (
        RunJournal.open(run_folder, f"own-{folder.name}", folder / "state") as journal,
        backend.open(
            run_id=f"own-{folder.name}", run_folder=run_folder, journal=journal, events=RecordedEvents()
        ) as stage,
        UrlSystem().deploy(stage, UrlSettings(url=theirs.url(), ready_path="/health"), seed=1) as cluster,
    ):
        cluster.wait_ready(deadline_s=READY_S)
        yield cluster
    assert left_behind(run_folder) == []


@pytest.mark.parametrize("name", ["kill", "pause", "stop"])
def test_a_fault_on_an_attached_container_bites_and_is_undone(theirs: Theirs, tmp_path: Path, name: str) -> None:
    before, (app1, _) = theirs.seen(), theirs.names
    with attached(theirs, tmp_path) as cluster, injected(cluster, name, target=app1) as injection:
        assert cluster.stage.processes.state(app1) is not MemberState.RUNNING
        assert injection.cut_off == {}
    assert theirs.seen() == before, "the same containers, and they run"


@pytest.mark.parametrize("direction", ["both", "out"])
def test_packets_between_attached_containers_are_cut(theirs: Theirs, tmp_path: Path, direction: str) -> None:
    app1, app2 = theirs.names
    rules = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    with attached(theirs, tmp_path, labels=[theirs.label]) as cluster:
        with injected(cluster, "partition", shape="custom", sides=((app1,), (app2,)), direction=direction):
            assert cluster.stage.network.impaired()
        assert cluster.stage.network.impaired() == {}
    after = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    assert set(after.split("\n")) <= set(rules.split("\n"))


def test_a_killed_one_stays_down_in_spite_of_its_restart_policy_and_is_started_when_the_run_ends(
    theirs: Theirs, tmp_path: Path
) -> None:
    app1 = theirs.names[0]
    with attached(theirs, tmp_path) as cluster:
        assert cluster.stage.processes.kill(app1) == -9
        time.sleep(0.5)  # what must not happen has this long to happen
        assert cluster.stage.processes.state(app1) is MemberState.EXITED
        assert not theirs.seen()[0][2]
    assert all(running for _, _, running, _ in theirs.seen())


def test_what_a_dead_tool_left_is_started_again_from_the_journal_and_nothing_of_theirs_is_removed(
    theirs: Theirs, tmp_path: Path
) -> None:
    before, (app1, app2) = theirs.seen(), theirs.names
    with attached(theirs, tmp_path) as cluster:
        cluster.stage.processes.kill(app1)
        cluster.stage.processes.pause(app2, expires_ns=time.monotonic_ns() + 10**12)
        entries = [
            each
            for each in JournalReader(tmp_path / "run" / "journal.jsonl").open_entries()
            if each.inverse in ("start-container", "continue-container")
        ]
        results = undo_all(entries, run_folder=tmp_path / "run", writer=None, by="watchdog")
        assert [result.problem for result in results] == ["", ""]
        assert theirs.seen() == before
        assert cluster.stage.processes.state(app2) is MemberState.RUNNING


def test_one_that_somebody_removed_cannot_be_brought_back_and_that_is_said(
    image: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with engine() as api:
        others = Theirs(api, image, f"gone{os.getpid()}")
        try:
            others.start()
            with contextlib.ExitStack() as stack:
                cluster = stack.enter_context(attached(others, tmp_path))
                cluster.stage.processes.kill(others.names[0])
                api.remove_container(others.names[0], force=True)
                with pytest.raises(HealError, match=r"(?s)not undone.*\n.*start-container") as caught:
                    stack.pop_all().close()
                assert "somebody removed its container" in str(caught.value.__context__)
        finally:
            others.remove()


def test_a_container_that_is_not_there_is_named_with_those_that_are(theirs: Theirs) -> None:
    own = Engine.open(DEFAULT_ENDPOINT)
    try:
        with pytest.raises(SetupError, match=f"no container named 'nobody'.*{theirs.names[0]}"):
            attach(own, containers=["nobody"], labels=[])
        with pytest.raises(SetupError, match="has the label a=b"):
            attach(own, containers=[], labels=["a=b"])
        assert [name for _, name, _ in attach(own, containers=[], labels=[theirs.label])] == theirs.names
    finally:
        own.close()


# ------------------------------------------------------------------------------------------------ compose


@pytest.fixture(scope="module")
def tool() -> None:
    if find_tool() is None:
        pytest.skip("no Compose tool is installed: apt-get install docker-compose")


@contextlib.contextmanager
def project(folder: Path, *files: str, name: str = "run", source: Path = EXAMPLE, **settings: Any) -> Iterator[Cluster]:
    run_folder = folder / name
    run_folder.mkdir()
    events = RecordedEvents()
    backend = ComposeBackend(
        ComposeBackendSettings(file=tuple(str(source / each) for each in (files or ("docker-compose.yml",))))
    )
    assert backend.available() is None
    with (
        RunJournal.open(run_folder, f"{folder.name}-{name}", folder / "state") as journal,
        backend.open(run_id=f"{folder.name}-{name}", run_folder=run_folder, journal=journal, events=events) as stage,
        ComposeSystem().deploy(
            stage, ComposeSettings(**{"entry": "web:80", "ready_path": "/health"} | settings), seed=1
        ) as cluster,
    ):
        cluster.wait_ready(deadline_s=READY_S)
        yield cluster
    assert left_behind(run_folder) == []


@pytest.fixture(scope="module")
def cluster(tool: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The example as it is; one for all tests, which leave it whole."""
    with project(tmp_path_factory.mktemp("own"), "docker-compose.yml") as made:
        yield made


def ask(cluster: Cluster, path: str) -> int:
    """As clients do, by their own link."""
    (address,) = cluster.clients().groups["clients-entry"].values()
    with contextlib.closing(http.client.HTTPConnection(address.host, address.port, timeout=10)) as connection:
        connection.request("GET", path)
        return connection.getresponse().status


def test_clients_reach_the_entry_and_every_link_can_be_probed(cluster: Cluster) -> None:
    assert ask(cluster, "/items/1") == 200
    links = cluster.stage.network.links
    assert {Link("clients-entry", "web"), Link("web", "app1"), Link("app2", "web")} <= set(links)
    for link in links:
        with contextlib.closing(cluster.open_probe(link)) as probe:
            assert [probe.exchange(timeout_s=5), probe.exchange(timeout_s=5)] == [WHOLE, WHOLE]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("kill", {"target": "app1"}),
        ("kill", {"target": "web"}),
        ("pause", {"target": "app2"}),
        ("stop", {"target": "app2"}),
        ("partition", {"shape": "isolate-alone", "target": "app1"}),
        ("partition", {"shape": "isolate-alone", "target": "web", "direction": "in"}),
        ("latency", {"target": "app1", "latency_ms": 200}),
        ("reset", {"target": "web"}),
    ],
)
def test_faults_of_the_docker_backend_bite_on_a_project_and_are_undone(
    cluster: Cluster, name: str, settings: dict[str, Any]
) -> None:
    with injected(cluster, name, **settings) as injection:
        assert injection.cut_off == {}, "clients have one way in, and are owed service whatever happens"
    assert cluster.wait_settled(deadline_s=READY_S) is None
    assert ask(cluster, "/items/1") == 200


def test_nothing_of_a_project_can_be_reached_from_elsewhere(cluster: Cluster) -> None:
    assert isinstance(cluster.stage, Hosting)
    with engine() as api:
        for each in api.containers(filters={"label": "com.docker.compose.service"}):
            if each["Labels"].get("aftershock.token", "").startswith(str(cluster.stage.folder.parent)):
                seen = api.inspect_container(each["Id"])
                assert not seen["HostConfig"]["PortBindings"]
                assert not seen["HostConfig"]["Privileged"]
                assert seen["HostConfig"]["RestartPolicy"]["Name"] in ("", "no")
                (network,) = seen["NetworkSettings"]["Networks"].values()
                assert api.inspect_network(network["NetworkID"])["Internal"]
                assert Address(network["IPAddress"], 80).host in {
                    cluster.stage.host(n) for n in cluster.stage.services()
                }


def test_two_runs_of_one_file_do_not_meet_and_volumes_go_with_their_run(
    cluster: Cluster, tool: None, tmp_path: Path
) -> None:
    with engine() as api:
        volumes = {each["Name"] for each in api.volumes()["Volumes"] or ()}
        with project(tmp_path, "docker-compose.yml", "stored.yml") as other:
            assert isinstance(other.stage, Hosting)
            assert isinstance(cluster.stage, Hosting)
            assert other.stage.host("web") != cluster.stage.host("web")
            assert {each["Name"] for each in api.volumes()["Volumes"]} > volumes
            other.stage.processes.kill("app1")
            assert cluster.stage.processes.state("app1") is MemberState.RUNNING
        assert {each["Name"] for each in api.volumes()["Volumes"] or ()} <= volumes


def test_conditions_and_health_checks_are_waited_for_and_commands_are_run_inside(tool: None, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    shutil.copy(EXAMPLE / "app.py", source)
    (source / "docker-compose.yml").write_text(
        """
version: "3.8"
services:
  web:
    image: aftershock-nginx
    command: ["sh", "-c", "sleep 1; exec python3 /app.py 80"]
    volumes: ["./app.py:/app.py:ro"]
    ports: ["80"]
    container_name: a-fixed-name
    restart: always
    healthcheck: {test: ["CMD", "test", "-d", "/tmp"], interval: 1s}
    labels: {aftershock.command: test -e /proc/1}
"""
    )
    with project(tmp_path, source=source) as made:
        assert made.wait_member("web", deadline_s=READY_S) is None
        assert isinstance(made.stage, Hosting)
        assert made.stage.command("web", ["false"], timeout_s=10) == "'false' exits with 1 in it"
        assert "has not ended" in (made.stage.command("web", ["sleep", "60"], timeout_s=0.3) or "")


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("privileged: true", "is privileged"),
        ("network_mode: host", "network_mode: host"),
        ("pid: host", "pid: host"),
    ],
)
def test_what_would_reach_beyond_the_run_is_refused_before_anything_is_made(
    tool: None, tmp_path: Path, lines: str, says: str
) -> None:
    text = f'version: "3.8"\nservices:\n  web:\n    image: aftershock-nginx\n    {lines}\n'
    (tmp_path / "docker-compose.yml").write_text(text)
    with pytest.raises(UsageError, match=says), project(tmp_path, source=tmp_path):
        raise AssertionError("it was started")
    assert left_behind(tmp_path / "run") == []


def test_a_file_that_the_tool_does_not_understand_is_told_in_its_own_words(tool: None, tmp_path: Path) -> None:
    (tmp_path / "docker-compose.yml").write_text('version: "3.8"\nservices:\n  web:\n    imagine: x\n')
    with (
        pytest.raises(SetupError, match=r"(?s)would not read the Compose file.*imagine"),
        project(tmp_path, source=tmp_path),
    ):
        raise AssertionError("it was started")


KILLED = """
import sys, time
from pathlib import Path
from tests.docker.test_own_system import project
with project(Path(sys.argv[1]), "docker-compose.yml", "stored.yml") as cluster:
    print("ready", flush=True)
    time.sleep(600)
"""


def test_what_a_killed_tool_left_of_a_project_is_removed_by_its_journal(tool: None, tmp_path: Path) -> None:
    killed = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "ready\n", killed.communicate()[1]
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
    assert left_behind(tmp_path / "run") != []

    entries = JournalReader(tmp_path / "run" / "journal.jsonl").open_entries()
    results = undo_all(entries, run_folder=tmp_path / "run", writer=None, by="heal")

    assert [result.problem for result in results if result.problem] == []
    assert left_behind(tmp_path / "run") == []
    with engine() as api:
        wanted = {"label": f"aftershock.token={tmp_path / 'run'}"}
        assert not api.volumes(filters=wanted)["Volumes"]
    assert json.dumps([entry.inverse for entry in entries]).count("remove-") == 3
