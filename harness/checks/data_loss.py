"""Data loss: every acknowledged insert must be in the final reads, with exactly its value (DESIGN section 7).

Only insert-only keys can answer this for every single write: nobody may overwrite or delete them, so whatever was
acknowledged must be there at the end. (What is overwritten is judged by linearizability, whose final reads must fit
some order of the acknowledged writes.) Words and formulas: docs/checks.md, "Data loss".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import polars as pl

from ..check_needs import unfed
from ..record import RunRecord
from ..verdict import Verdict
from .result import CheckResult, answer, count, join

__all__ = ["DataLoss", "check_data_loss"]

_result = partial(answer, "data-loss", "Data loss")
_MOST_KEYS: Final = 200
_BAD: Final = ("lost", "stale", "resurrected", "duplicated")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataLoss:
    """The check's answer and the section `data_loss` of verdict.json (None without a single acknowledged insert)."""

    result: CheckResult
    detail: dict[str, Any] | None


def check_data_loss(record: RunRecord) -> DataLoss:
    """Compare acknowledged inserts with the final reads, by key."""
    inserts, finals = _insert_only(record.history)
    acknowledged = inserts.filter((pl.col("outcome") == "ok") & (pl.col("result") == "done"))
    final_reads = finals.filter((pl.col("outcome") == "ok") & pl.col("result").is_in(["found", "not-found"]))
    if not acknowledged.height:
        why_not = unfed(record.history["f"].unique()).get("data-loss")
        reason = why_not or "No insert was acknowledged, so there was nothing that could have been lost."
        return DataLoss(result=_result(Verdict.UNKNOWN, reason, "0 acknowledged writes"), detail=None)
    judged = _judged(acknowledged, final_reads)
    risen = _refused_but_there(inserts, acknowledged, final_reads)
    if record.holes:
        # An insert that is missing from the record may have put it there.
        risen = risen.clear()
    wrong = pl.concat([judged.filter(pl.col("kind").is_in(_BAD)).select(risen.columns), risen])
    detail = _detail(record, acknowledged, judged, wrong)
    return DataLoss(result=_conclude(record, detail, finals.height, wrong), detail=detail)


def _insert_only(history: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Inserts and final reads of the keys that are only ever inserted and read."""
    sent = history.filter(pl.col("start_ns").is_not_null())
    updated = sent.filter(pl.col("f").is_in(["write", "cas", "delete"])).select("key").unique()
    inserts = sent.filter(pl.col("f") == "insert").join(updated, on="key", how="anti")
    finals = history.filter((pl.col("f") == "read") & pl.col("final")).join(
        inserts.select("key").unique(), on="key", how="semi"
    )
    return inserts, finals


def _judged(acknowledged: pl.DataFrame, final_reads: pl.DataFrame) -> pl.DataFrame:
    """One row an acknowledged insert, with its kind: held, lost, stale, duplicated or undecided.

    Several final reads of a key must all show the value: the worst one counts. A final read that began before the
    acknowledgement proves nothing about it.
    """
    pairs = (
        acknowledged.select("key", "shard", "process", "client", written="value", acknowledged_ns="end_ns")
        .join(final_reads.select("key", read="value", read_ns="end_ns", read_start_ns="start_ns"), on="key", how="left")
        .with_columns(usable=(pl.col("read_start_ns") >= pl.col("acknowledged_ns")).fill_null(value=False))
        .with_columns(
            badness=pl.when(~pl.col("usable"))
            .then(0)
            .when(pl.col("read") == pl.col("written"))
            .then(1)
            .when(pl.col("read").is_not_null())
            .then(2)
            .otherwise(3)
        )
    )
    worst = pairs.sort("badness", "read_ns").group_by("key", "written", "acknowledged_ns", maintain_order=True).last()
    return worst.with_columns(
        # Two inserts of one key cannot both succeed: whichever value stands there, one answer was wrong.
        kind=pl.when(pl.len().over("key") > 1)
        .then(pl.lit("duplicated"))
        .otherwise(
            pl.col("badness").replace_strict({0: "undecided", 1: "held", 2: "stale", 3: "lost"}, return_dtype=pl.String)
        )
    )


def _refused_but_there(inserts: pl.DataFrame, acknowledged: pl.DataFrame, final_reads: pl.DataFrame) -> pl.DataFrame:
    """Final values that certainly were never written: the insert was refused or failed, or nobody ever sent it.

    On a key with an acknowledged insert such a value shows as stale already.
    """
    possible = inserts.filter((pl.col("outcome") != "fail") & (pl.col("result") != "mismatch"))
    found = (
        final_reads.filter(pl.col("value").is_not_null())
        .join(acknowledged.select("key"), on="key", how="anti")
        .join(possible.select("key", "value"), on=["key", "value"], how="anti")
        .unique("key", keep="first", maintain_order=True)
    )
    refused = inserts.select("key", "value", insert_process="process", insert_client="client").unique(["key", "value"])
    return found.join(refused, on=["key", "value"], how="left").select(
        "key",
        "shard",
        pl.col("insert_process").fill_null(pl.col("process")).alias("process"),
        pl.col("insert_client").fill_null(pl.col("client")).alias("client"),
        pl.col("value").alias("written"),
        pl.lit(None, dtype=pl.Int64).alias("acknowledged_ns"),
        pl.col("value").alias("read"),
        pl.col("end_ns").alias("read_ns"),
        pl.lit("resurrected").alias("kind"),
    )


def _detail(record: RunRecord, acknowledged: pl.DataFrame, judged: pl.DataFrame, wrong: pl.DataFrame) -> dict[str, Any]:
    counts = {kind: int((wrong["kind"] == kind).sum()) for kind in _BAD}
    gone = wrong.filter(pl.col("kind").is_in(["lost", "stale"]))["acknowledged_ns"]
    undecided = int((judged["kind"] == "undecided").sum())
    usable = int(judged["usable"].sum())
    window = None
    if gone.len():
        first, last = int(gone.min()), int(gone.max())  # type: ignore[arg-type]
        window = [round(record.seconds(first), 3), round(record.seconds(last), 3)]
    shown = wrong.sort("acknowledged_ns", nulls_last=True).head(_MOST_KEYS)
    return {
        "acknowledged": acknowledged.height,
        "checked": usable,
        "coverage": round(usable / acknowledged.height, 6),
        **counts,
        "undecided": undecided,
        "rpo_writes": counts["lost"] + counts["stale"],
        "rpo_s": round(window[1] - window[0], 3) if window else 0.0,
        "window_s": window,
        "keys": [
            {
                "key": row["key"],
                "shard": row["shard"],
                "kind": row["kind"],
                "value": row["written"],
                "process": row["process"],
                "client": row["client"],
                "acknowledged_s": _seconds(record, row["acknowledged_ns"]),
                "read_s": _seconds(record, row["read_ns"]),
                "read_value": row["read"],
            }
            for row in shown.iter_rows(named=True)
        ],
        "keys_more": wrong.height - shown.height,
    }


def _seconds(record: RunRecord, t_ns: int | None) -> float | None:
    return None if t_ns is None else round(record.seconds(t_ns), 6)


_WORDS: Final = {
    "lost": "{} lost",
    "stale": "{} replaced by another value",
    "duplicated": "{} acknowledged although the key was taken",
}


def _broken(detail: dict[str, Any], keys: int) -> str:
    sentences = []
    parts = [_WORDS[kind].format(_were(detail[kind])) for kind in _WORDS if detail[kind]]
    if parts:
        sentences.append(f"Of {count(detail['acknowledged'], 'acknowledged write')}, {join(parts)}.")
    if detail["resurrected"]:
        sentences.append(
            f"{count(detail['resurrected'], 'value')} that was refused or never sent is there all the same."
        )
    return " ".join(sentences) + f" ({count(keys, 'key')})"


def _were(number: int) -> str:
    return f"{number:,} {'was' if number == 1 else 'were'}"


def _conclude(record: RunRecord, detail: dict[str, Any], final_reads: int, wrong: pl.DataFrame) -> CheckResult:
    acknowledged = detail["acknowledged"]
    summary = f"{detail['checked']:,} of {count(acknowledged, 'acknowledged write')} checked against final reads"
    numbers = {name: value for name, value in detail.items() if name not in ("keys", "window_s")}
    keys = wrong["key"].n_unique()
    if wrong.height:
        reason = _broken(detail, keys)
        return _result(
            Verdict.FAIL,
            reason,
            summary,
            numbers,
            value=count(wrong.height, "write"),
            context=f"of {acknowledged:,} acknowledged, on {count(keys, 'key')}; target is none",
            spans=(tuple(detail["window_s"]),) if detail["window_s"] else (),
        )
    if not final_reads:
        reason = "There are no final reads, so nobody looked whether the acknowledged writes are still there."
        return _result(Verdict.UNKNOWN, reason, summary, numbers, context="final reads are missing")
    if detail["undecided"]:
        reason = (
            f"No final read was answered for {count(detail['undecided'], 'acknowledged write')}, so nobody knows "
            "whether they are still there; the others are."
        )
        return _result(
            Verdict.UNKNOWN, reason, summary, numbers, context=f"{detail['undecided']:,} without a final read"
        )
    reason = f"Every one of {count(acknowledged, 'acknowledged write')} was found with its value in the final reads."
    context = f"of {acknowledged:,} acknowledged are missing"
    return _result(Verdict.PASS, reason, summary, numbers, value="0 writes", context=context)
