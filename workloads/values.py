"""Process ids and unique values, by construction rather than by luck.

A process is one sequential client. Worker `w` of `W` runs the processes `w`, `w + W`, `w + 2 W`, … one after the
other, so ids are unique over all load processes without any talk between them. A value is `process * 1,000,000 +
sequence`: readable in a report (`5000003` is operation 3 of process 5), unique over the run, and below 2^53, so every
JSON reader keeps it exact.
"""

from __future__ import annotations

from typing import Final

from ..harness.errors import InternalError

__all__ = ["OPERATIONS_PER_PROCESS", "Identity", "decode_value", "encode_value"]

OPERATIONS_PER_PROCESS: Final = 1_000_000
_LARGEST_PROCESS: Final = 2**53 // OPERATIONS_PER_PROCESS - 1


def encode_value(process: int, sequence: int) -> int:
    """The one value that operation `sequence` (from 1) of `process` may write. Raises InternalError out of range."""
    if not (0 <= process <= _LARGEST_PROCESS and 0 < sequence < OPERATIONS_PER_PROCESS):
        raise InternalError(
            f"process {process}, sequence {sequence} has no value below 2^53; expected process 0 to "
            f"{_LARGEST_PROCESS} and sequence 1 to {OPERATIONS_PER_PROCESS - 1}"
        )
    return process * OPERATIONS_PER_PROCESS + sequence


def decode_value(value: int) -> tuple[int, int]:
    """Process and sequence that wrote `value`."""
    return divmod(value, OPERATIONS_PER_PROCESS)


class Identity:
    """Who a worker is now: its process, and the sequence number of that process's current operation."""

    __slots__ = ("_taken", "_workers", "process", "sequence", "worker")

    def __init__(self, *, worker: int, workers: int) -> None:
        """`worker` is one of `workers` numbers that are unique over all load processes of the run."""
        self.worker = worker
        self.process = worker
        self.sequence = 0
        self._workers = workers
        self._taken = False

    def begin(self) -> None:
        """Start the process's next operation; a process that has used up its sequence is renewed first."""
        if self.sequence + 1 >= OPERATIONS_PER_PROCESS:
            self.renew()
        self.sequence += 1
        self._taken = False

    def value(self) -> int:
        """The current operation's value. Raises InternalError when it is asked for twice: it would be used twice."""
        if self._taken:
            raise InternalError(
                f"process {self.process} asked for a second value in operation {self.sequence}; a workload's next() "
                "may call values() once"
            )
        self._taken = True
        return encode_value(self.process, self.sequence)

    def renew(self) -> None:
        """Become a new process: the old one has an operation that stays open for ever, so it may do no other."""
        self.process += self._workers
        self.sequence = 0
