"""Histories for benchmarks/checker.py, made in the way of `Shape`, as columns; ten million operations take seconds.

Every operation takes effect at one instant, and its answer is what a register would have said then: histories are
linearizable unless they are tampered with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from aftershock.harness.porcupine import ABSENT, NO_VERSION, OPEN_NS, F, Operations

__all__ = ["Shape", "generate"]

_UNIT_NS = 1_000_000
"""The mean time that an operation takes; every other time is told in multiples of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a history looks like. Clients work at the same time, each one operation after another.

    An operation takes an exponential time of mean 1, and its client thinks for an exponential time of mean 0.2.
    `crashed` is the share of operations that were never answered, or how many writes (an integer). Of these `effective`
    took effect, each at an exponential time of mean `late` after its start. `values` is how many different values are
    written, None for one a write. `stale`: one read, at nine tenths, saw what had been overwritten
    so often (5 times, and twice a client) that no overlap explains it.
    """

    operations: int
    clients: int
    keys: int = 1
    writes: float = 0.5
    cas: float = 0.0
    crashed: float | int = 0.0
    effective: float = 0.5
    late: float = 1.0
    values: int | None = None
    stale: bool = False


def generate(shape: Shape, *, seed: int) -> Operations:
    """A history of that shape, the same for the same seed."""
    rng = np.random.default_rng(seed)
    n = shape.operations
    start, took, client = _times(shape, rng)
    key = rng.integers(0, shape.keys, n)
    writes = rng.random(n) < shape.writes
    cas = writes & (rng.random(n) < shape.cas / max(shape.writes, 1e-9))
    if isinstance(shape.crashed, int):
        unknown = np.zeros(n, dtype=np.bool_)
        unknown[rng.choice(np.flatnonzero(writes), shape.crashed, replace=False)] = True
    else:
        unknown = rng.random(n) < shape.crashed
    effect = start + rng.random(n) * took
    late = start + rng.exponential(shape.late, n)
    effect = np.where(unknown, late, effect)
    effective = writes & (~unknown | (rng.random(n) < shape.effective))
    written = np.arange(1, n + 1) if shape.values is None else rng.integers(1, shape.values + 1, n)
    order = np.lexsort((effect, key))
    before = _before(order, key, effective, written)
    f = np.where(cas, int(F.CAS), np.where(writes, int(F.WRITE), int(F.READ)))
    value = np.where(writes, written, before)
    if shape.stale:
        older = 5 + 2 * shape.clients
        _make_stale(
            value, older=older, order=order, key=key, reads=~writes & ~unknown, effective=effective, written=written
        )
    start_ns = (start * _UNIT_NS).astype(np.int64)
    return Operations(
        key=key,
        process=_processes(client, unknown, clients=shape.clients),
        f=f,
        value=value,
        expected=np.where(cas, before, ABSENT),
        version=np.full(n, NO_VERSION),
        start_ns=start_ns,
        end_ns=np.where(unknown, OPEN_NS, start_ns + (took * _UNIT_NS).astype(np.int64)),
        unknown=unknown,
    )


def _times(
    shape: Shape, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Start, duration and client of every operation, by start."""
    turns = -(-shape.operations // shape.clients) + 50  # clients differ in how many they do in the same time
    took = rng.exponential(1.0, (shape.clients, turns))
    thought = rng.exponential(0.2, (shape.clients, turns))
    start = (np.cumsum(took + thought, axis=1) - took).ravel()
    by_start = np.argsort(start, kind="stable")[: shape.operations]
    return start[by_start], took.ravel()[by_start], by_start // turns


def _processes(client: npt.NDArray[np.int64], unknown: npt.NDArray[np.bool_], *, clients: int) -> npt.NDArray[np.int64]:
    """A client gets a new process id after every operation that was not answered."""
    order = np.argsort(client, kind="stable")
    crashes = np.cumsum(unknown[order]) - unknown[order]
    first = np.r_[True, client[order][1:] != client[order][:-1]]
    crashes -= np.maximum.accumulate(np.where(first, crashes, 0))
    process = np.empty_like(client)
    process[order] = client[order] + clients * crashes
    return process


def _before(
    order: npt.NDArray[np.int64],
    key: npt.NDArray[np.int64],
    effective: npt.NDArray[np.bool_],
    written: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """What stood at its key when each operation took effect; `order` is by key and effect."""
    places = np.arange(len(order))
    writer = np.where(effective[order], places, -1)
    # The last writer before this place: what an operation itself wrote comes after it.
    last = np.r_[-1, np.maximum.accumulate(writer)[:-1]]
    first_of_key = np.maximum.accumulate(np.where(np.r_[True, np.diff(key[order]) != 0], places, 0))
    found = np.where(last >= first_of_key, written[order[np.maximum(last, 0)]], ABSENT)
    before = np.empty_like(found)
    before[order] = found
    return before


def _make_stale(
    value: npt.NDArray[np.int64],
    *,
    older: int,
    order: npt.NDArray[np.int64],
    key: npt.NDArray[np.int64],
    reads: npt.NDArray[np.bool_],
    effective: npt.NDArray[np.bool_],
    written: npt.NDArray[np.int64],
) -> None:
    """Give one read, the last before nine tenths of the busiest key's, what was overwritten `older` times."""
    mine = order[key[order] == np.bincount(key).argmax()]
    mine = mine[: len(mine) * 9 // 10]
    place = int(np.flatnonzero(reads[mine])[-1])
    writers = mine[:place][effective[mine[:place]]]
    value[mine[place]] = written[writers[-older - 1]]
