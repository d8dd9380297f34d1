"""Small random histories: a machine that works, watched by concurrent clients, then tampered with."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from aftershock.harness.porcupine import ABSENT, NO_VERSION, OPEN_NS, F, Model, Operations

from tests.unit.porcupine.machines import Machine, machine


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
    items: tuple[int, ...] | None = None


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
    unknown = np.array([row.unknown for row in listed], dtype=np.bool_)
    if all(row.items is None for row in listed):
        return Operations(**columns, unknown=unknown)
    counts = [-1 if row.items is None else len(row.items) for row in listed]
    ends = np.cumsum([max(0, count) for count in counts])
    return Operations(
        **columns,
        unknown=unknown,
        items=np.array([number for row in listed for number in row.items or ()], dtype=np.int64),
        items_first=ends - np.maximum(counts, 0),
        items_count=np.array(counts, dtype=np.int64),
    )


def history_of(rng: random.Random, model: Model, profile: str, *, key: int = 0, most: int = 7) -> list[Row]:
    """A key's history of up to `most` operations, legal by construction unless it was tampered with (4 of 5 are)."""
    return _tampered(rng, watched(rng, machine(model, profile), key=key, most=most))


def watched(rng: random.Random, works: Machine, *, key: int = 0, most: int = 7) -> list[Row]:
    """What clients of a machine that works see: each operation happens at a point within its interval.

    Times are small numbers, so that many are equal. A client does one thing at a time, in most histories.
    """
    count = rng.randint(min(2, most), most)
    points = sorted(rng.choices(range(6 * most), k=count))
    clients = [rng.randrange(rng.choice((2, 3, 9))) for _ in points]
    spread = rng.choice((0, 2, 6, 15))
    orderly = rng.random() < 0.9
    unknown_share = rng.choice((0.0, 0.15, 0.4))
    bounds = [_between(rng, points, clients, i) if orderly else (0, 8 * most) for i in range(count)]
    ids = list(range(9))
    rows: list[Row] = []
    for point, client, (earliest, latest) in zip(points, clients, bounds, strict=True):
        unknown = rng.random() < unknown_share
        process = ids[client]
        call = works.call(rng, process=process, happens=not unknown or rng.random() < 0.5)
        if unknown and rng.random() < 0.7:
            ids[client] += 10  # a client that does not know how its operation ended goes on as somebody else
        rows.append(
            Row(
                key=key,
                process=process,
                f=call.f,
                value=call.value,
                expected=call.expected,
                version=call.version,
                items=call.items,
                start_ns=max(earliest, point - rng.randint(0, spread)),
                end_ns=OPEN_NS if unknown else min(latest, point + rng.randint(0, spread)),
                unknown=unknown,
            )
        )
    return rows


def _between(rng: random.Random, points: list[int], clients: list[int], i: int) -> tuple[int, int]:
    """Bounds of an interval that keep it from overlapping the same client's others; it may touch them."""
    earlier = [points[j] for j in range(i) if clients[j] == clients[i]]
    later = [points[j] for j in range(i + 1, len(points)) if clients[j] == clients[i]]
    earliest = rng.randint((earlier[-1] + points[i] + 1) // 2, points[i]) if earlier else 0
    latest = rng.randint(points[i], (points[i] + later[0]) // 2) if later else 8 * points[-1] + 8
    return earliest, latest


def _tampered(rng: random.Random, rows: list[Row]) -> list[Row]:
    for _ in range(rng.choice((0, 1, 2, 4, 5))):
        tamper(rng, rows)
    rng.shuffle(rows)
    return rows


_SAYS_NOTHING = (F.WRITE, F.DELETE, F.ADD, F.ENQUEUE, F.APPEND)


def tamper(rng: random.Random, rows: list[Row]) -> None:
    """Change one operation, its answer, its times or its outcome, or swap two, or lose one."""
    i, j = rng.randrange(len(rows)), rng.randrange(len(rows))
    row, other = rows[i], rows[j]
    match rng.randrange(8):
        case 0 | 1 | 2:
            answered = [n for n, one in enumerate(rows) if not one.unknown and one.f not in _SAYS_NOTHING] or [i]
            i = rng.choice(answered)
            rows[i] = _other_answer(rng, rows[i], rows)
        case 3 if not row.unknown:
            shift = rng.randint(-15, 15)
            rows[i] = replace(row, start_ns=row.start_ns + shift, end_ns=row.end_ns + shift)
        case 4 if not row.unknown:
            rows[i] = replace(row, end_ns=row.start_ns + rng.randint(0, 3))
        case 5:
            end_ns = row.start_ns + rng.randint(0, 20) if row.unknown else OPEN_NS
            rows[i] = replace(row, unknown=not row.unknown, end_ns=end_ns)
        case 6:
            times = {"start_ns": row.start_ns, "end_ns": row.end_ns, "unknown": row.unknown}
            rows[i] = replace(row, start_ns=other.start_ns, end_ns=other.end_ns, unknown=other.unknown)
            rows[j] = replace(rows[j], **times) if i != j else rows[j]
        case 7 if len(rows) > 1:
            del rows[i]


def _other_answer(rng: random.Random, row: Row, rows: list[Row]) -> Row:
    """The same call with another answer; where answers say nothing, another call."""
    values = [ABSENT, 99, *(other.value for other in rows if other.f in (F.WRITE, F.CAS, F.ENQUEUE))]
    near = row.value + rng.choice((-1, 1, 2))
    match row.f:
        case F.READ | F.DEQUEUE:
            changed = replace(row, value=rng.choice([*values, near] if row.value != ABSENT else values))
        case F.CAS | F.UNEQUAL:
            changed = replace(row, expected=rng.choice(values))
        case F.CONTAINS:
            changed = replace(row, expected=1 - row.expected)
        case F.READ_ALL:
            changed = replace(row, items=_other_items(rng, row.items or (), rows))
        case F.INCREMENT:
            changed = replace(row, value=near)
        case F.ACQUIRE:
            changed = replace(row, value=rng.randint(1, 6) if row.value == ABSENT else rng.choice((ABSENT, near)))
        case F.RELEASE | F.HELD:
            changed = replace(row, process=rng.choice([other.process for other in rows]))
        case F.TRANSFER:
            changed = replace(row, value=rng.randint(0, 5))
        case _:
            changed = row
    if row.f is not F.TRANSFER and row.version != NO_VERSION and rng.random() < 0.5:
        return replace(row, version=max(0, row.version + rng.choice((-1, 1, 2))))
    return changed


def _other_items(rng: random.Random, items: tuple[int, ...], rows: list[Row]) -> tuple[int, ...]:
    listed = list(items)
    added = [other.value for other in rows if other.f in (F.ADD, F.APPEND)]
    match rng.randrange(4):
        case 0 if listed:
            del listed[rng.randrange(len(listed))]
        case 1 if added:
            listed.insert(rng.randint(0, len(listed)), rng.choice(added))
        case 2 if len(listed) > 1:
            i, j = rng.sample(range(len(listed)), 2)
            listed[i], listed[j] = listed[j], listed[i]
        case 3 if listed:
            listed[rng.randrange(len(listed))] += rng.choice((-1, 1))
    return tuple(listed)


def keyed(rows: Sequence[Row], key: int) -> list[Row]:
    return [replace(row, key=key) for row in rows]
