"""The typed layer against the real Toxiproxy server, and against servers that misbehave unseen by the package."""

from __future__ import annotations

import http.server
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import pytest
from aftershock.harness.backends.ports import PortReserver
from aftershock.harness.interfaces import Address
from aftershock.harness.porcupine.programs import toxiproxy_path
from aftershock.harness.toxiproxy import NotThereError, Proxy, Toxic, Toxiproxy, ToxiproxyError

from tests.processes.stages import wait_until

pytestmark = pytest.mark.processes


@contextmanager
def running_server(ports: PortReserver) -> Iterator[Toxiproxy]:
    address = ports.reserve()
    command = [str(toxiproxy_path()), "-host", address.host, "-port", str(address.port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process, closing(Toxiproxy(address)) as api:
        try:
            wait_until(lambda: is_up(api), "the server answers")
            yield api
        finally:
            process.kill()


def is_up(api: Toxiproxy) -> bool:
    try:
        return bool(api.version())
    except ToxiproxyError:
        return False


@pytest.fixture
def ports() -> Iterator[PortReserver]:
    with closing(PortReserver()) as ports:
        yield ports


@pytest.fixture
def api(ports: PortReserver) -> Iterator[Toxiproxy]:
    with running_server(ports) as api:
        yield api


def proxy(ports: PortReserver, name: str = "p>q:r s") -> Proxy:
    return Proxy(name=name, listen=ports.reserve(), upstream=ports.reserve())


def test_version_is_text(api: Toxiproxy) -> None:
    assert isinstance(api.version(), str)
    assert "{" not in api.version()


def test_populate_makes_all_in_one_call_and_reads_them_back(api: Toxiproxy, ports: PortReserver) -> None:
    proxies = [proxy(ports, f"n{i}") for i in range(20)]
    api.populate(proxies)
    assert api.proxies() == {each.name: each for each in proxies}
    api.remove_proxy("n3")
    assert "n3" not in api.proxies()


def test_toxic_is_added_updated_and_removed(api: Toxiproxy, ports: PortReserver) -> None:
    one = proxy(ports)
    api.populate([one])
    toxic = Toxic(name="slow", type="latency", stream="upstream", attributes={"latency": 10}, toxicity=0.1)
    api.add([(one.name, toxic)])
    faster = Toxic(name="slow", type="latency", stream="upstream", attributes={"latency": 5, "jitter": 1})
    api.update(one.name, faster)
    (found,) = api.proxies()[one.name].toxics
    assert found.attributes == {"latency": 5, "jitter": 1}
    assert found.toxicity == 1.0
    api.add([(one.name, toxic)])  # of the same name: brought to these values
    assert api.proxies()[one.name].toxics[0].attributes["latency"] == 10
    assert api.remove([(one.name, "slow")]) == []
    assert api.remove([(one.name, "slow")]) == [(one.name, "slow")]
    assert api.proxies()[one.name].toxics == ()


def test_every_refusal_is_an_error(api: Toxiproxy, ports: PortReserver) -> None:
    one = proxy(ports)
    api.populate([one])
    blackhole = Toxic(name="x", type="timeout", stream="upstream", attributes={"timeout": 0})
    with pytest.raises(NotThereError, match="proxy not found"):
        api.add([("nobody", blackhole)])
    with pytest.raises(NotThereError, match="toxic not found"):
        api.update(one.name, blackhole)
    with pytest.raises(ToxiproxyError, match="invalid toxic type"):
        api.add([(one.name, Toxic(name="x", type="gremlin", stream="upstream"))])
    with pytest.raises(NotThereError):
        api.remove_proxy("nobody")
    with pytest.raises(ToxiproxyError, match="cannot hold a slash"):
        api.populate([proxy(ports, "a/b")])
    taken = Proxy(name="taken", listen=api.address, upstream=one.upstream)
    with pytest.raises(ToxiproxyError, match="address already in use"):
        api.populate([taken])


def test_two_servers_in_one_process(ports: PortReserver) -> None:
    with running_server(ports) as one, running_server(ports) as two:
        one.populate([proxy(ports, "only-one")])
        assert set(one.proxies()) == {"only-one"}
        assert two.proxies() == {}


@contextmanager
def fake_server(status: int, body: bytes) -> Iterator[Toxiproxy]:
    """Answers the same to everything."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with closing(Toxiproxy(Address("127.0.0.1", server.server_port))) as api:
                yield api
        finally:
            server.shutdown()


BLACKHOLE = Toxic(name="x", type="timeout", stream="upstream", attributes={"timeout": 0})


@pytest.mark.parametrize("status", [401, 500, 503])
def test_a_server_error_is_never_a_success(status: int) -> None:
    with fake_server(status, b'{"error": "planted"}') as api:
        for act in (
            lambda: api.add([("p", BLACKHOLE)]),
            lambda: api.remove([("p", "x")]),
            lambda: api.populate([]),
            lambda: api.update("p", BLACKHOLE),
            api.version,
        ):
            with pytest.raises(ToxiproxyError, match=f"HTTP {status}: .*planted"):
                act()


def test_a_change_that_was_answered_and_not_made_is_an_error() -> None:
    answer = b'{"p": {"name": "p", "listen": "127.0.0.1:1", "upstream": "127.0.0.1:2", "enabled": true, "toxics": []}}'
    with fake_server(200, answer) as api, pytest.raises(ToxiproxyError, match="found None"):
        api.add([("p", BLACKHOLE)])


def test_a_removal_that_was_answered_and_not_made_is_an_error() -> None:
    answer = (
        b'{"p": {"name": "p", "listen": "127.0.0.1:1", "upstream": "127.0.0.1:2", "enabled": true, "toxics": '
        b'[{"name": "x", "type": "timeout", "stream": "upstream", "toxicity": 1, "attributes": {"timeout": 0}}]}}'
    )
    with fake_server(200, answer) as api:
        api.add([("p", BLACKHOLE)])
        with pytest.raises(ToxiproxyError, match="still there after their removal"):
            api.remove([("p", "x")])


def test_a_server_that_hangs_is_an_error_in_time(ports: PortReserver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aftershock.harness.toxiproxy._TIMEOUT_S", 0.2)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        closing(Toxiproxy(Address(*silent.getsockname()))) as api,
        pytest.raises(ToxiproxyError, match="timed out"),
    ):
        api.version()


def test_a_toxic_comes_off_although_the_receiver_dies_meanwhile(ports: PortReserver, api: Toxiproxy) -> None:
    """Toxiproxy 2.12.0 as published waits for ever here, with the lock of the proxy's toxics (toxiproxy_mend.py)."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()[:2]
        slow = Proxy(name="slow", listen=ports.reserve(), upstream=Address(host, port))
        api.populate([slow])
        toxic = Toxic(name="late", type="latency", stream="upstream", attributes={"latency": 1, "jitter": 0})
        api.add([("slow", toxic)])
        with socket.create_connection(slow.listen, timeout=5) as client:
            receiver, _ = server.accept()
            client.settimeout(0.5)
            # Fill every buffer on the way: from then on the toxic is stuck in passing a chunk on.
            with suppress(TimeoutError):
                while True:
                    client.sendall(b"x" * 65536)
            removal = threading.Thread(target=api.remove, args=([("slow", "late")],), daemon=True)
            removal.start()
            removal.join(0.3)
            assert removal.is_alive(), "the toxic was not held, so this test shows nothing"
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            receiver.close()  # with a reset
            removal.join(10)
            assert not removal.is_alive(), "the toxic cannot be taken off"
    assert api.proxies()["slow"].toxics == ()
