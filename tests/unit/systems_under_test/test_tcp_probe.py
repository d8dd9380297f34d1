"""Probes for stock services: what their kernel says was received and read, against what was sent."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aftershock.harness.interfaces import Address, ProbeOutcome
from aftershock.systems_under_test import _tcp_probe
from aftershock.systems_under_test._tcp_probe import Taken, TcpProbe, taken_at

ANSWERED = ProbeOutcome(delivered=True, answered=True)
DELIVERED = ProbeOutcome(delivered=True, answered=False)
SILENT = ProbeOutcome(delivered=False, answered=False)


class Service:
    """A listener; what is read and answered on its one connection is up to the test."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = Address(*self.listener.getsockname())
        self.path = socket.create_connection(self.address)

    def accept(self) -> socket.socket:
        accepted, _ = self.listener.accept()
        accepted.settimeout(5)
        return accepted

    def probe(self, pid: Callable[[], int | None] = os.getpid) -> TcpProbe:
        return TcpProbe(path=self.path, target=self.address, pid=pid, request=b"PING\r\n", mark=b"\r\n")


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    # Everything here is in one namespace; to enter it a test would have to be root.
    monkeypatch.setattr(_tcp_probe, "inside", lambda _process, work: work())
    monkeypatch.setattr(_tcp_probe, "_READ_WITHIN_S", 0.1)
    made = Service()
    yield made
    made.path.close()
    made.listener.close()


def in_background(work: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_request_that_is_answered_was_delivered(service: Service) -> None:
    with service.accept() as accepted:
        thread = in_background(lambda: [accepted.sendall(b"+PONG\r\n") for _ in range(2) if accepted.recv(100)])
        probe = service.probe()

        assert [probe.exchange(timeout_s=5), probe.exchange(timeout_s=5)] == [ANSWERED, ANSWERED]
        thread.join()


def test_read_and_not_answered_is_delivered(service: Service) -> None:
    with service.accept() as accepted:
        thread = in_background(lambda: accepted.recv(100))

        assert service.probe().exchange(timeout_s=0.1) == DELIVERED
        thread.join()


def test_what_the_program_has_not_read_is_not_delivered(service: Service) -> None:
    """So it is at a stopped program: its kernel takes the bytes, and nobody reads them."""
    with service.accept():
        assert service.probe().exchange(timeout_s=0.05) == SILENT


def test_a_connection_that_nobody_has_accepted_delivers_nothing(service: Service) -> None:
    assert service.probe().exchange(timeout_s=0.05) == SILENT


def test_all_that_was_sent_must_have_come(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """On an old connection an earlier request was read; the newest one is what is asked about."""
    monkeypatch.setattr(_tcp_probe, "taken_at", lambda *_: Taken(received=6, unread=0))
    with service.accept() as accepted:
        accepted.sendall(b"+PONG\r\n")
        probe = service.probe()

        assert probe.exchange(timeout_s=5) == ANSWERED
        assert probe.exchange(timeout_s=0.05) == SILENT


def test_a_late_answer_is_not_taken_for_that_of_the_next_request(service: Service) -> None:
    with service.accept() as accepted:
        probe = service.probe()
        assert not probe.exchange(timeout_s=0.05).answered
        accepted.sendall(b"+PONG\r\n")
        assert not probe.exchange(timeout_s=0.05).answered
        accepted.sendall(b"+PONG\r\n+PONG\r\n")
        assert probe.exchange(timeout_s=5).answered


def test_a_mark_may_come_in_pieces(service: Service) -> None:
    with service.accept() as accepted:

        def drip() -> None:
            for byte in b"+PONG\r\n":
                accepted.sendall(bytes([byte]))

        thread = in_background(drip)
        assert service.probe().exchange(timeout_s=5) == ANSWERED
        thread.join()


def test_a_connection_that_was_closed_delivers_nothing(service: Service) -> None:
    service.accept().close()

    assert service.probe().exchange(timeout_s=0.5) == SILENT


@pytest.mark.parametrize("pid", [None, 2**22 + 1])
def test_without_a_process_nobody_testifies(service: Service, pid: int | None) -> None:
    with service.accept() as accepted:
        thread = in_background(lambda: accepted.recv(100))

        assert service.probe(lambda: pid).exchange(timeout_s=0.05) == SILENT
        thread.join()


def test_a_namespace_that_cannot_be_entered_shows_nothing(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: Any) -> None:
        raise PermissionError("not root")

    monkeypatch.setattr(_tcp_probe, "inside", denied)
    with service.accept() as accepted:
        thread = in_background(lambda: accepted.recv(100))

        assert service.probe().exchange(timeout_s=0.05) == SILENT
        thread.join()


def test_the_kernel_tells_connections_apart(service: Service) -> None:
    with service.accept(), socket.create_connection(service.address) as other, service.accept():
        other.sendall(b"12345")
        service.path.sendall(b"123")

        assert taken_at(service.address, Address(*other.getsockname())) == Taken(received=5, unread=5)
        assert taken_at(service.address, Address(*service.path.getsockname())) == Taken(received=3, unread=3)
        assert taken_at(service.address, Address("127.0.0.1", 1)) is None, "a listener is not a connection"
        assert taken_at(Address("127.0.0.2", 9), Address("127.0.0.1", 1)) is None
