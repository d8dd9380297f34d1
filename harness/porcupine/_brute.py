"""Linearizability of a handful of operations by trying every order: the judge of the engines' counterexamples.

Written without a look at the engines' algorithms (Wing & Gong's search, with what was placed and the state reached
remembered), and usable for about ten operations only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ._values import ABSENT, NO_VERSION, OPEN_NS, F, Model

__all__ = ["Item", "State", "apply", "legal", "orders", "precedes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One operation. `weakened` marks a compare-and-set of which only the written value is looked at."""

    f: F
    process: int
    value: int
    expected: int
    version: int
    start_ns: int
    end_ns: int
    unknown: bool
    weakened: bool = False

    @property
    def written(self) -> int | None:
        """Value that it leaves behind, `ABSENT` for a delete; None for a read."""
        if self.f is F.READ:
            return None
        return ABSENT if self.f is F.DELETE else self.value

    @property
    def needed(self) -> int | None:
        """Value that had to be there; None when any would do."""
        if self.f is F.READ:
            return self.value
        return self.expected if self.f is F.CAS and not self.weakened else None


class State(NamedTuple):
    """Value of the key; its version lies in low … high (both inclusive)."""

    value: int
    low: int
    high: int


_START = State(ABSENT, 0, 0)
_NO_LIMIT = OPEN_NS


def precedes(a: Item, b: Item) -> bool:
    """Whether `a` was over before `b` began; intervals are closed, so touching ones are concurrent."""
    return not a.unknown and a.end_ns < b.start_ns


def apply(state: State, item: Item, model: Model) -> list[State]:
    """Every state that may follow when `item` takes effect now; none when its answer is impossible then."""
    if item.needed is not None and state.value != item.needed:
        return []
    if model is not Model.KEY_VALUE:
        return [state if item.written is None else state._replace(value=item.written)]
    told = None if item.unknown or item.version == NO_VERSION else item.version
    kept = _narrow(state, told)
    if item.written is None:
        return [kept] if kept is not None else []
    changed = _narrow(State(item.written, state.low + 1, _NO_LIMIT), told)
    idle = kept if item.f is F.DELETE and state.value == ABSENT else None
    return [after for after in (idle, changed) if after is not None]


def _narrow(state: State, version: int | None) -> State | None:
    if version is None:
        return state
    return State(state.value, version, version) if state.low <= version <= state.high else None


def legal(items: Sequence[Item], model: Model) -> bool:
    """Whether some order explains every answer. Unknown operations may be left out of it."""
    before = [sum(1 << j for j, other in enumerate(items) if precedes(other, item)) for item in items]
    required = sum(1 << i for i, item in enumerate(items) if not item.unknown)
    seen: set[tuple[int, State]] = set()
    waiting = [(0, _START)]
    while waiting:
        placed, state = waiting.pop()
        if placed & required == required:
            return True
        if (placed, state) in seen:
            continue
        seen.add((placed, state))
        for i, item in enumerate(items):
            if placed >> i & 1 or before[i] & ~placed or (item.unknown and item.f is F.READ):
                continue
            waiting.extend((placed | 1 << i, after) for after in apply(state, item, model))
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
