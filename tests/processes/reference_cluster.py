"""A reference cluster of child processes for tests and benchmarks: direct links, or links that can be cut.

The proxies here are a few lines of asyncio: a blocked flow is silence on open connections, and healing closes them, as
with the process backend's Toxiproxy links. They exist so that the cluster can be tested without the harness.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aftershock.systems_under_test.reference.ring import shard_of

MODULE = "aftershock.systems_under_test.reference"


def wait_until(condition: Callable[[], Any], *, what: str, deadline_s: float = 20.0) -> Any:
    """Poll until `condition` gives something true; its last answer is in the message otherwise."""
    deadline = time.monotonic() + deadline_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"after {deadline_s} s still not: {what}; last seen {found!r}")
        time.sleep(0.02)


def reserve_port() -> socket.socket:
    """A port that stays ours: bound, not listening, and the member binds it too by SO_REUSEADDR."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return holder


class Client:
    """One keep-alive connection to a router. Answers (status, body); (0, {}) when the connection broke."""

    _numbers = itertools.count(1)

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._connection = http.client.HTTPConnection(*address, timeout=5)

    def call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        content = None if body is None else json.dumps(body)
        try:
            self._connection.request(method, path, content, dict(headers or {}))
            response = self._connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException):
            self.close()
            self._connection = http.client.HTTPConnection(*self._address, timeout=5)
            return 0, {}

    def put(self, key: str, value: Any, **headers: str) -> tuple[int, dict[str, Any]]:
        return self.call("PUT", f"/v1/keys/{key}", {"value": value}, headers)

    def get(self, key: str) -> tuple[int, dict[str, Any]]:
        return self.call("GET", f"/v1/keys/{key}")

    def insert(self, key: str, value: Any) -> tuple[int, dict[str, Any]]:
        return self.call("POST", f"/v1/keys/{key}/insert", {"value": value})

    def cas(self, key: str, expect: Any, value: Any) -> tuple[int, dict[str, Any]]:
        return self.call("POST", f"/v1/keys/{key}/cas", {"expect": expect, "value": value})

    def close(self) -> None:
        self._connection.close()


class Proxies:
    """Directed links (source, target), each with its own listening port; all in one thread with one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._cut: frozenset[tuple[str, str]] = frozenset()
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, source: str, target: str, address: tuple[str, int]) -> tuple[str, int]:
        """Address at which `source` reaches `target`, which listens at `address`."""

        async def serve() -> tuple[str, int]:
            async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                task = asyncio.current_task()
                assert task is not None
                self._tasks.add(task)
                try:
                    await self._carry(source, target, address, reader, writer)
                finally:
                    self._tasks.discard(task)

            server = await asyncio.start_server(accept, "127.0.0.1", 0)
            self._servers.append(server)
            host, port = server.sockets[0].getsockname()[:2]
            return host, port

        return self._run(serve())

    def cut(self, flows: Iterable[tuple[str, str]]) -> None:
        """Bytes from a to b vanish, for every (a, b) given; connections stay open."""
        self._cut = frozenset(flows)

    def heal(self) -> None:
        """Carry everything again, on new connections."""
        self._cut = frozenset()
        self._run(self._drop_connections())

    def close(self) -> None:
        async def close() -> None:
            for server in self._servers:
                server.close()
            await self._drop_connections()

        self._run(close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)

    async def _drop_connections(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry(
        self,
        source: str,
        target: str,
        address: tuple[str, int],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError), contextlib.ExitStack() as stack:
            stack.callback(writer.close)
            far_reader, far_writer = await asyncio.open_connection(*address)
            stack.callback(far_writer.close)
            there = asyncio.create_task(self._pump((source, target), reader, far_writer))
            back = asyncio.create_task(self._pump((target, source), far_reader, writer))
            stack.callback(there.cancel)
            stack.callback(back.cancel)
            await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)

    async def _pump(self, flow: tuple[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if flow not in self._cut:
                    writer.write(data)


class LocalCluster:
    """Nodes n1.., a controller c1 and routers r1.. as child processes; every child is ended on leaving."""

    def __init__(
        self,
        folder: Path,
        *,
        nodes: int = 3,
        routers: int = 2,
        settings: Mapping[str, Any] | None = None,
        proxied: bool = False,
    ) -> None:
        """`proxied`: members reach each other through `proxies`, which can cut them off. Clients do not."""
        self.folder = folder
        self.nodes = [f"n{number}" for number in range(1, nodes + 1)]
        self.routers = [f"r{number}" for number in range(1, routers + 1)]
        self.controllers = ["c1"]
        self.settings = dict(settings or {})
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._clients: list[Client] = []
        self.proxies = Proxies() if proxied else None
        self._holders: dict[tuple[str, str], socket.socket] = {}
        for member in (*self.nodes, *self.controllers, *self.routers):
            for port in ("peer", "http"):
                self._holders[member, port] = reserve_port()
        for member in (*self.nodes, *self.controllers, *self.routers):
            self._configure(member)

    def client(self, router: str) -> Client:
        """A connection to a router; closed with the cluster."""
        client = Client(self.address(router))
        self._clients.append(client)
        return client

    def address(self, member: str, port: str = "http") -> tuple[str, int]:
        host, number = self._holders[member, port].getsockname()
        return host, number

    def role(self, member: str) -> str:
        return {"n": "node", "c": "controller", "r": "router"}[member[0]]

    def _configure(self, member: str) -> None:
        addresses = {name: self.address(name, "peer") for name in (*self.nodes, *self.controllers) if name != member}
        if self.proxies is not None:
            addresses = {name: self.proxies.add(member, name, address) for name, address in addresses.items()}
        listen = {"http": self.address(member)}
        config: dict[str, Any] = {"name": member, "data": str(self.folder / member), "listen": listen}
        role = self.role(member)
        if role != "router":
            listen["peer"] = self.address(member, "peer")
        if role == "node":
            config["peers"] = {name: addresses[name] for name in self.nodes if name != member}
        else:
            config["nodes"] = {name: addresses[name] for name in self.nodes}
        if role == "controller":
            config["expected_nodes"] = self.nodes
        else:
            config["controllers"] = {name: addresses[name] for name in self.controllers}
        config["settings"] = self.settings
        (self.folder / f"{member}.json").write_text(json.dumps(config))

    def start(self, *members: str) -> None:
        for member in members:
            arguments = [
                sys.executable,
                "-m",
                MODULE,
                self.role(member),
                "--config",
                str(self.folder / f"{member}.json"),
            ]
            with (self.folder / f"{member}.log").open("ab") as output:
                self.processes[member] = subprocess.Popen(arguments, stdout=output, stderr=output)

    def start_all(self) -> None:
        self.start(*self.controllers, *self.nodes, *self.routers)

    def kill(self, *members: str) -> None:
        for member in members:
            self.processes[member].kill()
        for member in members:
            self.processes[member].wait()

    def stop(self, member: str) -> int:
        """SIGTERM; the exit status."""
        self.processes[member].terminate()
        return self.processes[member].wait(timeout=10)

    def signal(self, member: str, number: int) -> None:
        os.kill(self.processes[member].pid, number)

    def ask(self, member: str, path: str) -> Any:
        """GET a page of a member; None when it does not answer."""
        connection = http.client.HTTPConnection(*self.address(member), timeout=2)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
            return json.loads(body) if response.status == 200 else None
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()

    def unready(self) -> list[str]:
        exited = {
            member: process.returncode for member, process in self.processes.items() if process.poll() is not None
        }
        assert not exited, f"ended by itself: {exited}; see {self.folder}/*.log"
        return [member for member in self.processes if not (self.ask(member, "/healthz") or {}).get("ready")]

    def wait_ready(self, *, deadline_s: float = 30.0) -> None:
        deadline = time.monotonic() + deadline_s
        while missing := self.unready():
            if time.monotonic() > deadline:
                pytest.fail(f"not ready after {deadline_s} s: {missing}; see {self.folder}/*.log")
            time.sleep(0.02)
        self.wait_settled(deadline_s=deadline_s)

    def unsettled(self) -> str:
        """What keeps the cluster from having every shard served with all replicas in sync; empty when nothing."""
        shards = (self.ask("c1", "/status") or {}).get("shards", [])
        if not shards:
            return "no shards"
        active = {
            (shard["shard"], node)
            for node in self.nodes
            for shard in (self.ask(node, "/status") or {}).get("shards", [])
            if shard["active"]
        }
        for shard in shards:
            if shard["learners"] or len(shard["in_sync"]) < self.settings.get("replicas", 3):
                return f"shard {shard['shard']}: in sync {shard['in_sync']}, learners {shard['learners']}"
            if (shard["shard"], shard["primary"]) not in active:
                return f"shard {shard['shard']}: {shard['primary']} is not active"
        return ""

    def wait_settled(self, *, deadline_s: float = 20.0) -> None:
        deadline = time.monotonic() + deadline_s
        while missing := self.unsettled():
            if time.monotonic() > deadline:
                pytest.fail(f"not settled after {deadline_s} s: {missing}")
            time.sleep(0.05)

    def primary_of(self, key: str) -> str:
        shards = self.ask("c1", "/status")["shards"]
        return str(shards[shard_of(key, len(shards))]["primary"])

    def disagreements(self) -> list[str]:
        """Shards whose replicas differ."""
        copies: dict[int, dict[str, Any]] = {}
        for node in self.nodes:
            for replica in self.ask(node, "/replicas") or []:
                copies.setdefault(replica["shard"], {})[node] = (
                    replica["last_index"],
                    replica["commit_index"],
                    replica["chain"],
                    replica["digest"],
                )
        return [f"shard {shard}: {found}" for shard, found in copies.items() if len(set(found.values())) != 1]

    def close(self) -> None:
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.kill()
        for process in self.processes.values():
            process.wait()
        for client in self._clients:
            client.close()
        if self.proxies is not None:
            self.proxies.close()
        for holder in self._holders.values():
            holder.close()


class Writer(threading.Thread):
    """Inserts fresh keys through one router until told to stop, and remembers what was acknowledged, and when."""

    def __init__(self, address: tuple[str, int], prefix: str) -> None:
        super().__init__(daemon=True)
        self._client = Client(address)
        self._prefix = prefix
        self._stop_now = threading.Event()
        self.acknowledged: dict[str, int] = {}
        self.acknowledged_at: list[float] = []
        self.refused: dict[str, int] = {}
        self.unknown = 0

    def run(self) -> None:
        for number in itertools.count():
            if self._stop_now.is_set():
                return
            key = f"{self._prefix}-{number}"
            status, _ = self._client.insert(key, number)
            if status == 201:
                self.acknowledged[key] = number
                self.acknowledged_at.append(time.monotonic())
            elif status == 503:
                self.refused[key] = number
            else:
                self.unknown += 1

    def stop_soon(self) -> None:
        self._stop_now.set()

    def finish(self) -> None:
        self.join(timeout=10)
        self._client.close()


@contextlib.contextmanager
def writers(cluster: LocalCluster, *, each: int = 3) -> Iterator[list[Writer]]:
    found = [Writer(cluster.address(r), f"{r}-{number}") for r in cluster.routers for number in range(each)]
    for writer in found:
        writer.start()
    try:
        yield found
    finally:
        for writer in found:
            writer.stop_soon()
        for writer in found:
            writer.finish()


def read_all(cluster: LocalCluster, keys: list[str]) -> dict[str, Any]:
    client = cluster.client("r1")
    entries: dict[str, Any] = {}
    for start in range(0, len(keys), 200):
        status, body = client.call("POST", "/v1/multi-get", {"keys": keys[start : start + 200]})
        assert (status, body["failed"]) == (200, {})
        entries |= body["entries"]
    return entries


def lost_writes(cluster: LocalCluster, found: list[Writer]) -> list[str]:
    """Keys whose acknowledged insert is not there."""
    acknowledged = {key: value for writer in found for key, value in writer.acknowledged.items()}
    entries = read_all(cluster, [*acknowledged])
    return [key for key, value in acknowledged.items() if entries[key]["value"] != value]


def assert_nothing_lost(cluster: LocalCluster, found: list[Writer]) -> None:
    """Acknowledged inserts are there, refused ones are not, and all replicas are identical."""
    assert sum(len(writer.acknowledged) for writer in found) > 50
    assert lost_writes(cluster, found) == []
    entries = read_all(cluster, [key for writer in found for key in writer.refused])
    assert [key for key, entry in entries.items() if entry["found"]] == []
    wait_until(lambda: not cluster.disagreements(), what="replicas agree")


def longest_gap_s(found: list[Writer]) -> float:
    instants = sorted(at for writer in found for at in writer.acknowledged_at)
    return max(after - before for before, after in itertools.pairwise(instants))


def wait_progress(found: list[Writer], count: int = 30) -> None:
    """Every writer gets `count` more acknowledgements."""
    before = [len(writer.acknowledged) for writer in found]
    wait_until(
        lambda: all(len(writer.acknowledged) >= start + count for writer, start in zip(found, before, strict=True)),
        what=f"{count} more writes by each writer",
    )
