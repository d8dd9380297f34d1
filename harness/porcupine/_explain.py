"""Says why a minimal set of operations cannot be: one sentence, steps, edges, and every order with what rules it out.

Works from the operations alone, so it explains what any engine found. Each family of models has explainers, tried in
order, each for one kind of contradiction; where none fits, it is said how each order fails.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from . import _explain_bank, _explain_collections, _explain_locks, _explain_numbers, _explain_registers
from ._brute import apply, initial_state, legal, orders, precedes
from ._specs import OBSERVERS, Item, StateOf
from ._values import ABSENT, Counterexample, Edge, F, Model, Order
from ._why import Explainer, Scene, Why
from ._words import REGISTERS, Words, capital, default_words

__all__ = ["REJUDGED_AT_MOST", "Reduced", "explain"]

_ORDERS_SHOWN = 6
REJUDGED_AT_MOST = 10
_EXPLAINED_AT_MOST = 40  # more are left only when time ran out; the work grows with their third power

_EXPLAINERS: Final[Mapping[Model, Sequence[Explainer]]] = {
    **dict.fromkeys(REGISTERS, _explain_registers.EXPLAINERS),
    Model.SET: _explain_collections.SET,
    Model.LIST_APPEND: _explain_collections.LIST,
    Model.QUEUE: _explain_collections.QUEUE,
    Model.COUNTER: _explain_numbers.COUNTER,
    Model.FETCH_AND_INCREMENT: _explain_numbers.FETCH_AND_INCREMENT,
    Model.MUTEX: _explain_locks.MUTEX,
    Model.BANK: _explain_bank.BANK,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduced:
    """What was done to a few operations so that they stand for the whole history (package shrink says why they do).

    `judged` are the operations with that done to them. `base`: increments of a counter that were left out and are in
    every read. `initial` and `merged`: a bank's balances at first, and with which account each other one was counted.
    `anchor`: position of a read of a counter or bank that told the state from which on the others are judged.
    """

    judged: Sequence[Item]
    base: int = 0
    initial: Mapping[int, int] | None = None
    merged: Mapping[int, int] | None = None
    anchor: int | None = None


def explain(
    items: Sequence[Item],
    *,
    rows: Sequence[int],
    model: Model,
    minimal: bool,
    complete: bool = True,
    reduced: Reduced | None = None,
    words: Callable[[int], str] = default_words,
) -> Counterexample:
    """Describe operations that an engine found illegal; `items` are as they were answered, sorted by start.

    `complete`: every operation of the key that must be among them, so that they say anything about the whole history,
    is (whoever writes a value that one of them needed). `words` shows what was written, added, put in or read.
    """
    reduced = reduced or Reduced(judged=items)
    scene = Scene(
        items=items,
        judged=reduced.judged,
        model=model,
        words=Words(model=model, value=words),
        base=reduced.base,
        initial=reduced.initial,
        merged=reduced.merged,
        anchor=reduced.anchor,
    )
    if len(items) > _EXPLAINED_AT_MOST:
        return _unexplained(scene, rows)
    why = next(filter(None, (explainer(scene) for explainer in _EXPLAINERS[model])), None)
    shown = tuple(_ruled_out(scene, order) for order in _few_orders(scene.judged))
    why = why or _no_order(scene, shown)
    rejudged = len(items) <= REJUDGED_AT_MOST and not legal(scene.judged, model, initial=scene.initial)
    return Counterexample(
        rows=tuple(rows),
        roles=tuple(_role(scene, i, why) for i in range(len(items))),
        notes=tuple(_note(scene, i) for i in range(len(items))),
        reason=why.reason,
        reasons=why.reasons,
        edges=tuple(_edges(scene, why)),
        orders=shown,
        precedences=tuple(_precedences(scene)),
        rejudged=complete and rejudged,
        minimal=minimal,
    )


def _unexplained(scene: Scene, rows: Sequence[int]) -> Counterexample:
    return Counterexample(
        rows=tuple(rows),
        roles=tuple("read" if item.f in OBSERVERS else "write" for item in scene.items),
        notes=tuple(_note(scene, i) for i in range(len(scene.items))),
        reason=f"No order explains the answers of these {len(scene.items)} operations; time ran out before it was "
        "known which of them matter.",
        reasons=(),
        edges=(),
        orders=(),
        precedences=(),
        rejudged=False,
        minimal=False,
    )


def _no_order(scene: Scene, shown: Sequence[Order]) -> Why:
    """Nothing simpler to say than how each order fails."""
    ways = list(dict.fromkeys(order.why.removesuffix(".") for order in shown))
    number = len(scene.items)
    if not shown:
        reason = f"No order that their times allow gives each of these {number} operations the answer that it got."
    elif number == 1:
        reason = capital(f"{ways[0]}.")
    elif len(shown) == 1:
        reason = f"The times allow only one order of these {number} operations, and in it {ways[0]}."
    elif len(ways) == 1:
        reason = f"In each of the {len(shown)} orders that the times allow, {ways[0]}."
    else:
        others = "in the other" if len(shown) == 2 else "in others"
        reason = (
            f"None of the {len(shown)} orders that the times allow explains all answers: in one, {ways[0]}; {others}, "
            f"{ways[1]}."
        )
    answers = [i for i, item in enumerate(scene.judged) if not item.optional and _says_something(item, scene.model)]
    told = answers or range(number)
    steps = ways or [*(f"{scene.label(i)} {scene.found(i)}" for i in told), *_precedences(scene)]
    blamed = [order.ruled_out_by for order in shown] or answers[-1:] or [number - 1]
    return Why(
        reason=reason,
        reasons=tuple(capital(f"{step}.") for step in steps),
        impossible=max(set(blamed), key=lambda i: (blamed.count(i), i)),
    )


def _says_something(item: Item, model: Model) -> bool:
    told = (F.DEQUEUE, F.ACQUIRE, F.RELEASE, *((F.INCREMENT,) if model is Model.FETCH_AND_INCREMENT else ()))
    return item.needed is not None or item.f in OBSERVERS or item.f in told


# ------------------------------------------------------------------------------------------------ orders, edges, roles


def _few_orders(items: Sequence[Item]) -> list[tuple[int, ...]]:
    found = list(itertools.islice(orders(items), _ORDERS_SHOWN + 1))
    return found if len(found) <= _ORDERS_SHOWN else []


def _ruled_out(scene: Scene, order: tuple[int, ...]) -> Order:
    """Replay an order until an answer does not fit. What is optional may happen at its place, or not at all."""
    states: list[StateOf] = [initial_state(scene.model, scene.initial)]
    for i in order:
        item = scene.judged[i]
        following = [after for state in states for after in apply(state, item, scene.model)]
        if item.optional and scene.model not in REGISTERS:
            following += states
        if not following:
            return Order(order=order, ruled_out_by=i, why=f"{_misfit(scene, i, states)}.")
        states = list(dict.fromkeys(following))
    return Order(order=order, ruled_out_by=order[-1], why="nothing rules this order out; please report this.")


def _misfit(scene: Scene, i: int, states: Sequence[StateOf]) -> str:
    """Why an answer does not fit any of the states that are possible by then."""
    item, answer = scene.judged[i], f"{scene.label(i)} {scene.found(i)}"
    if scene.model in REGISTERS:
        there = {state.value for state in states}
        wrong = item.needed is not None and item.needed not in there
        if not wrong and (item.f is not F.UNEQUAL or there != {item.expected}):
            return _wrong_version(scene, i, states)
    if scene.model in (Model.COUNTER, Model.FETCH_AND_INCREMENT):
        # Numbers that were left out would have to be counted in, each at its place; the difference says the same.
        states = sorted(state + scene.items[i].value - item.value for state in states)
    ways = sorted({_state(scene, state) for state in states})
    return f"{answer}, but {' or '.join(ways[:3])}"


def _state(scene: Scene, state: StateOf) -> str:
    if scene.model is Model.BANK:
        return f"there was {scene.words.balances([number for pair in state for number in pair], scene.merged)}"
    return scene.words.state(state)


def _wrong_version(scene: Scene, i: int, states: Sequence[StateOf]) -> str:
    lowest = min(state.low for state in states)
    exact = all(state.low == state.high == lowest for state in states)
    version = f"{lowest}{'' if exact else ' or above'}{'' if scene.judged[i].written is None else ' already'}"
    return f"{scene.label(i)} was answered with version {scene.judged[i].version}, but the key was at version {version}"


def _direct_precedences(items: Sequence[Item]) -> list[tuple[int, int]]:
    """Pairs of which the first was over before the second began, without those that follow from two others."""
    count = range(len(items))
    pairs = {(a, b) for a in count for b in count if a != b and precedes(items[a], items[b])}
    return sorted(p for p in pairs if not any((p[0], c) in pairs and (c, p[1]) in pairs for c in count))


def _precedences(scene: Scene) -> list[str]:
    return [f"{scene.label(a)} ended before {scene.label(b)} began" for a, b in _direct_precedences(scene.judged)]


def _edges(scene: Scene, why: Why) -> Iterator[Edge]:
    for target in range(len(scene.judged)):
        sources = list(dict.fromkeys(_sources(scene, target)))
        for source in sources:
            if not (target == why.impossible and why.against == source):
                yield Edge(source=source, target=target, kind="seen")
    if why.against is not None:
        yield Edge(source=why.against, target=why.impossible, kind="contradicts")


def _sources(scene: Scene, target: int) -> Iterator[int]:
    """Operations that an answer shows to have happened, where that is certain."""
    item = scene.judged[target]
    values: tuple[int, ...] = ()
    puts: tuple[F, ...] = (F.ADD, F.ENQUEUE, F.APPEND)
    if scene.model in REGISTERS:
        puts = (F.WRITE, F.CAS, F.DELETE)
        values = () if item.needed is None else (item.needed,)
    elif item.f is F.READ_ALL and scene.model is not Model.BANK:
        values = item.items or ()
    elif (item.f is F.CONTAINS and item.expected) or (item.f is F.DEQUEUE and not item.optional):
        values = (item.value,)
    for value in values:
        by = [
            i
            for i, other in enumerate(scene.judged)
            if other.f in puts and value == (ABSENT if other.f is F.DELETE else other.value)
        ]
        if len(by) == 1 and by[0] != target:
            yield by[0]


def _role(scene: Scene, i: int, why: Why) -> str:
    if i == why.impossible:
        return "impossible"
    item = scene.judged[i]
    if item.f in OBSERVERS:
        return "read"
    blamed = scene.judged[why.impossible]
    if i != why.against or item.optional:
        return "write"
    stale = blamed.f is F.READ and scene.model in REGISTERS and blamed.needed != item.written
    gone = item.f in (F.ADD, F.APPEND) and item.value not in (blamed.items or ()) and blamed.f in OBSERVERS
    gone = gone and not (blamed.f is F.CONTAINS and blamed.expected)
    empty = item.f is F.ENQUEUE and blamed.f is F.DEQUEUE and blamed.value != item.value
    return "lost" if stale or gone or empty else "write"


def _note(scene: Scene, i: int) -> str:
    item, judged = scene.items[i], scene.judged[i]
    notes = ["what had happened before does not matter: it is known from here on"] if i == scene.anchor else []
    if item.unknown and scene.model in REGISTERS:
        notes.append("never answered, but what it wrote was seen")
    elif item.unknown:
        notes.append("never answered: it may have happened or not")
    elif judged.optional:
        notes.append("what it was answered does not matter here: it may have happened or not")
    if judged.weakened and judged.f is F.CAS:
        notes.append("what it replaced does not matter here")
    return "; ".join(notes)
