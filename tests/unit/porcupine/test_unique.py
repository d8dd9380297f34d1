"""The decider for registers whose values are written once: brute force and the searches must say the same.

`AFTERSHOCK_FUZZ=200000 pytest tests/unit/porcupine/test_unique.py` is a larger sweep; AFTERSHOCK_FUZZ_SEED another.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from aftershock.harness.porcupine import ABSENT, OPEN_NS, Engine, F, Model, check
from aftershock.harness.porcupine._brute import legal
from aftershock.harness.verdict import Verdict

from tests.unit.porcupine.agreement import item_of, verdicts
from tests.unit.porcupine.generate import Row, cas, operations, read, tamper, watched, write
from tests.unit.porcupine.machines import Register

COUNT = int(os.environ.get("AFTERSHOCK_FUZZ", "1500"))
SEED = os.environ.get("AFTERSHOCK_FUZZ_SEED", "20261123")


def random_history(rng: random.Random, *, key: int = 0, most: int = 8, unequal: bool = False) -> list[Row]:
    rows = watched(rng, Register(unique=True, deletes=False), key=key, most=most)
    for _ in range(rng.choice((0, 0, 1, 2, 4))):
        tamper(rng, rows)
    rng.shuffle(rows)
    return [row for row in rows if unequal or row.f is not F.UNEQUAL] or [read(ABSENT, 0, 1, key=key)]


def as_it_is(row: Row) -> Row:
    return row


def far_apart(row: Row) -> Row:
    """Values that no array can be indexed by, times of a clock that has run for years."""

    def far(value: int) -> int:
        return value if value == ABSENT else (value - 40) * 0x1357_9BDF_0247 + 5

    end_ns = row.end_ns if row.unknown else 2**61 + 10**9 * row.end_ns
    return replace(
        row,
        value=far(row.value),
        expected=far(row.expected),
        start_ns=2**61 + 10**9 * row.start_ns,
        end_ns=end_ns,
        key=row.key * 2**33 - 2**50,
    )


def unequal(expected: int, start_ns: int, end_ns: int) -> Row:
    return Row(f=F.UNEQUAL, expected=expected, start_ns=start_ns, end_ns=end_ns)


@pytest.mark.parametrize("changed", [as_it_is, far_apart])
def test_it_agrees_with_brute_force_and_decides_all(changed: Callable[[Row], Row]) -> None:
    rng = random.Random(f"{SEED} {changed.__name__}")
    histories = [[changed(row) for row in random_history(rng, key=key)] for key in range(COUNT)]
    expected = {rows[0].key: legal([item_of(row) for row in rows], Model.CAS_REGISTER) for rows in histories}

    found = verdicts(operations(row for rows in histories for row in rows), Model.CAS_REGISTER, Engine.UNIQUE)

    wrong = [rows for rows in histories if found[rows[0].key] is not expected[rows[0].key]]
    assert not wrong, (f"seed {SEED!r}", wrong[:3])
    assert COUNT / 8 < list(expected.values()).count(False) < COUNT * 7 / 8


def test_comparisons_that_did_not_match_are_judged_or_left_to_others_but_never_misjudged() -> None:
    rng = random.Random(f"{SEED} unequal")
    histories = [random_history(rng, key=key, unequal=True) for key in range(COUNT)]
    expected = [legal([item_of(row) for row in rows], Model.CAS_REGISTER) for rows in histories]

    found = verdicts(operations(row for rows in histories for row in rows), Model.CAS_REGISTER, Engine.UNIQUE)

    wrong = [histories[key] for key, answer in found.items() if answer is not None and answer is not expected[key]]
    assert not wrong, (f"seed {SEED!r}", wrong[:3])
    with_unequal = [key for key, rows in enumerate(histories) if any(row.f is F.UNEQUAL for row in rows)]
    assert {found[key] for key in with_unequal} == {True, False, None}


def test_it_agrees_with_the_frontier_on_longer_histories() -> None:
    """Long enough for the sort that small ones do without."""
    rng = random.Random(f"{SEED} longer")
    rows = [
        row
        for key in range(max(60, COUNT // 50))
        for row in random_history(rng, key=key, most=rng.choice((150, 300, 500)))
    ]
    history = operations(far_apart(row) for row in rows)

    unique = verdicts(history, Model.CAS_REGISTER, Engine.UNIQUE)
    searched = verdicts(history, Model.CAS_REGISTER, Engine.FRONTIER)

    wrong = {key: answer for key, answer in searched.items() if answer is not None and answer is not unique[key]}
    assert not wrong, f"seed {SEED!r}"
    assert {True, False} <= set(searched.values())


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        # Touching intervals are concurrent.
        ([write(1, 0, 10), read(ABSENT, 10, 20)], Verdict.PASS),
        ([write(1, 0, 10), read(ABSENT, 11, 20)], Verdict.FAIL),
        # A write that lies within the time between another's end and its last read; on the edge it does not.
        ([write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)], Verdict.FAIL),
        ([write(1, 0, 1), write(2, 1, 3), read(1, 4, 5)], Verdict.PASS),
        ([write(1, 0, 1), write(2, 2, 4), read(1, 4, 5)], Verdict.PASS),
        # The first value was seen late.
        ([write(1, 0, 2), read(ABSENT, 3, 4)], Verdict.FAIL),
        # Unknown: it took effect after a read that ended before it was seen, or it never did.
        ([write(1, 0), read(ABSENT, 50, 60), read(1, 70, 80)], Verdict.PASS),
        ([write(1, 65), read(1, 50, 60)], Verdict.FAIL),
        ([write(1, 0), read(1, 1, 2), read(ABSENT, 3, 4)], Verdict.FAIL),
        # Compare-and-sets that were never answered, of which the last was seen: all of them took effect.
        ([write(1, 0, 1), cas(1, 2, 2), cas(2, 3, 3), read(3, 9, 10), read(1, 11, 12)], Verdict.FAIL),
        ([write(1, 0, 1), cas(1, 2, 2), cas(2, 3, 3), read(3, 9, 10), read(1, 5, 12)], Verdict.PASS),
        # Each replaced what the other wrote.
        ([cas(1, 2, 0, 9), cas(2, 1, 0, 9)], Verdict.FAIL),
        # Two took the place of the same value.
        ([write(1, 0, 1), cas(1, 2, 2, 9), cas(1, 3, 2, 9)], Verdict.FAIL),
        # Nobody wrote it.
        ([read(7, 0, 1)], Verdict.FAIL),
        # A comparison with 1 that did not match: while 1 was there; while it may have gone; before it came.
        ([write(1, 0, 1), unequal(1, 2, 3), read(1, 4, 5)], Verdict.FAIL),
        ([write(1, 0, 1), unequal(1, 4, 9), read(1, 4, 5), write(2, 6, 7), read(2, 8, 9)], Verdict.PASS),
        ([write(1, 0, 1), unequal(1, 2, 3), cas(1, 2, 4, 5)], Verdict.FAIL),
        ([write(1, 2, 3), unequal(1, 0, 1), read(1, 4, 5)], Verdict.PASS),
        ([write(1, 0, 1), write(2, 2, 3), unequal(1, 4, 5)], Verdict.PASS),
        ([write(1, 0, 2), write(2, 2, 3), unequal(1, 4, 5), read(1, 6, 7)], Verdict.FAIL),
        ([unequal(ABSENT, 0, 1), read(ABSENT, 2, 3)], Verdict.FAIL),
        ([unequal(7, 0, 1), read(ABSENT, 2, 3)], Verdict.PASS),
        # The smallest and the largest times there are.
        ([write(1, -(2**63), -(2**63)), read(1, OPEN_NS - 1, OPEN_NS - 1)], Verdict.PASS),
        ([write(1, -(2**63), 0), read(ABSENT, 1, OPEN_NS - 1)], Verdict.FAIL),
    ],
)
def test_what_it_says(rows: list[Row], verdict: Verdict) -> None:
    assert legal([item_of(row) for row in rows], Model.CAS_REGISTER) is (verdict is Verdict.PASS)

    outcome = check(operations(rows), model=Model.CAS_REGISTER, engine=Engine.UNIQUE)

    assert outcome.verdict is verdict, outcome
    assert outcome.decide_s is not None
    assert 0 < outcome.decide_s < outcome.seconds
