"""The comparison of machine states sees everything that it must catch, one planted thing after another."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from aftershock.harness.identity import TOKEN_VARIABLE
from aftershock.harness.inverses.containers import TOKEN_LABEL

from tests.docker.stages import engine
from tests.nightly.machine_state import MachineState, compare, snapshot, wait_same

pytestmark = [pytest.mark.nightly, pytest.mark.processes, pytest.mark.docker]


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def commands(before: list[str], after: list[str]) -> Iterator[None]:
    run(*before)
    try:
        yield
    finally:
        run(*after)


@contextmanager
def process(folder: Path) -> Iterator[None]:
    environment = {**os.environ, TOKEN_VARIABLE: str(folder / "run")}
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], env=environment) as child:
        try:
            yield
        finally:
            child.kill()


@contextmanager
def network(folder: Path) -> Iterator[None]:
    with engine() as api:
        labels = {TOKEN_LABEL: str(folder / "run")}
        made = api.create_network(f"planted-{secrets.token_hex(4)}", internal=True, labels=labels)
        try:
            yield
        finally:
            api.remove_network(made["Id"])


@contextmanager
def loop_device(folder: Path) -> Iterator[None]:
    file = folder / "disk"
    file.write_bytes(b"\0" * (1 << 20))
    device = run("losetup", "--find", "--show", str(file))
    try:
        yield
    finally:
        run("losetup", "--detach", device)


@contextmanager
def registration(folder: Path) -> Iterator[None]:
    path = folder / "state" / "aftershock" / "runs" / "r.json"
    path.parent.mkdir(parents=True)
    path.touch()
    yield
    path.unlink()


@contextmanager
def listener(_: Path) -> Iterator[None]:
    with socket.create_server(("127.0.0.1", 0)):
        yield


@contextmanager
def cgroup(_: Path) -> Iterator[None]:
    path = Path("/sys/fs/cgroup/memory", f"aftershock-planted-{secrets.token_hex(4)}")
    path.mkdir()
    try:
        yield
    finally:
        path.rmdir()


@contextmanager
def mount(folder: Path) -> Iterator[None]:
    place = folder / "mounted"
    place.mkdir()
    with commands(["mount", "-t", "tmpfs", "none", str(place)], ["umount", str(place)]):
        yield


@contextmanager
def rule(_: Path) -> Iterator[None]:
    table = f"planted_{secrets.token_hex(4)}"
    with commands(["nft", "add", "table", "bridge", table], ["nft", "delete", "table", "bridge", table]):
        yield


@contextmanager
def discipline(_: Path) -> Iterator[None]:
    tc = ["tc", "qdisc"]
    with (
        link(Path()) as name,
        commands([*tc, "add", "dev", name, "root", "pfifo"], [*tc, "del", "dev", name, "root"]),
    ):
        yield


@contextmanager
def link(_: Path) -> Iterator[str]:
    name = f"pl{secrets.token_hex(4)}"
    pair = ["ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}p"]
    with commands(pair, ["ip", "link", "delete", name]):
        yield name


PLANTED: dict[str, Callable[[Path], AbstractContextManager[object]]] = {
    "process": process,
    "network": network,
    "loop device": loop_device,
    "registration": registration,
    "listening socket": listener,
    "cgroup": cgroup,
    "mount": mount,
    "rule": rule,
    "link": link,
    "queueing discipline": discipline,
}


@pytest.mark.parametrize("kind", PLANTED)
def test_what_is_planted_is_seen_until_it_is_removed(tmp_path: Path, kind: str) -> None:

    before = snapshot(tmp_path)
    with PLANTED[kind](tmp_path):
        during = snapshot(tmp_path)
        left = [one for one in compare(before, during) if one.startswith(f"a {kind} was left behind: ")]
        assert left, compare(before, during)
    wait_same(before, tmp_path, deadline_s=30)


def test_equal_states_do_not_differ() -> None:
    state = MachineState(things={"rule": frozenset({"a"})})

    assert compare(state, MachineState(things={"rule": frozenset({"a"})})) == []
    assert compare(state, MachineState(things={})) == ["a rule is gone that was there before: a"]
    assert compare(MachineState(things={}), state) == ["a rule was left behind: a"]
