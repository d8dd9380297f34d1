"""Latency: how long owed operations waited, from when they were due and from when they were sent.

The first is what users feel: a client that waits behind a slow answer is not there to send the next request, and
timing from the send alone hides that (coordinated omission). Both are shown, the target applies to the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from ..verdict import Verdict
from .result import CheckResult, count
from .view import View, latencies, percentile_ms

__all__ = ["Latency", "check_latency"]

# A 99th percentile of fewer operations is decided by a handful of them.
_LEAST_OPERATIONS: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """The check's answer and its row among the targets."""

    result: CheckResult
    targets: tuple[dict[str, Any], ...]


def check_latency(view: View) -> Latency:
    """Judge the target `latency_p99_ms` over owed operations outside the excused times."""
    targets = view.record.scenario.targets
    steady = latencies(view.load.filter(~pl.col("cut_off") & ~pl.col("excused")))
    from_schedule, from_start = steady["from_schedule_ms"], steady["from_start_ms"]
    p99 = percentile_ms(from_schedule, 0.99)
    numbers: dict[str, Any] = {
        "operations": steady.height,
        "p50_ms": percentile_ms(from_schedule, 0.5),
        "p99_ms": p99,
        "p999_ms": percentile_ms(from_schedule, 0.999),
        "p50_raw_ms": percentile_ms(from_start, 0.5),
        "p99_raw_ms": percentile_ms(from_start, 0.99),
    }
    summary = (
        "no operation to measure"
        if p99 is None
        else f"p99 {p99:.1f} ms from schedule, {numbers['p99_raw_ms']:.1f} ms from send"
    )
    base: dict[str, Any] = {"name": "latency", "title": "Latency", "evidence": "targets"}
    base |= {"summary": summary, "numbers": numbers}
    target_ms = targets.latency_p99_ms
    if target_ms is None:
        reason = "The scenario sets no latency target; the figures are reported."
        return Latency(result=CheckResult(**base, verdict=Verdict.UNKNOWN, reason=reason, status="skipped"), targets=())
    over = int((from_schedule > target_ms).sum())
    if p99 is None or steady.height < _LEAST_OPERATIONS:
        verdict = Verdict.UNKNOWN
        reason = f"{count(steady.height, 'operation')} outside the excused times are too few for a 99th percentile."
    elif p99 > target_ms:
        verdict = Verdict.FAIL
        reason = f"Outside the excused times the p99 from schedule was {p99:.1f} ms; the target is {target_ms:g} ms."
    else:
        verdict = Verdict.PASS
        reason = f"99 of 100 operations were answered within {p99:.1f} ms of being due; the target is {target_ms:g} ms."
    row = {
        "name": "latency_p99_ms",
        "title": "Latency p99 from schedule",
        "scope": "owed operations, steady",
        "measured": p99,
        "target": target_ms,
        "unit": "ms",
        "better": "lower",
        "verdict": str(verdict),
        "required": "latency_p99_ms" not in targets.advisory,
        "budget": {"allowed": int(steady.height * 0.01), "spent": over},
        "detail": reason,
    }
    value = "not decided" if p99 is None else f"{p99:.1f} ms"
    result = CheckResult(
        **base, verdict=verdict, reason=reason, value=value, context=f"p99 from schedule, target {target_ms:g} ms"
    )
    return Latency(result=result, targets=(row,))
