"""What the reservation of ports rests on: how Linux treats a socket bound with SO_REUSEADDR that never listens."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import closing

import pytest
from aftershock.harness.backends.ports import PortReserver
from aftershock.harness.errors import SetupError

RESERVED = 300


@pytest.fixture
def ports() -> Iterator[PortReserver]:
    with closing(PortReserver()) as ports:
        yield ports


@pytest.mark.parametrize("reuse", [0, 1])
def test_thousands_of_free_binds_never_get_a_reserved_port(ports: PortReserver, reuse: int) -> None:
    reserved = {ports.reserve().port for _ in range(RESERVED)}
    assert len(reserved) == RESERVED
    given = set()
    for _ in range(5000):
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
            other.bind(("127.0.0.1", 0))
            given.add(other.getsockname()[1])
    # So many that they would have met without the reservation: each is one of about 28000.
    assert len(given) > 2000
    assert not reserved & given


def test_thousands_of_connects_never_get_a_reserved_port(ports: PortReserver) -> None:
    reserved = {ports.reserve().port for _ in range(RESERVED)}
    given = set()
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        for _ in range(3000):
            with socket.create_connection(server.getsockname()) as client:
                given.add(client.getsockname()[1])
                # Closed by a reset: no thousands of TIME_WAITs stay behind.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            server.accept()[0].close()
    assert len(given) > 1000
    assert not reserved & given


def test_a_member_listens_on_its_reserved_port_again_and_again(ports: PortReserver) -> None:
    address = ports.reserve()
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=1)
        with socket.create_server(address) as member, socket.create_connection(address, timeout=1) as client:
            member.accept()[0].close()  # leaves the member's side in TIME_WAIT
            assert client.recv(1) == b""


def test_whoever_does_not_ask_to_share_cannot_take_a_reserved_port(ports: PortReserver) -> None:
    address = ports.reserve()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(address)


def test_a_closed_reserver_gives_its_ports_back() -> None:
    ports = PortReserver()
    address = ports.reserve()
    ports.close()
    with socket.socket() as other:
        other.bind(address)


def test_a_machine_without_a_free_port_is_a_setup_error(ports: PortReserver, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(socket.socket):
        def bind(self, _address: object) -> None:
            raise OSError(98, "Address already in use")

    monkeypatch.setattr("aftershock.harness.backends.ports.socket.socket", Full)
    with pytest.raises(SetupError, match="no free port on"):
        ports.reserve()
