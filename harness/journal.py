"""The journal of inverses: how to undo something, fsynced before it is done (DESIGN section 4, faults).

`journal.jsonl` in the run folder is append-only JSON Lines:

    {"entry": "e3", "inverse": "resume", "expires_ns": 812..., "arguments": {...}}
    {"done": "e3", "by": "run"}

A line is one write(2) of at most a few kilobytes on a file opened for appending, so the tool and its watchdog may
both write. A torn last line (the disk was full, the tool was killed) is passed over: what it announced was not begun.

`<state folder>/aftershock/runs/<run id>.json` says that a run exists, whose it is and where its journal lies; it goes
away with a clean end, so what remains there is what `aftershock heal` looks at. Standard library only: the watchdog
imports this.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from .errors import HealError, SetupError
from .identity import TOKEN_VARIABLE, ProcessIdentity, run_token
from .inverses import KNOWN_INVERSES

__all__ = [
    "TOKEN_ENTRY",
    "JournalEntry",
    "JournalReader",
    "JournalWriter",
    "Registration",
    "RunJournal",
    "default_state_folder",
    "registrations",
    "token_entry",
]

SCHEMA = 1
TOKEN_ENTRY = "token"


def default_state_folder() -> Path:
    """`$XDG_STATE_HOME`, or `~/.local/state` where it is not set or not absolute (as the XDG rules want)."""
    named = os.environ.get("XDG_STATE_HOME", "")
    return Path(named) if named.startswith("/") else Path.home() / ".local" / "state"


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """One inverse that was written down. `expires_ns` is CLOCK_MONOTONIC; None lasts as long as the run."""

    id: str
    inverse: str
    arguments: dict[str, Any] = field(hash=False)
    expires_ns: int | None = None


class JournalReader:
    """Follows a journal file that others append to. It keeps what it has read, should the file be deleted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._entries: dict[str, JournalEntry] = {}
        self.done: set[str] = set()

    def open_entries(self) -> list[JournalEntry]:
        """Entries that are not done, oldest first, after reading what is new."""
        with suppress(FileNotFoundError), self._path.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
            complete = new.rfind(b"\n") + 1
            self._offset += complete
            for line in new[:complete].splitlines():
                self._take(line)
        return list(self._entries.values())

    def _take(self, line: bytes) -> None:
        try:
            value = json.loads(line)
            if "done" in value:
                self._entries.pop(value["done"], None)
                self.done.add(value["done"])
            else:
                entry = JournalEntry(
                    id=value["entry"],
                    inverse=value["inverse"],
                    arguments=value["arguments"],
                    expires_ns=value["expires_ns"],
                )
                self._entries[entry.id] = entry
        except (ValueError, KeyError, TypeError):
            pass  # torn: it was never followed by the act that it announces


class JournalWriter:
    """Appends whole lines, each in one write, so that several processes may write to one journal."""

    def __init__(self, path: Path) -> None:
        """Open (or make) the journal for appending. Raises OSError."""
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._torn = False

    def append(self, value: dict[str, Any], *, sync: bool) -> None:
        """Append one line, durably if `sync`. Raises OSError when it did not go in whole."""
        data = ("\n" * self._torn + json.dumps(value, separators=(",", ":")) + "\n").encode()
        written = os.write(self._descriptor, data)
        self._torn = written != len(data)
        if self._torn:
            raise OSError(errno.ENOSPC, f"only {written} of {len(data)} bytes fitted")
        if sync:
            os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A run that has not ended cleanly (yet). `token` marks every process of it, should the journal be lost."""

    run_id: str
    journal: Path
    owner: ProcessIdentity
    token: str
    path: Path

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises OSError or ValueError for a file that is not a registration."""
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict) or value.get("schema") != SCHEMA:
            raise ValueError(f"expected a registration of schema {SCHEMA}")
        try:
            owner = ProcessIdentity.from_json(value["owner"])
            return cls(
                run_id=value["run_id"], journal=Path(value["journal"]), owner=owner, token=value["token"], path=path
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"lacks {error}") from None


def token_entry(token: str) -> JournalEntry:
    """The inverse that every registered run has without writing it down: end whatever carries its token."""
    return JournalEntry(id=TOKEN_ENTRY, inverse="end-processes", arguments={"token": token})


def registrations(state_folder: Path) -> list[Path]:
    """Registration files, oldest name first."""
    return sorted((state_folder / "aftershock" / "runs").glob("*.json"))


class RunJournal:
    """The journal of one run; keeps interfaces.Journal. Make it with `RunJournal.open`.

    Whoever starts a process for the run puts `environment` into the process's: what carries the token is ended when
    the tool dies, also a child of a child, and also in the instant before its own entry is in the journal.
    """

    def __init__(self, *, path: Path, run_id: str, state_folder: Path) -> None:
        self.path = path
        self.run_id = run_id
        self.token = run_token(path.parent)
        self.registration = state_folder / "aftershock" / "runs" / f"{run_id}.json"
        self._lock = threading.Lock()
        self._open: dict[str, JournalEntry] = {}
        self._count = 0
        self._writer: JournalWriter

    @classmethod
    @contextmanager
    def open(cls, run_folder: Path, run_id: str, state_folder: Path) -> Iterator[RunJournal]:
        """Register the run and open its journal. Leaving it with nothing left to undo removes the registration.

        Raises SetupError when a run of this id is registered or the files cannot be written, and on leaving
        HealError when inverses are still open: their registration stays for `aftershock heal`.
        """
        journal = cls(path=run_folder.absolute() / "journal.jsonl", run_id=run_id, state_folder=state_folder)
        journal._begin()
        try:
            yield journal
        finally:
            journal._end()

    def record(self, inverse: str, /, *, expires_ns: int | None, **arguments: Any) -> str:
        """See interfaces.Journal. Raises SetupError when the line cannot be made durable: then nothing may be done."""
        if inverse not in KNOWN_INVERSES:
            raise ValueError(f"unknown inverse {inverse!r}; known: {', '.join(sorted(KNOWN_INVERSES))}")
        with self._lock:
            self._count += 1
            entry = JournalEntry(id=f"e{self._count}", inverse=inverse, arguments=arguments, expires_ns=expires_ns)
            line = {"entry": entry.id, "inverse": inverse, "expires_ns": expires_ns, "arguments": arguments}
            try:
                self._writer.append(line, sync=True)
            except OSError as error:
                raise SetupError(
                    f"{self.path}: the way to undo {inverse!r} could not be written down ({error.strerror or error}), "
                    "so it was not done; make room on that file system"
                ) from error
            self._open[entry.id] = entry
            return entry.id

    def done(self, entry: str) -> None:
        """See interfaces.Journal. Never raises for a full disk: healing goes on, and undoing twice is harmless."""
        with self._lock:
            self._open.pop(entry, None)
            # Not synced: a lost "done" makes somebody undo a thing twice, a lost record would make nobody undo it.
            with suppress(OSError):
                self._writer.append({"done": entry, "by": "run"}, sync=False)

    @property
    def environment(self) -> dict[str, str]:
        """Environment that marks a process as one of this run."""
        return {TOKEN_VARIABLE: self.token}

    def open_entries(self) -> list[JournalEntry]:
        """What is still to be undone, as this process and the watchdog have it."""
        with self._lock:
            reader = JournalReader(self.path)
            reader.open_entries()
            return [entry for entry in self._open.values() if entry.id not in reader.done]

    def _begin(self) -> None:
        owner = ProcessIdentity.of(os.getpid())
        assert owner is not None
        text = json.dumps(
            {
                "schema": SCHEMA,
                "run_id": self.run_id,
                "journal": str(self.path),
                "token": self.token,
                "owner": owner.to_json(),
            }
        )
        # The journal first: a registered run without one is then one whose folder was deleted, and never one of ours
        # that had not begun (see `heal`).
        try:
            self._writer = JournalWriter(self.path)
        except OSError as error:
            raise SetupError(f"{self.path}: cannot be written: {error.strerror}") from error
        try:
            self._register(text)
        except BaseException:
            self._writer.close()
            raise

    def _register(self, text: str) -> None:
        try:
            self.registration.parent.mkdir(parents=True, exist_ok=True)
            # Linked into place whole: another tool's `heal` never reads half a registration.
            draft = self.registration.with_suffix(f".{os.getpid()}.draft")
            with draft.open("x", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(draft, self.registration)
            finally:
                draft.unlink()
        except FileExistsError:
            raise SetupError(
                f"{self.registration}: a run {self.run_id!r} is under way or was not ended cleanly; "
                "wait for it, or run `aftershock heal`"
            ) from None
        except OSError as error:
            raise SetupError(f"{self.registration}: cannot be written: {error.strerror}") from error

    def _end(self) -> None:
        left = self.open_entries()
        self._writer.close()
        if left:
            lines = "\n".join(f"  {entry.inverse} {json.dumps(entry.arguments)}" for entry in left)
            raise HealError(f"{self.path}: not undone; run `aftershock heal`, which says what to do by hand:\n{lines}")
        self.registration.unlink(missing_ok=True)
