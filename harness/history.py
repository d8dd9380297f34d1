"""Reads a run's `history/*.arrow` into one table: every operation that was recorded, whatever became of the writer.

A load process that was killed leaves a stream that stops in the middle of a batch. Streams are therefore read batch
by batch: every whole batch counts, and the rest is reported as a hole, because a history that is known to lack
operations may fail and never pass (DESIGN section 4, recording).

Everything is looked at on loading, a batch at a time, and stays on disk: a check that needs five columns of ten million
operations gets these and pays for no others (docs/checker.md gives the figures).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
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

_ARROW: Final[dict[str, pa.DataType]] = {
    "int64": pa.int64(),
    "int32": pa.int32(),
    "string": pa.string(),
    "bool": pa.bool_(),
}


class History:
    """All operations of a run. Columns are those of `OPERATION_COLUMNS`; rows have no particular order.

    `holes` says what is known to be missing. The streams stay mapped: whoever moves the run folder meanwhile does no
    harm.
    """

    __slots__ = ("_frame", "_mapped", "_tables", "height", "holes")

    def __init__(self, streams: Sequence[_Stream], holes: Sequence[str] = ()) -> None:
        self._tables = [stream.table for stream in streams]
        self._mapped = [stream.mapped for stream in streams]
        self._frame: pl.DataFrame | None = None
        self.height = sum(table.num_rows for table in self._tables)
        self.holes = tuple(holes)

    @property
    def frame(self) -> pl.DataFrame:
        """The whole table, made when it is first asked for."""
        if self._frame is None:
            parts = [_frame(table) for table in self._tables]
            self._frame = (pl.concat(parts) if parts else empty_history()).rechunk()
        return self._frame

    @property
    def finals(self) -> int:
        """How many operations are final reads."""
        return sum(chunk.true_count for table in self._tables for chunk in table["final"].chunks)

    def slices(self, *columns: str, rows: int = 1 << 17) -> Iterator[pl.DataFrame]:
        """These columns of all operations, in order, at most so many rows at a time; what was read is let go of."""
        for table, mapped in zip(self._tables, self._mapped, strict=True):
            chosen = table.select(list(columns))
            for first in range(0, table.num_rows, rows):
                yield _frame(chosen.slice(first, rows))
                _let_go(mapped)

    def distinct(self, column: str) -> tuple[pa.Array, pa.ChunkedArray]:
        """The different values of a column, and for every row the place of its own among them."""
        chunks = [chunk for table in self._tables for chunk in table[column].chunks]
        found = pa.chunked_array(chunks, type=_ARROW[OPERATION_COLUMNS[column].rstrip("?")]).dictionary_encode()
        for mapped in self._mapped:
            _let_go(mapped)
        # One pass over all chunks: they share one dictionary, the last being the whole of it.
        places = pa.chunked_array([chunk.indices for chunk in found.chunks], type=pa.int32())
        return (found.chunk(found.num_chunks - 1).dictionary if found.num_chunks else pa.array([])), places

    def rows(self, places: Sequence[int]) -> pl.DataFrame:
        """A few whole operations by their place in the history, in the order asked for."""
        if not self._tables:
            return empty_history()[list(places)]
        parts, first = [], 0
        wanted = pl.DataFrame({"place": places, "turn": range(len(places))})
        for table in self._tables:
            here = wanted.filter(pl.col("place").is_between(first, first + table.num_rows - 1))
            taken = _frame(table.take(pa.array((here["place"] - first).to_list(), type=pa.int64())))
            parts.append(taken.with_columns(turn=here["turn"]))
            first += table.num_rows
        return pl.concat(parts).sort("turn").drop("turn")


def empty_history() -> pl.DataFrame:
    """A table of no operations, with the right columns."""
    return pl.DataFrame(schema={name: _POLARS[kind.rstrip("?")] for name, kind in OPERATION_COLUMNS.items()})


class _Stream:
    """The whole batches of one file, and the mapping that they point into (None: nothing to let go of)."""

    __slots__ = ("mapped", "table")

    def __init__(self, table: pa.Table, mapped: mmap.mmap | None) -> None:
        self.table = table
        self.mapped = mapped


def load_history(folder: Path) -> History:
    """Look at every stream in `folder`; a missing folder is a history of no operations.

    Raises RunFolderError for a file that is no stream of ours, lacks a column, holds a value that its column may not
    hold, or was written by a newer version. A stream that merely stops early is a hole, not an error.
    """
    streams, holes = [], []
    for path in sorted(folder.glob("*.arrow")):
        batches, mapped, torn = _whole_batches(path)
        if torn is not None:
            rows = sum(batch.num_rows for batch in batches)
            holes.append(f"history/{path.name} stops in the middle after {rows} whole operations: {torn}")
        if batches:
            streams.append(_Stream(_checked(path, batches), mapped))
            _let_go(mapped)
    return History(streams, holes)


def _whole_batches(path: Path) -> tuple[list[pa.RecordBatch], mmap.mmap | None, str | None]:
    """Every batch that is whole, and what ended the reading when it was not the end of the stream."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else None
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be read: {error.strerror or error}") from None
    batches: list[pa.RecordBatch] = []
    try:
        reader = pa.ipc.open_stream(pa.BufferReader(b"" if mapped is None else pa.py_buffer(mapped)))
    except (pa.ArrowInvalid, OSError) as error:
        # Killed before the schema was flushed: nothing was recorded here, which is a hole. A whole file of something
        # else is a mistake of whoever put it there.
        if size < _SMALLEST_STREAM_BYTES:
            return [], mapped, f"{size} bytes, too short for a stream"
        raise RunFolderError(
            f"{path}: is not an Arrow stream ({_first_line(error)}); a history holds nothing else"
        ) from None
    _refuse_newer(path, reader.schema)
    for batch in _until_torn(reader):
        if isinstance(batch, str):
            return batches, mapped, batch
        batches.append(batch)
        if mapped is not None and len(batches) % _LET_GO_EVERY == 0:
            _let_go(mapped)
    if not _ended(path):
        return batches, mapped, "its end marker is missing, so its writer was killed"
    return batches, mapped, None


# Batches of the load's converter hold 65,536 operations, about 10 MB each.
_LET_GO_EVERY: Final = 2


def _let_go(mapped: mmap.mmap | None) -> None:
    """Give the pages of a mapping back: they are the file's, and come again when they are touched."""
    if mapped is not None:
        mapped.madvise(mmap.MADV_DONTNEED)


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


def _checked(path: Path, batches: list[pa.RecordBatch]) -> pa.Table:
    missing = [name for name in OPERATION_COLUMNS if name not in batches[0].schema.names]
    if missing:
        raise RunFolderError(f"{path}: lacks the columns {', '.join(missing)}; see harness/operation.py")
    table = pa.Table.from_batches(batches).select(list(OPERATION_COLUMNS))
    if any(table.schema.field(name).type != _ARROW[kind.rstrip("?")] for name, kind in OPERATION_COLUMNS.items()):
        table = _cast(path, table)
    for name, kind in OPERATION_COLUMNS.items():
        if not kind.endswith("?") and table[name].null_count:
            raise RunFolderError(f"{path}: column {name} holds {table[name].null_count} nulls, expected none")
    odd = set(table["outcome"].unique().to_pylist()) - {str(outcome) for outcome in Outcome}
    if odd:
        raise RunFolderError(f"{path}: outcome {min(odd)!r}, expected ok, fail or unknown")
    return table


def _cast(path: Path, table: pa.Table) -> pa.Table:
    """A table that somebody else wrote, with columns of other types that hold the same values."""
    loaded = pl.from_arrow(table)
    assert isinstance(loaded, pl.DataFrame)
    try:
        frame = loaded.cast({name: _POLARS[kind.rstrip("?")] for name, kind in OPERATION_COLUMNS.items()})
    except pl.exceptions.PolarsError as error:
        raise RunFolderError(f"{path}: a column has the wrong type: {_first_line(error)}") from None
    types = [(name, _ARROW[kind.rstrip("?")]) for name, kind in OPERATION_COLUMNS.items()]
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.schema(types))


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame
