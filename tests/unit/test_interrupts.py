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
        assert interrupts.stop.wait(10)
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


def test_console_that_is_gone_does_not_tear_what_the_signal_found(capsys: pytest.CaptureFixture[str]) -> None:
    """`aftershock run | tee log`: Ctrl-C ends tee first, and rich leaves by SystemExit."""

    def gone(text: str) -> None:
        raise SystemExit(1)

    interrupts = Interrupts(announce=gone)
    with interrupts.installed():
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.stop.wait(10)
        with pytest.raises(Interrupted):
            interrupts.check()


def test_signal_while_the_main_thread_holds_the_lock_of_stop() -> None:
    """An Event's lock is not reentrant: a handler that took it would wait for itself."""
    interrupts = Interrupts()
    with interrupts.installed():
        with interrupts.stop._cond:
            os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.stop.wait(10)
