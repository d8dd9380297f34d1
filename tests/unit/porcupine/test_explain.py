"""What a person reads of a violation: the sentence, the steps, who is blamed, and the orders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from aftershock.harness.porcupine import ABSENT, NO_VERSION, OPEN_NS, Counterexample, Edge, F, Model
from aftershock.harness.porcupine._brute import Item, legal
from aftershock.harness.porcupine._counterexamples import item
from aftershock.harness.porcupine._explain import Reduced, explain
from aftershock.harness.porcupine._words import default_words

from tests.unit.porcupine.generate import Row, cas, operations, read, write


def items(rows: list[Row], model: Model = Model.CAS_REGISTER) -> list[Item]:
    history = operations(rows)
    return [item(history, i, model=model) for i in range(len(rows))]


def explained(
    *rows: Row,
    model: Model = Model.CAS_REGISTER,
    initial: dict[int, int] | None = None,
    words: Callable[[int], str] = default_words,
) -> Counterexample:
    given = items(list(rows), model)
    reduced = Reduced(judged=given, initial=initial)
    found = explain(given, rows=range(len(rows)), model=model, minimal=True, reduced=reduced, words=words)
    assert found.rejudged
    return found


def op(
    f: F,
    start_ns: int,
    end_ns: int = OPEN_NS,
    *,
    value: int = 0,
    expected: int = 0,
    version: int = NO_VERSION,
    by: int = 1,
    found: tuple[int, ...] | None = None,
) -> Row:
    return Row(
        f=f,
        value=value,
        expected=expected,
        version=version,
        process=by,
        start_ns=start_ns,
        end_ns=end_ns,
        unknown=end_ns == OPEN_NS,
        items=found,
    )


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
    weak = replace(rows[1], weakened=True)
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


# ------------------------------------------------------------------------------------------------ every model

SENTENCES: dict[str, tuple[Model, list[Row], str]] = {
    "a set lost an element": (
        Model.SET,
        [op(F.ADD, 0, 5, value=7, by=3), op(F.CONTAINS, 10, 12, value=7, expected=0, by=4)],
        (
            "The add of 7 by process 3 was acknowledged before the look for 7 by process 4 began, yet that look did "
            "not find 7."
        ),
    ),
    "a set holds what nobody added": (
        Model.SET,
        [op(F.READ_ALL, 0, 5, found=(7,), by=3)],
        "The read by process 3 found {7}, but nobody had added 7.",
    ),
    "two reads of a set": (
        Model.SET,
        [
            op(F.ADD, 0, 50, value=7, by=1),
            op(F.ADD, 0, 50, value=9, by=2),
            op(F.READ_ALL, 1, 40, found=(7,), by=3),
            op(F.READ_ALL, 1, 40, found=(9,), by=4),
        ],
        "The read by process 3 found {7}, and the read by process 4 found {9}: neither can have come before the other.",
    ),
    "a list in another order": (
        Model.LIST_APPEND,
        [
            op(F.APPEND, 0, 5, value=7, by=1),
            op(F.APPEND, 6, 9, value=9, by=2),
            op(F.READ_ALL, 10, 12, found=(9, 7), by=3),
        ],
        (
            "The append of 7 by process 1 was acknowledged before the append of 9 by process 2 began, yet the read by "
            "process 3 found 9 before 7."
        ),
    ),
    "an element twice": (
        Model.LIST_APPEND,
        [op(F.APPEND, 0, 5, value=7, by=1), op(F.READ_ALL, 10, 12, found=(7, 7), by=3)],
        "The read by process 3 found [7, 7], but 7 was appended only once.",
    ),
    "first in, not first out": (
        Model.QUEUE,
        [
            op(F.ENQUEUE, 0, 5, value=7, by=1),
            op(F.ENQUEUE, 6, 9, value=9, by=2),
            op(F.DEQUEUE, 10, 12, value=9, by=3),
            op(F.DEQUEUE, 13, 14, value=7, by=4),
        ],
        "Element 7 was enqueued before 9, yet 9 was dequeued before 7 came out.",
    ),
    "taken twice": (
        Model.QUEUE,
        [
            op(F.ENQUEUE, 0, 5, value=7, by=1),
            op(F.DEQUEUE, 6, 12, value=7, by=3),
            op(F.DEQUEUE, 6, 14, value=7, by=4),
        ],
        "Both the dequeue by process 3 and the dequeue by process 4 took 7, which was enqueued once.",
    ),
    "a queue that is not empty": (
        Model.QUEUE,
        [op(F.ENQUEUE, 0, 5, value=7, by=1), op(F.DEQUEUE, 6, 12, value=ABSENT, by=3)],
        (
            "The enqueue of 7 by process 1 was acknowledged before the dequeue by process 3 began, and nobody took 7, "
            "yet that dequeue found the queue empty."
        ),
    ),
    "a counter that is too high": (
        Model.COUNTER,
        [*(op(F.INCREMENT, 0, 5, value=1, by=i) for i in range(4)), op(F.READ, 2, 9, value=5, by=7)],
        "The read by process 7 found 5, but no more than 4 increments had begun when it ended.",
    ),
    "a counter that lost increments": (
        Model.COUNTER,
        [*(op(F.INCREMENT, 0, 5, value=1, by=i) for i in range(3)), op(F.READ, 8, 9, value=2, by=7)],
        "The read by process 7 found 2, although 3 increments had been acknowledged before it began.",
    ),
    "a counter that goes back": (
        Model.COUNTER,
        [
            op(F.INCREMENT, 0, value=1, by=1),
            op(F.READ, 2, 3, value=1, by=7),
            op(F.READ, 4, 5, value=0, by=8),
        ],
        (
            "The read by process 7 ended with 1 before the read by process 8 began, yet that read found 0: a counter "
            "never goes back."
        ),
    ),
    "the same number twice": (
        Model.FETCH_AND_INCREMENT,
        [op(F.INCREMENT, 0, 5, value=1, by=1), op(F.INCREMENT, 0, 5, value=1, by=2)],
        "Both the increment by process 1 and the increment by process 2 were answered with 1.",
    ),
    "a smaller number": (
        Model.FETCH_AND_INCREMENT,
        [op(F.INCREMENT, 0, 5, value=2, by=1), op(F.INCREMENT, 8, 9, value=1, by=2)],
        (
            "The increment by process 1 was answered with 2 before the increment by process 2 began, yet that "
            "increment was answered with 1, which is smaller."
        ),
    ),
    "a lock that two hold": (
        Model.MUTEX,
        [
            op(F.ACQUIRE, 0, 5, value=ABSENT, by=1),
            op(F.ACQUIRE, 6, 8, value=ABSENT, by=3),
            op(F.RELEASE, 10, 12, by=1),
        ],
        "The lock was acquired by process 3 while process 1 held it.",
    ),
    "a token that is smaller": (
        Model.MUTEX,
        [
            op(F.ACQUIRE, 0, 5, value=9, by=1),
            op(F.RELEASE, 6, 7, by=1),
            op(F.ACQUIRE, 8, 9, value=8, by=3),
        ],
        "The acquisition by process 3 was given token 8, smaller than the 9 that process 1 had been given before.",
    ),
    "a lock that nobody holds": (
        Model.MUTEX,
        [op(F.HELD, 0, 5, by=1)],
        "The attempt to acquire by process 1 found the lock taken, but nobody can have held it then.",
    ),
    "a release of what is not held": (
        Model.MUTEX,
        [op(F.RELEASE, 0, 5, by=1)],
        "The release by process 1 was acknowledged, but process 1 cannot have held the lock then.",
    ),
    "money that disappears": (
        Model.BANK,
        [op(F.READ_ALL, 0, 5, found=(1, 40, 2, 50), by=3)],
        "The read by process 3 found that both accounts together hold 90, expected 100: money disappeared.",
    ),
    "a transfer that is not there": (
        Model.BANK,
        [
            op(F.TRANSFER, 0, 5, value=10, expected=1, version=2, by=1),
            op(F.READ_ALL, 6, 9, found=(1, 50, 2, 50), by=3),
        ],
        "The read by process 3 found 50 on account 1, but 40 must have been there.",
    ),
    "more than there was": (
        Model.BANK,
        [op(F.TRANSFER, 0, 5, value=60, expected=1, version=2, by=1)],
        "The transfer of 60 from 1 to 2 by process 1 was acknowledged, but at most 50 can have been on account 1 then.",
    ),
    "between a value and what replaced it": (
        Model.CAS_REGISTER,
        [
            write(1, 0, 5, process=1),
            cas(1, 2, 0, 90, process=2),
            read(1, 6, 7, process=3),
            write(3, 8, 9, process=4),
            read(2, 20, 30, process=5),
        ],
        (
            "The compare-and-set from 1 to 2 by process 2 put 2 directly in the place of 1, yet 3 was there in "
            "between: the write of 3 by process 4 began after the write of 1 by process 1 was acknowledged, and it was "
            "acknowledged before the read by process 5 began, which found 2."
        ),
    ),
    "a comparison that must have matched": (
        Model.CAS_REGISTER,
        [write(1, 0, 5, process=1), op(F.UNEQUAL, 6, 8, expected=1, by=2)],
        (
            "The compare-and-set from 1 that did not match by process 2 found that 1 was not there, although the write "
            "of 1 by process 1 was acknowledged before that and nothing else had been written by then."
        ),
    ),
}


@pytest.mark.parametrize("name", SENTENCES)
def test_the_sentence_of_every_model(name: str) -> None:
    model, rows, sentence = SENTENCES[name]
    found = explained(*rows, model=model, initial={1: 50, 2: 50} if model is Model.BANK else None)
    assert found.reason == sentence
    assert found.reasons


NAMES = {ABSENT: "0", 1: "'a'", 2: "'b'"}


def test_values_are_shown_by_the_words_that_were_given() -> None:
    """An imported register starts with 0 or nil: nothing is `absent` then."""
    found = explained(write(1, 0, 10, process=3), read(ABSENT, 20, 30, process=9), words=NAMES.__getitem__)
    assert found.reason == (
        "The write of 'a' by process 3 was acknowledged before the read by process 9 began, yet that read found 0."
    )
    assert found.reasons[0] == "0 was there at first, and nobody wrote it later: once replaced, it never comes back."
    assert found.orders[0].why == "the read by process 9 found 0, but 'a' was there."


def test_no_sentence_says_absent_when_the_words_do_not() -> None:
    rows = [cas(ABSENT, 1, 0, 10), cas(ABSENT, 2, 5, 10), op(F.UNEQUAL, 0, 3, expected=ABSENT)]
    for given in (rows[:2], rows[2:]):
        found = explained(*given, words=NAMES.__getitem__)
        said = [found.reason, *found.reasons, *found.precedences, *(order.why for order in found.orders)]
        assert not [sentence for sentence in said if "absent" in sentence or "insert" in sentence]


def test_roles_say_what_was_lost() -> None:
    for name in ("a set lost an element", "a queue that is not empty"):
        model, rows, _ = SENTENCES[name]
        assert explained(*rows, model=model).roles == ("lost", "impossible")


def test_what_is_optional_may_be_left_out_of_an_order() -> None:
    """An unanswered dequeue may have taken 7 or not: in neither case is 9 found before it."""
    rows = [
        op(F.ENQUEUE, 0, 1, value=7),
        op(F.ENQUEUE, 2, 3, value=8),
        op(F.ENQUEUE, 4, 5, value=9),
        op(F.DEQUEUE, 6, by=4),
        op(F.DEQUEUE, 7, 8, value=9, by=5),
    ]
    found = explained(*rows, model=Model.QUEUE)
    assert [order.ruled_out_by for order in found.orders] == [4, 4]
    assert (
        found.orders[0].why
        == "the dequeue by process 5 took 9, but 7 was first in the queue or 8 was first in the queue."
    )
    assert found.notes[3] == "never answered: it may have happened or not"
