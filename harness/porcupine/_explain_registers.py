"""Why answers of a register contradict each other.

The steps rest on this: a value that is written once is in place for one stretch of time, so of two values one comes
first; a contradiction is a proof of "x before y" and one of "y before x".
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from ._specs import Item
from ._values import ABSENT, NO_VERSION, F, Model
from ._why import Scene, Why
from ._words import capital

__all__ = ["EXPLAINERS", "observers", "writers"]


def writers(scene: Scene, value: int) -> list[int]:
    """Operations that may have written a value."""
    return [i for i, item in enumerate(scene.judged) if item.written == value]


def observers(scene: Scene, value: int) -> list[int]:
    """Operations that needed a value."""
    return [i for i, item in enumerate(scene.judged) if item.needed == value]


def _unwritten(scene: Scene) -> Why | None:
    """Somebody saw a value that nobody wrote."""
    for i, item in enumerate(scene.judged):
        if item.needed in (None, ABSENT) or not _took_effect(scene, i) or writers(scene, item.needed or 0):
            continue
        nobody = f"no write of {scene.words.value(item.needed or 0)} to this key can have happened"
        return Why(
            reason=capital(f"{scene.label(i)} {scene.found(i)}, but {nobody}."),
            reasons=(capital(f"{scene.label(i)} {scene.found(i)}."), capital(f"{nobody}.")),
            impossible=i,
        )
    return None


def _before_its_write(scene: Scene) -> Why | None:
    """Somebody saw a value before anybody began to write it."""
    for i, item in enumerate(scene.judged):
        by = [] if item.needed in (None, ABSENT) else writers(scene, item.needed or 0)
        if not by or not all(scene.precedes(i, w) for w in by):
            continue
        first = min(by, key=lambda w: scene.judged[w].start_ns)
        value = scene.words.value(item.needed or 0)
        return Why(
            reason=capital(
                f"{scene.label(i)} {f'found {value} and ' if item.f is F.READ else ''}ended before "
                f"{scene.label(first)} began, yet nobody else wrote {value}."
            ),
            reasons=(
                capital(f"{scene.label(i)} {scene.found(i)}."),
                capital(f"it ended before {scene.label(first)} began."),
                f"Nobody else wrote {value}.",
            ),
            impossible=i,
            against=first,
        )
    return None


def _replaced_twice(scene: Scene) -> Why | None:
    """Two compare-and-sets succeeded from one occurrence of a value."""
    for i, j in itertools.combinations(range(len(scene.judged)), 2):
        a, b = scene.judged[i], scene.judged[j]
        if not (a.f is b.f is F.CAS) or a.needed is None or a.needed != b.needed or a.value == a.needed:
            continue
        if b.value == b.needed or not _took_effect(scene, i) or not _took_effect(scene, j):
            continue
        if len(writers(scene, a.needed)) + (a.needed == ABSENT) != 1:
            continue
        value = scene.words.value(a.needed)
        once = f"{value} was there once"
        if a.needed == ABSENT and scene.words.absent:
            once = "the key was absent only once: nobody deleted it"
        elif a.needed == ABSENT:
            once = f"{value} was there only at first"
        return Why(
            reason=capital(f"both {scene.label(i)} and {scene.label(j)} took effect, but {once}."),
            reasons=(
                capital(f"{scene.label(i)} {_effect(a)}."),
                capital(f"{scene.label(j)} {_effect(b)}."),
                capital(f"{once}, so only one of them can have replaced it."),
            ),
            impossible=j,
            against=i,
        )
    return None


def _took_effect(scene: Scene, i: int) -> bool:
    item = scene.judged[i]
    return not item.unknown or (item.written is not None and bool(observers(scene, item.written)))


def _effect(item: Item) -> str:
    return "was never answered, but what it wrote was seen" if item.unknown else "was acknowledged"


def _out_of_turn(scene: Scene) -> Why | None:
    """A value was seen although another one had taken its place for good: stale, lost or resurrected."""
    values = [ABSENT, *sorted({item.written for item in scene.judged if item.written is not None} - {ABSENT})]
    if any(len(writers(scene, value)) > (value != ABSENT) for value in values):
        return None  # a value that comes back has no one stretch of time
    # The latest impossible answer reads best: it is the one that somebody would complain about.
    found = [
        (scene.judged[after].start_ns, earlier, why, over, after)
        for earlier, later in itertools.permutations(values, 2)
        if (why := _comes_first(scene, earlier, later)) is not None
        for over, after in _over_before(scene, later, earlier)
        if scene.judged[after].needed == earlier
    ]
    if not found:
        return None
    _, earlier, why, over, after = max(found, key=lambda entry: (entry[0], -entry[3]))
    return Why(
        reason=capital(
            f"{scene.label(over)} {scene.answered(over)} before {scene.label(after)} began, yet {scene.again(after)} "
            f"{scene.found(after)}" + ("." if earlier == ABSENT else ", which was older.")
        ),
        reasons=(
            why,
            capital(
                f"{scene.label(over)} {scene.answered(over)} before {scene.label(after)} began, so the older "
                "state was gone."
            ),
            capital(f"{scene.label(after)} {scene.found(after)} all the same."),
        ),
        impossible=after,
        against=over,
    )


def _on(scene: Scene, value: int) -> list[int]:
    """Operations that happened while `value` was in place, its write and its replacement included."""
    return [i for i, item in enumerate(scene.judged) if value in (item.written, item.needed)]


def _over_before(scene: Scene, x: int, y: int) -> Iterator[tuple[int, int]]:
    """Pairs: an operation on `x` that was over before one on `y` began."""
    for a, b in itertools.product(_on(scene, x), _on(scene, y)):
        if scene.precedes(a, b) and _took_effect(scene, b):
            yield a, b


def _comes_first(scene: Scene, x: int, y: int) -> str | None:
    """A sentence that proves that `x` was in place before `y` was, or None."""
    value = scene.words.value
    if x == ABSENT and scene.words.absent:
        return "The key was absent at first, and nobody deleted it: once written, it is never absent again."
    if x == ABSENT:
        return f"{value(x)} was there at first, and nobody wrote it later: once replaced, it never comes back."
    if y == ABSENT:
        return None
    for i, item in enumerate(scene.judged):
        if item.f is F.CAS and item.needed == x and item.written == y:
            return capital(
                f"{scene.label(i)} put {value(y)} in the place of {value(x)}: {value(x)} came before {value(y)}."
            )
    pairs = list(_over_before(scene, x, y))
    if not pairs:
        return None
    a, b = pairs[0]
    return capital(
        f"{scene.label(a)} {scene.answered(a)} before {scene.label(b)} began: {value(x)} came before {value(y)}."
    )


def _came_between(scene: Scene) -> Why | None:
    """A value had its turn between two of which a compare-and-set put one directly in the place of the other."""
    for i, link in enumerate(scene.judged):
        if link.f is not F.CAS or link.needed is None or link.value == link.needed or not _took_effect(scene, i):
            continue
        x, y = link.needed, link.value
        if len(writers(scene, y)) != 1 or len(writers(scene, x)) != (x != ABSENT):
            continue
        others = {item.written for item in scene.judged if item.written is not None} - {x, y, ABSENT}
        for z in sorted(others):
            if len(writers(scene, z)) != 1:
                continue
            before = [pair for of in (x, y) for pair in _over_before(scene, of, z)]
            after = [pair for of in (x, y) for pair in _over_before(scene, z, of) if pair[1] != i]
            if not before or not after:
                continue
            (a, b), (c, d) = before[0], after[-1]
            value = scene.words.value
            over = "it" if b == c else scene.label(c)
            return Why(
                reason=capital(
                    f"{scene.label(i)} put {value(y)} directly in the place of {value(x)}, yet {value(z)} was there in "
                    f"between: {scene.label(b)} began after {scene.label(a)} {scene.answered(a)}, and {over} "
                    f"{scene.answered(c)} before {scene.label(d)} began, which {scene.found(d)}."
                ),
                reasons=(
                    capital(f"{scene.label(i)} put {value(y)} in the place of {value(x)}: nothing came in between."),
                    capital(
                        f"{scene.label(a)} {scene.answered(a)} before {scene.label(b)} began, so {value(z)} came "
                        "after the two."
                    ),
                    capital(
                        f"{scene.label(c)} {scene.answered(c)} before {scene.label(d)} began, so {value(z)} came "
                        "before them."
                    ),
                ),
                impossible=d,
                against=c,
            )
    return None


def _never_unequal(scene: Scene) -> Why | None:
    """A compare-and-set did not match, although what it asked for was certainly there."""
    for i, item in enumerate(scene.judged):
        if item.f is not F.UNEQUAL:
            continue
        by = writers(scene, item.expected)
        others = [
            j
            for j, other in enumerate(scene.judged)
            if other.written not in (None, item.expected) and not scene.precedes(i, j)
        ]
        if others or len(by) > 1 or (by and (not scene.precedes(by[0], i) or scene.judged[by[0]].unknown)):
            continue
        value = scene.words.value(item.expected)
        if not by and item.expected != ABSENT:
            continue
        there = f"{value} was there from the first" if not by else f"{scene.label(by[0])} was acknowledged before that"
        if not by and scene.words.absent:
            there = "the key was absent from the first"
        nothing = "nothing else had been written by then"
        return Why(
            reason=capital(f"{scene.label(i)} {scene.found(i)}, although {there} and {nothing}."),
            reasons=(capital(f"{there}."), capital(f"{nothing}."), capital(f"{scene.label(i)} {scene.found(i)}.")),
            impossible=i,
            against=by[0] if by else None,
        )
    return None


def _version_out_of_turn(scene: Scene) -> Why | None:
    """An answer told a smaller version than one that was known before the operation began."""
    if scene.model is not Model.KEY_VALUE:
        return None
    told = [i for i, item in enumerate(scene.judged) if not item.unknown and item.version != NO_VERSION]
    for a, b in itertools.permutations(told, 2):
        first, second = scene.judged[a], scene.judged[b]
        if scene.precedes(a, b) and first.version > second.version:
            return Why(
                reason=capital(
                    f"{scene.label(a)} was answered with version {first.version} before {scene.label(b)} began, yet "
                    f"{scene.again(b)} was answered with the older version {second.version}."
                ),
                reasons=(
                    "Each change of a key makes a larger version.",
                    capital(f"{scene.label(a)} was answered with version {first.version}."),
                    capital(f"{scene.label(b)} began after that and was answered with version {second.version}."),
                ),
                impossible=b,
                against=a,
            )
    return None


EXPLAINERS = (
    _unwritten,
    _before_its_write,
    _replaced_twice,
    _out_of_turn,
    _came_between,
    _never_unequal,
    _version_out_of_turn,
)
