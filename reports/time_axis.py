"""A time axis to scale in which long idle times are cut out, for the counterexample figure. Pure geometry."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Piece", "TimeAxis", "make_axis", "nice_step"]

_CUTS_MAX = 4
_CUT_RATIO = 1.5  # idle time is cut when it is longer than this many times all busy time together


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A stretch of time and of pixels. `cut` pieces are not to scale."""

    start_s: float
    end_s: float
    left: float
    right: float
    cut: bool

    def x(self, time_s: float) -> float:
        share = (time_s - self.start_s) / (self.end_s - self.start_s) if self.end_s > self.start_s else 0.0
        return self.left + (self.right - self.left) * share


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeAxis:
    """Maps seconds to pixels, piece by piece, left to right."""

    pieces: tuple[Piece, ...]

    def x(self, time_s: float) -> float:
        """Pixel of a moment; moments outside the axis are moved to its ends."""
        for piece in self.pieces:
            if time_s <= piece.end_s:
                return piece.x(max(time_s, piece.start_s))
        return self.pieces[-1].right

    def ticks(self, *, apart_px: float) -> list[tuple[float, str]]:
        """Round moments of the pieces that are to scale, with their labels, at least about `apart_px` apart."""
        found: list[tuple[float, str]] = []
        last_x = -math.inf
        for piece in self.pieces:
            if piece.cut:
                continue
            width = piece.right - piece.left
            step = nice_step((piece.end_s - piece.start_s) * apart_px / max(width, 1.0))
            places = max(0, -math.floor(math.log10(step) + 1e-9))
            moment = math.ceil(piece.start_s / step - 1e-9) * step
            while moment <= piece.end_s + 1e-12:
                if piece.x(moment) - last_x >= apart_px * 0.85:
                    found.append((moment, f"{moment:.{places}f}"))
                    last_x = piece.x(moment)
                moment += step
        return found


def nice_step(wanted: float) -> float:
    """The smallest of 1, 2, 5, 10 times a power of ten that is not below `wanted`."""
    power = 10.0 ** math.floor(math.log10(max(wanted, 1e-9)))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= wanted * (1 - 1e-9))


def make_axis(
    intervals: Sequence[tuple[float, float]], *, left: float, right: float, cut_px: float, cut_idle: bool
) -> TimeAxis:
    """Lay the intervals out between two pixels; with `cut_idle`, long gaps between them shrink to `cut_px` each."""
    busy = _union(intervals)
    total = sum(end - start for start, end in busy)
    margin = max(total * 0.12, (busy[-1][1] - busy[0][0]) * 0.005, 1e-4)
    if cut_idle:
        gaps = sorted(
            ((after[0] - before[1], index) for index, (before, after) in enumerate(pairwise(busy))),
            reverse=True,
        )
        cut_after = {index for gap, index in gaps[:_CUTS_MAX] if gap > max(_CUT_RATIO * total, 4 * margin)}
    else:
        margin, cut_after = (busy[-1][1] - busy[0][0]) * 0.04 or 1e-3, set()
    stretches: list[tuple[float, float]] = []
    start = busy[0][0] - margin
    for index, (_, end) in enumerate(busy):
        if index in cut_after or index == len(busy) - 1:
            stretches.append((start, end + margin))
            start = busy[index + 1][0] - margin if index in cut_after else 0.0
    return TimeAxis(pieces=_lay_out(stretches, left=left, right=right, cut_px=cut_px))


def _union(intervals: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, max(start, end)))
    return merged


def _lay_out(stretches: list[tuple[float, float]], *, left: float, right: float, cut_px: float) -> tuple[Piece, ...]:
    seconds = sum(end - start for start, end in stretches)
    scale = (right - left - cut_px * (len(stretches) - 1)) / seconds
    pieces: list[Piece] = []
    x = left
    for start, end in stretches:
        if pieces:
            pieces.append(Piece(start_s=pieces[-1].end_s, end_s=start, left=x, right=x + cut_px, cut=True))
            x += cut_px
        width = (end - start) * scale
        pieces.append(Piece(start_s=start, end_s=end, left=x, right=x + width, cut=False))
        x += width
    return tuple(pieces)
