"""Gaps in service: when somebody who was owed an answer waited, and nobody was served.

A cluster that has lost one shard of sixteen still answers every few milliseconds, so a gap over all operations
together would be blind to most outages. Gaps are therefore looked for in *streams*: the whole system, each shard, and
each shard's reads and updates alone (a shard may serve reads while it cannot write). A system without shards has its
reads and updates alone, and of a service whose requests have no values, each request of the scenario alone.

On one stream, between two successes that follow each other, service was missing from the moment at which the oldest
operation still waiting after the first of them was due, or from the first success if that is later, until the second.
Time in which nobody asked is no gap. After the last success it lasts until the end when somebody still waits.

A stream cannot show what is shorter than the distance of its own arrivals: a gap *counts* from
`max(0.5 s, 6 mean distances)` on. With random arrivals a healthy stream shows such a gap once in e^6 = 400 intervals
in which an answer is late anyway. Docs: docs/checks.md, "Gaps".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ..operation import REQUEST
from .result import Span

__all__ = ["Gap", "Gaps", "find_gaps", "union_s"]

_LEAST_S: Final = 0.5
_DISTANCES: Final = 6.0
# Streams with fewer operations than this are seen through the coarser ones only.
_LEAST_OPERATIONS: Final = 20

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """`end_s` is None when service did not come back within the record."""

    stream: str
    shard: int | None
    start_s: float
    end_s: float | None
    until_s: float  # end_s, or the end of the record

    @property
    def length_s(self) -> float:
        return self.until_s - self.start_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """Gaps that count, longest first, and how finely the streams could see."""

    counted: tuple[Gap, ...]
    longest_total_s: float  # longest time without any success in the whole system
    resolution_s: float | None  # median over shards of the shortest gap that counts
    coarsest_s: float | None  # the same of the stream that sees least
    streams: int

    def longest_s(self, span: Span | None = None) -> float:
        """Length of the longest gap that counts, as far as it lies in the span; 0 when there is none."""
        if span is None:
            return self.counted[0].length_s if self.counted else 0.0
        return max((min(g.until_s, span[1]) - max(g.start_s, span[0]) for g in self.touching(span)), default=0.0)

    def touching(self, span: Span) -> list[Gap]:
        """Gaps that count and lie at least partly in the span."""
        return [gap for gap in self.counted if gap.start_s < span[1] and gap.until_s > span[0]]

    def spans(self, span: Span | None = None) -> list[Span]:
        """Merged spans in which at least one stream was in a gap that counts, cut to `span`."""
        if span is None:
            return _merged((g.start_s, g.until_s) for g in self.counted)
        return _merged((max(g.start_s, span[0]), min(g.until_s, span[1])) for g in self.touching(span))


def find_gaps(operations: pl.DataFrame, *, until_s: float) -> Gaps:
    """Gaps in these operations (already limited to those that were owed an answer)."""
    found: list[Gap] = []
    bounds: list[float] = []
    streams, total_s = 0, 0.0
    for name, shard, stream in _streams(operations):
        if stream.height < _LEAST_OPERATIONS and name != "the system":
            continue
        bound_s = _bound_s(stream, until_s)
        streams += 1
        starts, ends, served_again = _gaps_of(stream, until_s=until_s)
        lengths = ends - starts
        if name == "the system":
            total_s = float(lengths.max(initial=0.0))
        else:
            bounds.append(bound_s)
        found.extend(
            Gap(
                stream=name,
                shard=shard,
                start_s=float(starts[i]),
                end_s=float(ends[i]) if served_again[i] else None,
                until_s=float(ends[i]),
            )
            for i in np.flatnonzero(lengths >= bound_s)
        )
    bounds = bounds or ([_bound_s(operations, until_s)] if operations.height else [])
    return Gaps(
        counted=tuple(sorted(found, key=lambda gap: -gap.length_s)),
        longest_total_s=total_s,
        resolution_s=float(np.median(bounds)) if bounds else None,
        coarsest_s=max(bounds, default=None),
        streams=streams,
    )


def _bound_s(stream: pl.DataFrame, until_s: float) -> float:
    return max(_LEAST_S, _DISTANCES * until_s / max(1, stream.height))


def _streams(operations: pl.DataFrame) -> Iterator[tuple[str, int | None, pl.DataFrame]]:
    if operations.height:
        yield "the system", None, operations
    sharded = operations.filter(pl.col("shard").is_not_null())
    for (shard,), part in sharded.partition_by("shard", as_dict=True, maintain_order=True).items():
        yield f"shard {shard}", shard, part
        kinds = part.partition_by("update", as_dict=True, maintain_order=True)
        if len(kinds) == 2:
            for (update,), kind in kinds.items():
                yield f"{'updates' if update else 'reads'} of shard {shard}", shard, kind
    valued = pl.col("f") != REQUEST
    unsharded = operations.filter(pl.col("shard").is_null() & valued)
    kinds = unsharded.partition_by("update", as_dict=True, maintain_order=True)
    parts = [(f"the system's {'updates' if update else 'reads'}", kind) for (update,), kind in kinds.items()]
    requests = operations.filter(~valued).partition_by("space", "key", as_dict=True, maintain_order=True)
    parts += [(str(key), kind) for (_, key), kind in requests.items()]
    # One alone is the system itself, unless there is something beside it whose answers would hide its silence.
    if len(parts) > 1 or sharded.height:
        for name, part in parts:
            yield name, None, part


def _gaps_of(stream: pl.DataFrame, *, until_s: float) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
    """Start, end and whether service came back, of every gap of a stream, however short."""
    ok = stream["ok"].to_numpy()
    # A sent operation waits from its start: lateness before it is the generator's (behind a busy client an arrival is
    # not sent at all).
    waits_from = pl.max_horizontal("intended_s", pl.coalesce("start_s", "intended_s"))
    intended: Floats = stream.select(waits_from).to_series().to_numpy()
    release: Floats = stream["release_s"].to_numpy()
    successes = np.sort(release[ok])
    order = np.argsort(release, kind="stable")
    # oldest[i]: earliest due time among the operations released at position i or later.
    oldest = np.minimum.accumulate(intended[order][::-1])[::-1]
    before = np.concatenate(([-np.inf], successes))
    after = np.concatenate((successes, [until_s]))
    position = np.searchsorted(release[order], before, side="right")
    someone = position < len(oldest)
    start = np.full(len(before), np.inf)
    start[someone] = np.maximum(before[someone], oldest[position[someone]])
    real = start < after
    served_again = np.arange(len(before)) < len(successes)
    return start[real], after[real], served_again[real]


def _merged(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for a, b in sorted(spans):
        if merged and a <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], b))
        else:
            merged.append((a, b))
    return merged


def union_s(spans: Iterable[Span]) -> float:
    """Total length of the spans, overlaps counted once."""
    return sum(b - a for a, b in _merged(spans))
