"""What the recorded operations say about registers, in the columns of the history checker.

A run may hold ten million operations, so nothing here is an object a row, and the history passes through in slices:
what stays is 70 bytes an operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ..history import History
from ..operation import REQUEST
from ..porcupine import ABSENT, NO_VERSION, OPEN_NS, F, Operations

__all__ = ["MISMATCH", "UNKNOWN", "Registers", "pick", "registers"]

MISMATCH: Final = (pl.col("outcome") == "ok") & (pl.col("result") == "mismatch")
UNKNOWN: Final = (pl.col("outcome") == "unknown") | pl.col("end_ns").is_null()
# What an answer of "no match" may not show: the value that was asked for. An insert asks for absence.
_COMPARED: Final = pl.when(pl.col("f") == "insert").then(None).otherwise(pl.col("expected"))
_KEPT: Final = (
    pl.col("start_ns").is_not_null()
    & (pl.col("outcome") != "fail")
    & (pl.col("f") != REQUEST)
    & ~((pl.col("f") == "read") & (pl.col("outcome") == "unknown"))
)
_COLUMNS: Final = {
    "process": pl.col("process"),
    "f": (
        pl.when((pl.col("f") == "read") | MISMATCH)
        .then(int(F.READ))
        .when(pl.col("f").is_in(["cas", "insert"]))
        .then(int(F.CAS))
        .when(pl.col("f") == "delete")
        .then(int(F.DELETE))
        .otherwise(int(F.WRITE))
        .cast(pl.Int64)
    ),
    "value": (
        pl.when(pl.col("f") == "delete")
        .then(ABSENT)
        .otherwise(pl.when(MISMATCH).then("observed").otherwise("value").fill_null(ABSENT))
    ),
    "expected": pl.when(pl.col("f") == "insert").then(ABSENT).otherwise(pl.col("expected").fill_null(ABSENT)),
    "version": pl.col("version").fill_null(NO_VERSION),
    "start_ns": pl.col("start_ns"),
    "end_ns": pl.when(UNKNOWN).then(OPEN_NS).otherwise("end_ns"),
}
_READ: Final = ("process", "f", "value", "expected", "observed", "version", "start_ns", "end_ns", "outcome", "result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Registers:
    """Operations that may have had an effect or that saw something, by key and start where the history is.

    `operations` is what the checker takes, and `keys` names its keys; `places` are the rows of the history that they
    came from. `backwards` counts those that ended before they began; `operations` is None then. `absurd` are the rows
    of the history that say "no match" and show the very value that was compared with.
    """

    operations: Operations | None
    keys: tuple[str, ...]
    places: npt.NDArray[np.uint32]
    backwards: int
    absurd: tuple[int, ...]


def registers(history: History) -> Registers:
    """Pick and turn into numbers what concerns registers: one key is one register, whoever wrote it."""
    names, places_of_names = history.distinct("key")
    columns = {name: np.empty(history.height, dtype=np.int64) for name in ("key", *_COLUMNS)}
    unknown = np.empty(history.height, dtype=np.bool_)
    places = np.empty(history.height, dtype=np.uint32)
    count, passed, backwards = 0, 0, 0
    absurd: list[int] = []
    for part in history.slices(*_READ):
        kept = part.select(kept=_KEPT)["kept"].to_numpy()
        numbers = part.select(
            **_COLUMNS,
            unknown=UNKNOWN,
            backwards=(pl.col("end_ns") < pl.col("start_ns")).fill_null(value=False),
            absurd=MISMATCH & pl.col("observed").eq_missing(_COMPARED),
        )
        if not kept.all():
            numbers = numbers.filter(pl.Series(kept))
        upto = count + numbers.height
        for name in _COLUMNS:
            columns[name][count:upto] = numbers[name].to_numpy()
        unknown[count:upto] = numbers["unknown"].to_numpy()
        places[count:upto] = passed + np.flatnonzero(kept)
        columns["key"][count:upto] = places_of_names.slice(passed, part.height).to_numpy()[kept]
        absurd += places[count:upto][numbers["absurd"].to_numpy()].tolist()
        backwards += int(numbers["backwards"].sum())
        count, passed = upto, passed + part.height
    columns = {name: column[:count] for name, column in columns.items()}
    keys = _rank(columns["key"], pl.Series(names))
    fits = not backwards
    operations = Operations(**columns, unknown=unknown[:count]) if fits else None
    return Registers(operations=operations, keys=keys, places=places[:count], backwards=backwards, absurd=tuple(absurd))


def _rank(key: npt.NDArray[np.int64], names: pl.Series) -> tuple[str, ...]:
    """Number the keys that are there in the order of their names, in place; returns their names."""
    there = np.flatnonzero(np.bincount(key, minlength=len(names)))
    names = names.gather(there)
    order = names.arg_sort().to_numpy()
    number = np.zeros(int(there[-1]) + 1 if len(there) else 0, dtype=np.int64)
    number[there[order]] = np.arange(len(there))
    # Piece by piece, for the new numbers of all rows at once are as large as the column.
    for first in range(0, len(key), _PIECE):
        piece = key[first : first + _PIECE]
        piece[:] = number[piece]
    return tuple(names.gather(order).to_list())


_PIECE: Final = 1 << 20


def pick(operations: Operations, rows: npt.NDArray[np.bool_] | Sequence[int]) -> Operations:
    """Some of the operations, in their order."""
    chosen = {
        name: getattr(operations, name)[rows]
        for name in Operations.__dataclass_fields__
        if not name.startswith("items")
    }
    return Operations(**chosen)
