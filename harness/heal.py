"""Undoing what runs have left: all open inverses of a journal, in an order in which they help each other.

`heal` is what `aftershock heal` does; the watchdog uses `undo_all` for its own run. Standard library only: the
watchdog imports this.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .backends.packet_rules import table_name
from .inverses import by_hand, rank, undo
from .journal import TOKEN_ENTRY, JournalEntry, JournalReader, JournalWriter, Registration, registrations, token_entry
from .loop_files import mount_of, mounts_below
from .nft import NftError, list_table

__all__ = ["HealReport", "Undone", "heal", "undo_all"]

_USUAL_ENGINE: Final = Path("/var/run/docker.sock")


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """What came of one inverse. `problem` is empty when the thing is undone, `did` when it already was."""

    entry: JournalEntry
    did: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HealReport:
    """`undone`, `left` and `skipped` are sentences for a person; each of `left` says how to undo it by hand."""

    undone: tuple[str, ...]
    left: tuple[str, ...]
    skipped: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Nothing that outlives a dead run is changed any more."""
        return not self.left


def undo_all(
    entries: Iterable[JournalEntry], *, run_folder: Path, writer: JournalWriter | None, by: str
) -> list[Undone]:
    """Carry out all these inverses, each of which may fail without stopping the others.

    The undone ones are marked in the journal, and what was done is told in the run's `events.jsonl`, if it has one.
    """
    newest_first = list(entries)[::-1]
    # Links and pauses first, so that whatever outlives a failure below is at least whole; then processes, newest first
    # (the sort is stable), which leaves the Toxiproxy server, always the oldest, for last.
    ordered = sorted(newest_first, key=lambda entry: rank(entry.inverse))
    results = [_undo_one(entry) for entry in ordered]
    # Toxics on a server that hung are gone once the server is: ask again before calling it a failure.
    results = [_undo_one(result.entry) if result.problem else result for result in results]
    for result in results:
        if not result.problem and result.entry.id != TOKEN_ENTRY and writer is not None:
            with suppress(OSError):  # the disk is full: undoing it once more does no harm
                writer.append({"done": result.entry.id, "by": by}, sync=False)
    _tell([result.did for result in results if result.did], run_folder=run_folder, by=by)
    return results


def _tell(done: list[str], *, run_folder: Path, by: str) -> None:
    path = run_folder / "events.jsonl"
    if not done or not path.exists():
        return
    with suppress(OSError):
        events = JournalWriter(path)
        try:
            for text in done:
                t_ns = time.monotonic_ns()
                events.append({"t_ns": t_ns, "source": "harness", "kind": "heal", "text": f"{by}: {text}"}, sync=False)
        finally:
            events.close()


def _undo_one(entry: JournalEntry) -> Undone:
    try:
        return Undone(entry=entry, did=undo(entry.inverse, entry.arguments), problem="")
    except (OSError, RuntimeError) as error:
        return Undone(entry=entry, did="", problem=str(error))
    except Exception as error:  # whatever is wrong with one entry, the others must still be undone
        return Undone(entry=entry, did="", problem=f"{type(error).__name__}: {error}")


def heal(*, state_folder: Path) -> HealReport:
    """Undo at once what every registered run whose owner is dead has left changed, and verify it.

    Runs whose owner lives are skipped: they heal themselves, and their watchdog does when they die.
    """
    undone: list[str] = []
    left: list[str] = []
    skipped: list[str] = []
    for path in registrations(state_folder):
        try:
            registration = Registration.load(path)
        except FileNotFoundError:
            continue  # its run has ended in between
        except (OSError, ValueError) as error:
            left.append(f"{path}: is not readable as a registered run ({error}); look at it, then delete it")
            continue
        if registration.owner.alive():
            skipped.append(f"{registration.run_id}: its tool still runs (process {registration.owner.pid})")
            continue
        try:
            results = _heal_run(registration)
        except OSError as error:
            left.append(f"{registration.run_id}: {registration.journal} cannot be read ({error}); make it readable")
            continue
        undone += [f"{registration.run_id}: {result.did}" for result in results if result.did]
        problems = [
            f"{registration.run_id}: {result.problem}; by hand: {by_hand(result.entry.inverse, result.entry.arguments)}"
            for result in results
            if result.problem
        ]
        left += problems
        if not problems:
            path.unlink(missing_ok=True)
    return HealReport(undone=tuple(undone), left=tuple(left), skipped=tuple(skipped))


def _heal_run(registration: Registration) -> list[Undone]:
    if registration.journal.exists():
        entries = JournalReader(registration.journal).open_entries()
    else:
        entries = _by_name(registration)
    # Also without its journal (somebody deleted the run folder) a run's processes are known by their token.
    entries.append(token_entry(registration.token))
    writer = None
    with suppress(OSError):
        if registration.journal.exists():  # making an empty one would hide that it is gone
            writer = JournalWriter(registration.journal)
    try:
        return undo_all(entries, run_folder=registration.journal.parent, writer=writer, by="heal")
    finally:
        if writer is not None:
            writer.close()


def _by_name(registration: Registration) -> list[JournalEntry]:
    """What of a run whose journal is gone has its name: tables, disks, and what it made on the usual Docker engine.

    Containers that others had started, and engines elsewhere, were known to the journal alone.
    """
    folder = Path(registration.token)
    found: list[tuple[str, dict[str, Any]]] = []
    for family in ("bridge", "netdev"):
        table = table_name(registration.run_id)
        with suppress(NftError):  # no nft, no such family in this kernel, or no right to look: then it made none
            if list_table(family, table) is not None:
                found.append(("delete-tables", {"table": table, "families": [family]}))
    found += [
        ("unmount", {"folder": str(where), "file": str(file)})
        for where in mounts_below(folder / "data")
        if (file := where.with_name(f".{where.name}.ext4")) and (it := mount_of(where)) and it.file == str(file)
    ]
    if os.access(_USUAL_ENGINE, os.R_OK | os.W_OK):
        engine = {"endpoint": f"unix://{_USUAL_ENGINE}", "token": registration.token}
        found += [(inverse, engine) for inverse in ("remove-containers", "remove-volumes", "remove-networks")]
    return [
        JournalEntry(id=f"named-{number}", inverse=inverse, arguments=arguments)
        for number, (inverse, arguments) in enumerate(found)
    ]
