"""The decider for registers whose answers tell versions: what it says, and that brute force says the same.

`AFTERSHOCK_FUZZ=200000 pytest tests/unit/porcupine/test_versions.py` is a larger sweep; AFTERSHOCK_FUZZ_SEED another.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass

import pytest
from aftershock.harness.porcupine import ABSENT, NO_VERSION, Engine, F, Model, check
from aftershock.harness.porcupine._brute import legal
from aftershock.harness.verdict import Verdict

from tests.unit.porcupine.agreement import item_of, verdicts
from tests.unit.porcupine.generate import Row, cas, delete, operations, read, tamper, watched, write
from tests.unit.porcupine.machines import Call

COUNT = int(os.environ.get("AFTERSHOCK_FUZZ", "1500"))
SEED = os.environ.get("AFTERSHOCK_FUZZ_SEED", "20261123")


@dataclass(slots=True)
class Versioned:
    """A register that tells the share `told` of its versions, which grow by up to `step`."""

    told: float
    step: int
    values: int | None
    """How many different values are written; None for a new one each time."""
    compares: float
    value: int = ABSENT
    version: int = 0
    written: int = 0

    def call(self, rng: random.Random, *, process: int, happens: bool) -> Call:
        del process
        self.written += 1
        value = self.written if self.values is None else rng.randint(1, self.values)
        changes = (F.CAS, F.CAS) if rng.random() < self.compares else (F.WRITE, F.DELETE)
        f = rng.choice((F.READ, *changes, F.UNEQUAL if rng.random() < 0.1 else F.READ))
        expected = self.value if happens or rng.random() < 0.5 else rng.choice((ABSENT, rng.randint(1, 4)))
        if f is F.READ:
            value = self.value
        elif f is F.UNEQUAL:
            expected = rng.choice([other for other in (ABSENT, 1, 2, 3) if other != self.value])
        elif happens:
            idle = f is F.DELETE and self.value == ABSENT and rng.random() < 0.5
            self.value = ABSENT if f is F.DELETE else value
            self.version += 0 if idle else rng.randint(1, self.step)
        told = rng.random() < self.told
        return Call(f=f, value=value, expected=expected, version=self.version if told else NO_VERSION)


KINDS = {
    "each-told": {"told": 1.0, "step": 3, "values": None, "compares": 0.4},
    "each-told-no-gaps": {"told": 1.0, "step": 1, "values": None, "compares": 0.5},
    "each-told-repeated": {"told": 1.0, "step": 2, "values": 2, "compares": 0.3},
    "chains": {"told": 1.0, "step": 2, "values": None, "compares": 0.9},
    "chains-repeated": {"told": 1.0, "step": 2, "values": 3, "compares": 0.9},
    "some-told": {"told": 0.8, "step": 2, "values": None, "compares": 0.4},
    "some-told-repeated": {"told": 0.8, "step": 2, "values": 2, "compares": 0.4},
    "overwritten": {"told": 1.0, "step": 2, "values": 2, "compares": 0.0},
}

ALWAYS_DECIDED = ("overwritten",)
"""Kinds that the decider must never give up on: every answer tells its version, and nothing is compared."""


def random_history(rng: random.Random, kind: str, *, key: int) -> list[Row]:
    machine = Versioned(**KINDS[kind])  # type: ignore[arg-type]
    rows = watched(rng, machine, key=key, most=rng.choice((4, 7, 9)))
    for _ in range(rng.choice((0, 0, 1, 2, 4))):
        tamper(rng, rows)
    rng.shuffle(rows)
    if kind in ALWAYS_DECIDED:
        rows = [row for row in rows if row.f is not F.UNEQUAL]
    return rows or [read(ABSENT, 0, 1, key=key, version=0)]


@pytest.mark.parametrize("kind", list(KINDS))
def test_it_agrees_with_brute_force(kind: str) -> None:
    rng = random.Random(f"{SEED} {kind}")
    histories = [random_history(rng, kind, key=key) for key in range(COUNT)]
    expected = [legal([item_of(row) for row in rows], Model.KEY_VALUE) for rows in histories]

    found = verdicts(operations(row for rows in histories for row in rows), Model.KEY_VALUE, Engine.UNIQUE)

    wrong = {key: answer for key, answer in found.items() if answer is not None and answer is not expected[key]}
    assert not wrong, (f"seed {SEED!r} {kind}", [(answer, histories[key]) for key, answer in wrong.items()][:3])
    decided = [key for key, answer in found.items() if answer is not None]
    print(f"{kind}: seed {SEED!r}, {COUNT} histories, {expected.count(False)} illegal, {len(decided)} decided")
    assert COUNT / 8 < expected.count(False) < COUNT * 7 / 8
    assert len(decided) == COUNT if kind in ALWAYS_DECIDED else len(decided) > COUNT / 2


UNKNOWN_SEEN_LATE = [write(1, 0, 1, version=3), write(2, 2), read(2, 5, 6, version=7)]

CASES: dict[str, tuple[list[Row], Verdict]] = {
    "nothing written": ([read(ABSENT, 0, 1, version=0)], Verdict.PASS),
    "a version of nothing": ([read(ABSENT, 0, 1, version=4)], Verdict.FAIL),
    "a change that makes version 0": ([write(1, 0, 1, version=0)], Verdict.FAIL),
    "touching": ([write(1, 0, 5, version=2), write(2, 5, 9, version=1)], Verdict.PASS),
    "out of order": ([write(1, 0, 4, version=2), write(2, 5, 9, version=1)], Verdict.FAIL),
    "one version, two makers": ([write(1, 0, 5, version=2), write(2, 0, 5, version=2)], Verdict.FAIL),
    "one version, two values": ([write(1, 0, 1, version=2), write(2, 2), read(2, 4, 5, version=2)], Verdict.FAIL),
    "a stale version": (
        [write(1, 0, 1, version=1), write(2, 2, 3, version=2), read(1, 4, 5, version=1)],
        Verdict.FAIL,
    ),
    "values may repeat": (
        [write(1, 0, 1, version=1), write(2, 2, 3, version=2), write(1, 4, 5, version=3), read(1, 6, 7, version=3)],
        Verdict.PASS,
    ),
    "an unknown write that was seen": (UNKNOWN_SEEN_LATE, Verdict.PASS),
    "an unknown write that began too late": ([*UNKNOWN_SEEN_LATE[::2], write(2, 7)], Verdict.FAIL),
    "an unknown write that was seen twice": (
        [*UNKNOWN_SEEN_LATE, write(3, 8, 9, version=8), read(2, 10, 11, version=9)],
        Verdict.FAIL,
    ),
    "two unknown writes of one value": (
        [*UNKNOWN_SEEN_LATE, write(3, 8, 9, version=8), read(2, 10, 11, version=9), write(2, 9)],
        Verdict.PASS,
    ),
    "the second of two began too late": (
        [*UNKNOWN_SEEN_LATE, write(3, 8, 9, version=8), read(2, 10, 11, version=9), write(2, 12)],
        Verdict.FAIL,
    ),
    "a gap for what was replaced": (
        [write(1, 0, 1, version=1), write(2, 2), cas(2, 3, 3, 4, version=3)],
        Verdict.PASS,
    ),
    "no gap for what was replaced": (
        [write(1, 0, 1, version=1), write(2, 2), cas(2, 3, 3, 4, version=2)],
        Verdict.FAIL,
    ),
    "a gap for a chain": (
        [write(1, 0, 1, version=1), cas(1, 2, 2), cas(2, 3, 2), cas(3, 4, 2, 5, version=4)],
        Verdict.PASS,
    ),
    "too small a gap for a chain": (
        [write(1, 0, 1, version=1), cas(1, 2, 2), cas(2, 3, 2), cas(3, 4, 2, 5, version=3)],
        Verdict.FAIL,
    ),
    "a compare-and-set of a value with itself": (
        [write(1, 0, 1, version=1), cas(1, 1, 2, 3, version=2), read(1, 4, 5, version=2)],
        Verdict.PASS,
    ),
    "deletes of nothing": (
        [delete(0, 1, version=0), write(1, 2, 3, version=1), delete(4, 5, version=2), delete(6, 7, version=2)],
        Verdict.PASS,
    ),
    "deletes that each made a version": ([delete(0, 1, version=1), delete(2, 3, version=2)], Verdict.PASS),
    "a delete that made the version of a write": (
        [write(1, 0, 1, version=1), delete(2, 3, version=1)],
        Verdict.FAIL,
    ),
    "a delete that began after its version was seen": (
        [write(1, 0, 1, version=1), read(ABSENT, 2, 3, version=2), delete(4, 5, version=2)],
        Verdict.FAIL,
    ),
    "unless an unknown one made it": (
        [write(1, 0, 1, version=1), delete(2), read(ABSENT, 2, 3, version=2), delete(4, 5, version=2)],
        Verdict.PASS,
    ),
    "no version, but one place only": (
        [write(1, 0, 1), read(1, 2, 3, version=1), write(2, 4, 5, version=2), read(1, 6, 7)],
        Verdict.FAIL,
    ),
}


@pytest.mark.parametrize("name", list(CASES))
def test_what_it_says(name: str) -> None:
    rows, verdict = CASES[name]
    assert legal([item_of(row) for row in rows], Model.KEY_VALUE) is (verdict is Verdict.PASS)

    outcome = check(operations(rows), model=Model.KEY_VALUE, engine=Engine.UNIQUE)

    assert outcome.verdict is verdict, outcome
    found = outcome.results[0].counterexample
    assert (found is not None) is (verdict is Verdict.FAIL)
    assert found is None or (found.rejudged and found.minimal)


def test_which_of_two_unknown_operations_it_was_is_not_guessed() -> None:
    rows = [write(1, 0, 1, version=1), cas(1, 2, 2), write(2, 2), read(2, 5, 6, version=2)]

    outcome = check(operations(rows), model=Model.KEY_VALUE, engine=Engine.UNIQUE)

    assert outcome.verdict is Verdict.UNKNOWN
    assert check(operations(rows), model=Model.KEY_VALUE).verdict is Verdict.PASS
