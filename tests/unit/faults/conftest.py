"""Fixtures of the fault tests: virtual time for delayed probes, and deadlines that do not make a test wait."""

from __future__ import annotations

import threading
import time

import pytest
from aftershock.faults import (
    _impairing,
    _proof,
    bandwidth,
    cpu_pressure,
    crash_loop,
    disk_slow,
    latency,
    memory_pressure,
    partition,
)

from tests.fakes import virtual_now_ns


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delays advance a clock of the probing thread; what never heals is given up at once."""
    monkeypatch.setattr(_proof, "_now_ns", virtual_now_ns)
    monkeypatch.setattr(partition, "HEAL_DEADLINE_S", 0.05)
    monkeypatch.setattr(latency, "HEAL_DEADLINE_S", 0.05)
    monkeypatch.setattr(_impairing, "HEAL_DEADLINE_S", 0.05)
    monkeypatch.setattr(bandwidth, "HEAL_DEADLINE_S", 0.05)
    monkeypatch.setattr(disk_slow, "HEAL_DEADLINE_S", 0.05)
    monkeypatch.setattr(crash_loop, "LATE_S", 0.5)
    monkeypatch.setattr(cpu_pressure, "BASELINE_S", 0.005)
    monkeypatch.setattr(cpu_pressure, "LEAST_LOOK_S", 0.005)
    monkeypatch.setattr(cpu_pressure, "POLL_S", 0.005)
    monkeypatch.setattr(cpu_pressure, "PROOF_DEADLINE_S", 0.1)
    monkeypatch.setattr(memory_pressure, "PROOF_DEADLINE_S", 0.1)


@pytest.fixture(autouse=True)
def no_thread_left():
    """No fault leaves a thread behind."""
    before = set(threading.enumerate())
    yield
    deadline_s = time.monotonic() + 5
    while set(threading.enumerate()) - before and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert set(threading.enumerate()) <= before
