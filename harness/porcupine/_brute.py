"""Linearizability of a handful of operations by trying every order: the judge of the engines' counterexamples.

Written without a look at the engines' algorithms (Wing & Gong's search, with what was placed and the state reached
remembered), and usable for about ten operations only. `_specs.py` has the models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from ._specs import OBSERVERS, Item, State, StateOf, apply, initial_state
from ._values import Model

__all__ = ["Item", "State", "apply", "initial_state", "legal", "orders", "precedes", "some_order"]


def precedes(a: Item, b: Item) -> bool:
    """Whether `a` was over before `b` began; intervals are closed, so touching ones are concurrent."""
    return not a.optional and a.end_ns < b.start_ns


def legal(items: Sequence[Item], model: Model, *, initial: Mapping[int, int] | None = None) -> bool:
    """Whether some order explains every answer. Unknown operations may be left out of it.

    `initial` is the balance of every account, for the bank only. Raises KeyError for a function the model has not.
    """
    matters = [item for item in items if not (item.unknown and item.f in OBSERVERS)]
    before = [sum(1 << j for j, other in enumerate(matters) if precedes(other, item)) for item in matters]
    required = sum(1 << i for i, item in enumerate(matters) if not item.optional)
    start = initial_state(model, initial)
    return some_order(before, required, start, lambda state, i: apply(state, matters[i], model))


def some_order(
    before: Sequence[int], required: int, start: StateOf, follow: Callable[[StateOf, int], Iterable[StateOf]]
) -> bool:
    """Whether all `required` operations can take effect one after another; others may, too.

    Sets of operations are the bits of a number. `before[i]` come before the i-th, and `follow(state, i)` are the states
    that it may leave behind.
    """
    first: tuple[int, StateOf] = (0, start)
    seen: set[tuple[int, StateOf]] = {first}
    waiting: list[tuple[int, StateOf]] = [first]
    while waiting:
        placed, state = waiting.pop()
        if placed & required == required:
            return True
        for i, its_before in enumerate(before):
            if placed >> i & 1 or its_before & ~placed:
                continue
            for after in follow(state, i):
                reached = (placed | 1 << i, after)
                if reached not in seen:
                    seen.add(reached)
                    waiting.append(reached)
    return False


def orders(items: Sequence[Item]) -> Iterator[tuple[int, ...]]:
    """Every order of all items that their times allow."""
    before = [{j for j, other in enumerate(items) if precedes(other, item)} for item in items]

    def extend(prefix: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if len(prefix) == len(items):
            yield prefix
        for i in range(len(items)):
            if i not in prefix and before[i] <= set(prefix):
                yield from extend((*prefix, i))

    return extend(())
