"""Why answers of a mutex contradict each other."""

from __future__ import annotations

import itertools
from typing import NamedTuple

from ._values import ABSENT, F
from ._why import Scene, Why
from ._words import capital

__all__ = ["MUTEX"]


class _Section(NamedTuple):
    """An acquisition and the release by the same process that followed it."""

    acquire: int
    release: int | None


def _sections(scene: Scene) -> list[_Section]:
    """Those that certainly happened: acknowledged, or released later."""
    found = []
    for i, item in enumerate(scene.judged):
        if item.f is not F.ACQUIRE:
            continue
        later = [
            j
            for j, other in enumerate(scene.judged)
            if other.process == item.process
            and j != i
            and other.f is not F.HELD
            and (other.start_ns, j) > (item.start_ns, i)
        ]
        after = later[0] if later else None
        release = after if after is not None and scene.judged[after].f is F.RELEASE else None
        if not item.optional:
            found.append(_Section(i, release))
    return found


def _held_at_once(scene: Scene) -> Why | None:
    """Two sections, each of which was entered before the other can have been left."""
    for a, b in itertools.permutations(_sections(scene), 2):
        if not _entered_before_left(scene, a, b) or not _entered_before_left(scene, b, a):
            continue
        one, other = scene.judged[a.acquire], scene.judged[b.acquire]
        if one.process == other.process:
            continue
        inside = scene.precedes(a.acquire, b.acquire)
        if inside:
            reason = (
                f"the lock was acquired by process {other.process} while process {one.process} held it"
                + _token(scene, b.acquire)
                + "."
            )
        elif scene.precedes(b.acquire, a.acquire):
            continue  # the other way round says more
        else:
            reason = f"processes {one.process} and {other.process} held the lock at the same time."
        return Why(
            reason=capital(reason),
            reasons=(
                capital(f"{scene.label(a.acquire)} ended {_before_left(scene, b)}."),
                capital(f"{scene.label(b.acquire)} ended {_before_left(scene, a)}."),
                "So each had the lock before the other can have given it back.",
            ),
            impossible=b.acquire,
            against=a.acquire,
        )
    return None


def _token(scene: Scene, i: int) -> str:
    value = scene.judged[i].value
    return "" if value == ABSENT else f", and was given token {value}"


def _entered_before_left(scene: Scene, a: _Section, b: _Section) -> bool:
    return b.release is None or scene.precedes(a.acquire, b.release)


def _before_left(scene: Scene, section: _Section) -> str:
    process = scene.judged[section.acquire].process
    if section.release is None:
        return f"and process {process} has never released the lock"
    return f"before {scene.label(section.release)} began"


def _not_held(scene: Scene) -> Why | None:
    """A release by a process that had not acquired."""
    for i, item in enumerate(scene.judged):
        if item.f is not F.RELEASE or item.optional:
            continue
        own = [j for j, other in enumerate(scene.judged) if other.f is F.ACQUIRE and other.process == item.process]
        if any(not scene.precedes(i, j) for j in own):
            continue
        return Why(
            reason=f"The release by process {item.process} was acknowledged, but process {item.process} cannot have "
            "held the lock then.",
            reasons=(f"No acquisition by process {item.process} had begun when its release ended.",),
            impossible=i,
            against=own[0] if own else None,
        )
    return None


def _released_twice(scene: Scene) -> Why | None:
    """More releases by a process than acquisitions."""
    releases = [i for i, item in enumerate(scene.judged) if item.f is F.RELEASE and not item.optional]
    for i in reversed(releases):
        process = scene.judged[i].process
        own = [j for j in releases if scene.judged[j].process == process]
        acquired = [j for j, one in enumerate(scene.judged) if one.f is F.ACQUIRE and one.process == process]
        if len(own) <= len(acquired):
            continue
        more = f"Process {process} released the lock {len(own)} times, but cannot have acquired it more than "
        more += "once" if len(acquired) == 1 else f"{len(acquired)} times"
        steps = [capital(f"{scene.label(j)} was acknowledged.") for j in own]
        return Why(reason=f"{more}.", reasons=(*steps, f"{more}."), impossible=i, against=own[0])
    return None


def _nobody_there(scene: Scene) -> Why | None:
    """The lock was found taken, and nobody can have had it."""
    for i, item in enumerate(scene.judged):
        if item.f is not F.HELD:
            continue
        holders = []
        for j, other in enumerate(scene.judged):
            if other.f is F.ACQUIRE and not scene.precedes(i, j):
                released = [
                    k
                    for k, one in enumerate(scene.judged)
                    if one.f is F.RELEASE
                    and one.process == other.process
                    and scene.precedes(j, k)
                    and scene.precedes(k, i)
                ]
                holders += [] if released else [j]
        if holders:
            continue
        return Why(
            reason=capital(f"{scene.label(i)} found the lock taken, but nobody can have held it then."),
            reasons=(
                capital(f"{scene.label(i)} found the lock taken."),
                "Whoever had acquired it had released it before that, and nobody else had begun to acquire it.",
            ),
            impossible=i,
        )
    return None


def _token_not_larger(scene: Scene) -> Why | None:
    """A fencing token that is not larger than one that was given before."""
    told = [s for s in _sections(scene) if scene.judged[s.acquire].value != ABSENT]
    for a, b in itertools.permutations(told, 2):
        first, second = scene.judged[a.acquire], scene.judged[b.acquire]
        if first.value < second.value or (first.value == second.value and a.acquire > b.acquire):
            continue
        same = first.value == second.value
        earlier = scene.precedes(a.acquire, b.acquire) or (
            b.release is not None and scene.precedes(a.acquire, b.release) and first.process != second.process
        )
        if not same and not earlier:
            continue
        than = "the same again" if same else f"smaller than the {first.value} that"
        tail = f", {than}" if same else f", {than} process {first.process} had been given before"
        return Why(
            reason=capital(f"{scene.label(b.acquire)} was given token {second.value}{tail}."),
            reasons=(
                capital(f"{scene.label(a.acquire)} was given token {first.value}."),
                capital(f"{scene.label(b.acquire)} was given token {second.value}."),
                "Each acquisition gets a larger token than those before it.",
            ),
            impossible=b.acquire,
            against=a.acquire,
        )
    return None


def _acquired_twice(scene: Scene) -> Why | None:
    """A process acquired what it held."""
    for i, j in itertools.permutations(range(len(scene.judged)), 2):
        first, second = scene.judged[i], scene.judged[j]
        if not (first.f is second.f is F.ACQUIRE) or first.process != second.process or not scene.precedes(i, j):
            continue
        between = [
            k
            for k, one in enumerate(scene.judged)
            if one.f is F.RELEASE
            and one.process == first.process
            and not scene.precedes(k, i)
            and not scene.precedes(j, k)
        ]
        if between or first.optional:
            continue
        return Why(
            reason=f"Process {first.process} acquired the lock, and acquired it again without having released it.",
            reasons=(
                f"Process {first.process} acquired the lock.",
                f"Process {first.process} acquired it again after that; no release by it can have come in between.",
            ),
            impossible=j,
            against=i,
        )
    return None


MUTEX = (_held_at_once, _token_not_larger, _not_held, _released_twice, _nobody_there, _acquired_twice)
