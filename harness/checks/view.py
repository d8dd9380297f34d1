"""The record as the checks look at it: operations of the load with seconds, success and who was owed service.

*Success* is an answer within the operation's timeout. An operation belongs to a time span when it was waiting for
its answer at some moment of it: one that was sent 1 ms before a kill, and died of it, belongs to the kill.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ..record import RunRecord
from .fault_windows import FaultWindow, Together, fault_windows, taken_together
from .result import Span

__all__ = ["View", "latencies", "make_view", "named_by", "overlaps", "percentile_ms"]

# The client cancels at its timeout and then still has to note the answer down.
_TIMEOUT_SLACK_S: Final = 0.1

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What every check starts from.

    `load` holds the operations of the load (not the final reads) by intended time, with the columns `intended_s`,
    `start_s`, `end_s`, `release_s` (when its client stopped waiting), `ok`, `not_sent`, `update`, `from_schedule_ms`,
    `from_start_ms`, `cut_off` (owed nothing) and `excused` (only the gap is judged).
    """

    record: RunRecord
    faults: tuple[FaultWindow, ...]
    load: pl.DataFrame
    planned_s: float
    recorded_s: float  # last moment of the load of which something is recorded

    @property
    def incomplete(self) -> str | None:
        """Why the recording is not complete, or None."""
        facts = self.record.facts
        if facts.state == "recorded":
            return None
        if facts.aborted is not None:
            return f"the run was ended early: {facts.aborted['text']}"
        words = {"running": "the run was killed", "interrupted": "the run was interrupted", "failed": "the run failed"}
        return words[facts.state] + (f": {facts.problem}" if facts.problem else "")

    @property
    def judged_until_s(self) -> float:
        """End of the load that can be judged: the plan, or where the recording stopped."""
        return min(self.planned_s, self.recorded_s) if self.incomplete else self.planned_s


def make_view(record: RunRecord) -> View:
    """Derive the view. Pure."""
    load = _derived(record)
    planned_s = record.scenario.load.duration_s
    last = load["release_s"].max() if load.height else None
    recorded_s = float(last) if isinstance(last, float) else 0.0
    faults = fault_windows(record, until_s=max(planned_s, _last_event_s(record)))
    cut_off = _cut_off(load, faults, taken_together(record, faults))
    load = load.with_columns(pl.Series("cut_off", cut_off), pl.Series("excused", _excused(load, faults)))
    return View(record=record, faults=faults, load=load, planned_s=planned_s, recorded_s=recorded_s)


def _last_event_s(record: RunRecord) -> float:
    return record.seconds(record.events[-1].t_ns) if record.events else 0.0


def _derived(record: RunRecord) -> pl.DataFrame:
    origin_ns, timeout_s = record.facts.origin_ns, record.scenario.load.timeout_s

    def since(column: str) -> pl.Expr:
        return (pl.col(column) - origin_ns) / 1e9

    waited_s = pl.coalesce("end_s", pl.coalesce("start_s", "intended_s") + timeout_s)
    return (
        record.history.filter(~pl.col("final"))
        .sort("intended_ns", "process")
        .with_columns(
            intended_s=since("intended_ns"),
            start_s=since("start_ns"),
            end_s=since("end_ns"),
            not_sent=pl.col("start_ns").is_null(),
            update=pl.col("f") != "read",
        )
        .with_columns(
            # An operation that was never sent held up nobody: its client was turned away at once.
            release_s=pl.when("not_sent").then(pl.col("intended_s")).otherwise(waited_s),
            ok=(pl.col("outcome") == "ok")
            & pl.col("end_s").is_not_null()
            & (pl.col("end_s") - pl.col("start_s") <= timeout_s + _TIMEOUT_SLACK_S).fill_null(value=False),
        )
        .with_columns(
            from_schedule_ms=(pl.col("release_s") - pl.col("intended_s")) * 1e3,
            from_start_ms=(pl.col("release_s") - pl.col("start_s")) * 1e3,
        )
    )


def overlaps(load: pl.DataFrame, span: Span) -> Mask:
    """Operations that were waiting for their answer at some moment of the span."""
    inside = (load["intended_s"] < span[1]) & (load["release_s"] >= span[0])
    return inside.to_numpy()


def _cut_off(load: pl.DataFrame, faults: tuple[FaultWindow, ...], together: tuple[Together, ...]) -> Mask:
    """Operations that were owed nothing: for one fault, or for several that were on at the same time."""
    mask = np.zeros(load.height, dtype=np.bool_)
    spans = [(fault.cut_off_s, fault.cut_off) for fault in faults] + [(each.span_s, each.cut_off) for each in together]
    for span, cut_off in spans:
        if span is not None:
            mask |= overlaps(load, span) & named_by(load, cut_off)
    return mask


def named_by(load: pl.DataFrame, cut_off: Mapping[str, tuple[int, ...] | None]) -> Mask:
    """Operations of these clients on these shards (None: on all)."""
    mask = np.zeros(load.height, dtype=np.bool_)
    for client, shards in cut_off.items():
        concerned = (load["client"] == client).to_numpy()
        if shards is not None:
            concerned &= load["shard"].is_in(list(shards)).fill_null(value=False).to_numpy()
        mask |= concerned
    return mask


def _excused(load: pl.DataFrame, faults: tuple[FaultWindow, ...]) -> Mask:
    mask = np.zeros(load.height, dtype=np.bool_)
    for fault in faults:
        if fault.excused_s is not None:
            mask |= overlaps(load, fault.excused_s)
    return mask


def latencies(operations: pl.DataFrame) -> pl.DataFrame:
    """Operations whose waiting time says how fast the system is.

    One that was never answered counts with the time that its client waited, or the slowest would not count at all.
    Refusals, answers with a status that was not expected, and operations that were not sent are left out: they say
    nothing about speed (a service that fails at once would look fast), and are failures anyway.
    """
    unexpected = pl.col("error").str.starts_with("http-")
    return operations.filter((pl.col("outcome") != "fail") & ~pl.col("not_sent") & ~unexpected)


def percentile_ms(values: pl.Series, quantile: float) -> float | None:
    """The nearest-rank percentile, None of nothing."""
    found = values.quantile(quantile, interpolation="higher") if len(values) else None
    return None if found is None else round(float(found), 3)
