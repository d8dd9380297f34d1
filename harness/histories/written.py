"""Writes an imported history as our JSON Lines or CSV; reading that back gives the same operations."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from ..errors import UsageError
from .csv_columns import cell_of
from .imported import ImportedHistory
from .tables import FIELDS

__all__ = ["SUFFIXES", "write_history"]

SUFFIXES: Final = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}


def write_history(history: ImportedHistory, path: Path) -> None:
    """Write to a new file; its suffix says how. Raises UsageError when it exists or cannot be written."""
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise UsageError(f"{path}: expected a name that ends in {', '.join(SUFFIXES)}")
    data = _jsonl(history.frame) if kind == "jsonl" else _csv(history.frame)
    try:
        with path.open("xb") as file:
            file.write(data)
    except FileExistsError:
        raise UsageError(f"{path} exists already, and is left as it is; name another file") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from None


def _jsonl(frame: pl.DataFrame) -> bytes:
    def always(name: str, value: pl.Expr) -> pl.Expr:
        return pl.concat_str(pl.lit(f'"{name}": '), value.cast(pl.String).fill_null("null"))

    def quoted(name: str) -> pl.Expr:
        return pl.concat_str(pl.lit('"'), name, pl.lit('"'))

    def where(there: pl.Expr, name: str, value: pl.Expr) -> pl.Expr:
        return pl.when(there).then(pl.concat_str(pl.lit(f', "{name}": '), value.cast(pl.String))).otherwise(pl.lit(""))

    fields = pl.concat_str(
        always("process", pl.col("process")),
        always("f", quoted("f")),
        always("key", pl.col("key")),
        always("value", pl.col("value")),
        always("start_ns", pl.col("start_ns")),
        always("end_ns", pl.col("end_ns")),
        always("outcome", quoted("outcome")),
        separator=", ",
    )
    line = pl.concat_str(
        pl.lit("{"),
        fields,
        where(pl.col("result") != "", "result", quoted("result")),
        where(pl.col("observed").is_not_null(), "observed", pl.col("observed")),
        where(pl.col("version").is_not_null(), "version", pl.col("version")),
        pl.lit("}\n"),
    )
    return "".join(frame.select(line.alias("line"))["line"]).encode()


def _csv(frame: pl.DataFrame) -> bytes:
    cells = frame.with_columns(result=pl.when(pl.col("result") != "").then("result"))
    for name in ("key", "value", "observed"):
        texts = frame[name].drop_nulls().unique()
        cells_of = pl.DataFrame(
            {name: texts, "cell": [cell_of(text) for text in texts]},
            schema_overrides={name: pl.String, "cell": pl.String},
        )
        cells = (
            cells.join(cells_of, on=name, how="left", maintain_order="left")
            .with_columns(pl.col("cell").alias(name))
            .drop("cell")
        )
    return cells.select(FIELDS).write_csv().encode()
