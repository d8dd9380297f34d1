"""Histories of collections, counters and locks that are as crowded as they can be: where the deciders have to think.

Beside `generate.history_of`: operations overlap more, unknown ones are mostly of one kind (so that a queue has many
dequeues that nobody knows the end of), and many that found nothing, or found the lock taken, are in between.
"""

from __future__ import annotations

import random
from dataclasses import replace

from aftershock.harness.porcupine import ABSENT, OPEN_NS, F, Model

from tests.unit.porcupine.generate import Row, tamper
from tests.unit.porcupine.machines import PROFILES, machine

__all__ = ["MODELS", "crowded"]

MODELS = (
    Model.SET,
    Model.QUEUE,
    Model.COUNTER,
    Model.FETCH_AND_INCREMENT,
    Model.MUTEX,
    Model.LIST_APPEND,
)

_CHANGES = {
    Model.SET: (F.ADD,),
    Model.QUEUE: (F.ENQUEUE, F.DEQUEUE),
    Model.COUNTER: (F.INCREMENT,),
    Model.FETCH_AND_INCREMENT: (F.INCREMENT,),
    Model.MUTEX: (F.ACQUIRE, F.RELEASE),
    Model.LIST_APPEND: (F.APPEND,),
}


def crowded(rng: random.Random, model: Model, *, key: int = 0, most: int = 8) -> list[Row]:
    """A key's history of up to `most` operations: legal by construction unless tampered with, as two of three are."""
    works = machine(model, rng.choice([profile for profile in PROFILES[model] if profile != "repeated"]))
    count = rng.randint(3, most)
    spread = rng.choice((3, 10, 25))
    shares = {f: rng.choice((0.0, 0.3, 0.7)) for f in _CHANGES[model]}
    ids = list(range(4))
    rows: list[Row] = []
    for point in sorted(rng.choices(range(5 * count), k=count)):
        client = rng.randrange(len(ids))
        process = ids[client]
        happens = rng.random() < 0.7
        call = works.call(rng, process=process, happens=happens)
        unknown = not happens or rng.random() < shares.get(call.f, 0.0)
        if not happens and call.f not in _CHANGES[model]:
            continue
        rows.append(
            Row(
                key=key,
                process=process,
                f=call.f,
                value=call.value,
                expected=call.expected,
                version=call.version,
                items=call.items,
                start_ns=point - rng.randint(0, spread),
                end_ns=OPEN_NS if unknown else point + rng.randint(0, spread),
                unknown=unknown,
            )
        )
        ids[client] += 10 * unknown
    if not rows:
        return crowded(rng, model, key=key, most=most)
    if model is Model.MUTEX:
        rows = _one_at_a_time(rng, rows)
    for _ in range(rng.choice((0, 1, 2))):
        tamper(rng, rows)
    if model is Model.QUEUE and rng.random() < 0.5:
        point = rng.randint(0, 5 * count)
        rows.append(Row(key=key, process=99, f=F.DEQUEUE, value=ABSENT, start_ns=point, end_ns=point + spread))
    rng.shuffle(rows)
    return rows


def _one_at_a_time(rng: random.Random, rows: list[Row]) -> list[Row]:
    """A process begins its next operation when the last one is over; that one ends earlier if need be."""
    begins: dict[int, int] = {}
    kept: list[Row] = []
    for row in reversed(rows):
        latest = begins.get(row.process, OPEN_NS) - rng.randint(0, 1)
        start_ns = min(row.start_ns, latest)
        end_ns = OPEN_NS if row.unknown else min(row.end_ns, latest)
        begins[row.process] = start_ns
        kept.append(replace(row, start_ns=start_ns, end_ns=end_ns))
    return kept
