"""Fixtures of the fault tests: virtual time for delayed probes, and deadlines that do not make a test wait."""

from __future__ import annotations

import threading
import time

import pytest
from aftershock.faults import _proof, latency, partition

from tests.fakes import virtual_now_ns


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delays advance a clock of the probing thread; what never heals is given up at once."""
    monkeypatch.setattr(_proof, "_now_ns", virtual_now_ns)
    monkeypatch.setattr(partition, "HEAL_DEADLINE_S", 0.05)
    monkeypatch.setattr(latency, "HEAL_DEADLINE_S", 0.05)


@pytest.fixture(autouse=True)
def no_thread_left():
    """No fault leaves a thread behind."""
    before = set(threading.enumerate())
    yield
    deadline_s = time.monotonic() + 5
    while set(threading.enumerate()) - before and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert set(threading.enumerate()) <= before
