"""Availability: what share of the operations that were owed service succeeded, and how long nobody was served.

Judged over the owed operations outside the times in which the scenario excuses failures (DESIGN section 4, targets
under faults). First figures are the longest gap and the seconds unavailable; the ratio comes after them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from ..verdict import Verdict, worst
from .gaps import Gaps, union_s
from .result import CheckResult, Span, count
from .view import View

__all__ = ["Availability", "check_availability"]

_NAME: Final = "availability"
_MOST_SHARDS: Final = 1000
# Failures closer together than this are shown as one span.
_SPAN_JOIN_S: Final = 1.0
_DAYS: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """The check's answer, its rows among the targets, and the advisory figures per shard."""

    result: CheckResult
    targets: tuple[dict[str, Any], ...]
    shards: tuple[dict[str, Any], ...]


def check_availability(view: View, gaps: Gaps) -> Availability:
    """Judge the targets `success_ratio` and `longest_gap_s`; `gaps` are those of the owed operations."""
    targets = view.record.scenario.targets
    owed = view.load.filter(~pl.col("cut_off"))
    steady = owed.filter(~pl.col("excused"))
    rows = []
    if targets.success_ratio is not None:
        rows.append(_ratio_row(steady, targets.success_ratio, required="success_ratio" not in targets.advisory))
    if targets.longest_gap_s is not None:
        rows.append(_gap_row(gaps, targets.longest_gap_s, required="longest_gap_s" not in targets.advisory))
    numbers = _numbers(view, owed, steady, gaps)
    judged = [row for row in rows if row["required"]]
    failed = steady.filter(~pl.col("ok"))
    base: dict[str, Any] = {
        "name": _NAME,
        "title": "Availability",
        "summary": _summary(view, owed, gaps, numbers),
        "numbers": numbers,
        "evidence": "targets",
    }
    if not judged:
        reason = "The scenario sets no required availability target; the figures are reported."
        result = CheckResult(**base, verdict=Verdict.UNKNOWN, reason=reason, status="skipped")
    else:
        verdict = worst(Verdict(row["verdict"]) for row in judged)
        shown = next((row for row in judged if row["verdict"] == verdict), judged[0])
        spans = tuple(_spans(failed)) if verdict is Verdict.FAIL else ()
        if verdict is Verdict.FAIL and shown["name"] == "longest_gap_s":
            spans = tuple(gaps.spans())[:50]
        result = CheckResult(
            **base,
            verdict=verdict,
            reason=shown["detail"],
            value=_value(shown),
            context=_context(shown),
            spans_s=spans,
        )
    return Availability(result=result, targets=tuple(rows), shards=tuple(_shards(owed, gaps)))


def _ratio_row(steady: pl.DataFrame, target: float, *, required: bool) -> dict[str, Any]:
    n, ok = steady.height, int(steady["ok"].sum())
    measured = ok / n if n else None
    allowed = math.floor((1 - target) * n + 1e-9)
    if measured is None:
        verdict, detail = Verdict.UNKNOWN, "No operation that was owed service was due outside the excused times."
    elif n - ok <= allowed and target < 1 and n < (least := math.ceil(1 / (1 - target) - 1e-6)):
        verdict = Verdict.UNKNOWN
        detail = (
            f"{count(n, 'owed operation')} outside the excused times; {least:,} are needed to tell {target:g} from 1."
        )
    elif n - ok <= allowed:
        verdict = Verdict.PASS
        detail = (
            f"{ok:,} of {n:,} owed operations succeeded outside the excused times; {allowed:,} were allowed to fail."
        )
    else:
        verdict = Verdict.FAIL
        detail = (
            f"{count(n - ok, 'operation')} of {n:,} that were owed service failed outside the excused times; "
            f"{allowed:,} were allowed to."
        )
    return {
        "name": "success_ratio",
        "title": "Success ratio outside excused times",
        "scope": "owed operations, steady",
        "measured": None if measured is None else round(measured, 6),
        "target": target,
        "unit": "ratio",
        "better": "higher",
        "verdict": str(verdict),
        "required": required,
        "budget": {"allowed": allowed, "spent": n - ok} if n else None,
        "detail": detail,
    }


def _gap_row(gaps: Gaps, target_s: float, *, required: bool) -> dict[str, Any]:
    longest_s, resolution_s = gaps.longest_s(), gaps.resolution_s
    where = f" (on {gaps.counted[0].stream})" if gaps.counted else ""
    if resolution_s is None or (resolution_s > target_s and longest_s <= target_s):
        seen = "nothing" if resolution_s is None else f"gaps from {resolution_s:.2f} s on"
        verdict, detail = (
            Verdict.UNKNOWN,
            f"At this rate {seen} can be seen on one shard, the target is {target_s:g} s.",
        )
    elif longest_s > target_s:
        verdict = Verdict.FAIL
        detail = f"For {longest_s:.2f} s nobody who waited was served{where}; {target_s:g} s are allowed."
    else:
        verdict = Verdict.PASS
        detail = (
            f"The longest gap was {longest_s:.2f} s{where}." if gaps.counted else "No gap was long enough to count."
        )
    return {
        "name": "longest_gap_s",
        "title": "Longest gap in service",
        "scope": "owed operations, whole load",
        "measured": round(longest_s, 3) if resolution_s is not None else None,
        "target": target_s,
        "unit": "s",
        "better": "lower",
        "verdict": str(verdict),
        "required": required,
        "budget": None,
        "detail": detail,
    }


def _numbers(view: View, owed: pl.DataFrame, steady: pl.DataFrame, gaps: Gaps) -> dict[str, Any]:
    until_s = view.judged_until_s
    unavailable_s = union_s(gaps.spans((0.0, until_s)))
    implied = 1 - unavailable_s / until_s if until_s else None
    monthly = 1 - unavailable_s / (_DAYS * 86_400)
    whole = int(owed["ok"].sum()) / owed.height if owed.height else None
    return {
        "longest_gap_s": round(gaps.longest_s(), 3),
        "longest_total_gap_s": round(gaps.longest_total_s, 3),
        "unavailable_s": round(unavailable_s, 3),
        "gap_resolution_s": None if gaps.resolution_s is None else round(gaps.resolution_s, 3),
        "gap_resolution_text": _resolution(gaps),
        "owed": owed.height,
        "owed_success_ratio": None if whole is None else round(whole, 6),
        "steady": steady.height,
        "steady_failed": steady.height - int(steady["ok"].sum()),
        "cut_off": view.load.height - owed.height,
        "implied_availability": None if implied is None else round(implied, 6),
        "implied_nines": _nines(implied),
        "implied_text": (
            f"Under this schedule ({count(len(view.faults), 'fault')} in {until_s:.0f} s) some shard was unavailable "
            f"for {unavailable_s:.2f} s. Should the same faults come once in {_DAYS} days and nothing else break, that "
            f"would be {monthly:.6%} ({_nines(monthly) or 'more than 9'} nines)."
        ),
    }


def _nines(ratio: float | None) -> float | None:
    """0.999 is 3 nines; None when nothing was unavailable (no run is long enough to tell how many)."""
    return None if ratio is None or ratio >= 1 else round(max(0.0, -math.log10(1 - ratio)), 1)


def _resolution(gaps: Gaps) -> str:
    if gaps.resolution_s is None:
        return "There were too few operations to see any gap."
    coarse = gaps.coarsest_s or gaps.resolution_s
    more = f" ({coarse:.2f} s where arrivals are rarest)" if coarse > gaps.resolution_s * 1.5 else ""
    return f"At this rate a gap counts from {gaps.resolution_s:.2f} s on{more}; shorter ones are not seen."


def _summary(view: View, owed: pl.DataFrame, gaps: Gaps, numbers: dict[str, Any]) -> str:
    longest = f"longest gap {gaps.longest_s():.2f} s" if gaps.counted else "no gap that counts"
    ratio = numbers["owed_success_ratio"]
    share = f", {ratio:.3%} of {count(owed.height, 'owed operation')} succeeded in all" if ratio is not None else ""
    return f"{longest}, {numbers['unavailable_s']:.2f} s unavailable{share}"


def _value(row: dict[str, Any]) -> str:
    if row["measured"] is None:
        return "not decided"
    return f"{row['measured']:.2%}" if row["unit"] == "ratio" else f"{row['measured']:.2f} s"


def _context(row: dict[str, Any]) -> str:
    if row["unit"] != "ratio":
        return f"target {row['target']:g} s"
    budget = row["budget"]
    spent = f"; {budget['spent']:,} failures, {budget['allowed']:,} allowed" if budget else ""
    return f"target {row['target']:.6g} of owed operations outside excused times{spent}"


def _spans(failed: pl.DataFrame) -> list[Span]:
    """Where the failures are in time: neighbours joined."""
    times = failed["intended_s"].sort()
    spans: list[list[float]] = []
    for t in times.to_list():
        if spans and t - spans[-1][1] <= _SPAN_JOIN_S:
            spans[-1][1] = t
        else:
            spans.append([t, t])
    return [(round(a, 3), round(b, 3)) for a, b in spans[:50]]


def _shards(owed: pl.DataFrame, gaps: Gaps) -> list[dict[str, Any]]:
    """Advisory: success and gaps of each shard."""
    by_shard = (
        owed.filter(pl.col("shard").is_not_null()).group_by("shard").agg(pl.len(), pl.col("ok").sum()).sort("shard")
    )
    found = []
    for shard, n, ok in by_shard.head(_MOST_SHARDS).iter_rows():
        own = [gap for gap in gaps.counted if gap.shard == shard]
        found.append(
            {
                "shard": shard,
                "operations": n,
                "success_ratio": round(ok / n, 6),
                "longest_gap_s": round(max((gap.length_s for gap in own), default=0.0), 3),
                "unavailable_s": round(union_s((gap.start_s, gap.until_s) for gap in own), 3),
            }
        )
    return found
