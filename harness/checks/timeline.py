"""The series behind the report's timeline: operations per bin, latency, heat and thinned points."""

from __future__ import annotations

import base64
import math
from typing import Any, Final

import numpy as np
import polars as pl

from .members import node_segments, shard_segments
from .view import View, latencies

__all__ = ["timeline"]

_BIN_S: Final = 0.25
_LATENCY_BIN_S: Final = 0.5
_HEAT_ROWS: Final = 26
_HEAT_MIN_MS: Final = 1.0
_HEAT_MAX_MS: Final = 4000.0
_MOST_POINTS: Final = 20_000
# A day of load in quarter-second bins is 350,000 of them; the bins grow so that the page stays readable.
_MOST_BINS: Final = 8_000


def timeline(view: View) -> dict[str, Any]:
    """Verdict.json's `timeline`. Operations stand at the time when they were due; final reads are not on it."""
    until_s = _until_s(view)
    widen = max(1, math.ceil(until_s / _BIN_S / _MOST_BINS))
    points, kept = _points(view.load)
    return {
        "bin_s": _BIN_S * widen,
        "until_s": round(until_s, 3),
        "planned_until_s": view.planned_s,
        "recorded_until_s": round(min(until_s, view.recorded_s), 3),
        "scheduled_per_s": view.record.scenario.load.rate_per_s,
        "bins": _bins(view.load, _BIN_S * widen, until_s),
        "latency": _latency(view.load, _LATENCY_BIN_S * widen, until_s),
        "points": points,
        "points_text": kept,
        "nodes": node_segments(view, until_s=until_s),
        "shards": shard_segments(view, until_s=until_s),
    }


def _until_s(view: View) -> float:
    """End of the axis: the load with its last answers, and every healing and return to full strength."""
    marks = [view.recorded_s if view.incomplete else max(view.planned_s, view.recorded_s)]
    marks += [t for f in view.faults for t in (f.injected_s, f.healed_s, f.in_sync_s) if t is not None]
    return max(marks)


def _bins(load: pl.DataFrame, bin_s: float, until_s: float) -> dict[str, list[int]]:
    size = max(1, math.ceil(until_s / bin_s))
    index = _bin_of(load, bin_s, size)
    not_sent = load["not_sent"].to_numpy()
    outcome = load["outcome"].to_numpy()
    masks = {
        "ok": load["ok"].to_numpy(),
        "fail": ~load["ok"].to_numpy() & (outcome != "unknown") & ~not_sent,
        "unknown": (outcome == "unknown") & ~not_sent,
        "not_sent": not_sent,
    }
    return {name: np.bincount(index[mask], minlength=size).tolist() for name, mask in masks.items()}


def _bin_of(load: pl.DataFrame, bin_s: float, size: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    index = np.floor(load["intended_s"].to_numpy() / bin_s).astype(np.int64)
    return np.clip(index, 0, size - 1)


def _latency(load: pl.DataFrame, bin_s: float, until_s: float) -> dict[str, Any]:
    size = max(1, math.ceil(until_s / bin_s))
    waited = latencies(load)
    grouped = (
        waited.with_columns(bin=pl.Series(_bin_of(waited, bin_s, size)))
        .group_by("bin")
        .agg(
            (pl.col("from_schedule_ms").quantile(0.5, "higher") * 1e3).alias("p50_us"),
            (pl.col("from_schedule_ms").quantile(0.99, "higher") * 1e3).alias("p99_us"),
            (pl.col("from_start_ms").quantile(0.99, "higher") * 1e3).alias("p99_raw_us"),
        )
    )
    columns: dict[str, list[int | None]] = {name: [None] * size for name in ("p50_us", "p99_us", "p99_raw_us")}
    for row in grouped.iter_rows(named=True):
        for name, values in columns.items():
            values[row["bin"]] = None if row[name] is None else round(row[name])
    return {
        "bin_s": bin_s,
        **columns,
        "heat_rows": _HEAT_ROWS,
        "heat_min_ms": _HEAT_MIN_MS,
        "heat_max_ms": _HEAT_MAX_MS,
        "heat": base64.b64encode(_heat(waited, bin_s, size)).decode(),
    }


def _heat(waited: pl.DataFrame, bin_s: float, size: int) -> bytes:
    """Operations per time bin and row of latency, rows spaced evenly on a log scale; counts stop at 255."""
    ms = np.clip(waited["from_schedule_ms"].to_numpy(), _HEAT_MIN_MS, _HEAT_MAX_MS)
    scale = math.log(_HEAT_MAX_MS / _HEAT_MIN_MS)
    row = np.minimum((np.log(ms / _HEAT_MIN_MS) / scale * _HEAT_ROWS).astype(np.int64), _HEAT_ROWS - 1)
    cells = np.bincount(_bin_of(waited, bin_s, size) * _HEAT_ROWS + row, minlength=size * _HEAT_ROWS)
    return np.minimum(cells, 255).astype(np.uint8).tobytes()


def _points(load: pl.DataFrame) -> tuple[list[list[int]], str]:
    """Single operations for close zooms: every failure and the slowest hundredth, the rest thinned evenly."""
    sent = load.filter(~pl.col("not_sent"))
    if not sent.height:
        return [], "no operation was sent"
    ms = sent["from_schedule_ms"]
    p99 = ms.quantile(0.99, interpolation="higher")
    special = (~sent["ok"] | (ms > p99)).to_numpy()
    room = max(0, _MOST_POINTS - int(special.sum()))
    rest = np.flatnonzero(~special)
    step = max(1, math.ceil(len(rest) / room)) if room else 0
    chosen = np.flatnonzero(special)
    # More failures than fit: thinned evenly too, which the text says.
    every = max(1, math.ceil(len(chosen) / _MOST_POINTS))
    keep = np.sort(np.concatenate((chosen[::every], rest[::step] if step else rest[:0])))
    outcome = np.select([sent["ok"].to_numpy(), (sent["outcome"] == "unknown").to_numpy()], [0, 2], default=1)
    rows = np.column_stack(
        (
            np.round(sent["intended_s"].to_numpy() * 1e3).astype(np.int64),
            np.round(ms.to_numpy() * 100).astype(np.int64),
            outcome,
        )
    )[keep]
    if every > 1:
        text = f"{len(keep):,} of {sent.height:,} operations: one of {every} failures and slow ones"
    elif step == 1:
        text = f"all {sent.height:,} operations"
    else:
        text = (
            f"{len(keep):,} of {sent.height:,} operations: every failure, the slowest hundredth, one of {step} others"
        )
    return rows.tolist(), text
