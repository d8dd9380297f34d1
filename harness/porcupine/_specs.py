"""Every model as a sequential specification: in which state an answer is possible, and what state follows.

Written in plain Python from the words of `_values.py`, a second time beside the native one (`native/internal/spec`)
and without a look at it, so that a mistake would have to be made twice to go unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from ._values import ABSENT, NO_VERSION, OPEN_NS, F, Model

__all__ = ["FUNCTIONS", "OBSERVERS", "Item", "Lock", "State", "StateOf", "apply", "initial_state"]

_REGISTER = frozenset((F.READ, F.WRITE, F.DELETE))
_CAS_REGISTER = _REGISTER | {F.CAS, F.UNEQUAL}

FUNCTIONS: Final[Mapping[Model, frozenset[F]]] = {
    Model.REGISTER: _REGISTER,
    Model.CAS_REGISTER: _CAS_REGISTER,
    Model.KEY_VALUE: _CAS_REGISTER,
    Model.SET: frozenset((F.ADD, F.CONTAINS, F.READ_ALL)),
    Model.QUEUE: frozenset((F.ENQUEUE, F.DEQUEUE)),
    Model.COUNTER: frozenset((F.INCREMENT, F.READ)),
    Model.FETCH_AND_INCREMENT: frozenset((F.INCREMENT, F.READ)),
    Model.MUTEX: frozenset((F.ACQUIRE, F.RELEASE, F.HELD)),
    Model.LIST_APPEND: frozenset((F.APPEND, F.READ_ALL)),
    Model.BANK: frozenset((F.TRANSFER, F.READ_ALL)),
}
"""Functions that each model has."""

OBSERVERS: Final = frozenset((F.READ, F.UNEQUAL, F.CONTAINS, F.READ_ALL, F.HELD))
"""Functions that never change anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One operation, with the meanings of `F`.

    `weakened`: less counts than was answered. Of a compare-and-set only the value it wrote does; anything else that
    changes something may have happened or not, at any time from its start on, as if it had never been answered.
    """

    f: F
    process: int
    value: int
    expected: int
    version: int
    start_ns: int
    end_ns: int
    unknown: bool
    weakened: bool = False
    items: tuple[int, ...] | None = None

    @property
    def written(self) -> int | None:
        """Value that it leaves in a register, `ABSENT` for a delete; None when it changes none."""
        if self.f is F.DELETE:
            return ABSENT
        return self.value if self.f in (F.WRITE, F.CAS) else None

    @property
    def needed(self) -> int | None:
        """Value that had to be in a register; None when any would do."""
        if self.f is F.READ:
            return self.value
        return self.expected if self.f is F.CAS and not self.weakened else None

    @property
    def optional(self) -> bool:
        """It may have happened or not, at any time from its start on, and its answer does not count."""
        return self.unknown or (self.weakened and self.f is not F.CAS and self.f not in OBSERVERS)


class State(NamedTuple):
    """State of a register: its value; its version lies in low … high (both inclusive)."""

    value: int
    low: int
    high: int


class Lock(NamedTuple):
    """State of a mutex: who holds it, and what the next fencing token must be larger than."""

    holder: int | None
    token: int


StateOf: TypeAlias = Any
"""State of whatever model: hashable, and equal when nothing can tell two of them apart."""

_NO_LIMIT = OPEN_NS

_EMPTY: Final[Mapping[Model, StateOf]] = {
    Model.REGISTER: State(ABSENT, 0, 0),
    Model.CAS_REGISTER: State(ABSENT, 0, 0),
    Model.KEY_VALUE: State(ABSENT, 0, 0),
    Model.SET: frozenset(),
    Model.QUEUE: (),
    Model.COUNTER: 0,
    Model.FETCH_AND_INCREMENT: 0,
    Model.MUTEX: Lock(None, ABSENT),
    Model.LIST_APPEND: (),
}


def initial_state(model: Model, initial: Mapping[int, int] | None = None) -> StateOf:
    """State at the start. `initial` is the balance of every account, for the bank only."""
    return tuple(sorted((initial or {}).items())) if model is Model.BANK else _EMPTY[model]


def apply(state: StateOf, item: Item, model: Model) -> list[StateOf]:
    """Every state that may follow when `item` takes effect now; none when its answer is impossible then.

    An optional operation has no answer that could be impossible, but may find what keeps it from taking effect (a
    compare-and-set of another value, a release by who does not hold the lock): none then, too. Raises KeyError for a
    function that the model has not (`FUNCTIONS`).
    """
    return _STEPS[model, item.f](state, item)


# ------------------------------------------------------------------------------------------------ registers


def _register(state: State, item: Item) -> list[State]:
    if item.f is F.UNEQUAL:
        return [state] if item.unknown or state.value != item.expected else []
    if item.f is F.READ and item.unknown:
        return [state]
    if item.needed is not None and state.value != item.needed:
        return []
    return [state if item.written is None else state._replace(value=item.written)]


def _key_value(state: State, item: Item) -> list[State]:
    if not _register(state, item):
        return []
    told = None if item.optional or item.version == NO_VERSION else item.version
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


# ------------------------------------------------------------------------------------------------ collections


def _add(state: frozenset[int], item: Item) -> list[frozenset[int]]:
    return [state | {item.value}]


def _contains(state: frozenset[int], item: Item) -> list[frozenset[int]]:
    return [state] if item.unknown or (item.value in state) == bool(item.expected) else []


def _members(state: frozenset[int], item: Item) -> list[frozenset[int]]:
    return [state] if item.unknown or state == frozenset(item.items or ()) else []


def _put_last(state: tuple[int, ...], item: Item) -> list[tuple[int, ...]]:
    return [(*state, item.value)]


def _take_first(state: tuple[int, ...], item: Item) -> list[tuple[int, ...]]:
    if item.optional:
        return [state[1:]]
    found = state[0] if state else ABSENT
    return [state[1:]] if item.value == found else []


def _elements(state: tuple[int, ...], item: Item) -> list[tuple[int, ...]]:
    return [state] if item.unknown or state == (item.items or ()) else []


# ------------------------------------------------------------------------------------------------ numbers


def _count(state: int, item: Item) -> list[int]:
    return [state + item.value]


def _number(state: int, item: Item) -> list[int]:
    return [state + 1] if item.optional or item.value == state + 1 else []


def _read_number(state: int, item: Item) -> list[int]:
    return [state] if item.unknown or item.value == state else []


# ------------------------------------------------------------------------------------------------ mutex


def _acquire(state: Lock, item: Item) -> list[Lock]:
    if state.holder is not None:
        return []
    if item.optional or item.value == ABSENT:
        return [Lock(item.process, state.token + 1)]  # its token is one that nobody was told
    return [Lock(item.process, item.value)] if item.value > state.token else []


def _release(state: Lock, item: Item) -> list[Lock]:
    return [state._replace(holder=None)] if state.holder == item.process else []


def _held(state: Lock, item: Item) -> list[Lock]:
    return [state] if item.unknown or state.holder is not None else []


# ------------------------------------------------------------------------------------------------ bank

_Balances: TypeAlias = tuple[tuple[int, int], ...]


def _transfer(state: _Balances, item: Item) -> list[_Balances]:
    balances = dict(state)
    source, target = item.expected, item.version
    if source not in balances or target not in balances:
        return []
    balances[source] -= item.value
    balances[target] += item.value
    return [tuple(sorted(balances.items()))] if min(balances.values()) >= 0 else []


def _balances(state: _Balances, item: Item) -> list[_Balances]:
    told = item.items or ()
    pairs = sorted(zip(told[::2], told[1::2], strict=False))
    exact = len(told) % 2 == 0 and tuple(pairs) == state
    return [state] if item.unknown or exact else []


_STEPS: Final[Mapping[tuple[Model, F], Callable[[Any, Item], list[StateOf]]]] = {
    **{(Model.REGISTER, f): _register for f in FUNCTIONS[Model.REGISTER]},
    **{(Model.CAS_REGISTER, f): _register for f in FUNCTIONS[Model.CAS_REGISTER]},
    **{(Model.KEY_VALUE, f): _key_value for f in FUNCTIONS[Model.KEY_VALUE]},
    (Model.SET, F.ADD): _add,
    (Model.SET, F.CONTAINS): _contains,
    (Model.SET, F.READ_ALL): _members,
    (Model.QUEUE, F.ENQUEUE): _put_last,
    (Model.QUEUE, F.DEQUEUE): _take_first,
    (Model.COUNTER, F.INCREMENT): _count,
    (Model.COUNTER, F.READ): _read_number,
    (Model.FETCH_AND_INCREMENT, F.INCREMENT): _number,
    (Model.FETCH_AND_INCREMENT, F.READ): _read_number,
    (Model.MUTEX, F.ACQUIRE): _acquire,
    (Model.MUTEX, F.RELEASE): _release,
    (Model.MUTEX, F.HELD): _held,
    (Model.LIST_APPEND, F.APPEND): _put_last,
    (Model.LIST_APPEND, F.READ_ALL): _elements,
    (Model.BANK, F.TRANSFER): _transfer,
    (Model.BANK, F.READ_ALL): _balances,
}
