"""What must go along when an operation is left out of a history, written a second time, without a look at `shrink`.

A step is allowed when no legal history can become illegal by it. Where that is not obvious, more goes along here than
there: what is left is then legal more often, so the tests ask for a little less than what the native program does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from aftershock.harness.porcupine import ABSENT, OPEN_NS, F, Model
from aftershock.harness.porcupine._brute import Item
from aftershock.harness.porcupine._specs import OBSERVERS

__all__ = ["without"]

Items = list[Item]


def without(items: Sequence[Item], i: int, model: Model) -> Items | None:
    """The others, None where operation `i` may only help and so cannot be left out by itself."""
    if items[i].f in OBSERVERS and model is not Model.FETCH_AND_INCREMENT:
        return [*items[:i], *items[i + 1 :]]
    return _WITHOUT[model](list(items), i)


def _keep(items: Items, wanted: Callable[[int], bool]) -> Items:
    return [one for n, one in enumerate(items) if wanted(n)]


def _from_register(items: Items, i: int) -> Items:
    gone = {i}
    while True:
        removed = {items[j].written for j in gone} - {None}
        more = {j for j, other in enumerate(items) if other.needed in removed} | gone
        if more == gone:
            break
        gone = more
    first_ns = min(items[j].start_ns for j in gone)
    doubtful = {j for j, one in enumerate(items) if one.f is F.UNEQUAL and one.end_ns >= first_ns}
    return _keep(items, lambda n: n not in gone | doubtful)


def _from_set(items: Items, i: int) -> Items:
    element = items[i].value
    others = [one for n, one in enumerate(items) if n != i and one.f is F.ADD and one.value == element]
    seen = any(element in (one.items or ()) for one in items)
    seen |= any(one.f is F.CONTAINS and one.value == element and one.expected for one in items)
    if not seen or any(one.start_ns <= items[i].start_ns for one in others):
        return _keep(items, lambda n: n != i)
    return _without_element(items, element)


def _without_element(items: Items, element: int) -> Items:
    left = [one for one in items if one.f is F.READ_ALL or one.value != element]
    return [
        replace(one, items=tuple(e for e in one.items if e != element)) if one.items is not None else one
        for one in left
    ]


def _from_queue(items: Items, i: int) -> Items | None:
    if items[i].f is F.DEQUEUE and items[i].optional:
        return None
    if items[i].value == ABSENT:
        return _keep(items, lambda n: n != i)
    return [one for one in items if (one.f is F.DEQUEUE and one.optional) or one.value != items[i].value]


def _opened(items: Items, i: int) -> Items | None:
    if items[i].optional:
        return None
    return [replace(one, unknown=True, end_ns=OPEN_NS) if n == i else one for n, one in enumerate(items)]


def _from_numbers(items: Items, i: int) -> Items | None:
    """Everything with a larger number has one less. Who made a number that nobody was told stays."""
    if items[i].optional:
        return None
    if items[i].f is F.READ:
        return _keep(items, lambda n: n != i)
    number = items[i].value

    def less(one: Item) -> Item:
        follows = one.value >= number if one.f is F.READ else one.value > number
        return replace(one, value=one.value - 1) if follows and not one.optional else one

    return [less(one) for n, one in enumerate(items) if n != i]


def _from_mutex(items: Items, i: int) -> Items:
    """All that the process did, and everybody who may have found the lock taken because of it."""
    gone = [n for n, one in enumerate(items) if one.process == items[i].process and one.f is not F.HELD]
    first_ns = min(items[n].start_ns for n in gone)
    doubtful = [n for n, one in enumerate(items) if one.f is F.HELD and one.end_ns >= first_ns]
    return _keep(items, lambda n: n not in {*gone, *doubtful})


_WITHOUT: dict[Model, Callable[[Items, int], Items | None]] = {
    Model.REGISTER: _from_register,
    Model.CAS_REGISTER: _from_register,
    Model.KEY_VALUE: _from_register,
    Model.SET: _from_set,
    Model.LIST_APPEND: lambda items, i: _without_element(items, items[i].value),
    Model.QUEUE: _from_queue,
    Model.COUNTER: _opened,
    Model.FETCH_AND_INCREMENT: _from_numbers,
    Model.MUTEX: _from_mutex,
    Model.BANK: _opened,
}
