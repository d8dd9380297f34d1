"""Why answers of a counter, or of fetch-and-increment, contradict each other."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from ._values import F
from ._why import Scene, Why
from ._words import capital, count

__all__ = ["COUNTER", "FETCH_AND_INCREMENT"]

# ------------------------------------------------------------------------------------------------ counter


def _reads(scene: Scene) -> list[int]:
    return [i for i, item in enumerate(scene.judged) if item.f is F.READ]


def _increments(scene: Scene) -> list[int]:
    return [i for i, item in enumerate(scene.judged) if item.f is F.INCREMENT]


def _amount(scene: Scene, of: Sequence[int], more: int = 0) -> str:
    """`4 increments`, or `increments of 12 in all`. `more` were left out of what is shown."""
    amounts = [scene.judged[i].value for i in of]
    if all(amount == 1 for amount in amounts):
        number = len(of) + more
        return count(number, "increment") if number else "no increment"
    return f"increments of {sum(amounts) + more} in all"


def _bounds(scene: Scene) -> Why | None:
    """A read found more than had been added when it ended, or less than had been when it began."""
    for i in _reads(scene) if scene.anchor is None else ():
        read = scene.judged[i]
        before = [j for j in _increments(scene) if scene.precedes(j, i)]
        possible = [j for j in _increments(scene) if not scene.precedes(i, j) and j not in before]
        sure = sum(scene.judged[j].value for j in before) + scene.base
        most = sure + sum(max(0, scene.judged[j].value) for j in possible)
        least = sure + sum(min(0, scene.judged[j].value) for j in possible)
        if read.value + scene.base > most:
            up = [j for j in (*before, *possible) if scene.judged[j].value > 0 or j in before]
            amount = _amount(scene, up, scene.base)
            had = f"{amount if amount.startswith('no ') else f'no more than {amount}'} had begun when it ended"
            against = None
        elif read.value + scene.base < least:
            had = f"{_amount(scene, before, scene.base)} had been acknowledged before it began"
            if any(scene.judged[j].value < 0 for j in possible):
                had += f" and no more than {least - sure} can have come to it since"
            if scene.base:
                had = f"at least {_amount(scene, before, scene.base)} must have happened before it began"
            if not before and not scene.base and least == 0:
                had = "a counter starts at 0"
            against = before[-1] if before else None
        else:
            continue
        joined = "but" if read.value + scene.base > most else "although"
        return Why(
            reason=capital(f"{scene.label(i)} {scene.found(i)}, {joined} {had}."),
            reasons=(capital(f"{had}."), capital(f"{scene.label(i)} {scene.found(i)}.")),
            impossible=i,
            against=against,
        )
    return None


def _two_reads(scene: Scene) -> Why | None:
    """What a later read found, held against what an earlier one found and the increments between them."""
    if any(scene.judged[j].value < 0 for j in _increments(scene)):
        return None
    for i, j in itertools.permutations(_reads(scene), 2):
        if not scene.precedes(i, j):
            continue
        between = [k for k in _increments(scene) if scene.precedes(i, k) and scene.precedes(k, j)]
        possible = [k for k in _increments(scene) if not scene.precedes(k, i) and not scene.precedes(j, k)]
        found = scene.judged[j].value - scene.judged[i].value
        first = f"{scene.label(i)} {scene.answered(i)} before {scene.label(j)} began"
        if found < sum(scene.judged[k].value for k in between):
            if between:
                first += f", and {_amount(scene, between)} began and ended between them"
            last = f"yet {scene.again(j)} {scene.found(j)}"
            if not between:
                last += ": a counter never goes back"
        elif found > sum(scene.judged[k].value for k in possible):
            had = f"at most {_amount(scene, possible)}" if possible else "no increment"
            last = f"yet {scene.again(j)} {scene.found(j)}, although {had} can have happened in between"
        else:
            continue
        return Why(
            reason=capital(f"{first}, {last}."),
            reasons=(capital(f"{first}."), capital(f"{scene.label(j)} {scene.found(j)}.")),
            impossible=j,
            against=i,
        )
    return None


# ------------------------------------------------------------------------------------------------ fetch-and-increment


def _answered(scene: Scene) -> list[int]:
    return [i for i, item in enumerate(scene.judged) if not item.optional]


def _same_number(scene: Scene) -> Why | None:
    """Two increments were answered with the same number."""
    made = [i for i in _answered(scene) if scene.judged[i].f is F.INCREMENT]
    for i, j in itertools.combinations(made, 2):
        if scene.judged[i].value == scene.judged[j].value:
            number = scene.items[i].value
            return Why(
                reason=capital(f"both {scene.label(i)} and {scene.label(j)} were answered with {number}."),
                reasons=(
                    capital(f"{scene.label(i)} was answered with {number}."),
                    capital(f"{scene.label(j)} was answered with {number}."),
                    "Each increment makes another number.",
                ),
                impossible=j,
                against=i,
            )
    return None


def _backwards(scene: Scene) -> Why | None:
    """A number was seen before one that is smaller was made, or seen."""
    for i, j in itertools.permutations(_answered(scene), 2):
        first, second = scene.judged[i], scene.judged[j]
        makes = second.f is F.INCREMENT  # the number was not there before
        if not scene.precedes(i, j) or first.value + makes <= second.value or first.value == second.value - makes:
            continue
        than = "which is not larger" if first.value == second.value else "which is smaller"
        return Why(
            reason=capital(
                f"{scene.label(i)} {scene.answered(i)} before {scene.label(j)} began, yet {scene.again(j)} "
                f"{scene.found(j)}, {than}."
            ),
            reasons=(
                capital(f"{scene.label(i)} {scene.answered(i)} before {scene.label(j)} began."),
                capital(f"{scene.label(j)} {scene.found(j)}: the number had been passed by then."),
            ),
            impossible=j,
            against=i,
        )
    return None


def _too_early(scene: Scene) -> Why | None:
    """A number was seen when fewer increments had begun."""
    for i in _answered(scene):
        item = scene.judged[i]
        own = item.f is F.INCREMENT
        begun = [j for j in _increments(scene) if j != i and not scene.precedes(i, j)]
        left_out = scene.items[i].value - item.value  # smaller numbers, which do not matter here
        if item.value - own <= len(begun) and item.value >= own:
            continue
        others = "other increment" if own else "increment"
        number = len(begun) + left_out
        had = f"{f'no more than {count(number, others)}' if number else f'no {others}'} had begun when it ended"
        if item.value < own:
            had = "the first number is 1" if own else "it starts at 0"
        return Why(
            reason=capital(f"{scene.label(i)} {scene.found(i)}, but {had}."),
            reasons=(capital(f"{scene.label(i)} {scene.found(i)}."), capital(f"{had}.")),
            impossible=i,
        )
    return None


COUNTER = (_bounds, _two_reads)
FETCH_AND_INCREMENT = (_same_number, _backwards, _too_early)
