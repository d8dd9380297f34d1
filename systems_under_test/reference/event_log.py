"""A member's own event log: one JSON object a line, appended with one write each, so that a kill loses nothing.

The kinds are those of docs/run-folder.md; the harness copies the lines into the run's events. Times are
CLOCK_MONOTONIC, which is the same for all processes of a host.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

EVENTS_FILE = "events.jsonl"


class EventLog:
    """Appends to `<data>/events.jsonl`. Not fsynced: it tells what happened, and nothing is decided from it."""

    def __init__(self, folder: Path, *, source: str) -> None:
        """Raises OSError."""
        self._fd = os.open(folder / EVENTS_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._source = source

    def write(self, kind: str, fields: dict[str, Any] | None = None) -> None:
        line = {"t_ns": time.monotonic_ns(), "source": self._source, "kind": kind, **(fields or {})}
        with contextlib.suppress(OSError):  # a full disk must not end a member for the sake of its diary
            os.write(self._fd, (json.dumps(line, separators=(",", ":"), default=_plain) + "\n").encode())

    def close(self) -> None:
        os.close(self._fd)


def _plain(value: Any) -> Any:
    if isinstance(value, frozenset | set | tuple):
        return sorted(value)
    return str(value)
