"""The engines, and a brute force that shares nothing with them, must agree on thousands of small histories.

`AFTERSHOCK_FUZZ=200000` makes the sweep larger; the seed is printed by a failure.
"""

from __future__ import annotations

import os
import random

import pytest
from aftershock.harness.porcupine import CheckOutcome, Engine, KeyResult, Model, Operations, check
from aftershock.harness.porcupine._brute import Item, legal
from aftershock.harness.porcupine._check import item
from aftershock.harness.verdict import Verdict

from tests.unit.porcupine.generate import operations, random_history

COUNT = int(os.environ.get("AFTERSHOCK_FUZZ", "3000"))
SEED = int(os.environ.get("AFTERSHOCK_FUZZ_SEED", "20261123"))

CASES = {
    "unique": {"unique": True},
    "repeated": {"unique": False, "deletes": True},
    "versions": {"unique": True, "deletes": True, "versions": True},
    "repeated-versions": {"unique": False, "deletes": True, "versions": True},
}


def sweep(kind: str, count: int) -> tuple[Operations, dict[int, list[int]]]:
    """`count` histories as the keys of one, and the rows of each key."""
    rng = random.Random(f"{SEED} {kind}")
    rows = [row for key in range(count) for row in random_history(rng, key=key, **CASES[kind])]
    of_key: dict[int, list[int]] = {}
    for number, row in enumerate(rows):
        of_key.setdefault(row.key, []).append(number)
    return operations(rows), of_key


def run(history: Operations, model: Model, engine: Engine) -> CheckOutcome:
    return check(history, model=model, engine=engine, deadline_s=600)


def differences(one: CheckOutcome, other: CheckOutcome) -> list[tuple[int, Verdict, Verdict]]:
    return [
        (a.key, a.verdict, b.verdict) for a, b in zip(one.results, other.results, strict=True) if a.verdict != b.verdict
    ]


def brute(history: Operations, rows: list[int], model: Model) -> Verdict:
    return Verdict.PASS if legal([item(history, row) for row in rows], model) else Verdict.FAIL


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("unique", Model.CAS_REGISTER),
        ("repeated", Model.CAS_REGISTER),
        ("versions", Model.KEY_VALUE),
        ("repeated-versions", Model.KEY_VALUE),
    ],
)
def test_engines_and_brute_force_agree(kind: str, model: Model) -> None:
    history, of_key = sweep(kind, COUNT)
    auto = run(history, model, Engine.AUTO)
    searched = run(history, model, Engine.PORCUPINE)
    assert differences(auto, searched) == []
    wrong = {r.key: r.verdict for r in auto.results if r.verdict is not brute(history, of_key[r.key], model)}
    assert wrong == {}, f"seed {SEED} {kind}"
    # The sweep means something only when both verdicts are common in it.
    assert COUNT / 10 < auto.keys_violated < COUNT * 9 / 10
    assert auto.keys_unknown == 0
    for result in [*auto.results, *searched.results]:
        assert_counterexample(result, history, of_key[result.key], model)


def test_the_decider_for_unique_values_decides_them_all() -> None:
    history, _ = sweep("unique", COUNT)
    decided = run(history, Model.CAS_REGISTER, Engine.UNIQUE)
    assert decided.keys_unknown == 0
    assert {result.engine for result in decided.results} == {Engine.UNIQUE}


def assert_counterexample(result: KeyResult, history: Operations, key: list[int], model: Model) -> None:
    """Illegal by brute force, and legal as soon as any operation is taken out with those that needed its value."""
    found = result.counterexample
    assert (found is not None) == (result.verdict is Verdict.FAIL)
    if found is None:
        return
    assert found.minimal
    assert found.rejudged
    items = [
        item(history, row, weakened="what it replaced" in note)
        for row, note in zip(found.rows, found.notes, strict=True)
    ]
    assert not legal(items, model)
    # All who wrote a value that is needed are there: "nobody wrote it" is a reason only where it is the truth.
    needed = {one.needed for one in items} - {None}
    left_out = [item(history, row) for row in key if row not in found.rows]
    assert not [one for one in left_out if one.written in needed]
    for i in range(len(items)):
        assert legal(without(items, i), model), (found.rows, i)
    assert found.roles.count("impossible") == 1
    assert found.reason.endswith(".")
    assert found.reasons
    for order in found.orders:
        assert "please report" not in order.why
        assert sorted(order.order) == list(range(len(items)))


def without(items: list[Item], i: int) -> list[Item]:
    """The others; and, as a write cannot be taken away from under its readers, without those that needed it."""
    gone = {i}
    while True:
        removed = {items[j].written for j in gone} - {None}
        more = {j for j, other in enumerate(items) if other.needed in removed} | gone
        if more == gone:
            return [other for j, other in enumerate(items) if j not in gone]
        gone = more
