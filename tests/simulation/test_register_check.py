"""The judge is judged first: against brute force on small histories, and on classic anomalies."""

from __future__ import annotations

import itertools
import random

from .register_check import INFINITY, Operation, check, check_key


def _legal(order: tuple[Operation, ...]) -> bool:
    state = None
    for op in order:
        if op.f == "read":
            if op.value != state:
                return False
        elif op.f == "write":
            state = op.value
        elif op.expected != state:
            return False
        else:
            state = op.value
    return True


def _brute_force(operations: list[Operation]) -> bool:
    certain = [op for op in operations if op.known]
    maybe = [op for op in operations if not op.known and op.f != "read"]
    for count in range(len(maybe) + 1):
        for taken in itertools.combinations(maybe, count):
            for order in itertools.permutations([*certain, *taken]):
                in_time = all(b.end >= a.start for a, b in itertools.combinations(order, 2))
                if in_time and _legal(order):
                    return True
    return False


def _random_history(rng: random.Random) -> list[Operation]:
    """Six operations, mostly plausible: each value is one of those that are written, at times that overlap."""
    values = [None, 1, 2, 3, 4]
    fresh = iter((1, 2, 3, 4))
    operations = []
    for _ in range(rng.randint(3, 6)):
        start = rng.randint(0, 20)
        known = rng.random() < 0.8
        end = start + rng.randint(0, 8) if known else INFINITY
        f = rng.choice(["read", "write", "cas"])
        value = rng.choice(values) if f == "read" else next(fresh, None)
        if f != "read" and value is None:
            continue
        expected = rng.choice([v for v in values if v != value]) if f == "cas" else None
        operations.append(Operation("k", f, value, start, end, expected, known))
    return operations


def test_it_agrees_with_brute_force() -> None:
    rng = random.Random(1)
    illegal = 0
    for _ in range(1500):
        history = _random_history(rng)
        expected = _brute_force(history)
        assert (check_key(history) is None) == expected, history
        illegal += not expected
    assert 200 < illegal < 1400, "both verdicts must have been common, or agreement means little"


def test_a_stale_read_is_found() -> None:
    history = [
        Operation("k", "write", 1, 0, 1),
        Operation("k", "write", 2, 2, 3),
        Operation("k", "read", 1, 4, 5),
    ]
    assert check(history)
    assert not check([*history[:2], Operation("k", "read", 2, 4, 5)])


def test_a_lost_insert_is_found() -> None:
    insert = Operation("i", "cas", 7, 0, 1, None)
    assert check([insert, Operation("i", "read", None, 5, 6)])
    assert not check([insert, Operation("i", "read", 7, 5, 6)])


def test_an_unknown_write_may_appear_or_not() -> None:
    maybe = Operation("k", "write", 1, 0, INFINITY, None, False)
    assert not check([maybe, Operation("k", "read", None, 5, 6)])
    assert not check([maybe, Operation("k", "read", None, 5, 6), Operation("k", "read", 1, 7, 8)])
    assert check([maybe, Operation("k", "read", 1, 5, 6), Operation("k", "read", None, 7, 8)])
