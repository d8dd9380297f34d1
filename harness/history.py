"""Reads a run's `history/*.arrow` into one table: every operation that was recorded, whatever became of the writer.

A load process that was killed leaves a stream that stops in the middle of a batch. Streams are therefore read batch
by batch: every whole batch counts, and the rest is reported as a hole, because a history that is known to lack
operations may fail and never pass (DESIGN section 4, recording).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl
import pyarrow as pa

from .errors import RunFolderError
from .operation import HISTORY_SCHEMA_VERSION, OPERATION_COLUMNS, Outcome

__all__ = ["SCHEMA_KEY", "History", "empty_history", "load_history"]

# Key of the stream's own metadata that holds the version of its columns.
SCHEMA_KEY: Final = b"aftershock.history"

_POLARS: Final[dict[str, type[pl.DataType]]] = {
    "int64": pl.Int64,
    "int32": pl.Int32,
    "string": pl.String,
    "bool": pl.Boolean,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """All operations of a run. `frame` has the columns of `OPERATION_COLUMNS`; `holes` says what is known missing."""

    frame: pl.DataFrame
    holes: tuple[str, ...] = ()


def empty_history() -> pl.DataFrame:
    """A table of no operations, with the right columns."""
    return pl.DataFrame(schema={name: _POLARS[kind.rstrip("?")] for name, kind in OPERATION_COLUMNS.items()})


def load_history(folder: Path) -> History:
    """Read every stream in `folder`; a missing folder is a history of no operations.

    Raises RunFolderError for a file that is no stream of ours, lacks a column, holds a value that its column may not
    hold, or was written by a newer version. A stream that merely stops early is a hole, not an error.
    """
    frames, holes = [], []
    for path in sorted(folder.glob("*.arrow")):
        batches, torn = _whole_batches(path)
        if torn is not None:
            rows = sum(batch.num_rows for batch in batches)
            holes.append(f"history/{path.name} stops in the middle after {rows} whole operations: {torn}")
        if batches:
            frames.append(_checked(path, batches))
    frame = pl.concat(frames) if frames else empty_history()
    return History(frame=frame.rechunk(), holes=tuple(holes))


def _whole_batches(path: Path) -> tuple[list[pa.RecordBatch], str | None]:
    """Every batch that is whole, and what ended the reading when it was not the end of the stream."""
    try:
        data = pa.memory_map(str(path), "r") if path.stat().st_size else pa.BufferReader(b"")
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be read: {error.strerror or error}") from None
    batches: list[pa.RecordBatch] = []
    try:
        reader = pa.ipc.open_stream(data)
    except (pa.ArrowInvalid, OSError) as error:
        # Killed before the schema was flushed: nothing was recorded here, which is a hole. A whole file of something
        # else is a mistake of whoever put it there.
        if path.stat().st_size < _SMALLEST_STREAM_BYTES:
            return [], f"{path.stat().st_size} bytes, too short for a stream"
        raise RunFolderError(
            f"{path}: is not an Arrow stream ({_first_line(error)}); a history holds nothing else"
        ) from None
    _refuse_newer(path, reader.schema)
    for batch in _until_torn(reader):
        if isinstance(batch, str):
            return batches, batch
        batches.append(batch)
    if not _ended(path):
        return batches, "its end marker is missing, so its writer was killed"
    return batches, None


_SMALLEST_STREAM_BYTES: Final = 64
_END_OF_STREAM: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"


def _ended(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - len(_END_OF_STREAM)))
        return file.read() == _END_OF_STREAM


def _until_torn(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch | str]:
    while True:
        try:
            batch = reader.read_next_batch()
            batch.validate(full=True)
        except StopIteration:
            return
        except (pa.ArrowInvalid, OSError) as error:
            yield _first_line(error)
            return
        yield batch


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _refuse_newer(path: Path, schema: pa.Schema) -> None:
    raw = (schema.metadata or {}).get(SCHEMA_KEY, b"1")
    found = int(raw) if raw.isdigit() else None
    if found is None or found > HISTORY_SCHEMA_VERSION:
        raise RunFolderError(
            f"{path}: written with history schema {raw.decode(errors='replace')}, this version reads up to "
            f"{HISTORY_SCHEMA_VERSION}; use the version of aftershock that made the run, or a newer one"
        )


def _checked(path: Path, batches: list[pa.RecordBatch]) -> pl.DataFrame:
    missing = [name for name in OPERATION_COLUMNS if name not in batches[0].schema.names]
    if missing:
        raise RunFolderError(f"{path}: lacks the columns {', '.join(missing)}; see harness/operation.py")
    loaded = pl.from_arrow(pa.Table.from_batches(batches).select(list(OPERATION_COLUMNS)))
    assert isinstance(loaded, pl.DataFrame)
    try:
        frame = loaded.cast({name: _POLARS[kind.rstrip("?")] for name, kind in OPERATION_COLUMNS.items()})
    except pl.exceptions.PolarsError as error:
        raise RunFolderError(f"{path}: a column has the wrong type: {_first_line(error)}") from None
    for name, kind in OPERATION_COLUMNS.items():
        if not kind.endswith("?") and frame[name].null_count():
            raise RunFolderError(f"{path}: column {name} holds {frame[name].null_count()} nulls, expected none")
    odd = set(frame["outcome"].unique()) - {str(outcome) for outcome in Outcome}
    if odd:
        raise RunFolderError(f"{path}: outcome {min(odd)!r}, expected ok, fail or unknown")
    return frame
