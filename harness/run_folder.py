"""The run folder on disk: its layout, its events and its small JSON files (docs/run-folder.md).

What was recorded is saved before anything judges it, so everything here is written as it happens: events line by
line, JSON files whole and atomically.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .errors import SetupError
from .files import write_json

__all__ = ["RunFolder"]

SCHEMA = 1


class RunFolder:
    """One run's folder, open for writing by the one process that runs it."""

    def __init__(self, path: Path, *, run_id: str) -> None:
        self.path = path
        self.run_id = run_id
        self._facts: dict[str, Any] = {}
        self.lost: OSError | None = None
        self._events_lock = threading.Lock()
        self._events = (path / "events.jsonl").open("ab", buffering=0)

    @classmethod
    @contextlib.contextmanager
    def create(cls, parent: Path, *, scenario: str, seed: int) -> Iterator[RunFolder]:
        """Make `<UTC time>-<scenario>-<seed>` below `parent`. Raises SetupError when the disk will not have it."""
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        # Absolute, so that no process of the run depends on the folder it was started in.
        parent = parent.absolute()
        try:
            parent.mkdir(parents=True, exist_ok=True)
            path = _make_unique(parent, f"{stamp}-{scenario}-{seed}")
            for name in ("history", "logs", "metrics"):
                (path / name).mkdir()
            folder = cls(path, run_id=f"{path.name}-{secrets.token_hex(3)}")
        except OSError as error:
            raise SetupError(
                f"{parent}: no run folder can be made there: {error.strerror}; "
                "free some space, or choose another place with --runs"
            ) from None
        try:
            yield folder
        finally:
            folder._events.close()

    @property
    def facts(self) -> Mapping[str, Any]:
        """What `run.json` holds now."""
        return self._facts

    def update(self, **facts: Any) -> None:
        """Change facts in `run.json`; a run that dies leaves the last state there."""
        self._facts = {"schema": SCHEMA, "run_id": self.run_id, **self._facts, **facts}
        write_json(self.path / "run.json", self._facts)

    def event(self, kind: str, /, *, source: str = "harness", t_ns: int | None = None, **fields: Any) -> None:
        """Append one event (an `EventSink`). One write a line, so lines of several threads never mix.

        Raises OSError in the main thread when the line cannot be written; in any thread `lost` keeps the first error.
        """
        line = {"t_ns": time.monotonic_ns() if t_ns is None else t_ns, "source": source, "kind": kind, **fields}
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        with self._events_lock:
            if self._events.closed:
                return
            try:
                self._events.write(data)
            except OSError as error:
                self.lost = self.lost or error
                # A helper thread has nobody who would hear of it; the run asks for `lost` before it judges.
                if threading.current_thread() is threading.main_thread():
                    raise


def _make_unique(parent: Path, name: str) -> Path:
    """Two runs may start in the same second with the same seed: the later one gets a number."""
    for number in range(1, 1000):
        path = parent / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir()
            return path
        except FileExistsError:
            continue
    raise OSError(None, "a thousand runs of this name in one second")
