"""Says why a minimal set of operations cannot be: one sentence, steps, edges, and every order with what rules it out.

Works from the operations alone, so it explains what any engine found. The steps rest on this: a value that is written
once is in place for one stretch of time, so of two values one comes first; a contradiction is a proof of "x before
y" and one of "y before x".
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ._brute import Item, State, apply, legal, orders, precedes
from ._values import ABSENT, NO_VERSION, Counterexample, Edge, F, Model, Order

__all__ = ["REJUDGED_AT_MOST", "explain"]

_ORDERS_SHOWN = 6
REJUDGED_AT_MOST = 10
_EXPLAINED_AT_MOST = 40  # more are left only when time ran out; the work grows with their third power


@dataclass(frozen=True, slots=True, kw_only=True)
class _Why:
    reason: str
    reasons: tuple[str, ...]
    impossible: int
    against: int | None = None  # the operation that `impossible` contradicts


def explain(
    items: Sequence[Item], *, rows: Sequence[int], model: Model, minimal: bool, complete: bool = True
) -> Counterexample:
    """Describe operations that an engine found illegal; `items` are sorted by start.

    `complete`: every operation of the key that writes a value which one of them needed is among them. Only then does
    it say anything about the whole history that they are illegal.
    """
    if len(items) > _EXPLAINED_AT_MOST:
        return _unexplained(items, rows)
    why = (
        _unwritten(items)
        or _before_its_write(items)
        or _replaced_twice(items)
        or _out_of_turn(items)
        or _version_out_of_turn(items, model)
    )
    few = _few_orders(items)
    shown = tuple(_ruled_out(items, order, model) for order in few)
    why = why or _no_order(items, shown)
    return Counterexample(
        rows=tuple(rows),
        roles=tuple(_role(items, i, why) for i in range(len(items))),
        notes=tuple(_note(item) for item in items),
        reason=why.reason,
        reasons=why.reasons,
        edges=tuple(_edges(items, why)),
        orders=shown,
        precedences=tuple(_precedences(items)),
        rejudged=complete and len(items) <= REJUDGED_AT_MOST and not legal(items, model),
        minimal=minimal,
    )


def _unexplained(items: Sequence[Item], rows: Sequence[int]) -> Counterexample:
    return Counterexample(
        rows=tuple(rows),
        roles=tuple("read" if item.written is None else "write" for item in items),
        notes=tuple(map(_note, items)),
        reason=f"No order explains the answers of these {len(items)} operations; time ran out before it was known "
        "which of them matter.",
        reasons=(),
        edges=(),
        orders=(),
        precedences=(),
        rejudged=False,
        minimal=False,
    )


# ------------------------------------------------------------------------------------------------ words


def _what(value: int) -> str:
    return "nothing" if value == ABSENT else str(value)


def _label(item: Item) -> str:
    """`the write of 7 by process 3`: the operation without its answer."""
    if item.f is F.READ:
        call = "read"
    elif item.f is F.WRITE:
        call = f"write of {item.value}"
    elif item.f is F.DELETE:
        call = "delete"
    elif item.expected == ABSENT:
        call = f"insert of {item.value}"
    else:
        call = f"compare-and-set from {item.expected} to {item.value}"
    return f"the {call} by process {item.process}"


def _answered(item: Item) -> str:
    """What ended the operation."""
    return f"ended with {_what(item.value)}" if item.f is F.READ else "was acknowledged"


def _found(item: Item) -> str:
    """What its answer says was there."""
    if item.f is F.READ:
        return "found the key absent" if item.value == ABSENT else f"found {item.value}"
    if item.needed == ABSENT:
        return "succeeded, as if the key were absent"
    return f"succeeded, as if {item.needed} were still there" if item.needed is not None else "was acknowledged"


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


# ------------------------------------------------------------------------------------------------ reasons


def _writers(items: Sequence[Item], value: int) -> list[int]:
    return [i for i, item in enumerate(items) if item.written == value]


def _observers(items: Sequence[Item], value: int) -> list[int]:
    return [i for i, item in enumerate(items) if item.needed == value]


def _unwritten(items: Sequence[Item]) -> _Why | None:
    """Somebody saw a value that nobody wrote."""
    for i, item in enumerate(items):
        if item.needed not in (None, ABSENT) and not _writers(items, item.needed or 0):
            nobody = f"no write of {item.needed} to this key can have happened"
            return _Why(
                reason=_capital(f"{_label(item)} {_found(item)}, but {nobody}."),
                reasons=(_capital(f"{_label(item)} {_found(item)}."), _capital(f"{nobody}.")),
                impossible=i,
            )
    return None


def _before_its_write(items: Sequence[Item]) -> _Why | None:
    """Somebody saw a value before anybody began to write it."""
    for i, item in enumerate(items):
        writers = [] if item.needed in (None, ABSENT) else _writers(items, item.needed or 0)
        if writers and all(precedes(item, items[w]) for w in writers):
            first = min(writers, key=lambda w: items[w].start_ns)
            return _Why(
                reason=_capital(
                    f"{_label(item)} {f'found {item.value} and ' if item.f is F.READ else ''}ended before "
                    f"{_label(items[first])} began, yet nobody else wrote {item.needed}."
                ),
                reasons=(
                    _capital(f"{_label(item)} {_found(item)}."),
                    _capital(f"it ended before {_label(items[first])} began."),
                    f"Nobody else wrote {item.needed}.",
                ),
                impossible=i,
                against=first,
            )
    return None


def _replaced_twice(items: Sequence[Item]) -> _Why | None:
    """Two compare-and-sets succeeded from one occurrence of a value."""
    for i, j in itertools.combinations(range(len(items)), 2):
        a, b = items[i], items[j]
        if not (a.f is b.f is F.CAS) or a.needed is None or a.needed != b.needed:
            continue
        if not _took_effect(items, a) or not _took_effect(items, b):
            continue
        sources = len(_writers(items, a.needed)) + (a.needed == ABSENT)
        if sources != 1:
            continue
        once = "the key was absent only once: nobody deleted it" if a.needed == ABSENT else f"{a.needed} was there once"
        return _Why(
            reason=_capital(f"both {_label(a)} and {_label(b)} took effect, but {once}."),
            reasons=(
                _capital(f"{_label(a)} {_effect(a)}."),
                _capital(f"{_label(b)} {_effect(b)}."),
                _capital(f"{once}, so only one of them can have replaced it."),
            ),
            impossible=j,
            against=i,
        )
    return None


def _took_effect(items: Sequence[Item], item: Item) -> bool:
    return not item.unknown or (item.written is not None and bool(_observers(items, item.written)))


def _effect(item: Item) -> str:
    return "was never answered, but what it wrote was seen" if item.unknown else "was acknowledged"


def _out_of_turn(items: Sequence[Item]) -> _Why | None:
    """A value was seen although another one had taken its place for good: stale, lost or resurrected."""
    values = [ABSENT, *sorted({item.written for item in items if item.written is not None} - {ABSENT})]
    if any(len(_writers(items, value)) > (value != ABSENT) for value in values):
        return None  # a value that comes back has no one stretch of time
    # The latest impossible answer reads best: it is the one that somebody would complain about.
    found = [
        (items[after].start_ns, earlier, why, over, after)
        for earlier, later in itertools.permutations(values, 2)
        if (why := _comes_first(items, earlier, later)) is not None
        for over, after in _over_before(items, later, earlier)
        if items[after].needed == earlier
    ]
    if not found:
        return None
    _, earlier, why, over, after = max(found, key=lambda entry: (entry[0], -entry[3]))
    first, second = items[over], items[after]
    return _Why(
        reason=_capital(
            f"{_label(first)} {_answered(first)} before {_label(second)} began, yet {_again(second)} "
            f"{_found(second)}" + ("." if earlier == ABSENT else ", which was older.")
        ),
        reasons=(
            why,
            _capital(f"{_label(first)} {_answered(first)} before {_label(second)} began, so the older state was gone."),
            _capital(f"{_label(second)} {_found(second)} all the same."),
        ),
        impossible=after,
        against=over,
    )


def _again(item: Item) -> str:
    if item.f is F.CAS:
        return "that insert" if item.expected == ABSENT else "that compare-and-set"
    return {F.READ: "that read", F.WRITE: "that write", F.DELETE: "that delete"}[item.f]


def _on(items: Sequence[Item], value: int) -> list[int]:
    """Operations that happened while `value` was in place, its write and its replacement included."""
    return [i for i, item in enumerate(items) if value in (item.written, item.needed)]


def _over_before(items: Sequence[Item], x: int, y: int) -> Iterator[tuple[int, int]]:
    """Pairs: an operation on `x` that was over before one on `y` began."""
    for a, b in itertools.product(_on(items, x), _on(items, y)):
        if precedes(items[a], items[b]) and _took_effect(items, items[b]):
            yield a, b


def _comes_first(items: Sequence[Item], x: int, y: int) -> str | None:
    """A sentence that proves that `x` was in place before `y` was, or None."""
    if x == ABSENT:
        return "The key was absent at first, and nobody deleted it: once written, it is never absent again."
    if y == ABSENT:
        return None
    for item in items:
        if item.f is F.CAS and item.needed == x and item.written == y:
            return _capital(f"{_label(item)} put {y} in the place of {x}: {x} came before {y}.")
    pairs = list(_over_before(items, x, y))
    if not pairs:
        return None
    a, b = pairs[0]
    return _capital(f"{_label(items[a])} {_answered(items[a])} before {_label(items[b])} began: {x} came before {y}.")


def _version_out_of_turn(items: Sequence[Item], model: Model) -> _Why | None:
    """An answer told a smaller version than one that was known before the operation began."""
    told = [i for i, item in enumerate(items) if not item.unknown and item.version != NO_VERSION]
    if model is not Model.KEY_VALUE:
        return None
    for a, b in itertools.permutations(told, 2):
        first, second = items[a], items[b]
        if precedes(first, second) and first.version > second.version:
            return _Why(
                reason=_capital(
                    f"{_label(first)} was answered with version {first.version} before {_label(second)} began, yet "
                    f"{_again(second)} was answered with the older version {second.version}."
                ),
                reasons=(
                    "Each change of a key makes a larger version.",
                    _capital(f"{_label(first)} was answered with version {first.version}."),
                    _capital(f"{_label(second)} began after that and was answered with version {second.version}."),
                ),
                impossible=b,
                against=a,
            )
    return None


def _no_order(items: Sequence[Item], shown: Sequence[Order]) -> _Why:
    """Nothing simpler to say than how each order fails."""
    ways = list(dict.fromkeys(order.why.removesuffix(".") for order in shown))
    count = len(shown)
    if not shown:
        reason = f"No order that their times allow gives each of these {len(items)} operations the answer that it got."
    elif len(items) == 1:
        reason = _capital(f"{ways[0]}.")
    elif count == 1:
        reason = f"The times allow only one order of these {len(items)} operations, and in it {ways[0]}."
    elif len(ways) == 1:
        reason = f"In each of the {count} orders that the times allow, {ways[0]}."
    else:
        others = "in the other" if count == 2 else "in others"
        reason = (
            f"None of the {count} orders that the times allow explains all answers: in one, {ways[0]}; {others}, "
            f"{ways[1]}."
        )
    steps = ways or [
        *(f"{_label(item)} {_found(item)}" for item in items if item.needed is not None),
        *_precedences(items),
    ]
    observers = [i for i, item in enumerate(items) if item.needed is not None] or list(range(len(items)))
    blamed = [order.ruled_out_by for order in shown] or observers[-1:]
    return _Why(
        reason=reason,
        reasons=tuple(_capital(f"{step}.") for step in steps),
        impossible=max(set(blamed), key=lambda i: (blamed.count(i), i)),
    )


# ------------------------------------------------------------------------------------------------ orders, edges, roles


def _few_orders(items: Sequence[Item]) -> list[tuple[int, ...]]:
    found = list(itertools.islice(orders(items), _ORDERS_SHOWN + 1))
    return found if len(found) <= _ORDERS_SHOWN else []


def _ruled_out(items: Sequence[Item], order: tuple[int, ...], model: Model) -> Order:
    """Replay an order until an answer does not fit."""
    states = [State(ABSENT, 0, 0)]
    for i in order:
        following = [after for state in states for after in apply(state, items[i], model)]
        if not following:
            there = {state.value for state in states}
            now = "the key was absent" if there == {ABSENT} else f"{' or '.join(map(_what, sorted(there)))} was there"
            wrong = items[i].needed is not None and items[i].needed not in there
            why = f"{_label(items[i])} {_found(items[i])}, but {now}"
            if not wrong:
                lowest = min(state.low for state in states)
                exact = all(state.low == state.high == lowest for state in states)
                why = (
                    f"{_label(items[i])} was answered with version {items[i].version}, but the key was at version "
                    f"{lowest}{'' if exact else ' or above'}{'' if items[i].written is None else ' already'}"
                )
            return Order(order=order, ruled_out_by=i, why=f"{why}.")
        states = following
    return Order(order=order, ruled_out_by=order[-1], why="nothing rules this order out; please report this.")


def _direct_precedences(items: Sequence[Item]) -> list[tuple[int, int]]:
    """Pairs of which the first was over before the second began, without those that follow from two others."""
    count = range(len(items))
    pairs = {(a, b) for a in count for b in count if a != b and precedes(items[a], items[b])}
    return sorted(p for p in pairs if not any((p[0], c) in pairs and (c, p[1]) in pairs for c in count))


def _precedences(items: Sequence[Item]) -> list[str]:
    return [f"{_label(items[a])} ended before {_label(items[b])} began" for a, b in _direct_precedences(items)]


def _edges(items: Sequence[Item], why: _Why) -> Iterator[Edge]:
    for target, item in enumerate(items):
        writers = [] if item.needed is None else _writers(items, item.needed)
        if len(writers) == 1 and not (target == why.impossible and why.against == writers[0]):
            yield Edge(source=writers[0], target=target, kind="seen")
    if why.against is not None:
        yield Edge(source=why.against, target=why.impossible, kind="contradicts")


def _role(items: Sequence[Item], i: int, why: _Why) -> str:
    if i == why.impossible:
        return "impossible"
    if items[i].written is None:
        return "read"
    if i == why.against and not items[i].unknown and items[why.impossible].f is F.READ:
        stale = items[why.impossible].needed != items[i].written
        return "lost" if stale else "write"
    return "write"


def _note(item: Item) -> str:
    if item.weakened and item.unknown:
        return "never answered, but what it wrote was seen; what it replaced does not matter here"
    if item.weakened:
        return "what it replaced does not matter here"
    if item.unknown:
        return "never answered, but what it wrote was seen"
    return ""
