"""Exact search of a few chains for a circle: which guarantees no order of the writes can keep, and why.

Each event of a chain becomes a junction: a node that enters leads to the junction, a junction leads to the next one of
its chain and to the nodes that leave there. An order of the nodes exists exactly if no two nodes lie on one circle
(strongly connected components, Tarjan 1972), and none on one through a junction of `Kind.WRITES_FOLLOW_READS`: a
write comes after what was read before it, and so cannot be that.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from .session_chains import Kind

__all__ = ["GUARANTEES", "Event", "Step", "broken_sets", "smallest_circle"]

GUARANTEES: Final = (
    Kind.READ_YOUR_WRITES,
    Kind.MONOTONIC_READS,
    Kind.MONOTONIC_WRITES,
    Kind.WRITES_FOLLOW_READS,
)
FACTS: Final = frozenset(Kind) - frozenset(GUARANTEES)
_STARTS: Final = 64


class Event(NamedTuple):
    """One event of `Chains`, with plain numbers."""

    kind: int
    chain: int
    node: int
    row: int
    enters: bool
    leaves: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """`source` comes before `target`, because of two operations of a chain (rows; -1 for the initial state)."""

    kind: Kind
    source: int
    target: int
    source_row: int
    target_row: int


def broken_sets(events: Sequence[Event], initial: Collection[int]) -> list[frozenset[Kind]] | None:
    """The smallest sets of guarantees that no order of the writes keeps all at once. None: not even the facts agree.

    `initial` are the nodes that come before all others of their key; events of one key only.
    """
    if not _circles(_Graph(events, FACTS | frozenset(GUARANTEES), initial)):
        return []
    if _circles(_Graph(events, FACTS, initial)):
        return None
    found: list[frozenset[Kind]] = []
    for size in range(1, len(GUARANTEES) + 1):
        for chosen in itertools.combinations(GUARANTEES, size):
            kinds = frozenset(chosen)
            if not any(smaller <= kinds for smaller in found) and _circles(_Graph(events, FACTS | kinds, initial)):
                found.append(kinds)
    return found


def smallest_circle(events: Sequence[Event], kinds: frozenset[Kind], initial: Collection[int]) -> list[Step]:
    """A circle that the facts and these guarantees close, of few operations: without any one of them there is none."""
    steps = _shortest(events, kinds, initial)
    kept = _rows(steps)
    for row in sorted(kept):
        fewer = [event for event in events if event.row in kept - {row}]
        if found := _shortest(fewer, kinds, initial):
            steps, kept = found, _rows(found)
    return steps


def _rows(steps: list[Step]) -> set[int]:
    return {row for step in steps for row in (step.source_row, step.target_row)}


def _shortest(events: Sequence[Event], kinds: frozenset[Kind], initial: Collection[int]) -> list[Step]:
    """A shortest circle through one of the first nodes that lie on any."""
    graph = _Graph(events, FACTS | kinds, initial)
    best: list[Step] = []
    nodes = [node for part in sorted(_circles(graph), key=len) for node in part]
    for start in nodes[:_STARTS]:
        found = _circle_through(graph, start)
        if found and (not best or _length(found) < _length(best)):
            best = found
        if best and len(best) <= 2:
            break  # none is shorter but that of a process that read its own future
    return best


def _length(steps: list[Step]) -> tuple[int, int]:
    return len(steps), len(_rows(steps))


class _Graph:
    """Nodes are 0 … `real` - 1, junctions follow."""

    def __init__(self, events: Sequence[Event], kinds: frozenset[Kind], initial: Collection[int]) -> None:
        self.names = sorted({event.node for event in events})
        number = {name: i for i, name in enumerate(self.names)}
        self.real = len(self.names)
        self.next: list[list[int]] = [[] for _ in self.names]
        # (from, to) -> the operation by which a node enters a junction, or is left to from one
        self.row: dict[tuple[int, int], int] = {}
        self.kind: dict[int, Kind] = {}
        last: dict[int, int] = {}
        for event in events:
            if event.kind not in kinds:
                continue
            node, before = number[event.node], last.get(event.chain)
            if event.leaves and before is not None:
                self._edge(before, node, event.row)
            if event.enters:
                junction = self._junction(Kind(event.kind))
                if before is not None:
                    self.next[before].append(junction)
                self._edge(node, junction, event.row)
                last[event.chain] = junction
        for name in initial:
            if name in number:
                junction = self._junction(Kind.INITIAL)
                self._edge(number[name], junction, -1)
                for node in range(self.real):
                    if node != number[name]:
                        self._edge(junction, node, -1)

    def _junction(self, kind: Kind) -> int:
        self.next.append([])
        self.kind[len(self.next) - 1] = kind
        return len(self.next) - 1

    def _edge(self, source: int, target: int, row: int) -> None:
        if (source, target) not in self.row:
            self.row[source, target] = row
            self.next[source].append(target)


def _circles(graph: _Graph) -> list[list[int]]:
    """Strongly connected components that no order fits, without their junctions."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    placed: set[int] = set()
    found = []
    for root in range(graph.real):
        if root in index:
            continue
        index[root] = low[root] = len(index)
        stack.append(root)
        work = [(root, iter(graph.next[root]))]
        while work:
            at, following = work[-1]
            for to in following:
                if to not in index:
                    index[to] = low[to] = len(index)
                    stack.append(to)
                    work.append((to, iter(graph.next[to])))
                    break
                if to not in placed:
                    low[at] = min(low[at], index[to])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[at])
                if low[at] == index[at]:
                    part: list[int] = []
                    while not part or part[-1] != at:
                        part.append(stack.pop())
                    placed.update(part)
                    nodes = sorted(node for node in part if node < graph.real)
                    strict = any(graph.kind.get(node) is Kind.WRITES_FOLLOW_READS for node in part)
                    if len(nodes) > 1 or (strict and len(part) > 1):
                        found.append(nodes)
    return found


def _circle_through(graph: _Graph, start: int) -> list[Step]:
    """The shortest circle of nodes through `start`, counted in nodes."""
    came = _distances(graph, start)
    closing = _closing(graph, start)
    ends = [node for node in closing if node in came]
    if not ends:
        return []
    end = min(ends, key=lambda node: (came[node][0], node))
    paths = [closing[end]]
    while end != start:
        path = came[end][1]
        paths.insert(0, path)
        end = path[0]
    return [_step(graph, path) for path in paths]


# A node, junctions, a node.
_Path = tuple[int, ...]


def _distances(graph: _Graph, start: int) -> dict[int, tuple[int, _Path]]:
    """Steps from `start` to each other node, and the last step."""
    found: dict[int, tuple[int, _Path]] = {start: (0, ())}
    came_from: dict[int, int] = {}
    waiting = deque([start])
    while waiting:
        node = waiting.popleft()
        inner = [to for to in graph.next[node] if to not in came_from]
        came_from.update(dict.fromkeys(inner, node))
        while inner:
            junction = inner.pop()
            for to in graph.next[junction]:
                if to >= graph.real and to not in came_from:
                    came_from[to] = junction
                    inner.append(to)
                elif to < graph.real and to not in found:
                    found[to] = (found[node][0] + 1, _walked(graph, came_from, junction, to))
                    waiting.append(to)
    return found


def _walked(graph: _Graph, came_from: dict[int, int], junction: int, last: int) -> _Path:
    path = [last, junction]
    while path[-1] >= graph.real:
        path.append(came_from[path[-1]])
    return tuple(reversed(path))


def _closing(graph: _Graph, start: int) -> dict[int, _Path]:
    """Nodes from which one step leads to `start`, with that step."""
    before: dict[int, list[int]] = {}
    for source, targets in enumerate(graph.next):
        for target in targets:
            before.setdefault(target, []).append(source)
    found: dict[int, _Path] = {}
    seen: set[int] = set()
    waiting: deque[tuple[int, _Path]] = deque((junction, (junction, start)) for junction in before.get(start, ()))
    while waiting:
        at, path = waiting.popleft()
        if at in seen:
            continue
        seen.add(at)
        for source in before.get(at, ()):
            if source >= graph.real:
                waiting.append((source, (source, *path)))
            elif source not in found and (source != start or graph.kind[at] is Kind.WRITES_FOLLOW_READS):
                found[source] = (source, *path)
    return found


def _step(graph: _Graph, path: _Path) -> Step:
    return Step(
        kind=graph.kind[path[1]],
        source=graph.names[path[0]],
        target=graph.names[path[-1]],
        source_row=graph.row[path[0], path[1]],
        target_row=graph.row[path[-2], path[-1]],
    )
