"""Signals end waits at once, and are held back everywhere else."""

from __future__ import annotations

import os
import signal

import pytest
from aftershock.harness.interrupts import Interrupted, Interrupts


def test_signal_outside_allowed_only_sets_stop() -> None:
    said: list[str] = []
    interrupts = Interrupts(announce=said.append)
    with interrupts.installed():
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.stop.is_set()
        with pytest.raises(Interrupted, match="interrupted by SIGTERM"), interrupts.allowed():
            pytest.fail("a signal that came before must be raised on the way in")

    assert said == ["SIGTERM: stopping, and undoing what was done"]


def test_signal_inside_allowed_raises_at_once_and_only_once() -> None:
    said: list[str] = []
    interrupts = Interrupts(announce=said.append)
    with interrupts.installed():
        with pytest.raises(Interrupted, match="interrupted by SIGINT"), interrupts.allowed():
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        interrupts.check()

    assert said[1] == "still undoing what was done; a second signal does not speed it up"


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interrupts().installed():
        assert signal.getsignal(signal.SIGTERM) is not before

    assert signal.getsignal(signal.SIGTERM) is before
