"""Load: did the generator keep its own schedule? If not, nothing that is timed can be believed.

This check never fails: a generator that falls behind is a fault of the measurement, not of the system under test. An
arrival beyond the limit on operations in flight is not lateness: the system held up the earlier ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from ..verdict import Verdict
from .result import Assumption, CheckResult, count
from .view import View

__all__ = ["LOAD_KEPT_SCHEDULE", "ON_TIME_MS", "Load", "check_load"]

LOAD_KEPT_SCHEDULE: Final = "The load generator kept its schedule"

# Beyond this an operation did not start when the schedule said (scenario.Targets.on_time_ratio).
ON_TIME_MS: Final = 50.0
_BEHIND_JOIN_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The check's answer, what it taints, its row among the targets, and verdict.json's section `load`."""

    result: CheckResult
    assumption: Assumption
    targets: tuple[dict[str, Any], ...]
    detail: dict[str, Any]


def check_load(view: View) -> Load:
    """Compare actual with intended starts, and planned arrivals with recorded ones."""
    account = view.record.load or {}
    load = view.load
    sent = load.filter(~pl.col("not_sent")).with_columns(late_ms=(pl.col("start_s") - pl.col("intended_s")) * 1e3)
    planned = _planned(view, account)
    # An arrival that is in the plan and not in the record was never made: it is the latest of all.
    missing = max(0, planned - load.height) if view.incomplete is None else 0
    late = sent.filter(pl.col("late_ms") > ON_TIME_MS)
    total = sent.height + missing
    on_time = (sent.height - late.height) / total if total else None
    late_p99 = sent["late_ms"].quantile(0.99, interpolation="higher") if sent.height else None
    target = view.record.scenario.targets.on_time_ratio
    detail = {
        "planned": planned,
        "sent": sent.height,
        "not_sent": load.height - sent.height,
        "missing": missing,
        "rate_per_s": view.record.scenario.load.rate_per_s,
        "on_time_ratio": None if on_time is None else round(on_time, 6),
        "late_p99_ms": None if late_p99 is None else round(max(0.0, float(late_p99)), 3),
        "generator_cpu": account.get("generator_cpu", account.get("cpu")),
        "holes": len(view.record.holes),
        "processes": account.get("processes", view.record.scenario.load.processes),
    }
    verdict, reason = _judge(on_time, target, late.height, missing, total)
    required = target is not None and "on_time_ratio" not in view.record.scenario.targets.advisory
    rows = (_row(detail, target, verdict, reason, required=required),) if target is not None else ()
    spans = _spans(late) if verdict is Verdict.UNKNOWN else ()
    result = CheckResult(
        name="load",
        title="Load",
        verdict=verdict,
        reason=reason,
        summary=f"{sent.height:,} of {planned:,} planned operations sent, "
        + (f"{on_time:.2%} on time" if on_time is not None else "none on time"),
        value="not decided" if on_time is None else f"{on_time:.2%}",
        context=f"of starts within {ON_TIME_MS:g} ms of the schedule"
        + (f"; at least {target:.6g} needed" if target is not None else ""),
        numbers={name: value for name, value in detail.items() if isinstance(value, int | float | str | None)},
        spans_s=spans,
        evidence="load",
        status="judged" if target is not None else "skipped",
    )
    assumption = Assumption(
        text=LOAD_KEPT_SCHEDULE,
        held=verdict is Verdict.PASS or target is None,
        detail="" if verdict is Verdict.PASS or target is None else reason.rstrip("."),
        taints=("availability", "latency"),
        breaks=("latency",),
    )
    return Load(result=result, assumption=assumption, targets=rows, detail=detail)


def _planned(view: View, account: Any) -> int:
    planned = account.get("planned")
    if isinstance(planned, int):
        return planned
    plan = view.record.scenario.load
    return round(plan.rate_per_s * plan.duration_s)


def _judge(on_time: float | None, target: float | None, late: int, missing: int, total: int) -> tuple[Verdict, str]:
    if target is None:
        return Verdict.UNKNOWN, "The scenario does not ask that the load keeps its schedule."
    if on_time is None:
        return Verdict.UNKNOWN, "The generator sent nothing."
    if on_time >= target:
        return Verdict.PASS, f"{on_time:.2%} of {total:,} operations started within {ON_TIME_MS:g} ms of their time."
    parts = [f"{count(late, 'operation')} started more than {ON_TIME_MS:g} ms late"] if late else []
    parts += [f"{count(missing, 'planned operation')} never started"] if missing else []
    return Verdict.UNKNOWN, f"The load generator fell behind its schedule: {' and '.join(parts)}, of {total:,}."


def _row(detail: dict[str, Any], target: float, verdict: Verdict, reason: str, *, required: bool) -> dict[str, Any]:
    return {
        "name": "on_time_ratio",
        "title": "Operations that started on time",
        "scope": "the load generator, whole load",
        "measured": detail["on_time_ratio"],
        "target": target,
        "unit": "ratio",
        "better": "higher",
        "verdict": str(verdict),
        "required": required,
        "budget": None,
        "detail": reason,
    }


def _spans(late: pl.DataFrame) -> tuple[tuple[float, float], ...]:
    """When the generator was behind; starts close together are one span."""
    times = late["intended_s"].sort()
    if not times.len():
        return ()
    opens = (times.diff().fill_null(float("inf")) > _BEHIND_JOIN_S).cum_sum()
    spans = (
        pl.DataFrame({"t": times, "n": opens})
        .group_by("n", maintain_order=True)
        .agg(pl.col("t").min().alias("a"), pl.col("t").max().alias("b"))
    )
    return tuple((round(a, 3), round(b, 3)) for a, b in spans.select("a", "b").head(50).iter_rows())
