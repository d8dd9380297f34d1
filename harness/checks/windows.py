"""What clients felt, window by window: before, during, recovery and after each fault, and the whole load."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from .fault_windows import FaultWindow
from .gaps import Gaps, find_gaps, union_s
from .result import Span
from .view import View, latencies, percentile_ms

__all__ = ["fault_spans", "window_rows"]


def fault_spans(fault: FaultWindow, faults: Sequence[FaultWindow], until_s: float) -> dict[str, Span]:
    """Spans by kind. Recovery lasts until every replica is in sync again, or until rto_s after healing if unknown.

    `before` and `after` are times in which no fault is on and none is recovered from: while windows overlap, the ones
    that begin later have no `before`, and those that end earlier have no `after`.
    """
    if fault.injected_s is None:
        return {}
    others = [other for other in faults if other.id != fault.id and other.injected_s is not None]
    earlier = [_recovered_s(other) for other in others if other.begins_s <= fault.begins_s]
    begins_s = max(earlier, default=0.0)
    healed_s, recovered_s = min(fault.ends_s, until_s), min(_recovered_s(fault), until_s)
    next_s = min((other.begins_s for other in others if other.begins_s >= recovered_s), default=until_s)
    busy = any(other.begins_s < recovered_s < _recovered_s(other) for other in others)
    spans = {
        "before": (begins_s, fault.begins_s),
        "during": (fault.begins_s, healed_s),
        "recovery": (healed_s, recovered_s),
        "after": (recovered_s, recovered_s if busy else min(next_s, until_s)),
    }
    return {kind: span for kind, span in spans.items() if span[1] > span[0]}


def _recovered_s(fault: FaultWindow) -> float:
    end_s = fault.in_sync_s if fault.in_sync_s is not None else fault.ends_s + fault.rto_s
    return min(max(end_s, fault.ends_s), max(fault.next_s, fault.ends_s))


def window_rows(view: View, gaps: Gaps) -> list[dict[str, Any]]:
    """Rows of verdict.json's `windows`; `gaps` are those of the owed operations.

    An operation counts in the last window that it was still waiting in: one that a fault caught in flight is in that
    fault's window. Each is in one window of a fault only; where faults overlap, it is in the windows of each of them.
    """
    until_s = view.judged_until_s
    cut_off = view.load["cut_off"].to_numpy()
    left_gaps = find_gaps(view.load.filter(pl.col("cut_off")), until_s=until_s)
    # What still waited at the end of the load belongs to the last window.
    left_s = np.minimum(view.load["release_s"].to_numpy(), np.nextafter(until_s, 0.0))
    whole = (0.0, until_s)
    rows = [_row(view.load.filter(~cut_off), gaps, None, "whole", whole, clients="owed")]
    if cut_off.any():
        rows.append(_row(view.load.filter(cut_off), left_gaps, None, "whole", whole, clients="cut-off"))
    for fault in view.faults:
        for kind, span in fault_spans(fault, view.faults, until_s).items():
            inside = (left_s >= span[0]) & (left_s < span[1])
            rows.append(_row(view.load.filter(inside & ~cut_off), gaps, fault, kind, span, clients="owed"))
            if (inside & cut_off).any():
                rows.append(_row(view.load.filter(inside & cut_off), left_gaps, fault, kind, span, clients="cut-off"))
    return rows


def _row(
    part: pl.DataFrame, gaps: Gaps, fault: FaultWindow | None, kind: str, span: Span, *, clients: str
) -> dict[str, Any]:
    ok, not_sent = int(part["ok"].sum()), int(part["not_sent"].sum())
    unknown = int((part["outcome"] == "unknown").sum())
    waited = latencies(part)
    return {
        "fault": None if fault is None else fault.id,
        "kind": kind,
        "span_s": [round(span[0], 3), round(span[1], 3)],
        "clients": clients,
        "operations": part.height,
        "ok": ok,
        "fail": part.height - ok - unknown - not_sent,
        "unknown": unknown,
        "not_sent": not_sent,
        "success_ratio": round(ok / part.height, 6) if part.height else None,
        "longest_gap_s": round(gaps.longest_s(span), 3),
        "unavailable_s": round(union_s(gaps.spans(span)), 3),
        "p50_ms": percentile_ms(waited["from_schedule_ms"], 0.5),
        "p99_ms": percentile_ms(waited["from_schedule_ms"], 0.99),
        "p999_ms": percentile_ms(waited["from_schedule_ms"], 0.999),
        "p99_raw_ms": percentile_ms(waited["from_start_ms"], 0.99),
    }
