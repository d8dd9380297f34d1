"""Runs the native checker as a child process within a deadline and a memory limit.

The limit is watched from outside (resident size) and told to Go's collector as a soft limit; an address-space limit
would break the Go runtime (DESIGN section 8). Whatever the child said before its end counts.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

__all__ = ["Answer", "ask"]

_POLL_S = 0.01
_STDERR_KEPT_BYTES = 4096
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True, kw_only=True)
class Answer:
    """Lines that the child wrote, and why it ended early; `problem` is None when it finished."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    problem: str | None = None


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
        try:
            output, errors, problem = _follow(child, until_s=until_s, memory_limit_bytes=memory_limit_bytes)
        finally:
            child.kill()  # harmless when it has ended: it is waited for only on leaving the block
    answer.problem = problem or _end(child.returncode, errors)
    _parse(output, answer)
    return answer


def _follow(
    child: subprocess.Popen[bytes], *, until_s: float, memory_limit_bytes: int
) -> tuple[bytes, bytes, str | None]:
    """Collect the child's output until it closes it, or until it must be ended and why."""
    assert child.stdout is not None
    assert child.stderr is not None
    output = bytearray()
    errors = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ, output)
        selector.register(child.stderr, selectors.EVENT_READ, errors)
        while selector.get_map():
            for key, _ in selector.select(timeout=_POLL_S):
                chunk = os.read(key.fd, 1 << 16)
                if not chunk:
                    selector.unregister(key.fileobj)
                key.data.extend(chunk)
            del errors[:-_STDERR_KEPT_BYTES]
            if time.monotonic() >= until_s:
                return bytes(output), bytes(errors), "the checker was ended at its deadline"
            used = _resident_bytes(child.pid)
            if used > memory_limit_bytes:
                return bytes(output), bytes(errors), _too_large(used, memory_limit_bytes)
    try:
        child.wait(timeout=max(0.0, until_s - time.monotonic()))
    except subprocess.TimeoutExpired:
        return bytes(output), bytes(errors), "the checker was ended at its deadline"
    return bytes(output), bytes(errors), None


def _too_large(used: int, limit: int) -> str:
    return f"the checker was ended when it held {used >> 20} MiB; its limit is {limit >> 20} MiB"


def _resident_bytes(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    except OSError:
        return 0
    return int(fields[1]) * _PAGE_BYTES


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
        answer.lines.pop()
    if answer.problem is None and (torn or not finished):
        answer.problem = "the checker ended without saying that it was done"
