"""Writes slots: the invocation before anything is sent, the completion when it ends.

Files are allocated whole with posix_fallocate (not sparse): a full disk is met while a file is made, never as a
SIGBUS in the middle of an operation. One file is always made ahead, by whoever calls `allocate` (a thread of its own
in the load process). Without a free slot `invoke` raises NoSlotError and nothing is sent.
"""

from __future__ import annotations

import errno
import math
import mmap
import os
import time
from pathlib import Path
from typing import Final

from .outcomes import ERROR_CODES, NOT_SENT, RESULTS, Completion
from .requests import Request
from .slots import (
    COMPLETION,
    COMPLETION_OFFSET,
    FINAL,
    FUNCTIONS,
    HAS_EXPECTED,
    HAS_SEEN,
    HAS_VALUE,
    HAS_VERSION,
    HEADER_BYTES,
    INVOCATION,
    INVOCATION_OFFSET,
    OUTCOMES,
    SLOT_BYTES,
    State,
    header,
)

__all__ = ["NoSlotError", "NullRecorder", "Recorder", "Slot"]

_FUNCTION_NUMBER: Final = {name: number for number, name in enumerate(FUNCTIONS)}
_OUTCOME_NUMBER: Final = {outcome: number for number, outcome in enumerate(OUTCOMES)}
_RESULT_NUMBER: Final = {name: number for number, name in enumerate(RESULTS)}
_ERROR_NUMBER: Final = {name: number for number, name in enumerate(ERROR_CODES)}

Slot = tuple[mmap.mmap, int]  # a file's map, and the offset in it


class NoSlotError(Exception):
    """There is nowhere to write the operation down, so it must not be sent. The message says why."""


class Recorder:
    """The slots of one load process (or of one reader of the final reads). Not for use by several threads at once."""

    def __init__(
        self, folder: Path, name: str, *, slots_per_file: int, needed: int | None = None, final: bool = False
    ) -> None:
        """Allocate the first file, `<name>-000000.slots`. Raises NoSlotError when that cannot be done.

        `needed` slots are the most that will ever be asked for (None: nobody knows); no file is made beyond them.
        """
        self._folder = folder
        self._name = name
        self._slots_per_file = slots_per_file
        self._files_needed = None if needed is None else math.ceil(needed / slots_per_file)
        self._flags = FINAL if final else 0
        self._made = 0
        self._end: int = HEADER_BYTES + slots_per_file * SLOT_BYTES
        self._next: int = HEADER_BYTES
        self._ahead: mmap.mmap | None = None
        self.problem: str | None = None  # why no file could be made ahead
        self.allocate()
        first, self._ahead = self._ahead, None
        if first is None:
            raise NoSlotError(self.problem)
        self._map: mmap.mmap = first

    @property
    def wants_file(self) -> bool:
        """Whether `allocate` should be called: no file has been made ahead, and one will be needed."""
        return self._ahead is None and (self._files_needed is None or self._made < self._files_needed)

    def allocate(self) -> None:
        """Make the next file ahead, unless there is one. On failure `problem` says why; call again to try again.

        May run in another thread than `invoke`, which only ever takes the finished map.
        """
        if not self.wants_file:
            return
        path = self._folder / f"{self._name}-{self._made:06}.slots"
        size = HEADER_BYTES + self._slots_per_file * SLOT_BYTES
        partial = path.with_suffix(".partial")
        try:
            made = _allocated(partial, size, header(self._slots_per_file))
            # Readers look for *.slots only, so that they never meet a file that is still being made.
            partial.rename(path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            self.problem = _no_room(error, self._folder, size)
            return
        self._made += 1
        self.problem = None
        # Last: from here on another thread may use it, and a slot in a file that no reader finds is worse than none.
        self._ahead = made

    def invoke(
        self, request: Request, *, space: int, group: int, worker: int, process: int, sequence: int, intended_ns: int
    ) -> tuple[Slot, int]:
        """Write down that a request is about to be sent. Returns its slot, and now as its start (ns).

        Raises NoSlotError; the request must then not be sent.
        """
        slot = self._take()
        start_ns = self._write(slot, request, space, group, worker, process, sequence, intended_ns)
        slot[0][slot[1]] = State.INVOKED
        return slot, start_ns

    def not_sent(
        self, request: Request, *, space: int, group: int, worker: int, process: int, sequence: int, intended_ns: int
    ) -> None:
        """Write down an arrival that no client was free for. Raises NoSlotError."""
        slot = self._take()
        start_ns = self._write(slot, request, space, group, worker, process, sequence, intended_ns)
        fail = _OUTCOME_NUMBER[OUTCOMES[1]]
        COMPLETION.pack_into(slot[0], slot[1] + COMPLETION_OFFSET, start_ns, 0, 0, 1, fail, 0, NOT_SENT, 0)
        slot[0][slot[1]] = State.NOT_SENT

    def complete(self, slot: Slot, end_ns: int, completion: Completion) -> None:
        """Write down how it ended."""
        has = (HAS_SEEN if completion.seen is not None else 0) | (HAS_VERSION if completion.version is not None else 0)
        COMPLETION.pack_into(
            slot[0],
            slot[1] + COMPLETION_OFFSET,
            end_ns,
            completion.seen or 0,
            completion.version or 0,
            completion.attempts,
            _OUTCOME_NUMBER[completion.outcome],
            _RESULT_NUMBER[completion.result],
            _ERROR_NUMBER[completion.error],
            has,
        )
        slot[0][slot[1]] = State.COMPLETE

    def _take(self) -> Slot:
        if self._next >= self._end:
            if self._ahead is None:
                raise NoSlotError(self.problem or f"{self._folder}: the next file of slots was not made in time")
            self._map, self._ahead = self._ahead, None
            self._next = HEADER_BYTES
        slot = (self._map, self._next)
        self._next += SLOT_BYTES
        return slot

    def _write(
        self,
        slot: Slot,
        request: Request,
        space: int,
        group: int,
        worker: int,
        process: int,
        sequence: int,
        intended_ns: int,
    ) -> int:
        value, expected = request.value, request.expected
        flags = self._flags | (HAS_VALUE if value is not None else 0) | (HAS_EXPECTED if expected is not None else 0)
        start_ns = time.monotonic_ns()
        INVOCATION.pack_into(
            slot[0],
            slot[1] + INVOCATION_OFFSET,
            _FUNCTION_NUMBER[request.f],
            space,
            flags,
            group,
            0,
            worker,
            sequence,
            process,
            request.key,
            value or 0,
            expected or 0,
            intended_ns,
            start_ns,
        )
        return start_ns


class NullRecorder:
    """Records nothing: for measuring what recording costs, and for nothing else."""

    wants_file = False
    problem: str | None = None

    def allocate(self) -> None:
        """There is nothing to allocate."""

    def invoke(
        self, request: Request, *, space: int, group: int, worker: int, process: int, sequence: int, intended_ns: int
    ) -> tuple[None, int]:
        return None, time.monotonic_ns()

    def not_sent(
        self, request: Request, *, space: int, group: int, worker: int, process: int, sequence: int, intended_ns: int
    ) -> None:
        """Nothing is written."""

    def complete(self, slot: Slot | None, end_ns: int, completion: Completion) -> None:
        """Nothing is written."""


def _allocated(path: Path, size: int, head: bytes) -> mmap.mmap:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        os.posix_fallocate(descriptor, 0, size)
        os.pwrite(descriptor, head.ljust(HEADER_BYTES, b"\0"), 0)
        # Populated at once: page faults would otherwise come in the middle of operations.
        return mmap.mmap(descriptor, size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
    finally:
        os.close(descriptor)


def _no_room(error: OSError, folder: Path, size: int) -> str:
    why = os.strerror(error.errno) if error.errno else str(error)
    room = os.statvfs(folder)
    free = room.f_bavail * room.f_frsize
    hint = "; free some space there" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return f"{folder}: cannot allocate {size} bytes to record operations in: {why} ({free} bytes are free){hint}"
