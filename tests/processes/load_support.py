"""What the tests of the load share: a stub service in a process of its own, and loads against it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from aftershock.harness.interfaces import Address, ClientSpec
from aftershock.harness.scenario import LoadPlan, WorkloadPlan
from aftershock.workloads.convert import convert
from aftershock.workloads.launcher import LoadHandle, LoadSpec, start_load

BOTH = (WorkloadPlan(name="cas-register", share=0.5), WorkloadPlan(name="insert-only", share=0.5))


def wait_until(condition: Callable[[], bool], what: str, *, deadline_s: float = 20) -> None:
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {deadline_s} s: {what}"
        time.sleep(0.005)


@dataclass
class Service:
    """The stub, and what it testifies to have seen."""

    process: subprocess.Popen[bytes]
    address: Address
    seen_file: Path

    def seen(self) -> list[tuple[int, int]]:
        """(process, sequence) of every request, in order of arrival."""
        lines = self.seen_file.read_text().split() if self.seen_file.exists() else []
        # `<token of the load>-<process>:<sequence>`
        named = (line.rpartition("-")[2].partition(":") for line in lines)
        return [(int(process), int(sequence)) for process, _, sequence in named]

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: _state(self.process.pid) == "T", "the stub is stopped")

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def serving(folder: Path, *options: str) -> Iterator[Service]:
    port_file, seen_file = folder / "port", folder / "seen"
    script = Path(__file__).with_name("stub_service.py")
    process = subprocess.Popen(
        [sys.executable, str(script), str(port_file), str(seen_file), *options], stdin=subprocess.PIPE
    )
    try:
        wait_until(port_file.exists, "the stub listens")
        yield Service(process, Address("127.0.0.1", int(port_file.read_text())), seen_file)
    finally:
        process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()


def reference_clients(routers: dict[str, Address]) -> ClientSpec:
    """Clients of the reference cluster's API, each group at its router."""
    return ClientSpec(
        client="aftershock.workloads.clients.reference:ReferenceClient",
        groups={group: {"router": address} for group, address in routers.items()},
    )


@contextlib.contextmanager
def loading(
    folder: Path, endpoints: dict[str, Address] | ClientSpec, *, begin: bool = True, **options: Any
) -> Iterator[LoadHandle]:
    """A load in `folder`, begun unless said otherwise. Options are LoadPlan's, or LoadSpec's seed, workloads, …"""
    own = {name: options.pop(name) for name in ("seed", "workloads", "slots_per_file") if name in options}
    clients = endpoints if isinstance(endpoints, ClientSpec) else reference_clients(endpoints)
    spec = LoadSpec(**{"seed": 7, "workloads": BOTH, **own}, load=LoadPlan(**options), clients=clients, folder=folder)
    with start_load(spec) as load:
        if begin:
            load.begin(time.monotonic_ns() + 50_000_000)
        yield load


def history_of(load_folder: Path) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The converted history and load.json."""
    folder = load_folder.with_name(load_folder.name + "-history")
    summary = convert(load_folder, folder, shard_of=lambda key: None)
    return pl.concat([pl.read_ipc_stream(path) for path in sorted(folder.glob("*.arrow"))]), summary


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie that waits for its parent has)."""
    try:
        return _state(pid) in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return True


def listening(pid: int) -> list[str]:
    """Local addresses (hexadecimal) on which a process listens."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            inodes.add(str(descriptor.readlink()))
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                found.append(fields[1])
    return found


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
