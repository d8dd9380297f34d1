"""What the native checker reads: one line of JSON, the columns, and what the lists of all rows hold.

docs/checker.md describes the format; `native/internal/history/columns.go` reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from ._values import Engine, Model, Operations

__all__ = ["Request", "write_request"]

_SCHEMA: Final = 2
_COLUMNS: Final = ("key", "process", "f", "value", "expected", "version", "start_ns", "end_ns", "unknown")
_LISTS: Final = ("items_first", "items_count")
_NARROW: Final = ("f", "unknown")
"""Columns that fit in a byte a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked of a history. `initial` is the balance of every account, `workers` 0 one per core."""

    model: Model
    engine: Engine
    deadline_ms: int
    workers: int
    initial: Mapping[int, int]


def write_request(target: IO[bytes], operations: Operations, request: Request) -> None:
    """Write a whole input. Raises OSError."""
    names = _COLUMNS if operations.items is None else (*_COLUMNS, *_LISTS)
    constant = {name: int(getattr(operations, name)[0]) for name in names if _is_constant(getattr(operations, name))}
    columns = [name for name in names if name not in constant]
    header = {
        "schema": _SCHEMA,
        "operations": len(operations),
        "items": 0 if operations.items is None else len(operations.items),
        "columns": columns,
        "narrow": [name for name in columns if name in _NARROW],
        "constant": constant,
        "model": str(request.model),
        "engine": str(request.engine),
        "initial": [number for pair in request.initial.items() for number in pair],
        "deadline_ms": request.deadline_ms,
        "workers": request.workers,
    }
    target.write(json.dumps(header).encode() + b"\n")
    for name in columns:
        target.write(np.ascontiguousarray(getattr(operations, name), dtype="u1" if name in _NARROW else "<i8").data)
    if operations.items is not None:
        target.write(np.ascontiguousarray(operations.items, dtype="<i8").data)


def _is_constant(column: npt.NDArray[Any]) -> bool:
    """Whether it holds one value only, which is then sent once. The last row tells most that do not."""
    return len(column) > 0 and bool(column[0] == column[-1]) and bool((column == column[0]).all())
