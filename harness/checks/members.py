"""State of every node and primary of every shard over time, from the event log, as segments for the timeline."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any, Final

from ..interfaces import Role
from .result import Span
from .view import View

__all__ = ["member_names", "node_segments", "shard_segments"]

# Worst first: a node that is down while it is cut off is down.
_STATES: Final = ("down", "paused", "cut-off", "catching-up")
_MOST_SHARDS: Final = 256


def member_names(view: View) -> list[str]:
    """Members that hold shards; without any, those whose process is in the event log and that are plain nodes."""
    holders: set[str] = set()
    started: set[str] = set()
    for event in view.record.events:
        if event.kind == "topology":
            holders.update(map(str, (*(event.fields.get("in_sync") or ()), *(event.fields.get("learners") or ()))))
        elif event.kind.startswith("member.") and event.fields.get("role", Role.NODE) == Role.NODE:
            started.add(str(event.fields.get("member", event.source)))
    return sorted(holders or started, key=_natural)


def _natural(name: str) -> tuple[str, int]:
    digits = name[len(name.rstrip("0123456789")) :]
    return (name.rstrip("0123456789"), int(digits) if digits else -1)


def node_segments(view: View, *, until_s: float) -> list[dict[str, Any]]:
    """`[from, to, state]` per node, without holes: up, cut-off, down, paused or catching-up."""
    found = []
    for name in member_names(view):
        spans = _process_spans(view, name, until_s)
        spans["cut-off"] = [
            (f.injected_s, min(f.ends_s, until_s))
            for f in view.faults
            if f.kind == "network" and f.injected_s is not None and name in f.targets and f.name == "partition"
        ]
        spans["catching-up"] = _learning(view, name, until_s)
        found.append({"name": name, "segments": _segments(spans, until_s)})
    return found


def _process_spans(view: View, name: str, until_s: float) -> dict[str, list[Span]]:
    down = _between(view, name, {"member.exited"}, {"member.ready", "member.started"}, until_s, prefer="member.ready")
    paused = _between(view, name, {"member.paused"}, {"member.resumed", "member.exited"}, until_s)
    return {"down": down, "paused": paused}


def _between(
    view: View, name: str, opens: set[str], closes: set[str], until_s: float, *, prefer: str | None = None
) -> list[Span]:
    """Spans from an opening event to the next closing one. `prefer`: the one that closes, when it is ever reported."""
    own = [e for e in view.record.events if e.fields.get("member") == name]
    if prefer is not None and any(e.kind == prefer for e in own):
        closes = {prefer}
    spans, since_s = [], None
    for event in own:
        t_s = view.record.seconds(event.t_ns)
        if event.kind in opens and since_s is None:
            since_s = t_s
        elif event.kind in closes and since_s is not None:
            spans.append((since_s, t_s))
            since_s = None
    if since_s is not None:
        spans.append((since_s, until_s))
    return spans


def _learning(view: View, name: str, until_s: float) -> list[Span]:
    """While the member is a learner of at least one shard."""
    shards: set[int] = set()
    spans: list[Span] = []
    since_s: float | None = None
    for event in view.record.events:
        if event.kind != "topology" or "shard" not in event.fields:
            continue
        shard, t_s = int(event.fields["shard"]), view.record.seconds(event.t_ns)
        (shards.add if name in (event.fields.get("learners") or ()) else shards.discard)(shard)
        if shards and since_s is None:
            since_s = t_s
        elif not shards and since_s is not None:
            spans.append((since_s, t_s))
            since_s = None
    if since_s is not None:
        spans.append((since_s, until_s))
    return spans


def _segments(spans: dict[str, list[Span]], until_s: float) -> list[list[Any]]:
    def state_at(t_s: float) -> str:
        return next((s for s in _STATES if any(a <= t_s < b for a, b in spans[s])), "up")

    edges = {edge for many in spans.values() for span in many for edge in span}
    return _cut(edges, until_s, lambda t_s: (state_at(t_s),))


def _cut(edges: Iterable[float], until_s: float, at: Callable[[float], tuple[Any, ...]]) -> list[list[Any]]:
    """Segments of equal value between the edges, from 0 to the end."""
    borders = sorted({0.0, until_s, *(edge for edge in edges if 0 < edge < until_s)})
    segments: list[list[Any]] = []
    for begin, end in itertools.pairwise(borders):
        value = list(at((begin + end) / 2))
        if segments and segments[-1][2:] == value:
            segments[-1][1] = round(end, 3)
        else:
            segments.append([round(begin, 3), round(end, 3), *value])
    return segments


def shard_segments(view: View, *, until_s: float) -> list[dict[str, Any]]:
    """`[from, to, primary, epoch]` per shard; the primary is "" while nobody serves.

    A primary serves from its own `primary.open` on, until its process is gone or paused, or another one is named.
    """
    configurations: dict[int, list[tuple[float, str, int]]] = {}
    opened: dict[int, list[tuple[float, str]]] = {}
    for event in view.record.events:
        if "shard" not in event.fields:
            continue
        shard, t_s = int(event.fields["shard"]), view.record.seconds(event.t_ns)
        if event.kind == "topology":
            primary = str(event.fields.get("primary") or "")
            configurations.setdefault(shard, []).append((t_s, primary, int(event.fields.get("epoch", 0))))
        elif event.kind == "primary.open":
            opened.setdefault(shard, []).append((t_s, event.source))
    absent = {name: _absent(view, name, until_s) for name in member_names(view)}
    found = []
    for shard in sorted(configurations)[:_MOST_SHARDS]:
        at = _primary_at(configurations[shard], opened.get(shard, []), absent)
        edges = [t for t, *_ in configurations[shard]] + [t for t, _ in opened.get(shard, [])]
        edges += [edge for _, primary, _ in configurations[shard] for span in absent.get(primary, ()) for edge in span]
        found.append({"shard": shard, "segments": _cut(edges, until_s, at)})
    return found


def _absent(view: View, name: str, until_s: float) -> list[Span]:
    spans = _process_spans(view, name, until_s)
    return [*spans["down"], *spans["paused"]]


def _primary_at(
    configurations: list[tuple[float, str, int]], opened: list[tuple[float, str]], absent: dict[str, list[Span]]
) -> Callable[[float], tuple[str, int]]:
    def at(t_s: float) -> tuple[str, int]:
        known = [c for c in configurations if c[0] <= t_s] or configurations[:1]
        _, primary, epoch = known[-1]
        # Since when this member is the primary without interruption: an epoch that keeps it needs no new opening.
        since_s = known[-1][0]
        for t, member, _ in reversed(known):
            if member != primary:
                break
            since_s = t
        gone = any(a <= t_s < b for a, b in absent.get(primary, ()))
        # Whoever was primary when the record begins opened before it.
        serves = (
            since_s == configurations[0][0]
            or not opened
            or any(since_s <= t <= t_s and member == primary for t, member in opened)
        )
        return (primary if serves and not gone else "", epoch)

    return at
