"""The history of one of our own run folders, as any other.

`aftershock check RUN` judges a run with all its checks; this is for holding the history alone against another model,
and for converting it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from ..errors import RunFolderError
from ..history import load_history
from ..operation import REQUEST
from .imported import SCHEMA, ImportedHistory, imported
from .texts import text_of

__all__ = ["read_run_folder"]

FORMAT: Final = "run-folder"

_STRINGS: Final = {"key": pl.String, "quoted": pl.String}


def read_run_folder(folder: Path, *, free: bool = False) -> ImportedHistory:
    """Raises RunFolderError for what is no run folder, UsageError for a history that contradicts itself.

    `free` as `imported` has it.
    """
    if not (folder / "run.json").is_file():
        raise RunFolderError(f"{folder}: holds no run.json, so it is no run folder; name a run folder or a file")
    history = load_history(folder / "history")
    # What was not sent cannot have happened, and a request has no value to judge.
    rows = history.frame.filter(pl.col("start_ns").is_not_null() & (pl.col("f") != REQUEST))
    names = rows["key"].unique()
    quoted = pl.DataFrame({"key": names, "quoted": [text_of(name) for name in names]}, schema_overrides=_STRINGS)
    rows = rows.join(quoted, on="key", how="left", maintain_order="left")
    f, outcome, result = pl.col("f"), pl.col("outcome"), pl.col("result")
    value, expected = pl.col("value").cast(pl.String), pl.col("expected").cast(pl.String).fill_null("null")
    pair = pl.concat_str(pl.lit("["), expected, pl.lit(","), value.fill_null("null"), pl.lit("]"))
    frame = rows.select(
        line=pl.lit(None, dtype=pl.Int64),
        end_line=pl.lit(None, dtype=pl.Int64),
        process="process",
        f="f",
        key="quoted",
        value=pl.when(f == "cas").then(pair).when(f != "delete").then(value),
        observed=pl.when(result == "mismatch").then(pl.col("observed").cast(pl.String)),
        version="version",
        start_ns="start_ns",
        # An unknown operation may end at any later time, whenever its client stopped waiting.
        end_ns=pl.when(outcome != "unknown").then("end_ns"),
        outcome=pl.when((outcome == "ok") & pl.col("end_ns").is_null()).then(pl.lit("unknown")).otherwise(outcome),
        # A null that was observed is an absent key.
        answer=pl.lit(None, dtype=pl.String) if not free else pl.when(result != "").then(_quoted("result")),
        result=pl.when((result == "mismatch") & pl.col("observed").is_null())
        .then(pl.lit("not-found"))
        .otherwise(result),
    )
    return imported(folder, frame.select(*SCHEMA), free=free, format=FORMAT, holes=history.holes)


def _quoted(name: str) -> pl.Expr:
    return pl.concat_str(pl.lit('"'), name, pl.lit('"'))
