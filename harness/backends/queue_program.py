"""The tool's end of the packet queue (`packet_queue`): starts it, tells it, and hears what it did."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from ..errors import SetupError
from ..identity import ProcessIdentity, end
from ..interfaces import Journal

__all__ = ["QueueProgram"]

_COMMAND: Final = (sys.executable, "-m", "aftershock.harness.backends.packet_queue")
_INHERITED: Final = ("PATH", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "LANG")
_ANSWER_DEADLINE_S: Final = 15.0
_END_DEADLINE_S: Final = 3.0


class QueueProgram:
    """One packet queue at a time; a new one when the last has ended, as it does when the time of everything is up."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._process: subprocess.Popen[bytes] | None = None
        self._entry = ""

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def tell(self, members: Mapping[str, Any]) -> dict[str, int]:
        """Bring it to exactly these (see packet_queue) and give the number of each member's queue.

        Raises SetupError with the program's own words.
        """
        if not self.runs:
            self.close()
            self._start()
        queues: dict[str, int] = self._ask({"members": members})["queues"]
        return queues

    def acted(self) -> Mapping[str, Mapping[str, Mapping[str, int]]]:
        """Member -> source's address -> kind -> packets that it did this to; empty when it has ended."""
        if not self.runs:
            return {}
        found: Mapping[str, Mapping[str, Mapping[str, int]]] = self._ask({})["acted"]
        return found

    def close(self) -> None:
        """End it, if it runs; what it holds goes on."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(OSError):
            process.stdin.close()
        identity = ProcessIdentity.of(process.pid)
        try:
            process.wait(_END_DEADLINE_S)
        except subprocess.TimeoutExpired:
            if identity is not None:
                end(identity, deadline_s=_END_DEADLINE_S)
            process.wait()
        process.stdout.close()
        if self._entry:
            self._journal.done(self._entry)
            self._entry = ""

    def _start(self) -> None:
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        try:
            process = subprocess.Popen(
                _COMMAND,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=inherited,
                start_new_session=True,
            )
        except OSError as error:
            raise SetupError(f"the packet queue cannot be started: {error}") from error
        self._process = process
        # It does nothing until it is told, and ends with the tool until then: so it may be journalled after its start.
        identity = ProcessIdentity.of(process.pid)
        assert identity is not None, "a child that was not waited for has an identity"
        try:
            self._entry = self._journal.record(
                "end-process", expires_ns=None, process=identity.to_json(), what="the packet queue"
            )
        except BaseException:
            self.close()
            raise

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            line = _line(process.stdout.fileno())
        except OSError as error:
            raise SetupError(f"the packet queue (process {process.pid}) does not listen: {error}") from error
        if not line:
            raise SetupError(
                f"the packet queue (process {process.pid}) does not answer; status {process.poll()}; "
                f"run by hand: {' '.join(_COMMAND)}"
            )
        answer: dict[str, Any] = json.loads(line)
        if answer["problem"]:
            raise SetupError(f"the packet queue: {answer['problem']}")
        return answer


def _line(descriptor: int) -> bytes:
    """One line; empty when none came in time."""
    until, data = time.monotonic() + _ANSWER_DEADLINE_S, b""
    while not data.endswith(b"\n"):
        left_s = until - time.monotonic()
        if left_s <= 0 or not select.select([descriptor], [], [], left_s)[0]:
            return b""
        new = os.read(descriptor, 1 << 16)
        if not new:
            return b""
        data += new
    return data
