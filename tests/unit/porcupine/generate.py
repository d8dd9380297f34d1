"""Small random histories: a register that works, watched by concurrent clients, then tampered with."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from aftershock.harness.porcupine import ABSENT, NO_VERSION, OPEN_NS, F, Operations


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    key: int = 0
    process: int = 0
    f: F
    value: int = 0
    expected: int = 0
    version: int = NO_VERSION
    start_ns: int
    end_ns: int
    unknown: bool = False


def read(value: int, start_ns: int, end_ns: int, *, process: int = 0, key: int = 0, version: int = NO_VERSION) -> Row:
    return Row(f=F.READ, value=value, start_ns=start_ns, end_ns=end_ns, process=process, key=key, version=version)


def write(
    value: int,
    start_ns: int,
    end_ns: int = OPEN_NS,
    *,
    process: int = 0,
    key: int = 0,
    version: int = NO_VERSION,
) -> Row:
    return Row(
        f=F.WRITE,
        value=value,
        start_ns=start_ns,
        end_ns=end_ns,
        process=process,
        key=key,
        version=version,
        unknown=end_ns == OPEN_NS,
    )


def cas(
    expected: int,
    value: int,
    start_ns: int,
    end_ns: int = OPEN_NS,
    *,
    process: int = 0,
    key: int = 0,
    version: int = NO_VERSION,
) -> Row:
    return replace(
        write(value, start_ns, end_ns, process=process, key=key, version=version), f=F.CAS, expected=expected
    )


def delete(start_ns: int, end_ns: int = OPEN_NS, *, process: int = 0, key: int = 0, version: int = NO_VERSION) -> Row:
    return replace(write(0, start_ns, end_ns, process=process, key=key, version=version), f=F.DELETE)


def operations(rows: Iterable[Row]) -> Operations:
    listed = list(rows)
    columns = {
        name: np.array([getattr(row, name) for row in listed], dtype=np.int64)
        for name in ("key", "process", "f", "value", "expected", "version", "start_ns", "end_ns")
    }
    return Operations(**columns, unknown=np.array([row.unknown for row in listed], dtype=np.bool_))


def random_history(
    rng: random.Random,
    *,
    key: int = 0,
    most: int = 9,
    unique: bool = True,
    deletes: bool = False,
    versions: bool = False,
) -> list[Row]:
    """A key's history of up to `most` operations, legal by construction unless it was tampered with (3 of 4 are).

    Times are small numbers, so that many are equal. `unique`: every value is written once.
    """
    state, version, next_value = ABSENT, 0, 1
    points = sorted(rng.sample(range(60), rng.randint(2, most)))
    spread = rng.choice((0, 2, 6, 15))
    rows: list[Row] = []
    for process, point in enumerate(points):
        start, end = max(0, point - rng.randint(0, spread)), point + rng.randint(0, spread)
        unknown = rng.random() < 0.2
        happened = not unknown or rng.random() < 0.5
        f = rng.choice((F.READ, F.READ, F.WRITE, F.CAS, *((F.DELETE,) if deletes else ())))
        value = next_value if unique else rng.randint(1, 3)
        row = Row(key=key, process=process, f=f, value=value, start_ns=start, end_ns=end, unknown=unknown)
        if f is F.READ:
            row = replace(row, value=state)
        elif (f is F.CAS and not unknown) or (f is F.CAS and rng.random() < 0.7):
            row = replace(row, expected=state)
        elif f is F.CAS:
            row, happened = replace(row, expected=rng.randint(1, 4)), False
        if f is not F.READ and happened:
            idle = f is F.DELETE and state == ABSENT and rng.random() < 0.5
            state = ABSENT if f is F.DELETE else value
            version += 0 if idle else rng.randint(1, 3)
        next_value += f in (F.WRITE, F.CAS)
        if versions and not unknown and rng.random() < 0.8:
            row = replace(row, version=version)
        rows.append(replace(row, end_ns=OPEN_NS) if unknown else row)
    for _ in range(rng.choice((0, 1, 2, 4))):
        tamper(rng, rows)
    rng.shuffle(rows)
    return rows


def tamper(rng: random.Random, rows: list[Row]) -> None:
    """Change one operation: its value, its times, its outcome or its version."""
    i = rng.randrange(len(rows))
    row = rows[i]
    seen = [ABSENT, 99, *(other.value for other in rows if other.f in (F.WRITE, F.CAS))]
    match rng.randrange(5):
        case 0 if row.f is F.READ:
            rows[i] = replace(row, value=rng.choice(seen))
        case 0 if row.f is F.CAS:
            rows[i] = replace(row, expected=rng.choice(seen))
        case 1 if not row.unknown:
            shift = rng.randint(-15, 15)
            rows[i] = replace(row, start_ns=row.start_ns + shift, end_ns=row.end_ns + shift)
        case 2 if not row.unknown:
            rows[i] = replace(row, end_ns=row.start_ns + rng.randint(0, 3))
        case 3:
            end_ns = row.start_ns + rng.randint(0, 20) if row.unknown else OPEN_NS
            rows[i] = replace(row, unknown=not row.unknown, end_ns=end_ns, version=NO_VERSION)
        case 4 if row.version != NO_VERSION:
            rows[i] = replace(row, version=max(0, row.version + rng.choice((-1, 1, 2))))


def keyed(rows: Sequence[Row], key: int) -> list[Row]:
    return [replace(row, key=key) for row in rows]
