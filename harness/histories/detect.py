"""Which format a file has, by its first lines; and the reader of each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from ..errors import UsageError
from .csv_columns import read_csv
from .imported import ImportedHistory, problem
from .jepsen_edn import read_jepsen_edn
from .jepsen_log import read_jepsen_log
from .jsonl import read_jsonl
from .porcupine_kv import read_porcupine_kv
from .run_folder import read_run_folder

__all__ = ["FORMATS", "detect_format", "read_history"]

FORMATS: Final[Mapping[str, Callable[..., ImportedHistory]]] = {
    "jsonl": read_jsonl,
    "csv": read_csv,
    "jepsen-edn": read_jepsen_edn,
    "jepsen-log": read_jepsen_log,
    "porcupine-kv": read_porcupine_kv,
    "run-folder": read_run_folder,
}

_LOOKED_AT_BYTES: Final = 1 << 16


def read_history(path: Path, *, format_: str | None = None, free: bool = False) -> ImportedHistory:
    """Read a history in a format of `FORMATS`, by default the one that it looks like.

    `free`: for a model of the user's own, which may have any functions and results.

    Raises UsageError for what cannot be read: the file, the line, what was found, what was expected, what to do.
    """
    if format_ is not None and format_ not in FORMATS:
        raise UsageError(f"--format {format_}: expected one of {', '.join(FORMATS)}")
    try:
        return FORMATS[format_ or detect_format(path)](path, free=free)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None


def detect_format(path: Path) -> str:
    """The name of the format. Raises UsageError when it looks like none."""
    if path.is_dir():
        return "run-folder"
    try:
        with path.open("rb") as file:
            head = file.read(_LOOKED_AT_BYTES).decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    lines = [line.strip() for line in head.splitlines() if line.strip() and not line.lstrip().startswith(";")]
    first = lines[0] if lines else ""
    if not first:
        raise problem(path, None, "is empty; expected a history, one operation or event a line")
    if re.match(r"INFO\s+jepsen\.util\s+-", first):
        return "jepsen-log"
    if re.match(r"[\[(]?\s*\{\s*:|[\[(]?\s*#[a-z]", first):
        return "porcupine-kv" if re.match(r"\{:process \d+, :type :\w+, :f :(get|put|append), :key ", first) else _EDN
    if re.match(r'\{\s*"', first):
        return "jsonl"
    if first in ("[", "(") and len(lines) > 1 and lines[1].startswith(("{:", "#")):
        return _EDN
    names = [name.strip().strip('"') for name in first.split(",")]
    if {"process", "f"} <= set(names):
        return "csv"
    hint = "; a JSON array becomes JSON Lines with: jq -c '.[]'" if re.match(r'\[\s*(\{\s*"|$)', first) else ""
    raise problem(
        path,
        1,
        f"begins with {first[:60]!r}, which is no format that is known here; expected JSON Lines, CSV whose first line "
        "names its columns, Jepsen's history.edn, or a file of Porcupine's tests (name one with --format: "
        f"{', '.join(FORMATS)}){hint}",
    )


_EDN: Final = "jepsen-edn"
