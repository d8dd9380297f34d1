"""Words for a counterexample under a user's model, and a second judgement of it that shares nothing with the search."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ._brute import Item, orders, precedes, some_order
from ._values import NO_VERSION, OPEN_NS, F

if TYPE_CHECKING:
    from ._user_worker import Worker

__all__ = ["in_words"]

_REJUDGED_AT_MOST = 10
_ORDERS_SHOWN = 6
_STATES_NAMED = 3
_SHOWN_AT_MOST = 40  # more are left only when time ran out, and explain nothing


def in_words(
    worker: Worker,
    *,
    start: int,
    before: int,
    answered: int,
    rows: list[int],
    maybe: list[int],
    last: int,
    minimal: bool,
) -> dict[str, Any]:
    """Fields of a `Counterexample`. `maybe` are operations that may have happened or not, beside those of `rows`.

    `before` operations were over before all of them, and left the state `start`. Of the first `answered` ones one order
    explains all but `last`.

    `rejudged` is None where there are too many operations to try every order.
    """
    items = [_times(worker, row, answered=True) for row in rows] + [
        _times(worker, row, answered=False) for row in maybe
    ]
    classes = [worker.session.of_row[row][0] for row in rows] + [worker.session.of_row[row][1] for row in maybe]
    labels = [worker.describe(worker.operations[row]) for row in rows]
    rejudged = None if len(items) > _REJUDGED_AT_MOST else not _legal(worker, items, classes, start)
    shown = list(itertools.islice(orders(items), _ORDERS_SHOWN + 1)) if len(items) <= _REJUDGED_AT_MOST else []
    few = (
        []
        if maybe or len(shown) > _ORDERS_SHOWN
        else [_ruled_out(worker, order, classes, labels, start) for order in shown]
    )
    if len(rows) > _SHOWN_AT_MOST:
        rows, items, labels, minimal = [last], [_times(worker, last, answered=True)], [], False
    return {
        "rows": rows,
        "roles": [_role(worker, row, last) for row in rows],
        "reason": _reason(worker, rows, len(maybe), last, start, before),
        "reasons": [f"{why}." for _, _, why in few],
        "orders": few,
        "precedences": [
            f"{labels[a]} ended before {labels[b]} began" for a, b in _direct_precedences(items[: len(labels)])
        ],
        "prefix_operations": answered - 1,
        "prefix_end_ns": worker.operations[last].end_ns,
        "rejudged": rejudged,
        "minimal": minimal,
    }


def _times(worker: Worker, row: int, *, answered: bool) -> Item:
    """All that the order depends on; what was called and answered is the model's."""
    operation = worker.operations[row]
    end_ns = OPEN_NS if operation.end_ns is None or not answered else operation.end_ns
    return Item(
        f=F.WRITE,
        process=operation.process,
        value=0,
        expected=0,
        version=NO_VERSION,
        start_ns=operation.start_ns,
        end_ns=end_ns,
        unknown=not answered,
    )


def _legal(worker: Worker, items: Sequence[Item], classes: Sequence[int], start: int) -> bool:
    before = [sum(1 << j for j, other in enumerate(items) if precedes(other, item)) for item in items]
    required = sum(1 << i for i, item in enumerate(items) if not item.optional)

    def follow(state: int, i: int) -> list[int]:
        after = worker.next(state, classes[i])
        return [] if after < 0 else [after]

    return some_order(before, required, start, follow)


def _ruled_out(
    worker: Worker, order: tuple[int, ...], classes: Sequence[int], labels: Sequence[str], state: int
) -> tuple[tuple[int, ...], int, str]:
    """The first operation that an order gives a result that it cannot have, and why."""
    for i in order:
        after = worker.next(state, classes[i])
        if after < 0:
            sequence = ", then ".join(labels[j] for j in order[: order.index(i)])
            after_them = f"After {sequence} the" if sequence else "The"
            return order, i, f"{after_them} state is {_states(worker, state)}, where {labels[i]} is impossible"
        state = after
    return order, order[-1], "Nothing rules this order out; please report this"


def _role(worker: Worker, row: int, last: int) -> str:
    if row == last:
        return "impossible"
    return "write" if worker.operations[row].f in worker.session.changing else "read"


def _reason(worker: Worker, rows: Sequence[int], maybe: int, last: int, start: int, before: int) -> str:
    impossible = worker.describe(worker.operations[last])
    beside = len([row for row in rows if row != last])
    others = "" if not maybe else f", whether or not {_count(maybe, 'other operation')} took effect"
    there = _states(worker, start)
    earlier = "the operation before it" if before == 1 else f"the {before} operations before"
    left = f"{earlier} left {there}" if before else f"the state is {there} at first"
    if not beside:
        return f"{impossible} cannot be: {left}, where it is impossible{others}."
    left = f"{left}, and " if before else ""
    no_order = f"no order of it and {_count(beside, 'more operation')} explains every result"
    return f"{impossible} cannot be: {left}{no_order}{others}."


def _states(worker: Worker, number: int) -> str:
    """`[1, 2]`, or what else the state may be."""
    states = sorted(map(worker.describe_state, worker.session.states[number]))
    return " or ".join(states) if len(states) <= _STATES_NAMED else f"one of {len(states)} states"


def _count(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number} {what}s"


def _direct_precedences(items: Sequence[Item]) -> list[tuple[int, int]]:
    """Pairs of which the first was over before the second began, without those that follow from two others."""
    count = range(len(items))
    pairs = {(a, b) for a in count for b in count if a != b and precedes(items[a], items[b])}
    return sorted(p for p in pairs if not any((p[0], c) in pairs and (c, p[1]) in pairs for c in count))
