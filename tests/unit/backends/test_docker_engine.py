"""An engine that cannot be used: what, where, and the command that mends it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import docker.errors
import pytest
from aftershock.harness.backends import docker_engine
from aftershock.harness.backends.docker import DockerBackendSettings
from aftershock.harness.backends.docker_containers import _signal_number
from aftershock.harness.backends.docker_engine import Engine, EngineLostError, not_followed, why_unreachable
from aftershock.harness.errors import SetupError
from aftershock.harness.inverses import by_hand, rank, undo
from pydantic import ValidationError


@contextmanager
def server(path: Path, answer: bytes | None) -> Iterator[str]:
    """Something at a Unix socket that gives everybody the same answer, or none at all."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    kept: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            kept.append(connection)
            if answer is not None:
                connection.recv(65536)
                connection.sendall(answer)
                connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"unix://{path}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for connection in kept:
            connection.close()


def http(status: int, body: object) -> bytes:
    content = json.dumps(body).encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(content), content)


def test_no_socket(tmp_path: Path) -> None:
    reason = why_unreachable(f"unix://{tmp_path}/no.sock")
    assert reason is not None
    assert "apt-get install docker.io" in reason
    assert "systemctl start docker" in reason
    with pytest.raises(SetupError, match="there is no Docker engine"):
        Engine.open(f"unix://{tmp_path}/no.sock")


def test_nobody_listens(tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as bound:
        bound.bind(str(tmp_path / "dead.sock"))
    reason = why_unreachable(f"unix://{tmp_path}/dead.sock")
    assert reason is not None
    assert "systemctl start docker" in reason


def test_not_permitted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("aftershock.harness.inverses.containers.UnixConnection.connect", refuse)
    reason = why_unreachable("unix:///var/run/docker.sock")
    assert reason == "this user may not use the Docker engine at unix:///var/run/docker.sock: run it with sudo"


def test_one_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_engine, "_PING_TIMEOUT_S", 0.1)
    with server(tmp_path / "slow.sock", None) as endpoint:
        reason = why_unreachable(endpoint)
    assert reason is not None
    assert "did not answer within 0.1 s" in reason


@pytest.mark.parametrize("answer", [http(404, {}), http(200, {"hello": 1}), b"SSH-2.0\r\n"])
def test_something_else(tmp_path: Path, answer: bytes) -> None:
    with server(tmp_path / "other.sock", answer) as endpoint:
        reason = why_unreachable(endpoint)
    assert reason is not None
    assert endpoint in reason


def test_a_refusal_and_a_silence_are_told_apart(tmp_path: Path) -> None:
    engine = Engine(f"unix://{tmp_path}/gone.sock", None, "1")  # type: ignore[arg-type]
    with pytest.raises(SetupError, match="the Docker engine would not start n1: no room"), engine.asked_to("start n1"):
        raise docker.errors.APIError("409", explanation="no room")
    with pytest.raises(EngineLostError, match="could not start n1: there is no Docker engine"):  # noqa: SIM117
        with engine.asked_to("start n1"):
            raise ConnectionResetError("gone")


def test_the_environment_is_not_followed_and_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert not_followed("unix:///a") is None
    (tmp_path / "config.json").write_text('{"currentContext": "production"}')
    assert not_followed("unix:///a") == (
        "the docker context (production) is not followed: this run uses the Docker engine at unix:///a"
    )
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.1:2376")
    assert "DOCKER_HOST (tcp://10.0.0.1:2376) is not followed" in str(not_followed("unix:///a"))
    monkeypatch.setenv("DOCKER_HOST", "unix:///a")
    assert not_followed("unix:///a") is None


def test_settings_take_sockets_of_this_machine_only() -> None:
    with pytest.raises(ValidationError, match="expected unix:///PATH"):
        DockerBackendSettings(endpoint="tcp://10.0.0.1:2375")
    with pytest.raises(ValidationError, match="private range"):
        DockerBackendSettings.model_validate({"address_range": "8.8.8.0/24"})


@pytest.mark.parametrize(("name", "number"), [(None, 15), ("SIGQUIT", 3), ("QUIT", 3), ("3", 3), ("SIGNONSENSE", 15)])
def test_stop_signals_as_images_name_them(name: str | None, number: int) -> None:
    assert _signal_number(name) == number


# ------------------------------------------------------------------------------------------------ inverses


def test_what_an_engine_that_is_gone_leaves_is_said(tmp_path: Path) -> None:
    arguments = {"endpoint": f"unix://{tmp_path}/gone.sock", "token": "/runs/r 1"}
    for inverse in ("remove-containers", "remove-networks"):
        with pytest.raises(RuntimeError, match=r"does not answer .*aftershock heal"):
            undo(inverse, arguments)
        assert "--filter 'label=aftershock.token=/runs/r 1'" in by_hand(inverse, arguments)
    assert rank("continue-container") < rank("remove-containers") < rank("remove-networks")


def test_what_an_engine_will_not_remove_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aftershock.harness.inverses.containers._REMOVE_DEADLINE_S", 0.2)
    monkeypatch.setattr("aftershock.harness.inverses.containers._ask", _stubborn)
    with pytest.raises(RuntimeError, match="1 networks of the run are still there: it has active endpoints"):
        undo("remove-networks", {"endpoint": "unix:///x", "token": "t"})


def _stubborn(_endpoint: str, method: str, _path: str) -> list[dict[str, str]]:
    if method == "DELETE":
        raise RuntimeError("it has active endpoints")
    return [{"Id": "n1"}]
