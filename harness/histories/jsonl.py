"""JSON Lines, one operation a line (docs/your-own-history.md).

A large file is read by Polars in one go, where that is exact: Polars turns text and number alike into text, so it may
read a column only if all of it is text or none is. Whatever it does not read, or reads oddly, is read line by line,
which finds the line of a mistake.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import polars as pl

from .imported import SCHEMA, ImportedHistory, imported, problem
from .tables import FIELDS, REQUIRED, Rows, numbered_lines, with_canonical_texts
from .texts import canonical, refuse_constant

__all__ = ["read_jsonl"]

FORMAT: Final = "jsonl"

_INTEGERS: Final = ("process", "start_ns", "end_ns", "version")
_READ: Final = {name: pl.Int64 if name in _INTEGERS else pl.String for name in FIELDS}


def read_jsonl(path: Path, *, free: bool = False) -> ImportedHistory:
    """Raises UsageError with the line that is no operation. `free` as `imported` has it."""
    frame = None if free else _at_once(path)
    if frame is None:
        frame = _line_by_line(path, free=free)
    return imported(path, frame, free=free, format=FORMAT)


# ------------------------------------------------------------------------------------------------ line by line


def _line_by_line(path: Path, *, free: bool = False) -> pl.DataFrame:
    rows = Rows(path, free=free)
    for number, line in numbered_lines(path):
        rows.add(number, _object(path, number, line))
    return rows.frame()


def _object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        text = line.decode("utf-8")
        value = _DECODER.decode(text.strip())
    except _TwiceError as error:
        raise problem(path, number, f"the field {error} is there twice; expected every field once") from None
    except ValueError as error:
        cut = "" if line.endswith(b"\n") else " It is the last line and has no end: the file seems cut off."
        raise problem(
            path, number, f"is not JSON ({error}); expected one object a line, such as {_EXAMPLE}.{cut}"
        ) from None
    if not isinstance(value, dict):
        raise problem(path, number, f"holds {line.strip()[:40].decode()!r}; expected an object such as {_EXAMPLE}")
    return value


_EXAMPLE: Final = '{"process": 3, "f": "write", "key": "x", "value": 7, "start_ns": 10, "end_ns": 25, "outcome": "ok"}'


class _TwiceError(Exception):
    pass


def _names_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(next(repr(name) for name in names if names.count(name) > 1))
    return found


_DECODER: Final = json.JSONDecoder(parse_constant=refuse_constant, object_pairs_hook=_names_once)


# ------------------------------------------------------------------------------------------------ at once


def _at_once(path: Path) -> pl.DataFrame | None:
    """The same frame as `_line_by_line` would make, or None when that is not certain."""
    data = path.read_bytes()
    if not _plain(data):
        return None
    try:
        frame = pl.read_ndjson(data, schema=_READ)
    except pl.exceptions.PolarsError:
        return None
    if frame.height != data.count(b"\n") or frame.select(pl.any_horizontal(pl.col(_NEVER_NULL).is_null().any())).item():
        return None
    for name in ("key", "value", "observed"):
        texts = data.count(f'"{name}":"'.encode()) + data.count(f'"{name}": "'.encode())
        if texts not in (0, frame.height - frame[name].null_count()):
            return None
        # Polars writes a number that was 1e16 or larger, with a point or an exponent, in digits that it chooses.
        if not texts and frame[name].str.contains("[0-9]{16}").any() and _FLOAT_OR_LARGE.search(data):
            return None
        try:
            frame = _canonical(frame, name, texts=texts > 0)
        except ValueError:
            return None
    row = pl.int_range(1, frame.height + 1, dtype=pl.Int64)
    answer = pl.lit(None, dtype=pl.String)
    return frame.with_columns(pl.col("result").fill_null(""), line=row, end_line=row, answer=answer).select(*SCHEMA)


_NEVER_NULL: Final = ("process", "f", "start_ns", "outcome")
_FLOAT_OR_LARGE: Final = re.compile(rb"[:,\[]\s*-?[0-9]+[.eE]|[0-9]{20}")


def _plain(data: bytes) -> bool:
    """Whether every line holds every field once, as far as counting tells, and nothing that Polars reads its own way.

    Without a backslash, a quoted name with a colon behind it can be nothing else, so names can be counted.
    """
    if not data.endswith(b"\n") or any(odd in data for odd in (b"\\", b":  ", b":\t", b":\r", b":\n", b'" :')):
        return False
    lines = data.count(b"\n")
    counts = {name: data.count(f'"{name}":'.encode()) for name in FIELDS}
    return all(counts[name] == lines for name in (*REQUIRED, "value")) and max(counts.values()) == lines


def _canonical(frame: pl.DataFrame, name: str, *, texts: bool) -> pl.DataFrame:
    if texts:
        # Without a backslash in the file, what is between the quotes is what JSON would write.
        return frame.with_columns(pl.concat_str(pl.lit('"'), name, pl.lit('"')).alias(name))
    return with_canonical_texts(frame, name=name, convert=canonical)
