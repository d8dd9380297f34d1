"""Exact linearizability of registers whose written values are unique: the simulator's own judge.

Written for the simulator alone and independent of `harness/`, so that a mistake in one does not hide in the other.
The method is the block argument of Gibbons & Korach (1997) for histories with a known reads-from relation: all that
touches one value (its writer, its readers, and, through compare-and-set, the values that follow from it) is
contiguous in any linearization, and two such blocks conflict only if each must precede the other.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

INFINITY = 2**62


@dataclass(slots=True)
class Operation:
    """One operation on one key. `f`: "read", "write" or "cas". None stands for an absent key.

    A compare-and-set that did not match is recorded as a "read" of what it saw. `end` is INFINITY and `known` False
    when the outcome is unknown; operations that certainly did not happen are left out.
    """

    key: str
    f: str
    value: Any
    start: int
    end: int
    expected: Any = None
    known: bool = True


def check(history: Iterable[Operation]) -> list[str]:
    """One sentence for each key that is not linearizable."""
    keys: dict[str, list[Operation]] = {}
    for operation in history:
        keys.setdefault(operation.key, []).append(operation)
    found = []
    for key, operations in keys.items():
        reason = check_key(operations)
        if reason is not None:
            found.append(f"{key}: {reason}")
    return found


def check_key(operations: list[Operation]) -> str | None:
    """Why the operations on one key, absent at first, are not linearizable; None when they are."""
    writers: dict[Any, Operation] = {}
    readers: dict[Any, list[Operation]] = {}
    observed: list[Any] = []
    for op in operations:
        if op.f == "read":
            if op.known:
                readers.setdefault(op.value, []).append(op)
                observed.append(op.value)
        elif op.value in writers or op.value is None:
            raise ValueError(f"value {op.value!r} is written twice; this check needs unique values")
        else:
            writers[op.value] = op
            if op.f == "cas" and op.known:
                observed.append(op.expected)
    seen: set[Any] = set()
    while observed:  # an observed unknown compare-and-set took effect, so what it expected is observed too
        value = observed.pop()
        if value in seen:
            continue
        seen.add(value)
        writer = writers.get(value)
        if value is not None and writer is None:
            return f"{value!r} was read but never written"
        if writer is not None and writer.f == "cas" and not writer.known:
            observed.append(writer.expected)
    effective = {value: op for value, op in writers.items() if op.known or value in seen}
    return _check_blocks(effective, readers)


def _check_blocks(writers: dict[Any, Operation], readers: dict[Any, list[Operation]]) -> str | None:
    following: dict[Any, Any] = {}
    for value, op in writers.items():
        if op.f == "cas":
            if op.expected in following:
                return (
                    f"two compare-and-sets succeeded from {op.expected!r}: to {following[op.expected]!r} and {value!r}"
                )
            following[op.expected] = value
    heads = [None, *(value for value, op in writers.items() if op.f == "write")]
    blocks: list[tuple[int, int, Any]] = []
    reached = 0
    for head in heads:
        first_end, last_start = (INFINITY, -INFINITY) if head is not None else (-INFINITY, -INFINITY)
        value = head
        while True:
            writer = writers.get(value)
            groups = [[writer]] if writer is not None else []
            groups.append(readers.get(value, []))
            reached += writer is not None
            for group in groups:
                if group and min(op.end for op in group) < last_start:
                    return f"an operation on {value!r} ended before one that must come earlier had begun"
                for op in group:
                    first_end, last_start = min(first_end, op.end), max(last_start, op.start)
            if value not in following:
                break
            value = following[value]
        blocks.append((first_end, last_start, head))
    if reached != len(writers):
        return "compare-and-sets follow from one another in a circle"
    return _check_order(blocks)


def _check_order(blocks: list[tuple[int, int, Any]]) -> str | None:
    forward = sorted((block for block in blocks if block[0] < block[1]), key=lambda block: block[:2])
    for left, right in itertools.pairwise(forward):
        if right[0] < left[1]:
            return f"{left[2]!r} was seen again after {right[2]!r}, or the other way round"
    ends = [block[0] for block in forward]
    for first_end, last_start, value in blocks:
        if first_end < last_start:
            continue
        at = bisect.bisect_left(ends, last_start) - 1
        if at >= 0 and first_end < forward[at][1]:
            return f"{forward[at][2]!r} was still seen after {value!r} had been written over it"
    return None
