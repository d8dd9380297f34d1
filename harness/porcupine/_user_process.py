"""Runs a user's model in a fork of this process, within a deadline and a memory limit.

A fork and not a new interpreter, so that the model may be any object, also one that no module holds. It is a process of
its own because nothing else can end a step that never returns.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from ._user_values import UserModel, UserOperation
from ._user_worker import ModelError, Worker

__all__ = ["Heard", "run_worker"]

_POLL_S = 0.01
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True, kw_only=True)
class Heard:
    """What the worker said. `error` is the user's to correct, `problem` is why something was left undecided."""

    parts: list[str] = field(default_factory=list)
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None
    problem: str | None = None
    done: bool = False
    searching: int | None = None
    """Process of the search."""


class _Ended(BaseException):
    """Time is up. Not an Exception, so that a model that catches those does not swallow it."""


def run_worker(
    program: Path, model: UserModel, operations: Sequence[UserOperation], *, until_s: float, memory_limit_bytes: int
) -> Heard:
    """Judge a history until `until_s` (time.monotonic). Never raises for what the model or the search does."""
    # The search stops by itself a little earlier. At the deadline the worker is asked to say what the model is doing;
    # soon after it and the search are killed.
    margin_s = min(0.5, 0.1 * (until_s - time.monotonic()))
    source, sink = os.pipe()
    worker = os.fork()
    if worker == 0:
        os.close(source)
        _work(sink, program, model, operations, until_s=until_s - margin_s, memory_limit_bytes=memory_limit_bytes)
    os.close(sink)
    with suppress(OSError):
        os.setpgid(worker, worker)  # both sides do: whoever is first
    follower = _Follower(worker, source, until_s=until_s, margin_s=margin_s, memory_limit_bytes=memory_limit_bytes)
    try:
        follower.follow()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(worker, signal.SIGKILL)
        os.close(source)
        _, status = os.waitpid(worker, 0)
    return follower.conclude(status)


class _Follower:
    """Collects what the worker says, until it closes the pipe or must be ended."""

    def __init__(self, worker: int, source: int, *, until_s: float, margin_s: float, memory_limit_bytes: int) -> None:
        self._worker = worker
        self._source = source
        self._until_s = until_s + margin_s / 2
        self._asked_s = until_s
        self._memory_limit_bytes = memory_limit_bytes
        self._at_first_bytes = _resident_bytes(worker)  # of the fork: what it shares with this process is no news
        self._said = bytearray()
        self._heard = Heard()

    def follow(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._source, selectors.EVENT_READ)
            while True:
                if selector.select(timeout=_POLL_S):
                    chunk = os.read(self._source, 1 << 16)
                    if not chunk:
                        return
                    self._said += chunk
                    self._read()
                if self._heard.done:
                    return
                now_s = time.monotonic()
                if now_s >= self._until_s:
                    self._heard.problem = self._heard.problem or "the model was ended at the deadline"
                    return
                if now_s >= self._asked_s:
                    os.kill(self._worker, signal.SIGTERM)
                    self._asked_s = self._until_s
                used = self._used_bytes()
                if used > self._memory_limit_bytes:
                    limit = f"{used >> 20} MiB; their limit is {self._memory_limit_bytes >> 20} MiB"
                    self._heard.problem = f"the model and the search were ended when they held {limit}"
                    return

    def _used_bytes(self) -> int:
        searching = self._heard.searching
        own = max(0, _resident_bytes(self._worker) - self._at_first_bytes)
        return own + (0 if searching is None else _resident_bytes(searching))

    def _read(self) -> None:
        *lines, rest = self._said.split(b"\n")
        self._said = bytearray(rest)
        for line in lines:
            said = json.loads(line)
            if "verdict" in said:
                self._heard.verdicts.append(said)
            else:
                for name, value in said.items():
                    setattr(self._heard, name, value)

    def conclude(self, status: int) -> Heard:
        heard = self._heard
        if not heard.done and heard.error is None and heard.problem is None:
            signalled = f" by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else ""
            heard.problem = f"the process with the model ended{signalled} before it was done"
        return heard


def _resident_bytes(process: int) -> int:
    try:
        fields = Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()
    except OSError:
        return 0
    return int(fields[1]) * _PAGE_BYTES


def _work(
    sink: int,
    program: Path,
    model: UserModel,
    operations: Sequence[UserOperation],
    *,
    until_s: float,
    memory_limit_bytes: int,
) -> NoReturn:
    """Body of the worker process, which never returns into the code that it was forked from."""

    def say(what: dict[str, Any]) -> None:
        text = json.dumps(what).encode() + b"\n"
        while text:
            text = text[os.write(sink, text) :]

    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        raise _Ended

    try:
        with suppress(OSError):
            os.setpgid(0, 0)
        os.dup2(2, 1)  # what a model prints must not get into the output of a command
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this one
        # Should the parent be gone by then, nobody else would end a step that never returns.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, max(0.1, until_s - time.monotonic()) + 5)
        signal.signal(signal.SIGTERM, end)
        judging = Worker(model, operations, program=program, say=say)
        try:
            judging.run(
                deadline_ms=lambda: max(0, int(1000 * (until_s - time.monotonic()))),
                memory_limit_bytes=memory_limit_bytes,
            )
        except ModelError as error:
            say({"error": str(error)})
        except _Ended:
            doing = judging.doing
            what = (
                "the search did not end within its time" if doing is None else f"{judging.where(doing)} did not return"
            )
            say({"problem": what})
    except BaseException as error:  # whatever it is, it must not run on in the parent's code
        with suppress(BaseException):
            say({"problem": f"the process with the model failed ({type(error).__name__}: {error})"})
    finally:
        os._exit(0)
