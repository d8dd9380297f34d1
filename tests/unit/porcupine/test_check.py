"""Histories with a known verdict: each good one has a bad twin. Budgets: what was decided stays decided."""

from __future__ import annotations

import random

import numpy as np
import pytest
from aftershock.harness.porcupine import ABSENT, OPEN_NS, CheckOutcome, Engine, F, Model, Operations, check
from aftershock.harness.verdict import Verdict

from tests.unit.porcupine.generate import Row, cas, delete, operations, read, write

pytestmark = pytest.mark.processes

# name: model, history that passes, history that fails
PAIRS: dict[str, tuple[Model, list[Row], list[Row]]] = {
    "read after write": (
        Model.REGISTER,
        [write(7, 0, 10), read(7, 20, 30)],
        [write(7, 0, 10), read(ABSENT, 20, 30)],
    ),
    "touching intervals are concurrent": (
        Model.REGISTER,
        [write(7, 0, 10), read(ABSENT, 10, 20)],
        [write(7, 0, 10), read(ABSENT, 11, 20)],
    ),
    "pending write that was seen": (  # Porcupine's trap: without a return event it answers "illegal"
        Model.REGISTER,
        [write(5, 0), read(ABSENT, 5, 6), read(5, 10, 20)],
        [write(5, 0), read(5, 5, 6), read(ABSENT, 10, 20)],
    ),
    "pending write takes effect after its start only": (
        Model.REGISTER,
        [write(5, 8), read(5, 0, 10)],
        [write(5, 20), read(5, 0, 10)],
    ),
    "pending write may take effect after everything": (
        Model.REGISTER,
        [write(1, 0, 5), write(2, 3), read(1, 100, 110), read(2, 900, 910)],
        [write(1, 0, 5), write(2, 3), read(1, 100, 110), read(2, 900, 910), read(1, 911, 912)],
    ),
    "pending compare-and-set that was seen": (
        Model.CAS_REGISTER,
        [write(1, 0, 5), cas(1, 2, 6), read(2, 10, 20), read(2, 30, 40)],
        [write(1, 0, 5), cas(1, 2, 6), read(2, 10, 20), read(1, 30, 40)],
    ),
    "pending compare-and-set that never matched": (
        Model.CAS_REGISTER,
        [write(1, 0, 5), cas(9, 2, 6), read(1, 10, 20)],
        [write(1, 0, 5), cas(9, 2, 6), read(2, 10, 20)],
    ),
    "one value is replaced once": (
        Model.CAS_REGISTER,
        [write(1, 0, 5), cas(1, 2, 6, 9), cas(2, 3, 7, 9)],
        [write(1, 0, 5), cas(1, 2, 6, 9), cas(1, 3, 7, 9)],
    ),
    "two pending compare-and-sets from one value": (
        Model.CAS_REGISTER,
        [write(1, 0, 5), cas(1, 2, 6), cas(1, 3, 6), read(2, 10, 20)],
        [write(1, 0, 5), cas(1, 2, 6), cas(1, 3, 6), read(2, 10, 20), read(3, 30, 40)],
    ),
    "insert once": (
        Model.CAS_REGISTER,
        [cas(ABSENT, 1, 0, 10), read(1, 11, 12)],
        [cas(ABSENT, 1, 0, 10), cas(ABSENT, 2, 0, 10)],
    ),
    "delete": (
        Model.CAS_REGISTER,
        [cas(ABSENT, 1, 0, 10), delete(20, 30), read(ABSENT, 40, 50), cas(ABSENT, 2, 60, 70), read(2, 80, 90)],
        [cas(ABSENT, 1, 0, 10), delete(20, 30), read(1, 40, 50)],
    ),
    "values that repeat": (
        Model.REGISTER,
        [write(1, 0, 1), write(2, 2, 3), write(1, 4, 5), read(1, 6, 7)],
        [write(1, 0, 1), write(1, 2, 3), write(2, 4, 5), read(1, 6, 7)],
    ),
    "new, then old": (
        Model.REGISTER,
        [write(1, 0, 100), write(2, 0, 100), read(1, 10, 20), read(2, 30, 40)],
        [write(1, 0, 5), write(2, 6, 100), read(2, 10, 20), read(1, 30, 40)],
    ),
    "versions grow": (
        Model.KEY_VALUE,
        [write(1, 0, 10, version=3), write(2, 0, 10, version=5), read(2, 20, 30, version=5)],
        [write(1, 0, 10, version=5), write(2, 0, 10, version=3), read(2, 20, 30, version=3)],
    ),
    "a pending write has some version": (
        Model.KEY_VALUE,
        [write(1, 0, 10, version=3), write(2, 11), read(2, 20, 30, version=4), delete(40, 50, version=9)],
        [write(1, 0, 10, version=3), write(2, 11), read(2, 20, 30, version=3)],
    ),
    "two changes do not share a version": (
        Model.KEY_VALUE,
        [write(1, 0, 10, version=3), write(2, 11), write(3, 20, 30, version=5), read(2, 19, 22)],
        [write(1, 0, 10, version=3), write(2, 11), write(3, 20, 30, version=4), read(2, 12, 19)],
    ),
    "deleting nothing": (
        Model.KEY_VALUE,
        [delete(0, 1, version=0), read(ABSENT, 2, 3, version=0)],
        [delete(0, 1, version=2), read(ABSENT, 2, 3, version=0)],
    ),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("engine", [Engine.AUTO, Engine.PORCUPINE])
def test_good_history_and_its_bad_twin(name: str, engine: Engine) -> None:
    model, good, bad = PAIRS[name]
    assert check(operations(good), model=model, engine=engine).verdict is Verdict.PASS
    outcome = check(operations(bad), model=model, engine=engine)
    assert outcome.verdict is Verdict.FAIL
    (result,) = outcome.results
    assert result.counterexample is not None
    assert result.counterexample.rejudged
    assert result.reason == result.counterexample.reason


def test_keys_are_independent() -> None:
    rows = [write(1, 0, 1, key=5), read(ABSENT, 2, 3, key=-6), write(1, 0, 1, key=7), read(ABSENT, 2, 3, key=7)]
    outcome = check(operations(rows), model=Model.REGISTER)
    assert [(r.key, r.verdict) for r in outcome.results] == [
        (-6, Verdict.PASS),
        (5, Verdict.PASS),
        (7, Verdict.FAIL),
    ]
    assert (outcome.keys_checked, outcome.keys_violated, outcome.keys_unknown) == (3, 1, 0)
    assert outcome.reason == "1 of 3 keys cannot be linearized"
    assert outcome.results[2].counterexample is not None
    assert outcome.results[2].counterexample.rows == (2, 3)


def test_auto_uses_the_search_only_where_it_must() -> None:
    rows = [write(1, 0, 1, key=0), write(1, 0, 1, key=1), write(1, 2, 3, key=1)]
    outcome = check(operations(rows), model=Model.REGISTER)
    assert [r.engine for r in outcome.results] == [Engine.UNIQUE, Engine.FRONTIER]


@pytest.mark.parametrize("rows", [[write(1, 0, 1), write(1, 2, 3)], [delete(0, 1)]])
def test_the_decider_alone_says_unknown_where_it_does_not_apply(rows: list[Row]) -> None:
    outcome = check(operations(rows), model=Model.REGISTER, engine=Engine.UNIQUE)
    assert outcome.verdict is Verdict.UNKNOWN
    assert "does not hold" in outcome.reason


def test_the_decider_alone_does_not_pass_versions_that_were_not_all_told() -> None:
    rows = [write(1, 0, 1, version=1), write(2, 2, 3)]
    outcome = check(operations(rows), model=Model.KEY_VALUE, engine=Engine.UNIQUE)
    assert outcome.verdict is Verdict.UNKNOWN
    assert "does not hold" in outcome.reason


def test_nothing_is_not_a_pass() -> None:
    outcome = check(operations([]), model=Model.REGISTER)
    assert outcome.verdict is Verdict.UNKNOWN
    assert outcome.results == ()


# ------------------------------------------------------------------------------------------------ budgets


def hopeless(*, key: int = 0, unanswered: int = 24) -> list[Row]:
    """Illegal, and for a search exponential in the unanswered writes: every subset may have happened."""
    rows = [write(1000 + i, 10 * i, key=key, process=i) for i in range(unanswered)]
    for i in range(60):
        rows.append(write(i + 1, 1000 + 20 * i, 1009 + 20 * i, key=key))
        rows.append(read(i + 1, 1010 + 20 * i, 1019 + 20 * i, key=key))
    return [*rows, read(1, 3000, 3010, key=key)]


def test_the_deadline_ends_a_search_and_keeps_what_was_decided() -> None:
    rows = [*hopeless(key=1), write(1, 0, 1, key=2), write(1, 0, 1, key=3), read(ABSENT, 2, 3, key=3)]
    outcome = check(operations(rows), model=Model.REGISTER, engine=Engine.PORCUPINE, deadline_s=0.5)
    assert [r.verdict for r in outcome.results] == [Verdict.UNKNOWN, Verdict.PASS, Verdict.FAIL]
    assert outcome.verdict is Verdict.FAIL
    assert (outcome.keys_checked, outcome.keys_unknown) == (2, 1)
    assert outcome.seconds < 10


def test_hopeless_keys_do_not_keep_others_waiting() -> None:
    """One small hopeless key comes first; hundreds of larger easy ones come after it, and are decided."""
    easy = [
        op
        for key in range(10, 300)
        for i in range(100)
        for op in (write(1, 20 * i, 20 * i + 5, key=key), read(1, 20 * i + 6, 20 * i + 9, key=key))
    ]
    rows = [*hopeless(key=1), *hopeless(key=2), *easy]
    outcome = check(operations(rows), model=Model.REGISTER, engine=Engine.PORCUPINE, deadline_s=4)
    assert {r.key for r in outcome.results if r.verdict is Verdict.UNKNOWN} == {1, 2}


def test_the_deadline_is_no_pass() -> None:
    rows = [*hopeless(key=1), write(1, 0, 1, key=2)]
    outcome = check(operations(rows), model=Model.REGISTER, engine=Engine.PORCUPINE, deadline_s=0.3)
    assert outcome.verdict is Verdict.UNKNOWN
    assert "1 of 2 keys were not decided" in outcome.reason


def test_a_tiny_deadline_leaves_everything_unknown() -> None:
    outcome = check(operations([write(1, 0, 1)]), model=Model.REGISTER, deadline_s=1e-6)
    assert outcome.verdict is Verdict.UNKNOWN
    assert outcome.keys_unknown == 1


def test_the_memory_limit_ends_a_search() -> None:
    outcome = check(
        operations(hopeless()),
        model=Model.REGISTER,
        engine=Engine.PORCUPINE,
        memory_limit_bytes=48 << 20,
        deadline_s=120,
    )
    assert outcome.verdict is Verdict.UNKNOWN
    assert "more memory than its limit allows" in outcome.reason


def test_the_decider_needs_no_budget_for_what_is_hopeless_to_search() -> None:
    outcome = check(operations(hopeless()), model=Model.REGISTER)
    assert outcome.verdict is Verdict.FAIL
    assert outcome.results[0].engine is Engine.UNIQUE


def test_a_long_chain_of_replacements_does_not_make_a_long_counterexample() -> None:
    """Everybody replaces what was there before; then one read finds an early value again."""
    rows = [cas(i or ABSENT, i + 1, 10 * i, 10 * i + 5) for i in range(3000)]
    outcome = check(operations([*rows, read(1500, 40_000, 40_010)]), model=Model.CAS_REGISTER)
    (result,) = outcome.results
    assert result.counterexample is not None
    assert len(result.counterexample.rows) <= 3
    assert result.counterexample.minimal
    assert result.counterexample.rejudged


# ------------------------------------------------------------------------------------------------ what may be asked


def good() -> dict[str, np.ndarray]:
    one = operations([write(1, 0, 1), read(1, 2, 3)])
    return {name: getattr(one, name) for name in Operations.__dataclass_fields__}


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("f", np.array([0, 99]), "row 1 .* none of `F`"),
        ("f", np.array([0]), "column `f` has shape"),
        ("f", np.array([0.0, 1.0]), "column `f` holds float64; expected integers"),
        ("unknown", np.array([0, 1]), "column `unknown` holds int64; expected booleans"),
        ("start_ns", np.array([0, 9]), "row 1 .* ends before it starts"),
        ("end_ns", np.array([OPEN_NS, 9]), "row 0 .* no end although it is not unknown"),
        ("value", np.array([ABSENT, 1]), "row 0 .* means absent"),
        ("version", np.array([0, -2]), "row 1 .* negative version"),
    ],
)
def test_contradicting_columns_are_refused(column: str, value: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Operations(**(good() | {column: value}))


def test_unknown_operations_stay_open_whatever_their_end() -> None:
    columns = good() | {"unknown": np.array([True, False])}
    assert Operations(**columns).end_ns.tolist() == [OPEN_NS, 3]


def test_a_register_has_no_compare_and_set() -> None:
    with pytest.raises(ValueError, match="CAS_REGISTER"):
        check(operations([cas(1, 2, 0, 1)]), model=Model.REGISTER)


@pytest.mark.parametrize("budget", [{"deadline_s": 0}, {"memory_limit_bytes": 0}, {"workers": 0}])
def test_budgets_are_positive(budget: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        check(operations([write(1, 0, 1)]), model=Model.REGISTER, **budget)  # type: ignore[arg-type]


def test_order_of_rows_and_number_of_workers_do_not_matter() -> None:
    rng = random.Random(7)
    rows = [row for key in range(20) for row in (write(1, 0, 1, key=key), read(key % 2 or ABSENT, 2, 3, key=key))]

    def verdicts(outcome: CheckOutcome) -> list[Verdict]:
        return [r.verdict for r in outcome.results]

    first = verdicts(check(operations(rows), model=Model.REGISTER, workers=1))
    rng.shuffle(rows)
    assert verdicts(check(operations(rows), model=Model.REGISTER, workers=4)) == first


@pytest.mark.parametrize("initial", [None, {0: 10}])
def test_a_bank_that_lacks_an_account_is_refused(initial: dict[int, int] | None) -> None:
    """It would look like a violation."""
    rows = [Row(f=F.TRANSFER, value=4, expected=0, version=1, start_ns=0, end_ns=1)]
    with pytest.raises(ValueError, match=r"row 0 transfers with account .*`initial`"):
        check(operations(rows), model=Model.BANK, initial=initial)
