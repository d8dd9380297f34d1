"""A user's Compose file as a project of one run: what is changed, what is refused, and which tool reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aftershock.harness import images
from aftershock.harness.backends import compose_tool
from aftershock.harness.backends.compose import ComposeBackend, ComposeBackendSettings
from aftershock.harness.backends.compose_project import parse_project
from aftershock.harness.errors import SetupError, UsageError
from pydantic import ValidationError

WEB: dict[str, Any] = {"image": "nginx:stable", "ports": ["127.0.0.1:8080:80"]}


def resolved(**services: Any) -> dict[str, Any]:
    return {"version": "3.9", "services": services}


def for_run(file: dict[str, Any], **settings: Any) -> dict[str, Any]:
    text = parse_project(file, join_networks=settings.get("join_networks", False)).for_run(
        network="run-net",
        address=lambda name: f"10.0.0.{len(name)}",
        labels={"token": "t"},
        environment={"AFTERSHOCK_RUN": "t"},
        folder=Path("/home/me/My Shop"),
    )
    found: dict[str, Any] = json.loads(text)
    return found


def test_nothing_listens_beyond_the_run_and_everything_carries_its_label() -> None:
    web = {**WEB, "container_name": "fixed", "restart": "always", "environment": ["A=1", "B"], "labels": ["x=y"]}
    made = for_run({**resolved(web=web), "volumes": {"data": {"name": "shop_data"}, "other": None}})

    service = made["services"]["web"]
    assert not {"ports", "container_name"} & set(service)
    assert service["restart"] == "no"
    assert service["environment"] == {"A": "1", "B": None, "AFTERSHOCK_RUN": "t"}
    assert service["labels"] == {"x": "y", "token": "t", "aftershock.member": "web"}
    assert service["networks"] == {"aftershock": {"ipv4_address": "10.0.0.3", "aliases": ["fixed", "web"]}}
    assert made["networks"] == {"aftershock": {"external": True, "name": "run-net"}}
    assert made["volumes"] == {"data": {"labels": {"token": "t"}}, "other": {"labels": {"token": "t"}}}
    assert made["version"] == "3.9"


def test_what_is_not_ours_to_change_stays() -> None:
    web = {**WEB, "mem_limit": "64m", "healthcheck": {"test": ["CMD", "true"]}, "volumes": ["/a:/b:ro"]}
    made = for_run({**resolved(web=web), "secrets": {"key": {"file": "/k"}}})

    assert {key: made["services"]["web"][key] for key in ("mem_limit", "healthcheck", "volumes", "image")} == {
        "mem_limit": "64m",
        "healthcheck": {"test": ["CMD", "true"]},
        "volumes": ["/a:/b:ro"],
        "image": "nginx:stable",
    }
    assert made["secrets"] == {"key": {"file": "/k"}}


def test_images_of_ours_go_by_their_bare_name_and_built_ones_by_the_folders() -> None:
    made = for_run(resolved(web={"image": "aftershock-nginx"}, app={"build": {"context": "/x"}}, db={"image": "pg"}))

    assert made["services"]["web"]["image"] == images.tag("nginx")
    assert made["services"]["app"]["image"] == "myshop_app"
    assert made["services"]["db"]["image"] == "pg"


@pytest.mark.parametrize(
    ("service", "says"),
    [
        ({"privileged": True}, "is privileged"),
        ({"network_mode": "host"}, "network_mode: host"),
        ({"pid": "host"}, "pid: host"),
        ({"ipc": "host"}, "ipc: host"),
        ({"networks": {"default": {"ipv4_address": "10.1.1.1"}}}, "fixed address"),
        ({"scale": 3}, "3 times"),
        ({"deploy": {"replicas": 2}}, "2 times"),
    ],
)
def test_what_reaches_beyond_the_run_is_refused(service: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_project(resolved(web={**WEB, **service}), join_networks=False)


@pytest.mark.parametrize("kind", ["networks", "volumes"])
def test_what_somebody_else_made_is_refused(kind: str) -> None:
    with pytest.raises(UsageError, match="is external"):
        parse_project({**resolved(web=WEB), kind: {"shared": {"external": True}}}, join_networks=False)


def test_several_networks_are_joined_only_when_that_is_said() -> None:
    file = resolved(web={**WEB, "networks": {"front": None, "back": None}}, db={"image": "pg", "networks": ["back"]})
    with pytest.raises(UsageError, match=r"\(back, front\).*join_networks = true"):
        parse_project(file, join_networks=False)

    assert set(for_run(file, join_networks=True)["services"]["db"]["networks"]) == {"aftershock"}


def test_services_start_after_those_they_depend_on_whichever_way_that_is_written() -> None:
    project = parse_project(
        resolved(
            web={**WEB, "depends_on": {"app": {"condition": "service_healthy"}}},
            app={"image": "a", "depends_on": ["db"]},
            db={"image": "pg"},
        ),
        join_networks=False,
    )

    assert project.order() == ["db", "app", "web"]
    assert project.conditions("web") == {"app": "service_healthy"}
    assert project.conditions("app") == {"db": "service_started"}


# ------------------------------------------------------------------------------------------------ the tool


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_the_plugin_comes_before_the_older_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    program(tmp_path, "docker-compose", 'echo "1.29.2"')
    old = compose_tool.find_tool()
    program(tmp_path, "docker", '[ "$1" = compose ] && echo "2.20.3"')
    new = compose_tool.find_tool()

    assert old is not None
    assert new is not None
    assert (old.words, new.words) == ("docker-compose 1.29.2", "docker compose 2.20.3")


def test_a_client_without_the_plugin_is_no_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    program(tmp_path, "docker", 'echo "docker: unknown command: docker compose"; exit 1')

    assert compose_tool.find_tool() is None
    assert "apt-get install docker-compose" in compose_tool.why_no_tool()


def test_the_tool_is_given_the_runs_endpoint_and_its_refusal_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, "tool", 'echo "services: {web: {image: \\"$DOCKER_HOST$DOCKER_CONTEXT\\"}}"')
    monkeypatch.setenv("DOCKER_CONTEXT", "elsewhere")
    tool = compose_tool.ComposeTool(argv=(str(tmp_path / "tool"),), version="9")
    found = tool.resolve([tmp_path / "a.yml"], endpoint="unix:///here")
    assert found["services"]["web"]["image"] == "unix:///here"

    program(tmp_path, "tool", "echo 'line 3: no such key' >&2; exit 14")
    with pytest.raises(SetupError, match="would not read the Compose file: line 3: no such key"):
        tool.resolve([tmp_path / "a.yml"], endpoint="unix:///here")


def test_a_missing_file_is_said_before_anything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    reason = ComposeBackend(ComposeBackendSettings(file="nowhere.yml")).available()

    assert reason is not None
    assert f"no Compose file {tmp_path / 'nowhere.yml'}" in reason


def test_limits_are_the_files_own() -> None:
    with pytest.raises(ValidationError, match="cpus: the limits"):
        ComposeBackendSettings(file="x", cpus=1)
