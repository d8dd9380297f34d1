"""What is shown of a violation: few operations, illegal by themselves, and none of them for nothing.

`pytest -m nightly tests/unit/porcupine/test_counterexamples.py` sweeps more; `AFTERSHOCK_FUZZ_SEED` chooses what.
"""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from aftershock.harness.porcupine import ABSENT, OPEN_NS, Engine, F, KeyResult, Model, _check, _explain, check
from aftershock.harness.porcupine._brute import Item, legal
from aftershock.harness.porcupine._child import ask
from aftershock.harness.porcupine._counterexamples import Found, read_counterexample
from aftershock.harness.porcupine._specs import OBSERVERS
from aftershock.harness.porcupine._wire import Request, write_request
from aftershock.harness.porcupine._words import default_words
from aftershock.harness.porcupine.programs import checker_path
from aftershock.harness.verdict import Verdict

from tests.unit.porcupine.generate import Row, history_of, operations, read, write
from tests.unit.porcupine.leaving_out import without
from tests.unit.porcupine.machines import ACCOUNTS, PROFILES

pytestmark = pytest.mark.processes

SEED = os.environ.get("AFTERSHOCK_FUZZ_SEED", "20261123")
KINDS = [(model, profile) for model in Model for profile in PROFILES[model]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    rows: list[Row]
    found: Found
    prefix_operations: int
    prefix_end_ns: int


def violations(model: Model, histories: list[list[Row]], *, engine: Engine = Engine.AUTO) -> list[Violation]:
    """What the native program says of those histories that are not linearizable."""
    history = operations(row for rows in histories for row in rows)
    request = Request(model=model, engine=engine, deadline_ms=500_000, workers=0, initial=ACCOUNTS)
    answer = ask(
        Path(os.environ.get("AFTERSHOCK_CHECKER") or checker_path()),
        write_input=lambda target: write_request(target, history, request),
        until_s=time.monotonic() + 600,
        memory_limit_bytes=2 << 30,
    )
    assert answer.problem is None, answer.problem
    last = {line["key"]: line for line in answer.lines if line["verdict"] == "fail"}
    return [
        Violation(
            rows=histories[key],
            found=read_counterexample(
                line["counterexample"],
                history,
                (history.key == key).nonzero()[0],
                model=model,
                initial=ACCOUNTS,
                words=default_words,
            ),
            prefix_operations=line["prefix"]["operations"],
            prefix_end_ns=line["prefix"]["end_ns"],
        )
        for key, line in last.items()
    ]


def item(row: Row) -> Item:
    names = (name for name in Item.__dataclass_fields__ if name != "weakened")
    return Item(**{name: getattr(row, name) for name in names})


def assert_minimal_and_illegal(violation: Violation, model: Model) -> None:
    shown, reduced = violation.found.counterexample, violation.found.reduced
    judged = list(reduced.judged)
    assert shown.minimal
    assert shown.rejudged
    assert not legal(judged, model, initial=reduced.initial)
    for i in range(len(judged)):
        if i == reduced.anchor:
            continue  # the others are judged from its answer on
        left = without(judged, i, model)
        assert left is None or legal(left, model, initial=reduced.initial), f"{i} is there for nothing"


def assert_explained(violation: Violation) -> None:
    shown = violation.found.counterexample
    count = len(shown.rows)
    assert shown.roles.count("impossible") == 1
    assert shown.reason.endswith(".")
    assert shown.reasons
    assert len(shown.roles) == len(shown.notes) == count
    assert all(0 <= end < count for edge in shown.edges for end in (edge.source, edge.target))
    for order in shown.orders:
        assert "please report" not in order.why
        assert sorted(order.order) == list(range(count))


def assert_prefix(violation: Violation, model: Model) -> None:
    """Explained until just before `prefix_end_ns`, and not any more when that answer was there."""
    items = [item(row) for row in violation.rows]
    if model is not Model.KEY_VALUE:
        items = [replace(one, f=F.READ) if one.f is F.CAS and one.value == one.expected else one for one in items]
    end_ns = violation.prefix_end_ns
    assert not legal(known_at(items, end_ns), model, initial=ACCOUNTS)
    assert legal(known_at(items, end_ns - 1), model, initial=ACCOUNTS)
    answered = [one for one in items if not one.unknown and one.end_ns < end_ns]
    assert violation.prefix_operations == len(answered)


def known_at(items: list[Item], at_ns: int) -> list[Item]:
    begun = [one for one in items if one.start_ns <= at_ns]
    return [
        one if one.end_ns <= at_ns else replace(one, unknown=True, end_ns=OPEN_NS)
        for one in begun
        if one.end_ns <= at_ns or one.f not in OBSERVERS
    ]


def sweep(model: Model, profile: str, *, count: int, most: int, seed: str) -> int:
    rng = random.Random(f"{seed} {model} {profile}")
    histories = [history_of(rng, model, profile, key=key, most=most) for key in range(count)]
    found = violations(model, histories)
    for violation in found:
        try:
            assert_minimal_and_illegal(violation, model)
            assert_explained(violation)
            assert_prefix(violation, model)
        except AssertionError as error:
            given = "\n".join(f"    {row}" for row in violation.rows)
            note = f"{model}, {profile}, seed {seed!r}:\n{given}\n  {violation.found.counterexample}"
            error.add_note(f"{note}\n  {violation.found.reduced}")
            raise
    return len(found)


@pytest.mark.parametrize(("model", "profile"), KINDS)
def test_counterexamples_are_minimal_illegal_and_explained(model: Model, profile: str) -> None:
    assert sweep(model, profile, count=150, most=7, seed=SEED) > 10


@pytest.mark.nightly
@pytest.mark.parametrize(("model", "profile"), KINDS)
def test_many_counterexamples_are_minimal_illegal_and_explained(model: Model, profile: str) -> None:
    seed = os.environ.get("AFTERSHOCK_FUZZ_SEED", str(time.time_ns()))
    print(f"AFTERSHOCK_FUZZ_SEED={seed}")
    sweep(model, profile, count=int(os.environ.get("AFTERSHOCK_FUZZ", "5000")), most=8, seed=seed)


# ------------------------------------------------------------------------------------------------ through the binding


def only(rows: list[Row], model: Model, **options: Any) -> KeyResult:
    (result,) = check(operations(rows), model=model, **options).results
    return result


def odd_sum() -> list[Row]:
    """A read of 23 beside increments by 2: whichever of them happened, the sum is even."""
    increments = [Row(f=F.INCREMENT, value=2, process=i, start_ns=0, end_ns=100) for i in range(12)]
    return [*increments, Row(f=F.READ, value=23, process=99, start_ns=0, end_ns=100)]


def test_what_is_too_large_for_brute_force_is_judged_by_another_engine() -> None:
    result = only(odd_sum(), Model.COUNTER)
    assert result.verdict is Verdict.FAIL
    assert result.counterexample is not None
    assert len(result.counterexample.rows) == 13
    assert result.counterexample.rejudged


@pytest.mark.parametrize(("second", "verdict"), [(False, Verdict.UNKNOWN), (None, Verdict.FAIL)])
def test_another_engine_that_disagrees_makes_it_unknown(
    second: bool | None, verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that gives no answer does not: it leaves the counterexample unconfirmed."""
    monkeypatch.setattr(_check, "_second_opinion", lambda *_, **__: second)
    result = only(odd_sum(), Model.COUNTER)
    assert result.verdict is verdict
    assert result.counterexample is not None
    assert not result.counterexample.rejudged
    assert ("please report it" in result.reason) == (verdict is Verdict.UNKNOWN)


def test_brute_force_that_disagrees_makes_it_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_explain, "legal", lambda *_, **__: True)
    result = only([write(7, 0, 10), read(ABSENT, 20, 30)], Model.REGISTER)
    assert result.verdict is Verdict.UNKNOWN
    assert "a brute-force search, judging the same 2 operations, does not confirm" in result.reason


def test_how_far_a_key_can_be_explained() -> None:
    rows = [write(1, 0, 10), read(1, 20, 30), write(2, 40, 50), read(1, 60, 70), read(2, 80, 90)]
    result = only(rows, Model.REGISTER)
    assert (result.prefix_operations, result.prefix_end_ns) == (3, 70)


def test_a_key_that_is_explained_has_no_prefix() -> None:
    result = only([write(1, 0, 10), read(1, 20, 30)], Model.REGISTER)
    assert (result.prefix_operations, result.prefix_end_ns) == (None, None)


def test_the_prefix_ends_at_the_first_violation_not_at_the_one_that_is_shown() -> None:
    """Three values are lost, one after the other; whichever is shown, the first one counts."""
    rows = [
        row
        for n in (1, 2, 3)
        for row in (
            write(n, 100 * n, 100 * n + 10),
            write(n + 10, 100 * n + 20, 100 * n + 30),
            read(n, 100 * n + 40, 100 * n + 50),
        )
    ]
    result = only(rows, Model.REGISTER)
    assert (result.prefix_operations, result.prefix_end_ns) == (2, 150)


def test_a_counter_with_thousands_of_increments_is_explained_by_two_reads() -> None:
    rows = [Row(f=F.INCREMENT, value=1, process=i % 7, start_ns=10 * i, end_ns=10 * i + 5) for i in range(4000)]
    rows += [Row(f=F.READ, value=4000, process=8, start_ns=50_000, end_ns=50_001)]
    rows += [Row(f=F.INCREMENT, value=1, process=9, start_ns=60_000, end_ns=60_001)]
    rows += [Row(f=F.READ, value=3990, process=10, start_ns=70_000, end_ns=70_001)]
    result = only(rows, Model.COUNTER)
    assert result.counterexample is not None
    assert len(result.counterexample.rows) <= 2
    assert result.counterexample.rejudged
    assert "found 3990" in result.reason


def test_a_bank_with_thousands_of_transfers_is_explained_by_few_operations() -> None:
    rows = [
        Row(
            f=F.TRANSFER,
            value=1,
            expected=i % 3,
            version=(i + 1) % 3,
            process=i % 5,
            start_ns=10 * i,
            end_ns=10 * i + 5,
        )
        for i in range(3000)
    ]
    told = (0, 10, 1, 10, 2, 10)
    rows += [Row(f=F.READ_ALL, items=told, process=8, start_ns=50_000, end_ns=50_001)]
    rows += [Row(f=F.TRANSFER, value=4, expected=0, version=1, process=9, start_ns=60_000, end_ns=60_001)]
    rows += [Row(f=F.READ_ALL, items=told, process=10, start_ns=70_000, end_ns=70_001)]
    result = only(rows, Model.BANK, initial={0: 10, 1: 10, 2: 10})
    assert result.counterexample is not None
    assert len(result.counterexample.rows) <= 3
    assert result.counterexample.rejudged
    assert result.counterexample.roles[-1] == "impossible"


def test_a_set_and_a_list_are_explained_by_the_elements_that_matter() -> None:
    """Each read has a thousand elements; one of them has an element too few."""
    for adds, model in ((F.ADD, Model.SET), (F.APPEND, Model.LIST_APPEND)):
        rows = [Row(f=adds, value=i, process=i % 5, start_ns=10 * i, end_ns=10 * i + 5) for i in range(1000)]
        rows += [Row(f=F.READ_ALL, items=tuple(range(1000)), process=8, start_ns=20_000, end_ns=20_001)]
        some = tuple(i for i in range(1000) if i != 500)
        rows += [Row(f=F.READ_ALL, items=some, process=9, start_ns=30_000, end_ns=30_001)]
        result = only(rows, model)
        assert result.counterexample is not None
        assert len(result.counterexample.rows) <= 3
        assert result.counterexample.rejudged
        assert "did not find 500" in result.reason


def test_words_are_given_to_the_sentences() -> None:
    result = only([write(7, 0, 10), read(ABSENT, 20, 30)], Model.REGISTER, words=lambda value: f"<{value % 100}>")
    assert "write of <7>" in result.reason
    assert "found <92>" in result.reason


def test_operations_of_another_model_are_refused() -> None:
    with pytest.raises(ValueError, match=r"row 0 calls INCREMENT, which the model set has not; it has ADD, CONTAINS"):
        check(operations([Row(f=F.INCREMENT, start_ns=0, end_ns=1)]), model=Model.SET)
