"""A host with members on a bridge, made of network namespaces: nothing of it is in this machine's own, or needs Docker.

All of it lives in namespaces that `sleep` processes keep, and goes when they do. The test's thread is in the host's.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from aftershock.harness.identity import ProcessIdentity
from aftershock.harness.network_namespace import enter, inside

from tests.processes.stages import wait_until

BRIDGE = "as-br"
_CLONE_NEWNET = 0x4000_0000


class Ends(NamedTuple):
    """A TCP connection between two members, at both of which the test is."""

    here: socket.socket
    there: socket.socket

    def back(self) -> Ends:
        return Ends(self.there, self.here)

    def close(self) -> None:
        self.here.close()
        self.there.close()


class Bed:
    """Members n1, n2, … at 10.201.7.1, .2, … ."""

    def __init__(self, count: int) -> None:
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._cables = 0
        self.members = [f"n{number}" for number in range(1, count + 1)]
        self.host = self._namespace("host")
        self._open: list[Ends] = []

    def build(self) -> None:
        """In the host's namespace."""
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "link", "set", BRIDGE, "up")
        for name in self.members:
            self.start(name)

    def address(self, member: str) -> str:
        return f"10.201.7.{member[1:]}"

    def pid(self, member: str) -> int | None:
        process = self._processes.get(member)
        return process.pid if process is not None and process.poll() is None else None

    def identity(self, member: str) -> ProcessIdentity:
        pid = self.pid(member)
        found = ProcessIdentity.of(pid) if pid else None
        assert found is not None, f"{member} does not run"
        return found

    def start(self, member: str) -> None:
        process = self._namespace(member)
        self._cables += 1
        device = f"as-{member}-{self._cables}"
        peer = ("type", "veth", "peer", "name", "eth0", "netns", str(process.pid))
        run("ip", "link", "add", device, *peer)
        run("ip", "link", "set", device, "master", BRIDGE, "up")

        def configure() -> None:
            run("ip", "addr", "add", f"{self.address(member)}/24", "dev", "eth0")
            run("ip", "link", "set", "eth0", "up")
            run("ip", "link", "set", "lo", "up")

        inside(process, configure)

    def kill(self, member: str) -> None:
        self._processes[member].kill()
        self._processes[member].wait()

    def connect(self, source: str, target: str, *, timeout_s: float = 3.0) -> Ends:
        """A connection from source to target. Raises OSError."""
        listener = inside(self.identity(target), lambda: socket.create_server((self.address(target), 0)))
        with listener:
            port = listener.getsockname()[1]
            address = (self.address(target), port)
            here = inside(self.identity(source), lambda: socket.create_connection(address, timeout=timeout_s))
            listener.settimeout(timeout_s)
            there, _ = listener.accept()
        for each in (here, there):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            each.settimeout(3)
        self._open.append(Ends(here, there))
        return self._open[-1]

    def state(self) -> dict[str, str]:
        """All rules, and the queueing disciplines of the host, to be compared before and after."""
        found = {"host": run("nft", "list", "ruleset"), "disciplines": run("tc", "qdisc", "show")}
        for name in self.members:
            if self.pid(name):
                found[name] = inside(self.identity(name), lambda: run("nft", "list", "ruleset"))
        return found

    def close_connections(self) -> None:
        for ends in self._open:
            ends.close()
        self._open.clear()

    def close(self) -> None:
        self.close_connections()
        for process in self._processes.values():
            process.kill()
            process.wait()

    def _namespace(self, name: str) -> ProcessIdentity:
        process = subprocess.Popen(["unshare", "--net", "sleep", "1000"])
        self._processes[name] = process
        ours = Path("/proc/thread-self/ns/net").stat().st_ino

        def apart() -> bool:
            with suppress(FileNotFoundError):
                return Path(f"/proc/{process.pid}/ns/net").stat().st_ino != ours
            return False

        wait_until(apart, f"a namespace for {name}")
        identity = ProcessIdentity.of(process.pid)
        assert identity is not None
        return identity


@contextmanager
def bed(count: int) -> Iterator[Bed]:
    """A bed, with this thread in its host's namespace meanwhile."""
    made = Bed(count)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        enter(made.host)
        made.build()
        yield made
    finally:
        made.close()
        assert ctypes.CDLL(None).setns(home, _CLONE_NEWNET) == 0
        os.close(home)


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def transit_s(ends: Ends, data: bytes = b"x", *, timeout_s: float = 3.0) -> float | None:
    """Seconds until all of this has come from here to there; None when it has not in time."""
    begun = time.monotonic()
    missing = len(data)
    ends.there.settimeout(timeout_s)
    ends.here.settimeout(timeout_s)
    try:
        ends.here.sendall(data)
        while missing:
            new = ends.there.recv(1 << 16)
            if not new:
                raise ConnectionError("closed")
            missing -= len(new)
    except TimeoutError:
        return None
    return time.monotonic() - begun


def tcp_info(end: socket.socket, at: int) -> int:
    """A 32-bit field of struct tcp_info (linux/tcp.h): 216 is tcpi_dsack_dups, 224 tcpi_rcv_ooopack."""
    return int(struct.unpack_from("=I", end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), at)[0])
