"""What a person reads of a violation: the sentence, the steps, who is blamed, and the orders."""

from __future__ import annotations

import pytest
from aftershock.harness.porcupine import ABSENT, Counterexample, Edge, Model
from aftershock.harness.porcupine._brute import Item, legal
from aftershock.harness.porcupine._check import item
from aftershock.harness.porcupine._explain import explain

from tests.unit.porcupine.generate import Row, cas, operations, read, write


def items(rows: list[Row]) -> list[Item]:
    history = operations(rows)
    return [item(history, i) for i in range(len(rows))]


def explained(*rows: Row, model: Model = Model.CAS_REGISTER) -> Counterexample:
    found = explain(items(list(rows)), rows=range(len(rows)), model=model, minimal=True)
    assert found.rejudged
    return found


def test_lost_write() -> None:
    found = explained(write(7, 0, 10, process=3), read(ABSENT, 20, 30, process=9))
    assert found.reason == (
        "The write of 7 by process 3 was acknowledged before the read by process 9 began, yet that read found the "
        "key absent."
    )
    assert found.roles == ("lost", "impossible")
    assert found.edges == (Edge(source=0, target=1, kind="contradicts"),)
    (order,) = found.orders
    assert (order.order, order.ruled_out_by) == ((0, 1), 1)
    assert order.why == "the read by process 9 found the key absent, but 7 was there."
    assert len(found.reasons) == 3


def test_stale_read() -> None:
    found = explained(
        write(1, 0, 5, process=1), write(2, 6, 100, process=2), read(2, 10, 20, process=3), read(1, 30, 40, process=4)
    )
    assert found.reason == (
        "The read by process 3 ended with 2 before the read by process 4 began, yet that read found 1, which was older."
    )
    assert found.roles == ("write", "write", "read", "impossible")
    assert {(e.source, e.target, e.kind) for e in found.edges} == {
        (0, 3, "seen"),
        (1, 2, "seen"),
        (2, 3, "contradicts"),
    }


def test_unwritten_value() -> None:
    found = explained(read(7, 0, 10, process=9))
    assert found.reason == "The read by process 9 found 7, but no write of 7 to this key can have happened."
    assert found.roles == ("impossible",)


def test_value_from_the_future() -> None:
    found = explained(read(7, 0, 10, process=9), write(7, 11, 20, process=3))
    assert found.reason.startswith("The read by process 9 found 7 and ended before the write of 7 by process 3 began")
    assert found.roles == ("impossible", "write")


def test_two_inserts() -> None:
    found = explained(cas(ABSENT, 1, 0, 10, process=1), cas(ABSENT, 2, 5, 10, process=2))
    assert found.reason == (
        "Both the insert of 1 by process 1 and the insert of 2 by process 2 took effect, but the key was absent only "
        "once: nobody deleted it."
    )
    assert len(found.orders) == 2


def test_older_version() -> None:
    found = explained(
        read(ABSENT, 0, 1, process=1, version=4), read(ABSENT, 2, 3, process=2, version=3), model=Model.KEY_VALUE
    )
    assert "answered with version 4" in found.reason
    assert "older version 3" in found.reason


def test_unanswered_and_weakened_operations_carry_a_note() -> None:
    rows = items([write(7, 0, process=3), cas(1, 8, 1, 2, process=4), read(ABSENT, 3, 4)])
    weak = Item(**{name: getattr(rows[1], name) for name in Item.__dataclass_fields__} | {"weakened": True})
    found = explain([rows[0], weak, rows[2]], rows=[0, 1, 2], model=Model.CAS_REGISTER, minimal=True)
    assert "never answered" in found.notes[0]
    assert "what it replaced does not matter" in found.notes[1]
    assert found.notes[2] == ""


def test_many_orders_are_told_by_precedences() -> None:
    """Five concurrent writes have 120 orders; none lets two reads in a row see old after new."""
    rows = [write(i, 0, 10, process=i) for i in range(1, 6)]
    found = explained(*rows, read(1, 11, 12), read(2, 13, 14))
    assert found.orders == ()
    assert "the write of 1 by process 1 ended before the read by process 0 began" in found.precedences
    assert all("read by process 0 began" in sentence for sentence in found.precedences)


def test_an_explanation_of_what_is_legal_is_not_confirmed() -> None:
    """The judge can say no: it is what stands between an engine's bug and a false accusation."""
    legal_ones = items([write(7, 0, 10), read(7, 20, 30)])
    found = explain(legal_ones, rows=[0, 1], model=Model.CAS_REGISTER, minimal=True)
    assert not found.rejudged


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], True),
        ([write(1, 0)], True),
        ([write(1, 0), read(1, 1, 2)], True),
        ([write(1, 5), read(1, 1, 2)], False),
        ([write(1, 0, 3), read(ABSENT, 3, 4)], True),
        ([write(1, 0, 3), read(ABSENT, 4, 5)], False),
        ([cas(1, 2, 0, 3)], False),
        ([cas(1, 2, 0)], True),
    ],
)
def test_brute_force(rows: list[Row], expected: bool) -> None:
    assert legal(items(rows), Model.CAS_REGISTER) is expected


def test_hundreds_of_operations_are_not_explained() -> None:
    """Left over when time ran out while shrinking: no crash, no claim."""
    rows = [write(i, 10 * i, 10 * i + 5) for i in range(1, 500)]
    found = explain(items([*rows, read(1, 9000, 9010)]), rows=range(500), model=Model.REGISTER, minimal=False)
    assert not found.rejudged
    assert "these 500 operations" in found.reason


def test_thirty_operations_are_explained_without_trying_every_order() -> None:
    rows = [write(i, 0, 10, process=i) for i in range(1, 30)]
    found = explain(items([*rows, read(77, 11, 12)]), rows=range(30), model=Model.REGISTER, minimal=False)
    assert "no write of 77" in found.reason
    assert found.orders == ()
