"""A load process's counters in a small mapped file: cheap to write, readable by the parent, there after a SIGKILL.

They are for the eye (live progress) and for figures on the generator itself. The truth about operations is in the
slots.
"""

from __future__ import annotations

import enum
import math
import mmap
import os
from pathlib import Path
from typing import Final

__all__ = ["Counter", "Page", "Phase", "seconds_needed"]


class Phase(enum.IntEnum):
    """How far a load process is. `STOPPED`: it can send no more; its log says why."""

    STARTING = 0
    READY = 1
    RUNNING = 2
    DONE = 3
    STOPPED = 4


class Counter(enum.IntEnum):
    """Place of each counter, in units of eight bytes. `TEXT` is a kilobyte of text; at the end come the ok answers of
    each second."""

    PHASE = 0
    ORIGIN_NS = 1
    SENT = 2
    OK = 3
    FAIL = 4
    UNKNOWN = 5
    NOT_SENT = 6
    DEFECTS = 7
    CPU_BEGIN_NS = 8
    CPU_NOW_NS = 9
    CLOCK_BEGIN_NS = 10
    CLOCK_NOW_NS = 11
    TEXT = 16
    OK_PER_S = 144


class Page:
    """The counters of one load process, `page[Counter.SENT]`; the file is one load process's to write."""

    def __init__(self, path: Path, *, seconds: int | None = None) -> None:
        """Open the page at `path`; with `seconds` it is made, with room for that many seconds."""
        if seconds is not None:
            _make(path, 8 * (Counter.OK_PER_S + seconds))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._cells = memoryview(self._map).cast("q")
        self.seconds: Final = len(self._cells) - Counter.OK_PER_S

    def __getitem__(self, counter: Counter) -> int:
        return self._cells[counter]

    def __setitem__(self, counter: Counter, value: int) -> None:
        self._cells[counter] = value

    def add(self, counter: Counter) -> None:
        self._cells[counter] += 1

    def add_ok(self, end_ns: int) -> None:
        """Count an ok answer, also in the second in which it came."""
        self._cells[Counter.OK] += 1
        second = (end_ns - self._cells[Counter.ORIGIN_NS]) // 1_000_000_000
        if 0 <= second < self.seconds:
            self._cells[Counter.OK_PER_S + second] += 1

    def ok_in(self, second: int) -> int:
        """Ok answers in a second, counted from the origin."""
        return self._cells[Counter.OK_PER_S + second] if 0 <= second < self.seconds else 0

    def say(self, text: str) -> None:
        """Leave a message for the parent: here there is room for it on a full disk too."""
        data = text.encode()[: 8 * (Counter.OK_PER_S - Counter.TEXT) - 1]
        self._map[8 * Counter.TEXT : 8 * Counter.TEXT + len(data)] = data

    def said(self) -> str:
        """The message; empty when there is none."""
        data = self._map[8 * Counter.TEXT : 8 * Counter.OK_PER_S]
        return data.partition(b"\0")[0].decode("utf-8", "replace")

    def problem(self) -> str | None:
        """Why this load process, which has ended, left an incomplete record; None when it did not."""
        phase = Phase(self[Counter.PHASE])
        if phase is Phase.STOPPED:
            return f"stopped sending: {self.said()}"
        if self[Counter.DEFECTS] > 0:
            return (
                f"and the service disagree on the API ({self[Counter.DEFECTS]} times), which no fault explains: "
                f"{self.said()}"
            )
        return None if phase is Phase.DONE else "ended before its schedule was played"

    def close(self) -> None:
        self._cells.release()
        self._map.close()


def _make(path: Path, size: int) -> None:
    """Allocate the file whole under another name first: whoever sees it, sees all of it."""
    partial = path.with_suffix(".partial")
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        os.posix_fallocate(descriptor, 0, size)
    finally:
        os.close(descriptor)
    partial.rename(path)


def seconds_needed(*, duration_s: float, timeout_s: float) -> int:
    """Seconds in which answers can come."""
    return math.ceil(duration_s + timeout_s) + 2
