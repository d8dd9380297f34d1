"""Runs the native checker as a child process within a deadline and a memory limit.

The limit is watched from outside (resident size) and told to Go's collector as a soft limit; an address-space limit
would break the Go runtime (DESIGN section 8). Whatever the child said before its end counts.

The child knows both budgets and ends by itself, in order, a little before it reaches them; ending it from here is for
when it does not.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

__all__ = ["Answer", "ask"]

_POLL_S: Final = 0.01
# A search can ask for a gigabyte in a second: 1 ms is a megabyte or two, far less than the 10 % that we promise.
_POLL_CLOSE_S: Final = 0.001
_CLOSE: Final = 0.5
_STDERR_KEPT_BYTES: Final = 4096


@dataclass(slots=True, kw_only=True)
class Answer:
    """Lines that the child wrote, and why it ended early; `problem` is None when it finished.

    `summary` is its last line, which only a child that finished writes. `peak_bytes` is the most memory that it was
    seen to hold; one that ends by itself may have held more in its last hundredth of a second.
    """

    lines: list[dict[str, Any]] = field(default_factory=list)
    problem: str | None = None
    summary: dict[str, Any] = field(default_factory=dict)
    peak_bytes: int = 0


def ask(program: Path, *, write_input: Callable[[IO[bytes]], None], until_s: float, memory_limit_bytes: int) -> Answer:
    """Run `program` on an input until `until_s` (time.monotonic). Never raises for what the child does."""
    answer = Answer()
    # Anonymous memory: nothing is left on disk, and a full disk does not matter.
    with open(os.memfd_create("aftershock-checker"), "w+b") as source:  # noqa: PTH123 - a descriptor, not a path
        write_input(source)
        source.seek(0)
        try:
            child = subprocess.Popen(
                [program],
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={"GOMEMLIMIT": f"{memory_limit_bytes * 9 // 10}B", "GOTRACEBACK": "none"},
            )
        except OSError as error:
            answer.problem = f"the checker could not be started ({error})"
            return answer
    with child:
        follower = _Follower(child, until_s=until_s, memory_limit_bytes=memory_limit_bytes)
        try:
            problem = follower.follow()
        finally:
            child.kill()  # harmless when it has ended: it is waited for only on leaving the block
    answer.problem = problem or _end(child.returncode, bytes(follower.errors))
    answer.peak_bytes = follower.peak_bytes
    _parse(bytes(follower.output), answer)
    return answer


class _Follower:
    """Collects what the child writes, and watches its budgets."""

    def __init__(self, child: subprocess.Popen[bytes], *, until_s: float, memory_limit_bytes: int) -> None:
        self.output = bytearray()
        self.errors = bytearray()
        self.peak_bytes = 0
        self._child = child
        self._until_s = until_s
        self._limit_bytes = memory_limit_bytes

    def follow(self) -> str | None:
        """Until the child closes its output, or must be ended: the answer is why."""
        assert self._child.stdout is not None
        assert self._child.stderr is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ, self.output)
            selector.register(self._child.stderr, selectors.EVENT_READ, self.errors)
            poll_s = _POLL_S
            self._look()  # many end before the first poll
            while selector.get_map():
                for key, _ in selector.select(timeout=poll_s):
                    chunk = os.read(key.fd, 1 << 16)
                    if not chunk:
                        selector.unregister(key.fileobj)
                    key.data.extend(chunk)
                del self.errors[:-_STDERR_KEPT_BYTES]
                if time.monotonic() >= self._until_s:
                    return _TOO_LATE
                used = self._look()
                if used > self._limit_bytes:
                    return self._too_large(used)
                poll_s = _POLL_CLOSE_S if used > _CLOSE * self._limit_bytes else _POLL_S
        try:
            self._child.wait(timeout=max(0.0, self._until_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            return _TOO_LATE
        return None

    def _look(self) -> int:
        """Bytes that the child holds now; also keeps what it held at most."""
        used, peak = _resident_bytes(self._child.pid)
        self.peak_bytes = max(self.peak_bytes, used, peak)
        return used

    def _too_large(self, used: int) -> str:
        # Stopped, it holds what it held at most: what happens between a look and the end of a process is its own.
        self._child.send_signal(signal.SIGSTOP)
        self._look()
        return f"the checker was ended when it held {used >> 20} MiB; its limit is {self._limit_bytes >> 20} MiB"


_TOO_LATE: Final = "the checker was ended at its deadline"


def _resident_bytes(pid: int) -> tuple[int, int]:
    """What a process holds and what it held at most; zeros when it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0, 0
    sizes = {line[:6]: int(line[7:-3]) << 10 for line in status.splitlines() if line.startswith(("VmHWM:", "VmRSS:"))}
    return sizes.get("VmRSS:", 0), sizes.get("VmHWM:", 0)


def _end(status: int, errors: bytes) -> str | None:
    """Why the child ended by itself, None for a clean end."""
    if status == 0:
        return None
    said = errors.decode("utf-8", "replace").strip().splitlines()
    detail = f": {said[0]}" if said else ""
    if status < 0:
        return f"the checker was killed by signal {-status}{detail}"
    return f"the checker failed with status {status}{detail}"


def _parse(output: bytes, answer: Answer) -> None:
    """Turn whole lines into objects. A torn last line is what a kill leaves; anything else malformed is a problem."""
    whole, _, torn = output.rpartition(b"\n")
    for line in whole.split(b"\n") if whole else ():
        try:
            parsed = json.loads(line)
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict):
            answer.problem = answer.problem or f"the checker wrote a malformed line: {line[:80]!r}"
            return
        answer.lines.append(parsed)
    finished = bool(answer.lines) and answer.lines[-1].get("done") is True
    if finished:
        answer.summary = answer.lines.pop()
    if answer.problem is None and (torn or not finished):
        answer.problem = "the checker ended without saying that it was done"
