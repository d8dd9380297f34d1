"""The slot: one operation as a fixed record in a memory-mapped file, and how such files are read back.

A load process writes slots (`recorder`), everybody else reads them: `convert` after the run, `launcher` for the keys
that were attempted. Byte 0 of a slot is its state and is written last, so that SIGKILL at any instant leaves each slot
empty (nothing was sent), invoked (it may have happened) or complete. The invocation's and the completion's fields do
not overlap: a completion that was cut short leaves the invocation intact.

A file is one page of header and then slots, allocated whole. Integers are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..harness.errors import InternalError
from ..harness.operation import REQUEST, Outcome
from .outcomes import ERROR_CODES, RESULTS

__all__ = [
    "COMPLETION",
    "COMPLETION_OFFSET",
    "FUNCTIONS",
    "HEADER_BYTES",
    "INVOCATION",
    "INVOCATION_OFFSET",
    "OUTCOMES",
    "SLOT",
    "SLOT_BYTES",
    "State",
    "header",
    "read_all",
    "read_file",
]

FUNCTIONS: Final = ("read", "write", "cas", "insert", "delete", REQUEST)  # append only
OUTCOMES: Final = (Outcome.OK, Outcome.FAIL, Outcome.UNKNOWN)


class State:
    """Values of a slot's first byte."""

    EMPTY: Final = 0
    INVOKED: Final = 1
    COMPLETE: Final = 2
    NOT_SENT: Final = 3  # an arrival that found every client of its group busy; start_ns is when that was seen


# Bits of `flags` (invocation) and `has` (completion): which optional integers are there.
FINAL: Final = 1
HAS_VALUE: Final = 2
HAS_EXPECTED: Final = 4
HAS_SEEN: Final = 1
HAS_VERSION: Final = 2

SLOT: Final = np.dtype(
    [
        ("state", "u1"),
        ("f", "u1"),  # index into FUNCTIONS
        ("space", "u1"),  # index into the plan's workloads
        ("flags", "u1"),
        ("group", "<u2"),  # index into the plan's client groups
        ("unused", "<u2"),
        ("worker", "<i4"),
        ("sequence", "<u4"),
        ("process", "<i8"),
        ("key", "<i8"),  # the number behind the space's key prefix
        ("value", "<i8"),  # what the operation writes
        ("expected", "<i8"),
        ("intended_ns", "<i8"),
        ("start_ns", "<i8"),
        # ---- completion
        ("end_ns", "<i8"),
        ("seen", "<i8"),  # value read, or observed by a mismatch
        ("version", "<i8"),
        ("attempts", "<i4"),
        ("outcome", "u1"),
        ("result", "u1"),
        ("error", "u1"),
        ("has", "u1"),
    ]
)
SLOT_BYTES: Final = SLOT.itemsize
INVOCATION_OFFSET: Final = 1
INVOCATION: Final = struct.Struct("<BBBHHiIqqqqqq")
COMPLETION_OFFSET: Final = 64
COMPLETION: Final = struct.Struct("<qqqiBBBB")

HEADER_BYTES: Final = 4096
_MAGIC: Final = b"AFTERSHOCK SLOTS"
_HEADER: Final = struct.Struct("<16sIIq")
_VERSION: Final = 1


def header(slots: int) -> bytes:
    """The beginning of a file of that many slots."""
    return _HEADER.pack(_MAGIC, _VERSION, SLOT_BYTES, slots)


def read_file(path: Path) -> tuple[np.ndarray[Any, Any], int]:
    """The slots of one file that hold something, and how many of its slots cannot be read.

    Raises InternalError when it is not a file of slots that this version wrote.
    """
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
        if len(head) < HEADER_BYTES:
            raise InternalError(f"{path}: has {len(head)} bytes, expected a header of {HEADER_BYTES}")
        magic, version, slot_bytes, expected = _HEADER.unpack_from(head)
        if magic != _MAGIC or version != _VERSION or slot_bytes != SLOT_BYTES:
            raise InternalError(f"{path}: is not a file of slots, version {_VERSION}, of {SLOT_BYTES} bytes each")
        found = np.fromfile(file, dtype=SLOT, count=expected)
    missing = expected - len(found)
    used = found[found["state"] != State.EMPTY]
    sound = (
        (used["state"] <= State.NOT_SENT)
        & (used["f"] < len(FUNCTIONS))
        & (used["outcome"] < len(OUTCOMES))
        & (used["result"] < len(RESULTS))
        & (used["error"] < len(ERROR_CODES))
    )
    return used[sound], missing + int(np.count_nonzero(~sound))


def read_all(folder: Path, pattern: str = "*.slots") -> Iterator[tuple[Path, np.ndarray[Any, Any], int]]:
    """(path, used slots, unreadable slots) of every finished file of slots in a folder, in order of name."""
    for path in sorted(folder.glob(pattern)):
        found, unreadable = read_file(path)
        yield path, found, unreadable
