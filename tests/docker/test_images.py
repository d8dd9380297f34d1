"""The images on a real engine: they are built, they run, and what is not ours is never touched."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest
from aftershock.harness import base_image, image_builder, images
from aftershock.harness.backends.docker_engine import DEFAULT_ENDPOINT, Engine
from aftershock.harness.errors import SetupError
from aftershock.harness.images import BASE_TAG, LABEL, Image, from_folder

from tests.processes.stages import wait_until

pytestmark = pytest.mark.docker

REFERENCE = ["python3", "-m", "aftershock.systems_under_test.reference"]
ASK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=2).read().decode())"


def quiet(_: object) -> None:
    """A note that nobody reads."""


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine.open(DEFAULT_ENDPOINT)
    yield engine
    engine.close()


@pytest.fixture
def name(engine: Engine) -> Iterator[str]:
    """A name for images of one test; all of that name are gone afterwards."""
    name = f"test-{secrets.token_hex(6)}"
    yield name
    client = docker.DockerClient(base_url=DEFAULT_ENDPOINT)
    try:
        for container in client.containers.list(all=True, filters={"label": f"aftershock.test={name}"}):
            container.remove(force=True)
        remove_images(client, f"aftershock.test={name}")
    finally:
        client.close()


def remove_images(client: docker.DockerClient, label: str) -> None:
    """All with the label, children before their parents, which the engine would not remove."""
    while left := client.images.list(filters={"label": label}):
        refused = []
        for image in left:
            try:
                client.images.remove(str(image.id), force=True)
            except docker.errors.APIError as error:
                refused.append(error)
        if len(refused) == len(left):
            raise refused[0]


def small(tmp_path: Path, name: str, content: str, *, dockerfile: str = "FROM scratch\nCOPY file /\n") -> Image:
    folder = tmp_path / "image"
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text(f"{dockerfile}LABEL aftershock.test={name}\n", encoding="utf-8")
    (folder / "file").write_text(content, encoding="utf-8")
    return from_folder(name, folder, {})


def build(engine: Engine, *wanted: Image) -> list[str]:
    return [outcome.state for outcome in image_builder.build(engine, wanted, rebuild=False, note=quiet)]


def output_of(engine: Engine, image: str, argv: list[str]) -> str:
    """What a container without any network says. It is gone afterwards."""
    client = docker.DockerClient(base_url=engine.endpoint)
    try:
        said: bytes = client.containers.run(image, argv, network_mode="none", remove=True, stderr=True)
    finally:
        client.close()
    return said.decode()


# ------------------------------------------------------------------------------------------------ the images run


@pytest.fixture
def built(engine: Engine) -> dict[str, str]:
    """Tags of the images that the reference cluster needs, built where they were missing."""
    wanted = [images.named(name) for name in ("reference", "toxiproxy")]
    return {outcome.name: outcome.tag for outcome in image_builder.build(engine, wanted, rebuild=False, note=quiet)}


def test_images_are_there_and_not_built_again(engine: Engine, built: dict[str, str]) -> None:
    assert built == {name: images.tag(name) for name in ("reference", "toxiproxy")}
    assert build(engine, images.named("reference"), images.named("toxiproxy")) == ["present", "present"]
    for name, tag in built.items():
        found = image_builder.inspected(engine, tag)
        assert found is not None
        assert found["Config"]["Labels"][LABEL] == name
    assert images.missing(engine.endpoint, built) is None


def test_reference_needs_no_network(engine: Engine, built: dict[str, str]) -> None:
    assert "{node,router,controller}" in output_of(engine, built["reference"], [*REFERENCE, "--help"])
    of_ours = ["python3", "-c", "import aftershock.systems_under_test as s, os; print(os.listdir(list(s.__path__)[0]))"]
    assert output_of(engine, built["reference"], of_ours).strip() == "['reference']"


def test_toxiproxy_runs_from_scratch(engine: Engine, built: dict[str, str]) -> None:
    assert "2.12.0" in output_of(engine, built["toxiproxy"], ["/toxiproxy-server", "-version"])


def test_a_reference_node_serves_and_stops_gracefully(tmp_path: Path, built: dict[str, str], name: str) -> None:
    """With the libraries that the image has: older ones than this installation's are refused only when it starts."""
    config = {
        "name": "n1",
        "data": "/tmp/n1",
        "listen": {"peer": ["127.0.0.1", 7001], "http": ["127.0.0.1", 7002]},
        "controllers": {"c1": ["127.0.0.1", 7003]},
    }
    (tmp_path / "n1.json").write_text(json.dumps(config), encoding="utf-8")
    client = docker.DockerClient(base_url=DEFAULT_ENDPOINT)
    try:
        node = client.containers.create(
            built["reference"],
            [*REFERENCE, "node", "--config", "/config/n1.json"],
            network_mode="none",
            labels={"aftershock.test": name},
            volumes={str(tmp_path): {"bind": "/config", "mode": "ro"}},
        )
        node.start()

        def answer(path: str) -> str:
            status, said = node.exec_run(["python3", "-c", ASK, f"http://127.0.0.1:7002{path}"])
            return said.decode() if status == 0 else ""

        wait_until(lambda: answer("/probe?nonce=abc").strip() == "abc", "an answer of the node", deadline_s=60)
        assert json.loads(answer("/status"))["name"] == "n1"
        node.kill("SIGTERM")
        assert node.wait(timeout=30)["StatusCode"] == 0
    finally:
        client.close()


# ------------------------------------------------------------------------------------------------ building


def test_content_decides_what_is_built(engine: Engine, tmp_path: Path, name: str) -> None:
    first = small(tmp_path, name, "one")
    assert build(engine, first) == ["built"]
    second = small(tmp_path, name, "two")
    assert second.tag != first.tag
    assert build(engine, second, small(tmp_path, name, "one")) == ["built", "present"]


def test_a_failed_build_is_a_sentence_and_leaves_no_container(engine: Engine, tmp_path: Path, name: str) -> None:
    before = {container["Id"] for container in engine.api.containers(all=True, filters={"ancestor": BASE_TAG})}
    broken = small(tmp_path, name, "", dockerfile=f"FROM {BASE_TAG}\nRUN echo {name} && exit 3\n")
    with pytest.raises(SetupError, match=f"(?s)image {name} could not be built.*non-zero code: 3"):
        build(engine, broken)
    after = {container["Id"] for container in engine.api.containers(all=True, filters={"ancestor": BASE_TAG})}
    assert after <= before
    assert image_builder.inspected(engine, broken.tag) is None


def test_rebuild_leaves_one_image_of_the_tag(engine: Engine, tmp_path: Path, name: str) -> None:
    image = small(tmp_path, name, "same")
    assert build(engine, image) == ["built"]
    before = image_builder.inspected(engine, image.tag)
    assert before is not None
    assert [one.state for one in image_builder.build(engine, [image], rebuild=True, note=quiet)] == ["built"]
    after = image_builder.inspected(engine, image.tag)
    assert after is not None
    found = engine.api.images(filters={"label": f"{LABEL}={name}"})
    assert [one["Id"] for one in found] == [after["Id"]]


def test_prune_removes_earlier_contents_and_nothing_else(engine: Engine, tmp_path: Path, name: str) -> None:
    old, used, now = (small(tmp_path, name, content) for content in ("old", "used", "now"))
    assert build(engine, old, used, now) == ["built", "built", "built"]
    # Somebody's own image on ours inherits the label; a stopped container uses one too.
    theirs = small(tmp_path, name, "theirs", dockerfile=f"FROM {now.tag}\nCOPY file /theirs\n")
    assert build(engine, theirs) == ["built"]
    engine.api.tag(theirs.tag, f"aftershock-other-{name}", tag="1")
    engine.api.remove_image(theirs.tag)
    container = engine.api.create_container(used.tag, ["/file"], labels={"aftershock.test": name})

    def tags() -> set[str]:
        return {tag for image in engine.api.images(all=True) for tag in image["RepoTags"] or []}

    before = tags()
    pruned = image_builder.prune(engine, keep=[now.tag], only=[name])
    assert pruned.removed == (old.tag,)
    assert pruned.in_use == (used.tag,)
    assert before - tags() == {old.tag}
    engine.api.remove_container(container["Id"])
    assert image_builder.prune(engine, keep=[now.tag], only=[name]).removed == (used.tag,)


def test_missing_says_which_and_what_to_do(engine: Engine) -> None:
    said = images.missing(engine.endpoint, ["reference", "nobody/has-this:1"])
    assert said is not None
    assert "image nobody/has-this:1 is not on the Docker engine" in said
    assert said.endswith(": docker pull nobody/has-this:1")


# ------------------------------------------------------------------------------------------------ the base


@pytest.fixture
def own_base(monkeypatch: pytest.MonkeyPatch, name: str) -> str:
    """The base under a name of this test's, on an engine that no registry answers."""
    tag = f"aftershock-{name}:base"
    monkeypatch.setattr(base_image, "BASE_TAG", tag)
    monkeypatch.setattr(base_image, "BASE", f"base aftershock.test={name}")
    monkeypatch.setattr(base_image, "_why_no_registry", lambda engine: "no such host")
    return tag


def packer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A mmdebstrap that takes no minute."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "mmdebstrap").write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    (folder / "mmdebstrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_what_mmdebstrap_packs_becomes_the_base(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_base: str
) -> None:
    packer(tmp_path, monkeypatch, 'cd "$(dirname "$0")" && tar c mmdebstrap')
    assert base_image.make(engine, note=quiet) == "built"
    found = image_builder.inspected(engine, own_base)
    assert found is not None
    assert found["Config"]["Cmd"] == ["bash"]
    assert found["Config"]["Labels"][LABEL] == "base"


@pytest.mark.parametrize("begun", ["true", 'cd "$(dirname "$0")" && tar c mmdebstrap'], ids=["nothing", "half"])
def test_a_base_that_was_not_finished_gets_no_name(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_base: str, begun: str, name: str
) -> None:
    packer(tmp_path, monkeypatch, f"{begun}\necho 'E: Failed to fetch packages' >&2\nexit 25")
    with pytest.raises(SetupError, match="could not make the base image: a Debian mirror could not be reached"):
        base_image.make(engine, note=quiet)
    assert image_builder.inspected(engine, own_base) is None
    assert engine.api.images(all=True, filters={"label": f"aftershock.test={name}"}) == []


def test_an_interrupted_mmdebstrap_is_asked_to_clean_up(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_base: str
) -> None:
    """All of its group: the real one waits for its children, which take the mounts away."""
    child = f"sh -c 'trap \"touch {tmp_path}/cleaned; exit 1\" TERM; head -c 2000000 /dev/zero; sleep 60'"
    packer(tmp_path, monkeypatch, f"trap : TERM\n{child}")

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(engine.api, "import_image_from_stream", interrupted)
    with pytest.raises(KeyboardInterrupt):
        base_image.make(engine, note=quiet)
    wait_until((tmp_path / "cleaned").exists, "the child of mmdebstrap to clean up", deadline_s=30)
    assert image_builder.inspected(engine, own_base) is None
