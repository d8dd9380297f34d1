"""Sequential specifications by example: what each model allows, told to brute force and to Porcupine alike."""

from __future__ import annotations

from dataclasses import replace

import pytest
from aftershock.harness.porcupine import ABSENT, OPEN_NS, Engine, F, Model
from aftershock.harness.porcupine._brute import legal
from aftershock.harness.porcupine._specs import FUNCTIONS, apply, initial_state

from tests.unit.porcupine.agreement import item_of, verdicts
from tests.unit.porcupine.generate import Row, keyed, operations
from tests.unit.porcupine.machines import ACCOUNTS


def after_each_other(*rows: Row) -> list[Row]:
    """One operation after the other; an unknown one stays open."""
    return [
        replace(row, start_ns=10 * i, end_ns=OPEN_NS if row.unknown else 10 * i + 5, key=0)
        for i, row in enumerate(rows)
    ]


def op(f: F, value: int = 0, *, expected: int = 0, version: int = -1, process: int = 1, unknown: bool = False) -> Row:
    return Row(
        f=f, value=value, expected=expected, version=version, process=process, unknown=unknown, start_ns=0, end_ns=0
    )


def reads_all(*items: int) -> Row:
    return replace(op(F.READ_ALL), items=items)


def acquire(process: int, token: int = ABSENT, *, unknown: bool = False) -> Row:
    return op(F.ACQUIRE, token, process=process, unknown=unknown)


def release(process: int, *, unknown: bool = False) -> Row:
    return op(F.RELEASE, process=process, unknown=unknown)


def transfer(amount: int, source: int, target: int, *, unknown: bool = False) -> Row:
    return op(F.TRANSFER, amount, expected=source, version=target, unknown=unknown)


UNEQUAL_1 = op(F.UNEQUAL, expected=1)
W1, W2, R1, R2 = op(F.WRITE, 1), op(F.WRITE, 2), op(F.READ, 1), op(F.READ, 2)
GONE = op(F.READ, ABSENT)
PUT1, PUT2, TAKE1, TAKE2, EMPTY = (
    op(F.ENQUEUE, 1),
    op(F.ENQUEUE, 2),
    op(F.DEQUEUE, 1),
    op(F.DEQUEUE, 2),
    op(F.DEQUEUE, ABSENT),
)
UP = op(F.INCREMENT, 1)

CASES: list[tuple[Model, bool, tuple[Row, ...]]] = [
    (Model.REGISTER, True, (GONE, W1, R1, op(F.DELETE), GONE)),
    (Model.REGISTER, False, (W1, op(F.DELETE), R1)),
    (Model.REGISTER, True, (W1, op(F.DELETE, unknown=True), R1)),
    (Model.CAS_REGISTER, True, (W1, op(F.CAS, 2, expected=1), R2)),
    (Model.CAS_REGISTER, False, (W2, op(F.CAS, 2, expected=1))),
    (Model.CAS_REGISTER, True, (W2, UNEQUAL_1, R2)),
    (Model.CAS_REGISTER, False, (W1, UNEQUAL_1)),
    (Model.CAS_REGISTER, True, (UNEQUAL_1,)),
    (Model.CAS_REGISTER, False, (op(F.UNEQUAL, expected=ABSENT),)),
    # An unknown compare-and-set that cannot match changes nothing.
    (Model.CAS_REGISTER, False, (W2, op(F.CAS, 3, expected=1, unknown=True), op(F.READ, 3))),
    # Replacing a value by itself makes a version all the same.
    (Model.KEY_VALUE, True, (op(F.WRITE, 1, version=4), op(F.CAS, 1, expected=1, version=5), op(F.READ, 1, version=5))),
    (Model.KEY_VALUE, True, (op(F.WRITE, 1, version=4), op(F.CAS, 1, expected=1), op(F.READ, 1, version=6))),
    (Model.KEY_VALUE, False, (op(F.WRITE, 1, version=4), op(F.CAS, 1, expected=1), op(F.READ, 1, version=4))),
    (Model.KEY_VALUE, False, (op(F.WRITE, 1, version=4), op(F.WRITE, 2, version=4))),
    (Model.KEY_VALUE, False, (op(F.WRITE, 1, version=4), op(F.UNEQUAL, expected=2, version=5))),
    (Model.SET, True, (op(F.CONTAINS, 1), op(F.ADD, 1), op(F.ADD, 1), op(F.CONTAINS, 1, expected=1))),
    (Model.SET, False, (op(F.ADD, 1), op(F.CONTAINS, 1, expected=0))),
    (Model.SET, True, (reads_all(), op(F.ADD, 2), op(F.ADD, 1), reads_all(1, 2), reads_all(2, 1))),
    (Model.SET, False, (op(F.ADD, 1), op(F.ADD, 2), reads_all(1))),
    (Model.SET, False, (op(F.ADD, 1), reads_all(1, 3))),
    (Model.SET, True, (op(F.ADD, 1, unknown=True), reads_all(), op(F.CONTAINS, 1, expected=1), reads_all(1))),
    (Model.SET, False, (op(F.ADD, 1, unknown=True), reads_all(1), reads_all())),
    (Model.QUEUE, True, (EMPTY, PUT1, PUT2, TAKE1, TAKE2, EMPTY)),
    (Model.QUEUE, False, (PUT1, PUT2, TAKE2)),
    (Model.QUEUE, False, (PUT1, EMPTY)),
    (Model.QUEUE, False, (PUT1, TAKE1, TAKE1)),
    (Model.QUEUE, True, (PUT1, PUT2, op(F.DEQUEUE, unknown=True), TAKE2, EMPTY)),
    (Model.QUEUE, False, (PUT1, PUT2, op(F.DEQUEUE, unknown=True), EMPTY)),
    (Model.COUNTER, True, (op(F.READ, 0), UP, op(F.INCREMENT, -3), op(F.READ, -2))),
    (Model.COUNTER, False, (UP, op(F.READ, 0))),
    (Model.COUNTER, True, (op(F.INCREMENT, 5, unknown=True), UP, op(F.READ, 1), op(F.READ, 6))),
    (Model.COUNTER, False, (op(F.INCREMENT, 5, unknown=True), UP, op(F.READ, 6), op(F.READ, 1))),
    (Model.FETCH_AND_INCREMENT, True, (op(F.READ, 0), UP, op(F.INCREMENT, 2), R2)),
    (Model.FETCH_AND_INCREMENT, False, (op(F.INCREMENT, 0),)),
    (Model.FETCH_AND_INCREMENT, False, (UP, op(F.INCREMENT, 3))),
    (Model.FETCH_AND_INCREMENT, True, (UP, op(F.INCREMENT, 77, unknown=True), op(F.INCREMENT, 3))),
    (Model.MUTEX, True, (acquire(1), op(F.HELD, process=2), release(1), acquire(2), release(2), acquire(2))),
    (Model.MUTEX, False, (acquire(1), acquire(2))),
    (Model.MUTEX, False, (acquire(1), acquire(1))),
    (Model.MUTEX, False, (acquire(1), release(2))),
    (Model.MUTEX, False, (release(1),)),
    (Model.MUTEX, False, (op(F.HELD),)),
    (Model.MUTEX, True, (acquire(1), release(1, unknown=True), acquire(2))),
    (Model.MUTEX, False, (acquire(1), release(3, unknown=True), acquire(2))),
    (Model.MUTEX, True, (acquire(1, unknown=True), release(1))),
    (Model.MUTEX, True, (acquire(1, -5), release(1), acquire(2, 9), release(2))),
    (Model.MUTEX, False, (acquire(1, 9), release(1), acquire(2, 9))),
    # A token that nobody was told lies between those that were: 5, one more, 6 cannot be.
    (Model.MUTEX, False, (acquire(1, 5), release(1), acquire(2), release(2), acquire(1, 6))),
    (Model.MUTEX, True, (acquire(1, 5), release(1), acquire(2), release(2), acquire(1, 7))),
    (Model.LIST_APPEND, True, (reads_all(), op(F.APPEND, 1), op(F.APPEND, 1), reads_all(1, 1))),
    (Model.LIST_APPEND, False, (op(F.APPEND, 1), op(F.APPEND, 2), reads_all(2, 1))),
    (Model.LIST_APPEND, True, (op(F.APPEND, 1, unknown=True), op(F.APPEND, 2), reads_all(2), reads_all(2, 1))),
    (Model.BANK, True, (reads_all(0, 3, 1, 2, 7, 0), transfer(3, 0, 7), reads_all(7, 3, 0, 0, 1, 2))),
    (Model.BANK, False, (transfer(3, 0, 7), transfer(1, 0, 1))),
    (Model.BANK, True, (transfer(3, 0, 7, unknown=True), transfer(1, 0, 1), reads_all(0, 2, 1, 3, 7, 0))),
    (Model.BANK, False, (reads_all(0, 3, 1, 2),)),
    (Model.BANK, False, (reads_all(0, 3, 1, 2, 7, 0, 0, 3),)),
    (Model.BANK, False, (transfer(0, 0, 5),)),
    (Model.BANK, True, (transfer(2, 1, 1),)),
    (Model.BANK, False, (transfer(3, 1, 1), reads_all(0, 3, 1, 5, 7, 0))),
]


def test_what_each_model_allows_by_brute_force() -> None:
    for model, expected, rows in CASES:
        items = [item_of(row) for row in after_each_other(*rows)]
        assert legal(items, model, initial=ACCOUNTS) is expected, (model, rows)


@pytest.mark.parametrize("model", list(Model))
def test_what_each_model_allows_by_porcupine(model: Model) -> None:
    cases = [(expected, after_each_other(*rows)) for of, expected, rows in CASES if of is model]
    together = operations(row for key, (_, rows) in enumerate(cases) for row in keyed(rows, key))

    found = verdicts(together, model, Engine.PORCUPINE)

    wrong = [rows for key, (expected, rows) in enumerate(cases) if found[key] is not expected]
    assert wrong == []
    assert {expected for expected, _ in cases} == {True, False}


def test_a_function_that_the_model_has_not_is_never_judged() -> None:
    for model in Model:
        foreign = next(f for f in F if f not in FUNCTIONS[model])
        row = replace(op(foreign, 1), items=())
        with pytest.raises(AssertionError, match=f"panic: the model {model} has not all of the functions"):
            verdicts(operations([row]), model, Engine.PORCUPINE)
        with pytest.raises(KeyError):
            legal([item_of(row)], model)


def test_every_function_of_every_model_can_take_effect_unanswered() -> None:
    for model, functions in FUNCTIONS.items():
        for f in functions:
            assert len(apply(initial_state(model, ACCOUNTS), item_of(op(f, version=0, unknown=True)), model)) <= 2


@pytest.mark.parametrize(
    ("model", "weakened", "then"),
    [
        (Model.REGISTER, W1, GONE),
        (Model.SET, op(F.ADD, 1), reads_all()),
        (Model.QUEUE, PUT1, EMPTY),
        (Model.COUNTER, UP, op(F.READ, 0)),
        (Model.FETCH_AND_INCREMENT, UP, op(F.READ, 0)),
        (Model.MUTEX, acquire(1, 5), acquire(2, 3)),
        (Model.LIST_APPEND, op(F.APPEND, 1), reads_all()),
        (Model.BANK, transfer(3, 0, 7), reads_all(0, 3, 1, 2, 7, 0)),
    ],
)
def test_a_weakened_operation_may_have_happened_or_not(model: Model, weakened: Row, then: Row) -> None:
    first, second = (item_of(row) for row in after_each_other(weakened, then))

    assert not legal([first, second], model, initial=ACCOUNTS)
    assert legal([replace(first, weakened=True), second], model, initial=ACCOUNTS)


def test_of_a_weakened_compare_and_set_only_what_it_wrote_counts() -> None:
    swap, read = (item_of(row) for row in after_each_other(op(F.CAS, 2, expected=1), R2))

    assert not legal([swap, read], Model.CAS_REGISTER)
    assert legal([replace(swap, weakened=True), read], Model.CAS_REGISTER)
    assert not legal([replace(swap, weakened=True), replace(read, value=ABSENT)], Model.CAS_REGISTER)
