"""Deciders of sets, queues, counters, fetch-and-increment, locks and lists: each good history has a bad twin.

`pytest -m nightly tests/unit/porcupine/test_collections.py` holds them against brute force on 200,000 histories a
model; AFTERSHOCK_FUZZ_SEED chooses others.
"""

from __future__ import annotations

import os
import random

import pytest
from aftershock.harness.porcupine import ABSENT, OPEN_NS, Engine, F, Model, check
from aftershock.harness.porcupine._brute import legal
from aftershock.harness.verdict import Verdict

from tests.unit.porcupine.agreement import item_of, verdicts
from tests.unit.porcupine.crowds import MODELS, crowded
from tests.unit.porcupine.generate import Row, keyed, operations

pytestmark = pytest.mark.processes

SEED = os.environ.get("AFTERSHOCK_FUZZ_SEED", "20261123")
CHUNK = 5000

DECIDED_AT_LEAST = {
    Model.SET: 1.0,
    Model.QUEUE: 1.0,
    Model.COUNTER: 0.5,  # half have amounts that differ, and of those only impossible sums are known
    Model.FETCH_AND_INCREMENT: 1.0,
    Model.MUTEX: 0.6,  # processes that are no longer sequential, attempts in between, and tokens that some were told
    Model.LIST_APPEND: 1.0,
}
"""Share of crowded histories that the deciders must decide: what they are exact for would be easy to claim."""


def row(f: F, value: int, start_ns: int, end_ns: int = OPEN_NS, *, process: int = 0) -> Row:
    """An operation; without an end, an unknown one."""
    return Row(f=f, value=value, start_ns=start_ns, end_ns=end_ns, process=process, unknown=end_ns == OPEN_NS)


def add(value: int, start_ns: int, end_ns: int = OPEN_NS) -> Row:
    return row(F.ADD, value, start_ns, end_ns)


def contains(value: int, start_ns: int, end_ns: int, *, found: bool) -> Row:
    return Row(f=F.CONTAINS, value=value, expected=int(found), start_ns=start_ns, end_ns=end_ns)


def read_all(items: tuple[int, ...], start_ns: int, end_ns: int) -> Row:
    return Row(f=F.READ_ALL, items=items, start_ns=start_ns, end_ns=end_ns)


def put(value: int, start_ns: int, end_ns: int = OPEN_NS) -> Row:
    return row(F.ENQUEUE, value, start_ns, end_ns)


def take(value: int, start_ns: int, end_ns: int = OPEN_NS) -> Row:
    return row(F.DEQUEUE, value, start_ns, end_ns)


def increment(value: int, start_ns: int, end_ns: int = OPEN_NS) -> Row:
    return row(F.INCREMENT, value, start_ns, end_ns)


def read(value: int, start_ns: int, end_ns: int) -> Row:
    return row(F.READ, value, start_ns, end_ns)


def acquire(process: int, start_ns: int, end_ns: int = OPEN_NS, *, token: int = ABSENT) -> Row:
    return row(F.ACQUIRE, token, start_ns, end_ns, process=process)


def release(process: int, start_ns: int, end_ns: int = OPEN_NS) -> Row:
    return row(F.RELEASE, 0, start_ns, end_ns, process=process)


def held(process: int, start_ns: int, end_ns: int) -> Row:
    return row(F.HELD, 0, start_ns, end_ns, process=process)


def append(value: int, start_ns: int, end_ns: int = OPEN_NS) -> Row:
    return row(F.APPEND, value, start_ns, end_ns)


# name: model, history that passes, history that fails; the deciders decide both
PAIRS: dict[str, tuple[Model, list[Row], list[Row]]] = {
    "member, found": (
        Model.SET,
        [add(1, 0, 5), contains(1, 6, 7, found=True)],
        [add(1, 0, 5), contains(1, 6, 7, found=False)],
    ),
    "member, touching": (
        Model.SET,
        [add(1, 0, 5), contains(1, 5, 7, found=False)],
        [add(1, 8, 9), contains(1, 5, 7, found=True)],
    ),
    "member of an unknown add comes when it likes and stays": (
        Model.SET,
        [add(1, 0), contains(1, 6, 7, found=False), contains(1, 8, 9, found=True)],
        [add(1, 0), contains(1, 6, 7, found=True), contains(1, 8, 9, found=False)],
    ),
    "member added again": (
        Model.SET,
        [add(1, 0), add(1, 20, 30), contains(1, 3, 4, found=True)],
        [add(1, 10), add(1, 20, 30), contains(1, 3, 4, found=True)],
    ),
    "member that nobody added": (
        Model.SET,
        [contains(1, 0, 1, found=False)],
        [contains(1, 0, 1, found=True)],
    ),
    "whole set grows": (
        Model.SET,
        [add(1, 0, 9), add(2, 0, 9), read_all((1,), 2, 3), read_all((1, 2), 4, 5)],
        [add(1, 0, 9), add(2, 0, 9), read_all((1,), 2, 3), read_all((2,), 4, 5)],
    ),
    "whole set in any order, and once": (
        Model.SET,
        [add(1, 0, 1), add(2, 0, 1), read_all((2, 1, 2), 2, 3)],
        [add(1, 0, 1), add(2, 0, 1), read_all((2, 2), 2, 3)],
    ),
    "whole set and contains of the same": (
        Model.SET,
        [add(1, 0), add(2, 0), read_all((1,), 0, 20), contains(1, 4, 5, found=True), contains(2, 6, 7, found=False)],
        [add(1, 0), add(2, 0), read_all((1,), 0, 20), contains(2, 4, 5, found=True), contains(1, 6, 7, found=False)],
    ),
    "first in, first out": (
        Model.QUEUE,
        [put(1, 0, 1), put(2, 2, 3), take(1, 4, 9), take(2, 4, 5)],
        [put(1, 0, 1), put(2, 2, 3), take(1, 6, 9), take(2, 4, 5)],
    ),
    "taken once": (
        Model.QUEUE,
        [put(1, 0, 1), take(1, 0, 5), take(ABSENT, 0, 5)],
        [put(1, 0, 1), take(1, 0, 5), take(1, 0, 5)],
    ),
    "taken when it was there": (
        Model.QUEUE,
        [put(1, 5), take(1, 0, 5)],
        [put(1, 6), take(1, 0, 5)],
    ),
    "nothing between two that touch": (
        Model.QUEUE,
        [put(1, 0, 1), put(2, 5, 10), take(1, 10, 20), take(2, 30, 40), take(ABSENT, 2, 29)],
        [put(1, 0, 1), put(2, 5, 10), take(1, 11, 20), take(2, 30, 40), take(ABSENT, 2, 29)],
    ),
    "lost element that an unknown dequeue took": (
        Model.QUEUE,
        [put(1, 0, 1), put(2, 2, 3), take(2, 4, 9), take(ABSENT, 9)],
        [put(1, 0, 1), put(2, 2, 3), take(2, 4, 9), take(ABSENT, 10)],
    ),
    "two lost elements, and one or two who can have taken them": (
        Model.QUEUE,
        [put(1, 0, 1), put(2, 2, 3), put(3, 4, 5), take(3, 6, 9), take(0, 1), take(0, 8)],
        [put(1, 0, 1), put(2, 2, 3), put(3, 4, 5), take(3, 6, 9), take(0, 1), take(0, 10)],
    ),
    "nothing although one was lost": (
        Model.QUEUE,
        [put(1, 0, 1), take(0, 3), take(ABSENT, 2, 3)],
        [put(1, 0, 1), take(0, 4), take(ABSENT, 2, 3)],
    ),
    "an element that nobody saw may be anybody's": (
        Model.QUEUE,
        [put(1, 0, 1), put(1, 2, 3), put(2, 4), take(ABSENT, 0, 5), take(0, 9)],
        [put(1, 0, 1), put(1, 2, 3), put(2, 4), take(ABSENT, 2, 5), take(0, 9)],
    ),
    "count": (
        Model.COUNTER,
        [increment(1, 0, 1), increment(1, 5, 9), read(1, 6, 7), read(2, 8, 9)],
        [increment(1, 0, 1), increment(1, 5, 9), read(2, 6, 7), read(1, 8, 9)],
    ),
    "count of unknown increments": (
        Model.COUNTER,
        [increment(1, 0), increment(1, 3), read(0, 4, 5), read(2, 6, 7)],
        [increment(1, 0), increment(1, 8), read(0, 4, 5), read(2, 6, 7)],
    ),
    "one that was counted early is not counted again": (
        Model.COUNTER,
        [increment(1, 0, 100), read(1, 0, 1), increment(1, 2, 60), read(1, 50, 51)],
        [increment(1, 0, 100), read(1, 0, 1), increment(1, 2, 40), read(1, 50, 51)],
    ),
    "count by other equal amounts": (
        Model.COUNTER,
        [increment(-3, 0, 1), increment(0, 0, 1), read(-3, 6, 7)],
        [increment(-3, 0, 1), increment(0, 0, 1), read(-2, 6, 7)],
    ),
    "nothing to count": (Model.COUNTER, [read(0, 0, 1)], [read(1, 0, 1)]),
    "numbers": (
        Model.FETCH_AND_INCREMENT,
        [increment(2, 0, 5), increment(1, 5, 9), read(2, 3, 6)],
        [increment(2, 0, 5), increment(1, 6, 9)],
    ),
    "number made twice": (
        Model.FETCH_AND_INCREMENT,
        [increment(1, 0, 5), increment(2, 0, 5)],
        [increment(1, 0, 5), increment(1, 0, 5)],
    ),
    "number that an unknown increment made": (
        Model.FETCH_AND_INCREMENT,
        [increment(7, 0), increment(3, 5, 9), increment(7, 9), read(0, 0, 2)],
        [increment(7, 0), increment(3, 5, 9), increment(7, 10), read(0, 0, 2)],
    ),
    "number too large": (
        Model.FETCH_AND_INCREMENT,
        [increment(0, 0), read(1, 5, 9)],
        [increment(0, 0), read(2**60, 5, 9)],
    ),
    "no number below one": (
        Model.FETCH_AND_INCREMENT,
        [read(0, 0, 1), increment(1, 0, 1)],
        [increment(0, 0, 1)],
    ),
    "one at a time": (
        Model.MUTEX,
        [acquire(1, 0, 5), release(1, 6, 9), acquire(2, 3, 9), release(2, 10, 12)],
        [acquire(1, 0, 5), release(1, 6, 9), acquire(2, 3, 5), release(2, 7, 12)],
    ),
    "never given back": (
        Model.MUTEX,
        [acquire(1, 0, 5), release(1, 6, 9), acquire(2, 8, 9)],
        [acquire(1, 0, 5), release(1, 20, 30), acquire(2, 8, 9)],
    ),
    "release that was never answered": (
        Model.MUTEX,
        [acquire(1, 0, 5), release(1, 6), acquire(2, 8, 9)],
        [acquire(1, 0, 5), release(1, 10), acquire(2, 8, 9)],
    ),
    "acquisition that was never answered": (
        Model.MUTEX,
        [acquire(1, 0), acquire(2, 8, 9)],
        [acquire(1, 0), release(1, 10, 11), acquire(2, 8, 9), release(2, 12, 13), held(3, 20, 21)],
    ),
    "acquisition without an answer that the release proves": (
        Model.MUTEX,
        [acquire(1, 0), release(1, 10, 11), acquire(2, 8, 12)],
        [acquire(1, 9), release(1, 10, 11), acquire(2, 3, 4), release(2, 12, 13)],
    ),
    "only the holder gives back": (
        Model.MUTEX,
        [acquire(1, 0, 1), release(1, 2, 3)],
        [acquire(1, 0, 1), release(2, 2, 3)],
    ),
    "not twice": (
        Model.MUTEX,
        [acquire(1, 0, 1), release(1, 2, 3), acquire(1, 4, 5)],
        [acquire(1, 0, 1), acquire(1, 4, 5)],
    ),
    "tokens grow": (
        Model.MUTEX,
        [acquire(1, 0, 5, token=4), release(1, 6, 9), acquire(2, 0, 3, token=3), release(2, 4, 9)],
        [acquire(1, 0, 3, token=4), release(1, 4, 9), acquire(2, 0, 5, token=3), release(2, 6, 9)],
    ),
    "tokens differ": (
        Model.MUTEX,
        [acquire(1, 0, 5, token=4), release(1, 6, 9), acquire(2, 10, 12, token=5)],
        [acquire(1, 0, 5, token=4), release(1, 6, 9), acquire(2, 10, 12, token=4)],
    ),
    "tokens enough for one between who told none": (
        Model.MUTEX,
        [
            acquire(1, 0, 3, token=7),
            release(1, 4, 5),
            acquire(2, 4, 6),
            release(2, 7, 8),
            acquire(3, 5, 9, token=9),
        ],
        [
            acquire(1, 0, 3, token=7),
            release(1, 4, 5),
            acquire(2, 4, 6),
            release(2, 7, 8),
            acquire(3, 5, 9, token=8),
        ],
    ),
    "tokens against the clock, over one who told none": (
        Model.MUTEX,
        [
            acquire(1, 0, 5, token=2),
            release(1, 6, 9),
            acquire(2, 3),
            release(2, 7, 8),
            acquire(3, 5, 9, token=7),
            release(3, 10, 12),
        ],
        [
            acquire(1, 0, 5, token=7),
            release(1, 6, 9),
            acquire(2, 6),
            release(2, 7, 8),
            acquire(3, 7, 9, token=2),
            release(3, 10, 12),
        ],
    ),
    "found taken": (
        Model.MUTEX,
        [acquire(1, 0, 5), release(1, 6, 9), held(2, 9, 12)],
        [acquire(1, 0, 5), release(1, 6, 9), held(2, 10, 12)],
    ),
    "found taken by who never heard that it got it": (
        Model.MUTEX,
        [acquire(1, 12), held(2, 10, 12)],
        [acquire(1, 13), held(2, 10, 12)],
    ),
    "list in order": (
        Model.LIST_APPEND,
        [append(1, 0, 9), append(2, 0, 5), read_all((2, 1), 10, 12), read_all((2,), 3, 9)],
        [append(1, 0, 9), append(2, 0, 5), read_all((2, 1), 10, 12), read_all((1,), 3, 9)],
    ),
    "list that forgets": (
        Model.LIST_APPEND,
        [append(1, 0, 5), append(2, 0), read_all((1,), 10, 12), read_all((1, 2), 12, 13)],
        [append(1, 0, 5), append(2, 0), read_all((1, 2), 10, 12), read_all((1,), 13, 14)],
    ),
    "list against the clock": (
        Model.LIST_APPEND,
        [append(1, 0, 5), append(2, 5, 9), read_all((2, 1), 10, 12)],
        [append(1, 0, 5), append(2, 6, 9), read_all((2, 1), 10, 12)],
    ),
    "list without what nobody saw": (
        Model.LIST_APPEND,
        [append(1, 0), append(1, 0), read_all((), 10, 12)],
        [append(1, 0), append(1, 0, 9), read_all((), 10, 12)],
    ),
    "element that is there twice": (
        Model.LIST_APPEND,
        [append(1, 0, 5), read_all((1,), 3, 4)],
        [append(1, 0, 5), read_all((1, 1), 3, 4)],
    ),
    "element that nobody appended": (
        Model.LIST_APPEND,
        [append(1, 0), read_all((1,), 3, 4)],
        [append(1, 0), read_all((1, 2), 3, 4)],
    ),
}

# name: model, history of which the deciders say that they do not know
OPEN: dict[str, tuple[Model, list[Row]]] = {
    "element enqueued twice and taken": (Model.QUEUE, [put(1, 0, 1), put(1, 2, 3), take(1, 4, 5)]),
    "amounts that differ": (Model.COUNTER, [increment(1, 0, 9), increment(2, 0, 9), read(2, 3, 4)]),
    "element appended twice and seen": (Model.LIST_APPEND, [append(1, 0, 1), append(1, 2, 3), read_all((1, 1), 4, 5)]),
    "process that does two things at a time": (Model.MUTEX, [acquire(1, 0, 9), release(1, 3, 12)]),
    "release without an answer, and again": (
        Model.MUTEX,
        [acquire(1, 0, 1), release(1, 2), release(1, 4, 5), acquire(2, 6, 7)],
    ),
    "found taken, in one order only": (
        Model.MUTEX,
        [
            acquire(1, 0, 90),
            release(1, 0, 91),
            acquire(2, 40, 41),
            release(2, 42, 43),
            held(3, 60, 61),
            held(4, 10, 11),
        ],
    ),
    "function that the model has not": (Model.SET, [add(1, 0, 1), put(1, 2, 3)]),
}


@pytest.mark.parametrize("name", PAIRS)
def test_good_and_bad_twin(name: str) -> None:
    model, good, bad = PAIRS[name]
    history = operations([*keyed(good, 0), *keyed(bad, 1)])

    assert verdicts(history, model, Engine.UNIQUE) == {0: True, 1: False}
    assert [legal([item_of(one) for one in rows], model) for rows in (good, bad)] == [True, False]
    outcome = check(history, model=model)
    assert [result.verdict for result in outcome.results] == [Verdict.PASS, Verdict.FAIL]


@pytest.mark.parametrize("name", OPEN)
def test_what_is_not_known_is_not_guessed(name: str) -> None:
    model, rows = OPEN[name]

    assert verdicts(operations(rows), model, Engine.UNIQUE) == {0: None}


def hold_against_brute_force(model: Model, seed: str, count: int) -> None:
    rng = random.Random(f"{seed} {model}")
    histories = [crowded(rng, model, key=key) for key in range(count)]
    expected = [legal([item_of(one) for one in rows], model) for rows in histories]

    found = verdicts(operations(one for rows in histories for one in rows), model, Engine.UNIQUE)

    wrong = [key for key, answer in found.items() if answer is not None and answer is not expected[key]]
    assert not wrong, f"{model}, seed {seed!r}, count {count}, key {wrong[0]}: {histories[wrong[0]]}"
    decided = sum(answer is not None for answer in found.values())
    assert len(found) == count
    assert decided >= DECIDED_AT_LEAST[model] * count, f"{decided} of {count} decided"
    # The sweep means something only when both verdicts are common in it.
    assert count / 12 < expected.count(False) < count * 11 / 12


@pytest.mark.parametrize("model", MODELS)
def test_deciders_agree_with_brute_force(model: Model) -> None:
    hold_against_brute_force(model, SEED, 600)


@pytest.mark.nightly
@pytest.mark.parametrize("model", MODELS)
def test_deciders_agree_with_brute_force_on_many(model: Model) -> None:
    print(f"AFTERSHOCK_FUZZ_SEED={SEED}")
    for chunk in range(200_000 // CHUNK):
        hold_against_brute_force(model, f"{SEED} {chunk}", CHUNK)


def long_history(model: Model, count: int) -> tuple[list[Row], Row]:
    """`count` operations, a tenth of them unknown and overlapping all that follow; and one that makes it illegal."""
    rows: list[Row] = []
    for i in range(count):
        at, lost = 10 * i, i % 10 == 9
        end_ns = OPEN_NS if lost else at + 25
        match model:
            case Model.SET:
                rows.append(add(i, at, end_ns))
            case Model.QUEUE:
                rows += [put(i, at, end_ns), *([] if lost else [take(i, at + 5000, at + 5025)])]
            case Model.COUNTER:
                rows.append(increment(1, at, end_ns))
            case Model.FETCH_AND_INCREMENT:
                rows.append(increment(i + 1, at, end_ns))
            case Model.MUTEX:
                rows += [acquire(i, at - 25, at, token=i), release(i, at + 5, OPEN_NS if lost else at + 30)]
            case _:
                rows.append(append(i, at, end_ns))
    later = 10 * count + 10_000
    known = tuple(i for i in range(count) if i % 10 != 9)
    bad = {
        Model.SET: contains(100, later, later + 1, found=False),
        Model.QUEUE: take(101, later, later + 1),
        Model.COUNTER: read(len(known) - 1, later, later + 1),
        Model.FETCH_AND_INCREMENT: read(count - 2, later, later + 1),
        Model.MUTEX: acquire(count, later, later + 1, token=count - 5),
        Model.LIST_APPEND: read_all(known[:-1], later, later + 1),
    }
    return rows, bad[model]


@pytest.mark.parametrize("model", MODELS)
def test_long_histories_with_many_unknown_operations_are_decided(model: Model) -> None:
    """A search would have to try two to the power of two hundred."""
    rows, bad = long_history(model, 2000)
    history = operations([*rows, *keyed([*rows, bad], 1)])

    assert verdicts(history, model, Engine.UNIQUE) == {0: True, 1: False}
