"""Why answers of a set, a list or a queue contradict each other."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from ._values import ABSENT, F
from ._why import Scene, Why
from ._words import capital

__all__ = ["LIST", "QUEUE", "SET"]

_PUTS = (F.ADD, F.APPEND, F.ENQUEUE)
_PUT = {F.ADD: "added", F.APPEND: "appended", F.ENQUEUE: "enqueued"}


def _puts(scene: Scene, element: int) -> list[int]:
    return [i for i, item in enumerate(scene.judged) if item.f in _PUTS and item.value == element]


def _verb(scene: Scene) -> str:
    return {"set": "added", "list-append": "appended"}.get(scene.model, "enqueued")


def _seen(scene: Scene, i: int) -> tuple[int, ...]:
    """Elements that an answer says were there."""
    item = scene.judged[i]
    if item.f is F.READ_ALL:
        return item.items or ()
    there = (item.f is F.CONTAINS and item.expected) or (item.f is F.DEQUEUE and not item.optional)
    return (item.value,) if there and item.value != ABSENT else ()


def _missed(scene: Scene, i: int, element: int) -> bool:
    """Whether an answer says that an element was not there."""
    item = scene.judged[i]
    if item.f is F.READ_ALL:
        return element not in (item.items or ())
    return item.f is F.CONTAINS and not item.expected and item.value == element


def _from_nowhere(scene: Scene) -> Why | None:
    """An answer holds what nobody had put there, or not yet."""
    for i in range(len(scene.judged)):
        for element in _seen(scene, i):
            by = _puts(scene, element)
            if not all(scene.precedes(i, put) for put in by):
                continue
            shown, verb = scene.words.value(element), _verb(scene)
            found = f"{scene.label(i)} {scene.found(i)}"
            if not by:
                reason = f"{found}, but nobody had {verb} {shown}."
                return Why(
                    reason=capital(reason),
                    reasons=(capital(f"{found}."), f"No operation that can have {verb} {shown} had begun."),
                    impossible=i,
                )
            first = min(by, key=lambda put: scene.judged[put].start_ns)
            return Why(
                reason=capital(f"{found} and ended before {scene.label(first)} began, yet nobody else {verb} {shown}."),
                reasons=(
                    capital(f"{found}."),
                    capital(f"it ended before {scene.label(first)} began."),
                    f"Nobody else {verb} {shown}.",
                ),
                impossible=i,
                against=first,
            )
    return None


def _lost(scene: Scene) -> Why | None:
    """What had been put there, or seen there, was not there any more."""
    for i in range(len(scene.judged)):
        for j in range(len(scene.judged)):
            if not scene.precedes(j, i):
                continue
            item = scene.judged[j]
            there = (item.value,) if item.f in _PUTS else _seen(scene, j)
            lost = [element for element in there if _missed(scene, i, element)]
            if not lost:
                continue
            element = scene.words.value(lost[0])
            how = "was acknowledged" if item.f in _PUTS else f"{scene.found(j)} and ended"
            but = f"{scene.again(i)} did not find {element}"
            return Why(
                reason=capital(f"{scene.label(j)} {how} before {scene.label(i)} began, yet {but}."),
                reasons=(
                    capital(f"{scene.label(j)} {how}, so {element} was there from then on: nothing ever goes."),
                    capital(f"{scene.label(i)} began after that."),
                    capital(f"it {scene.found(i)}."),
                ),
                impossible=i,
                against=j,
            )
    return None


def _apart(scene: Scene) -> Why | None:
    """Two whole reads of which neither can have come first."""
    reads = [i for i, item in enumerate(scene.judged) if item.f is F.READ_ALL]
    for i, j in itertools.combinations(reads, 2):
        first, second = scene.judged[i].items or (), scene.judged[j].items or ()
        if scene.model == "set":
            grows = set(first) <= set(second) or set(second) <= set(first)
            rule = "A set only grows, so of two reads one finds all that the other finds"
        else:
            grows = first[: len(second)] == second or second[: len(first)] == first
            rule = "A list only grows at its end, so of two reads one finds how the other begins"
        if not grows:
            both = f"{scene.label(i)} {scene.found(i)}, and {scene.label(j)} {scene.found(j)}"
            return Why(
                reason=capital(f"{both}: neither can have come before the other."),
                reasons=(
                    f"{rule}.",
                    capital(f"{scene.label(i)} {scene.found(i)}."),
                    capital(f"{scene.label(j)} {scene.found(j)}."),
                ),
                impossible=j,
                against=i,
            )
    return None


def _twice(scene: Scene) -> Why | None:
    """A list holds an element more often than it was appended, or two dequeues took one element."""
    for i in range(len(scene.judged)):
        for element in _seen(scene, i):
            takers = [j for j, item in enumerate(scene.judged) if item.f is F.DEQUEUE and element in _seen(scene, j)]
            found = max(_seen(scene, i).count(element), len(takers))
            put = len(_puts(scene, element))
            if found <= put or not put:
                continue
            shown, often = scene.words.value(element), "once" if put == 1 else f"{put} times"
            if len(takers) > 1:
                both = " and ".join(scene.label(j) for j in takers[:2])
                reason = f"both {both} took {shown}, which was enqueued {often}."
                against = takers[0]
                impossible = takers[1]
            else:
                reason = f"{scene.label(i)} {scene.found(i)}, but {shown} was {_verb(scene)} only {often}."
                impossible, against = i, _puts(scene, element)[0]
            return Why(reason=capital(reason), reasons=(capital(reason),), impossible=impossible, against=against)
    return None


def _list_order(scene: Scene) -> Why | None:
    """A read has two elements the other way round than they were appended."""
    for i in range(len(scene.judged)):
        seen = _seen(scene, i)
        for b, a in itertools.combinations(seen, 2):
            pairs = list(itertools.product(_puts(scene, a), _puts(scene, b)))
            if scene.model != "list-append" or not pairs or not all(scene.precedes(x, y) for x, y in pairs):
                continue
            x, y = pairs[0]
            first, second = scene.words.value(a), scene.words.value(b)
            return Why(
                reason=capital(
                    f"{scene.label(x)} was acknowledged before {scene.label(y)} began, yet {scene.label(i)} "
                    f"found {second} before {first}."
                ),
                reasons=(
                    capital(f"{scene.label(x)} was acknowledged before {scene.label(y)} began: {first} comes first."),
                    capital(f"{scene.label(i)} {scene.found(i)}."),
                ),
                impossible=i,
                against=x,
            )
    return None


# ------------------------------------------------------------------------------------------------ queue


def _taken(scene: Scene, element: int) -> list[int]:
    return [i for i, item in enumerate(scene.judged) if item.f is F.DEQUEUE and element in _seen(scene, i)]


def _pairs(scene: Scene) -> Iterator[tuple[int, int, int, int | None]]:
    """Enqueues of which one was over before the other began, who took the later and who took the earlier element."""
    once = [i for i, item in enumerate(scene.judged) if item.f is F.ENQUEUE and len(_puts(scene, item.value)) == 1]
    helped = any(item.f is F.DEQUEUE and item.optional for item in scene.judged)
    for a, b in itertools.permutations(once, 2):
        late, early = _taken(scene, scene.judged[b].value), _taken(scene, scene.judged[a].value)
        if scene.precedes(a, b) and late and (early or not helped):
            yield a, b, late[0], early[0] if early else None


def _overtaken(scene: Scene) -> Why | None:
    """First in, not first out."""
    for a, b, late, early in _pairs(scene):
        first, second = scene.words.value(scene.judged[a].value), scene.words.value(scene.judged[b].value)
        if early is not None and not scene.precedes(late, early):
            continue
        but = f"nobody has taken {first}"
        if early is not None:
            but = f"{second} was dequeued before {first} came out"
        tail = f"yet {but}" if early is not None else f"yet {second} was dequeued, and {but}"
        out = f"{scene.label(early)} began only after that." if early is not None else capital(f"{but}.")
        return Why(
            reason=f"Element {first} was enqueued before {second}, {tail}.",
            reasons=(
                capital(f"{scene.label(a)} was acknowledged before {scene.label(b)} began."),
                capital(f"{scene.label(late)} {scene.found(late)} and ended."),
                capital(out),
            ),
            impossible=late,
            against=a if early is None else early,
        )
    return None


def _not_empty(scene: Scene) -> Why | None:
    """The queue was found empty while an element was in it all the time."""
    if any(item.f is F.DEQUEUE and item.optional for item in scene.judged):
        return None
    for i, item in enumerate(scene.judged):
        if item.f is not F.DEQUEUE or item.optional or item.value != ABSENT:
            continue
        for a, put in enumerate(scene.judged):
            taken = _taken(scene, put.value)
            if put.f is not F.ENQUEUE or not scene.precedes(a, i) or len(_puts(scene, put.value)) > 1:
                continue
            if not all(scene.precedes(i, t) for t in taken):
                continue
            value = scene.words.value(put.value)
            after = f"{scene.label(taken[0])} took {value} only later" if taken else f"nobody took {value}"
            return Why(
                reason=capital(
                    f"{scene.label(a)} was acknowledged before {scene.label(i)} began, and {after}, yet "
                    f"{scene.again(i)} found the queue empty."
                ),
                reasons=(
                    capital(f"{scene.label(a)} was acknowledged before {scene.label(i)} began."),
                    capital(f"{after}."),
                    capital(f"{scene.label(i)} found the queue empty."),
                ),
                impossible=i,
                against=a,
            )
    return None


SET = (_from_nowhere, _lost, _apart)
LIST = (_from_nowhere, _twice, _lost, _list_order, _apart)
QUEUE = (_from_nowhere, _twice, _overtaken, _not_empty)
