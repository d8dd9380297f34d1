"""All of this machine that a run could leave changed, as it is now, and how two such states differ.

A machine may be used by several at once. What the engine has without our runs' label (which it gets as it is made) is
somebody else's, and so are its links, rules and cgroups; of those, what belongs to nothing that the engine knows counts
as left behind. Everything is read from the kernel and the engine, nothing from a run's own books.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aftershock.harness.backends.docker_engine import DEFAULT_ENDPOINT
from aftershock.harness.identity import TOKEN_VARIABLE
from aftershock.harness.inverses.containers import TOKEN_LABEL

from tests.docker.stages import engine

__all__ = ["MachineState", "compare", "snapshot", "wait_same"]

_RUN_LABEL = "aftershock.run"
_WATCHDOG = "aftershock.harness.watchdog"
_HEX_ID = re.compile(r"[0-9a-f]{64}")
# Names that the engine, or our backend for it, gives to what comes and goes with a container, a network or a run.
_ENGINES_OWN = re.compile(r"^veth| on veth|aftershock_[0-9a-f]{12}|\b(as-[0-9a-f]{10}|br-[0-9a-f]{12})\b|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineState:
    """Kind of thing -> every thing of it, in words that tell it from all others."""

    things: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Others:
    """What the engine has of runs that are not below our folder: ids, bridges and run ids."""

    containers: frozenset[str]
    bridges: frozenset[str]
    run_ids: frozenset[str]


def snapshot(folder: Path) -> MachineState:
    """The machine now. Runs whose folders are below `folder` are ours."""
    found: dict[str, Iterable[str]] = {}
    others = _Others(containers=frozenset(), bridges=frozenset(), run_ids=frozenset())
    if Path(DEFAULT_ENDPOINT.removeprefix("unix://")).exists():
        others = _engine_state(folder, found)
    found["rule"] = _rules(others)
    found["link"] = _links(others)
    found["queueing discipline"] = _disciplines(others)
    found["mount"] = _mounts(folder)
    found["loop device"] = _loop_devices(folder)
    found["cgroup"] = _cgroups(others)
    processes = list(_processes(folder))
    found["process"] = [f"{pid}: {command}" for pid, command in processes]
    found["listening socket"] = _listening({os.getpid(), *(pid for pid, _ in processes)})
    found["registration"] = [str(path) for path in folder.rglob("aftershock/runs/*.json")]
    return MachineState(things={kind: frozenset(each) for kind, each in found.items()})


def compare(before: MachineState, after: MachineState) -> list[str]:
    """What is there that was not, and the other way round, as sentences; empty when nothing changed."""
    said = []
    for kind in sorted({*before.things, *after.things}):
        was, now = before.things.get(kind, frozenset()), after.things.get(kind, frozenset())
        said += [f"a {kind} was left behind: {one}" for one in sorted(now - was)]
        # Other people's processes and their cgroups end when they like.
        gone = was - now if kind not in ("cgroup", "process", "listening socket") else ()
        said += [f"a {kind} is gone that was there before: {one}" for one in sorted(gone) if not _passing(one)]
    return said


def _passing(one: str) -> bool:
    """Somebody's container or network was made or removed while we looked, with half of what belongs to it there."""
    return _ENGINES_OWN.search(one) is not None


def wait_same(before: MachineState, folder: Path, *, deadline_s: float = 15.0) -> None:
    """Until every difference has been seen to go; fails with those that were there all the time.

    What others do on this machine comes and goes meanwhile, now this and now that; what was left behind stays.
    """
    until = time.monotonic() + deadline_s
    different = set(compare(before, snapshot(folder)))
    while different:
        assert time.monotonic() < until, f"not as before within {deadline_s:g} s:\n" + "\n".join(sorted(different))
        time.sleep(0.2)
        different &= set(compare(before, snapshot(folder)))


# ------------------------------------------------------------------------------------------------ the engine


def _engine_state(folder: Path, found: dict[str, Iterable[str]]) -> _Others:
    with engine() as api:
        containers, networks = api.containers(all=True), api.networks()
        volumes = api.volumes()["Volumes"] or []

    def theirs(item: Mapping[str, object]) -> bool:
        labels = item.get("Labels")
        token = labels.get(TOKEN_LABEL) if isinstance(labels, dict) else None
        return token is None or not Path(token).is_relative_to(folder)

    found["container"] = [f"{one['Names']} {one['Id']}" for one in containers if not theirs(one)]
    found["network"] = [f"{one['Name']} {one['Id']}" for one in networks if not theirs(one)]
    found["volume"] = [str(one["Name"]) for one in volumes if not theirs(one)]
    # The engine's own networks are there for good, and their bridge is not somebody's.
    own = {"bridge", "host", "none"}
    networks = [one for one in networks if one["Name"] not in own]
    foreign = [one for one in (*containers, *networks) if theirs(one)]
    return _Others(
        containers=frozenset(str(one["Id"]) for one in containers if theirs(one)),
        bridges=frozenset(
            (one.get("Options") or {}).get("com.docker.network.bridge.name") or f"br-{one['Id'][:12]}"
            for one in networks
            if theirs(one)
        ),
        run_ids=frozenset(filter(None, ((one.get("Labels") or {}).get(_RUN_LABEL) for one in foreign))),
    )


# ------------------------------------------------------------------------------------------------ the network


def _said(*command: str) -> str:
    """What a program says; nothing where it is not installed, for then nothing was done with it either."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    except FileNotFoundError:
        return ""


def _rules(others: _Others) -> Iterator[str]:
    """Each rule with its table and chain, without counters."""
    table, inner, skipped = "", "", False
    for line in _said("nft", "--stateless", "list", "ruleset").splitlines():
        if line.startswith("table "):
            table, inner, skipped = line.removesuffix("{").strip(), "", False
        elif line.strip().startswith("comment ") and not inner:
            skipped = any(run_id in line for run_id in others.run_ids)
            continue
        elif line.startswith("\t") and line.endswith("{"):
            inner = line.removesuffix("{").strip()
        if not skipped and not any(f'"{bridge}"' in line for bridge in others.bridges) and line.strip(" \t}"):
            yield f"{table} / {inner} / {line.strip()}"


def _device_names(others: _Others) -> dict[str, bool]:
    """Name of every link -> whether it is another run's."""
    devices = json.loads(_said("ip", "-json", "link", "show") or "[]")
    return {one["ifname"]: one["ifname"] in others.bridges or one.get("master") in others.bridges for one in devices}


def _links(others: _Others) -> Iterator[str]:
    yield from (name for name, theirs in _device_names(others).items() if not theirs)
    folder = Path("/run/netns")
    yield from (f"network namespace {one.name}" for one in (folder.iterdir() if folder.exists() else ()))


def _disciplines(others: _Others) -> Iterator[str]:
    theirs = _device_names(others)
    for one in json.loads(_said("tc", "-json", "qdisc", "show") or "[]"):
        if not theirs.get(one["dev"], False):
            yield f"{one['kind']} {one['handle']} on {one['dev']}"


# ------------------------------------------------------------------------------------------------ files and processes


def _mounts(folder: Path) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        place = line.split()[4]
        # The engine's own, one or two for each container, are told apart by the containers.
        if Path(place).is_relative_to(folder) or not place.startswith(("/var/lib/docker", "/run/docker", "/tmp/")):
            yield place


def _loop_devices(folder: Path) -> Iterator[str]:
    for line in _said("losetup", "--all", "--raw", "--noheadings", "--output", "NAME,BACK-FILE").splitlines():
        name, _, file = line.partition(" ")
        if Path(file).is_relative_to(folder) or "(deleted)" in file:
            yield f"{name} of {file}"


def _cgroups(others: _Others) -> Iterator[str]:
    root = Path("/sys/fs/cgroup")
    for place, folders, _ in os.walk(root):
        depth = len(Path(place).relative_to(root).parts)
        folders[:] = folders if depth < 4 else []
        for name in folders:
            path = Path(place, name)
            owners = _HEX_ID.findall(str(path))
            ours = owners or "aftershock" in name
            if ours and not any(owner in others.containers for owner in owners):
                yield str(path)


def _processes(folder: Path) -> Iterator[tuple[int, str]]:
    """Those that carry the token of a run below the folder, its watchdogs, and who stands inside of it."""
    inside = f"{folder}{os.sep}"
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            environment = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
            where = str((entry / "cwd").readlink())
        except OSError:
            continue  # gone in between
        token = next((one for one in environment if one.startswith(f"{TOKEN_VARIABLE}=")), "")
        watchdog = _WATCHDOG in command and inside in command
        if command and (inside in token or watchdog or f"{where}{os.sep}".startswith(inside)):
            yield int(entry.name), command


def _listening(pids: set[int]) -> Iterator[str]:
    """Sockets on which one of these processes listens, in this network namespace."""
    listening = {}
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                listening[f"socket:[{fields[9]}]"] = f"{name} {fields[1]}"
    for pid in pids:
        with suppress(OSError):  # gone in between
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):  # that of this very look
                    held = str(descriptor.readlink())
                    if held in listening:
                        yield f"{listening[held]} of process {pid}"
