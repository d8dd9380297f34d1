"""The state machine of one shard: keys, versions and the table of answered requests. Changed by `apply` only.

Everything is a function of the log alone, so replicas that applied the same entries are identical: conditional
operations are evaluated here and not before, and the request table is bounded by log order, never by a clock.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from .messages import Entry, Kind, ReplyKind

__all__ = ["Cell", "Result", "StateMachine", "extend_chain", "malformed"]


class Cell(NamedTuple):
    """What stands under a key. `version` is the log index of its last change and survives deletion."""

    found: bool = False
    value: Any = None
    version: int = 0


class Result(NamedTuple):
    """Outcome of one applied entry. For CAS_FAILED, the cell that stood there instead."""

    kind: ReplyKind
    cell: Cell


_ABSENT = Cell()
_NOTHING = Result(ReplyKind.OK, _ABSENT)
_TOO_OLD = Result(ReplyKind.TOO_OLD, _ABSENT)


class StateMachine:
    """Applied state of one shard, with `dedupe_entries` answered requests remembered."""

    __slots__ = ("_bound", "_cells", "_results", "floor")

    def __init__(self, *, dedupe_entries: int) -> None:
        self._bound = dedupe_entries
        self._cells: dict[str, Cell] = {}
        # In log order, because a request id is entered once, when it is applied first: the oldest is the first key.
        self._results: dict[tuple[str, int], tuple[int, Result]] = {}
        self.floor = 0  # log index of the newest request that was forgotten

    def get(self, key: str) -> Cell:
        """What stands under `key` now."""
        return self._cells.get(key, _ABSENT)

    def answered(self, request_id: tuple[str, int], born: int) -> Result | None:
        """The stored result of a request; TOO_OLD when it may have been applied and forgotten; None when it is new.

        Rule W3. A first application has an index above `born`, so what is not in the table although
        `born >= floor` was never applied.
        """
        known = self._results.get(request_id)
        if known is not None:
            return known[1]
        if born < self.floor:
            return _TOO_OLD
        return None

    def apply(self, entry: Entry) -> Result:
        """Apply the next committed entry. The same on every replica."""
        if entry.kind is Kind.NOOP:
            return _NOTHING
        seen = self.answered(entry.request_id, entry.born)
        if seen is not None:
            return seen
        result = self._execute(entry)
        self._results[entry.request_id] = (entry.index, result)
        if len(self._results) > self._bound:
            oldest = next(iter(self._results))
            self.floor = self._results.pop(oldest)[0]
        return result

    def _execute(self, entry: Entry) -> Result:
        cell = self._cells.get(entry.key, _ABSENT)
        if entry.kind is Kind.PUT:
            return self._change(entry, found=True, value=entry.args[0])
        if entry.kind is Kind.CAS:
            expect, value = entry.args
            if _matches(cell, expect):
                return self._change(entry, found=True, value=value)
            return Result(ReplyKind.CAS_FAILED, cell)
        if entry.kind is Kind.DELETE:
            return self._change(entry, found=False, value=None)
        # INCR: an absent key counts from 0; anything but a number is left alone and shown.
        if cell.found and (isinstance(cell.value, bool) or not isinstance(cell.value, int | float)):
            return Result(ReplyKind.CAS_FAILED, cell)
        return self._change(entry, found=True, value=(cell.value if cell.found else 0) + entry.args[0])

    def _change(self, entry: Entry, *, found: bool, value: Any) -> Result:
        cell = self._cells[entry.key] = Cell(found, value, entry.index)
        return Result(ReplyKind.OK, cell)

    def digest(self) -> str:
        """Hash of all cells, the same on every replica that applied the same entries."""
        hashed = hashlib.blake2b(digest_size=16)
        for key in sorted(self._cells):
            hashed.update(_encode((key, *self._cells[key])))
        return hashed.hexdigest()


def _matches(cell: Cell, expect: Any) -> bool:
    """Whether `cell` is what a compare-and-set expects: ["value", v], ["version", n] or ["absent"]."""
    what = expect[0]
    if what == "value":
        return cell.found and bool(cell.value == expect[1])
    if what == "version":
        return bool(cell.version == expect[1])
    return not cell.found


_ARGUMENTS: Final[dict[str, int]] = {Kind.PUT: 1, Kind.DELETE: 0, Kind.INCR: 1, Kind.CAS: 2}
_SHAPES: Final = {"value": 2, "version": 2, "absent": 1}  # what a compare-and-set may expect, and its length


def malformed(kind: str, args: tuple[Any, ...]) -> str | None:
    """Why an operation could not be applied, or None. Asked before it is logged: a logged one must always apply."""
    count = _ARGUMENTS.get(kind)
    if count is None:
        return f"unknown operation {kind!r}"
    if len(args) != count:
        return f"{kind} takes {count} arguments, not {len(args)}"
    first = args[0] if args else None
    if kind == Kind.INCR and (isinstance(first, bool) or not isinstance(first, int | float)):
        return f"incr takes a number, not {first!r}"
    if kind == Kind.CAS and not (
        isinstance(first, list | tuple) and first and isinstance(first[0], str) and _SHAPES.get(first[0]) == len(first)
    ):
        return f"cas expects ['value', v], ['version', n] or ['absent'], not {first!r}"
    return None


def _encode(values: tuple[Any, ...]) -> bytes:
    # JSON, because a tuple and the list that it becomes on the wire must hash alike.
    return json.dumps(values, separators=(",", ":"), sort_keys=True).encode()


def extend_chain(chain: bytes, entries: Iterable[Entry]) -> bytes:
    """Running hash over (index, term, entry): equal chains mean equal logs, not only equal final values."""
    for entry in entries:
        body = _encode((entry.index, entry.term, entry.kind, entry.request_id, entry.born, entry.key, entry.args))
        chain = hashlib.blake2b(chain + body, digest_size=16).digest()
    return chain
