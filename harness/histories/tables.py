"""Rows of texts, from JSON Lines or CSV, as columns: `Cells` are what both have in common.

Both formats have the same fields, and say the same of what is missing or malformed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import polars as pl

from .imported import FUNCTIONS, SCHEMA, problem
from .texts import text_of

__all__ = ["FIELDS", "REQUIRED", "Rows", "with_canonical_texts"]

REQUIRED: Final = ("process", "f", "start_ns", "end_ns", "outcome")
FIELDS: Final = ("process", "f", "key", "value", "start_ns", "end_ns", "outcome", "result", "observed", "version")
_INTEGERS: Final = ("process", "start_ns", "end_ns", "version")
_TEXTS: Final = ("f", "outcome", "result")
_WHOLE: Final = "(?:0|-?[1-9][0-9]*)"
_LARGEST: Final = 2**63 - 2
# Without a value these say nothing of what they saw or did.
_NEEDS_VALUE: Final = frozenset(FUNCTIONS) - {"delete", "increment", "acquire", "release"}


class Rows:
    """Collects rows one by one, checking each cell: exact, slow, and the one that knows the line of a mistake."""

    def __init__(self, path: Path, *, free: bool) -> None:
        self._path = path
        self._free = free
        self._columns: dict[str, list[Any]] = {name: [] for name in SCHEMA}

    def add(self, line: int, row: dict[str, Any]) -> None:
        """Add a row of JSON values by field. Raises UsageError."""
        missing = [name for name in REQUIRED if name not in row and name != "end_ns"]
        if missing:
            raise problem(
                self._path, line, f"has no {', no '.join(missing)}; expected the fields {', '.join(REQUIRED)}"
            )
        if (
            not self._free
            and "value" not in row
            and row["f"] in _NEEDS_VALUE
            and not (row["f"] == "read" and row["outcome"] != "ok")
        ):
            raise problem(
                self._path,
                line,
                f"this {row['f']} has no value; expected what was written or returned (null where nothing was there)",
            )
        columns = self._columns
        columns["line"].append(line)
        columns["end_line"].append(line)
        for name in _INTEGERS:
            columns[name].append(self._integer(line, name, row.get(name), optional=name in ("end_ns", "version")))
        columns["answer"].append(text_of(row.get("result")) if self._free else None)
        for name in _TEXTS:
            text = row.get(name)
            if name == "result" and (text is None or self._free):
                text = ""
            if not isinstance(text, str):
                raise problem(self._path, line, f"{name} is {text!r}; expected a text")
            columns[name].append(text)
        for name in ("key", "value", "observed"):
            try:
                columns[name].append(text_of(row.get(name)))
            except ValueError as error:
                raise problem(self._path, line, f"{name}: {error}") from None

    def frame(self) -> pl.DataFrame:
        """What was added."""
        return pl.DataFrame(self._columns, schema=dict(SCHEMA))

    def _integer(self, line: int, name: str, value: Any, *, optional: bool) -> int | None:
        if value is None and optional:
            return None
        if type(value) is float and value.is_integer() and abs(value) < 2**53:
            return int(value)
        if type(value) is not int or abs(value) > _LARGEST:
            unit = "nanoseconds" if name.endswith("_ns") else "a number for each client"
            whole = "nothing, or a whole number" if optional else "a whole number"
            raise problem(self._path, line, f"{name} is {value!r}; expected {whole} of 64 bits ({unit})")
        return value


def with_canonical_texts(frame: pl.DataFrame, *, name: str, convert: Any) -> pl.DataFrame:
    """A column with every distinct text replaced by `convert` of it, but what can be told to be canonical at once."""
    numbers = pl.col(name).str.contains(rf"^\[{_WHOLE}(?:, ?{_WHOLE})*\]$")
    frame = frame.with_columns(pl.when(numbers).then(pl.col(name).str.replace_all(" ", "")).otherwise(name).alias(name))
    odd = ~(numbers | pl.col(name).str.contains(f"^{_WHOLE}$"))
    texts = frame.filter(odd)[name].unique().to_list()
    if not texts:
        return frame
    replaced = pl.DataFrame(
        {name: texts, "to": [convert(text) for text in texts]}, schema={name: pl.String, "to": pl.String}
    )
    joined = frame.join(replaced.with_columns(odd=pl.lit(value=True)), on=name, how="left", maintain_order="left")
    value = pl.when(pl.col("odd")).then("to").otherwise(name).alias(name)
    return joined.with_columns(value).drop("to", "odd")


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines of a file that hold something, with their numbers."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line
