"""From what the native program says of a violation to a counterexample that was judged again and says why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ._explain import REJUDGED_AT_MOST, Reduced, explain
from ._specs import Item
from ._values import ABSENT, NO_VERSION, OPEN_NS, Counterexample, F, Model, Operations

__all__ = ["Found", "as_operations", "item", "read_counterexample"]

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A counterexample, and the operations as they are to be judged by themselves."""

    counterexample: Counterexample
    reduced: Reduced

    @property
    def small(self) -> bool:
        """Whether brute force judged it."""
        return len(self.counterexample.rows) <= REJUDGED_AT_MOST


def item(operations: Operations, row: int, *, weakened: bool = False, model: Model = Model.CAS_REGISTER) -> Item:
    """One row as an object, the way the brute-force search wants it."""
    f = F(int(operations.f[row]))
    value, expected = int(operations.value[row]), int(operations.expected[row])
    if f is F.CAS and value == expected and model is not Model.KEY_VALUE:
        f = F.READ  # it replaced a value by itself: an observation, unless that makes a version
    return Item(
        f=f,
        process=int(operations.process[row]),
        value=ABSENT if f is F.DELETE else value,
        expected=expected,
        version=int(operations.version[row]),
        start_ns=int(operations.start_ns[row]),
        end_ns=int(operations.end_ns[row]),
        unknown=bool(operations.unknown[row]),
        weakened=weakened,
        items=operations.list_of(row),
    )


def read_counterexample(
    given: Mapping[str, Any],
    operations: Operations,
    of_key: Rows,
    *,
    model: Model,
    initial: Mapping[int, int],
    words: Callable[[int], str],
) -> Found:
    """Explain what the program found. `of_key` are all rows of the key. Raises ValueError, KeyError or TypeError."""
    rows = [int(row) for row in given["rows"]]
    if not rows or not np.isin(rows, of_key).all():
        raise ValueError(f"a counterexample has rows {rows[:8]}, not all of them of its key")
    weakened = set(given["weakened"])
    items = [item(operations, row, weakened=row in weakened, model=model) for row in rows]
    items = [_within(one, given.get("elements"), model) for one in items]
    reduced = _reduced(given, rows, items, model=model, initial=initial)
    found = explain(
        items,
        rows=rows,
        model=model,
        minimal=bool(given["minimal"]),
        complete=not _missing(operations, of_key, rows, reduced.judged, model),
        reduced=reduced,
        words=words,
    )
    return Found(counterexample=found, reduced=reduced)


def _within(one: Item, elements: Sequence[int] | None, model: Model) -> Item:
    """A whole read with the elements that matter only."""
    if one.items is None or model is Model.BANK:
        return one
    wanted = set(elements or ())
    return replace(one, items=tuple(element for element in one.items if element in wanted))


def _reduced(
    given: Mapping[str, Any], rows: Sequence[int], items: Sequence[Item], *, model: Model, initial: Mapping[int, int]
) -> Reduced:
    """Do to the operations what the program says that it did."""
    opened = set(given.get("opened") or ())
    base = int(given.get("base") or 0)
    numbers: Sequence[int] = given.get("numbers") or ()
    pairs: Sequence[int] = given.get("merged") or ()
    merged: dict[int, int] = dict(zip(pairs[::2], pairs[1::2], strict=True))
    while any(of in merged for of in merged.values()):
        merged = {account: merged.get(of, of) for account, of in merged.items()}
    judged = []
    for n, (row, one) in enumerate(zip(rows, items, strict=True)):
        as_judged = one
        if row in opened:
            as_judged = replace(as_judged, unknown=True, end_ns=OPEN_NS)
        if one.f is F.READ and model is Model.COUNTER:
            as_judged = replace(as_judged, value=one.value - base)
        if model is Model.FETCH_AND_INCREMENT and not as_judged.unknown:
            as_judged = replace(as_judged, value=int(numbers[n]))
        if one.f is F.TRANSFER:
            source, target = merged.get(one.expected, one.expected), merged.get(one.version, one.version)
            as_judged = replace(as_judged, expected=source, version=target)
        if model is Model.BANK and one.items is not None and merged:
            as_judged = replace(as_judged, items=_flat(_summed(one.items, merged)))
        judged.append(as_judged)
    anchor = None if given.get("anchor") is None else rows.index(given["anchor"])
    if model is not Model.BANK:
        return Reduced(judged=judged, base=base, anchor=anchor)
    start = _flat(initial) if anchor is None else items[anchor].items or ()
    return Reduced(judged=judged, initial=_summed(start, merged), merged=merged, anchor=anchor)


def _flat(balances: Mapping[int, int]) -> tuple[int, ...]:
    return tuple(number for pair in balances.items() for number in pair)


def _summed(pairs: Sequence[int], merged: Mapping[int, int]) -> dict[int, int]:
    sums: dict[int, int] = {}
    for account, balance in zip(pairs[::2], pairs[1::2], strict=True):
        of = merged.get(account, account)
        sums[of] = sums.get(of, 0) + balance
    return sums


# ------------------------------------------------------------------------------------------------ completeness


def _missing(operations: Operations, of_key: Rows, rows: Sequence[int], judged: Sequence[Item], model: Model) -> bool:
    """Whether an operation is not among `rows` without which they say nothing about the whole history.

    Whatever began when everything here was over cannot be one.
    """
    last_ns = max((one.end_ns for one in judged if not one.optional), default=-OPEN_NS)
    begun = of_key[operations.start_ns[of_key] <= last_ns]
    match model:
        case Model.REGISTER | Model.CAS_REGISTER | Model.KEY_VALUE:
            wanted = _writers(operations, begun, judged, model)
        case Model.SET:
            return _adds_missing(operations, begun, rows, judged)
        case Model.LIST_APPEND | Model.QUEUE:
            elements = [one.value for one in judged if one.f in (F.APPEND, F.ENQUEUE, F.DEQUEUE) and not one.optional]
            elements += [element for one in judged for element in one.items or ()]
            known = ~(operations.unknown[begun] & (operations.f[begun] == F.DEQUEUE))
            on = np.isin(operations.value[begun], [e for e in elements if e != ABSENT])
            wanted = begun[on & known & (operations.f[begun] != F.READ_ALL)]
        case _:
            return False
    return not set(wanted.tolist()).issubset(rows)


def _writers(operations: Operations, begun: Rows, judged: Sequence[Item], model: Model) -> Rows:
    """Rows that write a value that one of the operations needed."""
    f = operations.f[begun]
    needed = [one.needed for one in judged if one.needed is not None]
    written = np.where(f == F.DELETE, ABSENT, operations.value[begun])
    writes = np.isin(f, (F.WRITE, F.CAS, F.DELETE)) & np.isin(written, needed)
    if model is not Model.KEY_VALUE:
        # A compare-and-set of a value with itself is a read and so writes nothing; `item` knows.
        writes &= (f != F.CAS) | (operations.value[begun] != operations.expected[begun])
    return begun[writes]


def _adds_missing(operations: Operations, begun: Rows, rows: Sequence[int], judged: Sequence[Item]) -> bool:
    """Whether an element that was found could have been added earlier than by any add among `rows`."""
    adds = begun[operations.f[begun] == F.ADD]
    seen = {element for one in judged for element in one.items or ()}
    seen |= {one.value for one in judged if one.f is F.CONTAINS and one.expected}
    for element in seen:
        of = adds[operations.value[adds] == element]
        here = of[np.isin(of, rows)]
        first = operations.start_ns[of].min(initial=OPEN_NS)
        if operations.start_ns[here].min(initial=OPEN_NS) > first:
            return True
    return False


# ------------------------------------------------------------------------------------------------ for a second engine


def as_operations(judged: Sequence[Item]) -> Operations:
    """The operations by themselves, as a history of key 0 that an engine can judge."""
    listed = [one.items for one in judged]
    counts = [-1 if items is None else len(items) for items in listed]
    ends = np.cumsum([max(0, number) for number in counts])

    def column(values: Sequence[int]) -> Rows:
        return np.array(values, dtype=np.int64)

    return Operations(
        key=np.zeros(len(judged), dtype=np.int64),
        process=column([one.process for one in judged]),
        f=column([F.WRITE if one.f is F.CAS and one.weakened else one.f for one in judged]),
        value=column([one.value for one in judged]),
        expected=column([one.expected for one in judged]),
        version=column([NO_VERSION if one.optional and one.f is not F.TRANSFER else one.version for one in judged]),
        start_ns=column([one.start_ns for one in judged]),
        end_ns=column([one.end_ns for one in judged]),
        unknown=np.array([one.optional for one in judged], dtype=np.bool_),
        items=column([element for items in listed for element in items or ()]),
        items_first=ends - np.maximum(counts, 0),
        items_count=column(counts),
    )
