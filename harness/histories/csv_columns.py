"""CSV with named columns, the same as the fields of JSON Lines (docs/your-own-history.md).

A cell is JSON where it can be read as JSON, and else a plain text; an empty one is null. A pair is `"[1, 2]"`.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, Final

import polars as pl

from .imported import SCHEMA, ImportedHistory, imported, problem
from .tables import FIELDS, REQUIRED, Rows, with_canonical_texts
from .texts import parsed, text_of

__all__ = ["cell_of", "read_csv"]

FORMAT: Final = "csv"

_INTEGERS: Final = ("process", "start_ns", "end_ns", "version")


def read_csv(path: Path, *, free: bool = False) -> ImportedHistory:
    """Raises UsageError with the line of a mistake, and when a column is missing. `free` as `imported` has it."""
    header = _header(path)
    frame = None if free else _at_once(path, header)
    if frame is None:
        frame = _line_by_line(path, header, free=free)
    return imported(path, frame, free=free, format=FORMAT)


def cell_of(text: str | None) -> str:
    """The cell for a canonical text: a plain text where that is read back as the same."""
    if text is None:
        return ""
    if text.startswith('"'):
        plain = str(parsed(text))
        # An empty cell is null, and Polars takes no notice of quotes.
        if plain and plain == plain.strip() and "\n" not in plain and "\r" not in plain and _meant(plain) == text:
            return plain
    return text


def _meant(cell: str) -> str | None:
    """The canonical text that a cell stands for."""
    if not cell:
        return None
    try:
        return text_of(parsed(cell))
    except ValueError:
        return text_of(cell)


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        names = [name.strip() for name in next(csv.reader(file), [])]
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise problem(
            path,
            1,
            f"names the columns {', '.join(names)[:120] or '(none)'}; missing: {', '.join(missing)}. Expected a first "
            f"line such as {','.join(FIELDS[:7])}",
        )
    twice = [name for name in names if name in FIELDS and names.count(name) > 1]
    if twice:
        raise problem(path, 1, f"names the column {twice[0]} twice; expected it once")
    return names


# ------------------------------------------------------------------------------------------------ at once


def _at_once(path: Path, header: list[str]) -> pl.DataFrame | None:
    """The same frame as `_line_by_line` would make, or None when that is not certain."""
    data = path.read_bytes()
    if b"\r" in data or not data.endswith(b"\n") or b"\n\n" in data or data.startswith(b"\xef\xbb\xbf"):
        return None
    try:
        frame = pl.read_csv(data, has_header=False, skip_rows=1, new_columns=header, infer_schema=False)
        if frame.width != len(header) or frame.height != data.count(b"\n") - 1:
            return None
        frame = frame.with_columns(pl.col(name).cast(pl.Int64) for name in _INTEGERS if name in header)
        for name in ("key", "value", "observed"):
            if name in header:
                frame = with_canonical_texts(frame, name=name, convert=_meant)
    except (pl.exceptions.PolarsError, ValueError):
        return None
    frame = frame.with_columns(pl.lit(None, dtype=pl.String).alias("answer"))
    absent = [pl.lit(None, dtype=SCHEMA[name]).alias(name) for name in FIELDS if name not in header]
    row = pl.int_range(2, frame.height + 2, dtype=pl.Int64)
    frame = frame.with_columns(*absent, line=row, end_line=row).with_columns(pl.col("result").fill_null(""))
    nulls = frame.select(pl.any_horizontal(pl.col("process", "f", "start_ns", "outcome").is_null().any())).item()
    return None if nulls else frame.select(*SCHEMA)


# ------------------------------------------------------------------------------------------------ line by line


def _line_by_line(path: Path, header: list[str], *, free: bool = False) -> pl.DataFrame:
    rows = Rows(path, free=free)
    before = 0
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            next(reader)
            before = reader.line_num
            for cells in reader:
                line, before = before + 1, reader.line_num
                if cells:
                    rows.add(line, _row(path, line, header, cells, free=free))
        except (csv.Error, UnicodeDecodeError) as error:
            raise problem(path, before + 1, f"is not CSV in UTF-8 ({error}); is the file cut off here?") from None
    return rows.frame()


def _row(path: Path, line: int, header: list[str], cells: list[str], *, free: bool) -> dict[str, Any]:
    if len(cells) != len(header):
        raise problem(
            path,
            line,
            f"has {len(cells)} cells, the first line names {len(header)} columns; expected as many. A cell with a "
            'comma in it needs quotes, as in "[1, 2]"',
        )
    row: dict[str, Any] = {"value": None}
    for name, cell in zip(header, cells, strict=True):
        if name in ("f", "outcome") or (name == "result" and not free):
            row[name] = cell
        elif name in FIELDS:
            row[name] = _value(cell)
    return row


def _value(cell: str) -> Any:
    if not cell:
        return None
    try:
        return parsed(cell)
    except ValueError:
        return cell
