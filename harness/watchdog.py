"""The watchdog: a detached process that heals when the tool cannot (DESIGN section 4, faults).

It holds the read end of a pipe whose write end only the tool has. End of file means that the tool is gone, whatever
ended it: then every open inverse of the journal is carried out, which ends the run's processes. While the tool lives
it carries out the single entries whose time is up, for a tool that hangs. Standard library only, so it starts at once.

    aftershock.harness.watchdog REGISTRATION        (stdin: the pipe; says `ready` on stdout)
"""

from __future__ import annotations

import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from .errors import SetupError
from .heal import Undone, undo_all
from .journal import JournalEntry, JournalReader, JournalWriter, Registration, RunJournal, token_entry

__all__ = ["main", "start_watchdog"]

_POLL_S: Final = 0.2
_START_DEADLINE_S: Final = 15.0
_END_DEADLINE_S: Final = 15.0
# An entry that cannot be undone yet is tried again this often while the tool lives.
_RETRY_S: Final = 1.0
# Once the tool is gone: try for this long (DESIGN: healed within 10 s), then leave the rest to `aftershock heal`.
_HEAL_DEADLINE_S: Final = 9.0
# A program that the tool had just started when it died (nft, tc, mount), or a request to an engine, outlives it and may
# take effect after we looked: whatever was open is looked at again after this, until a look finds nothing.
_SETTLE_S: Final = 0.5


@contextmanager
def start_watchdog(journal: RunJournal) -> Iterator[int]:
    """Start the watchdog of a journal, wait until it watches, and yield its pid. Leaving it ends it.

    Start it before anything that needs undoing. Raises SetupError when it does not come up.
    """
    command = [sys.executable, "-m", "aftershock.harness.watchdog", str(journal.registration)]
    # pipe() makes both ends close-on-exec, so no child of the tool ever holds the write end open.
    read_end, write_end = os.pipe()
    try:
        try:
            log = journal.path.parent / "logs" / "watchdog.log"
            log.parent.mkdir(exist_ok=True)
            with log.open("ab") as stderr:
                process = subprocess.Popen(
                    command, stdin=read_end, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True
                )
        except OSError as error:
            raise SetupError(f"the watchdog cannot be started: {error}") from error
        finally:
            os.close(read_end)
        try:
            _wait_ready(process, command)
            yield process.pid
        finally:
            os.close(write_end)
            write_end = -1
            _wait_end(process)
    finally:
        if write_end >= 0:
            os.close(write_end)


def _wait_ready(process: subprocess.Popen[bytes], command: list[str]) -> None:
    assert process.stdout is not None
    # A confirmed handshake: a watchdog that is only believed to watch is none (testcontainers' issue 1114).
    readable, _, _ = select.select([process.stdout], [], [], _START_DEADLINE_S)
    said = process.stdout.readline().strip() if readable else b""
    if said != b"ready":
        process.kill()
        raise SetupError(
            f"the watchdog did not start within {_START_DEADLINE_S:g} s (it said {said!r}); "
            f"logs/watchdog.log in the run folder may say why; run by hand: {' '.join(command)}"
        )


def _wait_end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_END_DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def main(arguments: list[str]) -> int:
    """Watch until standard input ends, then heal. Returns 0 when nothing is left to undo, else 5."""
    registration = Registration.load(Path(arguments[0]))
    # Ctrl-C and a closed terminal are the tool's to answer; it ends this process by closing the pipe.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watchdog = _Watchdog(registration)
    with suppress(OSError):  # the tool is dead already: then there is nobody to tell, and all the more to do
        os.write(1, b"ready\n")
    watchdog.watch()
    return 0 if watchdog.heal() else 5


class _Watchdog:
    def __init__(self, registration: Registration) -> None:
        self._registration = registration
        self._reader = JournalReader(registration.journal)
        self._writer = JournalWriter(registration.journal)

    def watch(self) -> None:
        """Until the tool has ended, or has closed the pipe; meanwhile carry out what is overdue."""
        poller = select.poll()
        poller.register(0, select.POLLIN)  # the tool never writes, so any event is the pipe's end
        with suppress(ProcessLookupError):
            # The second sign of death: a child that the tool forked, without exec, would hold the pipe open.
            poller.register(os.pidfd_open(self._registration.owner.pid), select.POLLIN)
        not_before_ns: dict[str, float] = {}
        while self._registration.owner.alive() and not poller.poll(_POLL_S * 1000):
            now_ns = time.monotonic_ns()
            for entry in self._reader.open_entries():
                due_ns = not_before_ns.get(entry.id, entry.expires_ns)
                if due_ns is not None and due_ns <= now_ns:
                    # Done is done, also when the disk is too full to say so: a later pause is not ours to end.
                    not_before_ns[entry.id] = now_ns + _RETRY_S * 1e9 if self._undo([entry]) else math.inf

    def heal(self) -> bool:
        """Whether everything is undone."""
        until = time.monotonic() + _HEAL_DEADLINE_S
        known: dict[str, JournalEntry] = {}
        settled = False
        while True:
            known |= {entry.id: entry for entry in self._reader.open_entries()}
            results = self._results([*known.values(), token_entry(self._registration.token)])
            left = any(result.problem for result in results)
            if not left and (not known or (settled and not any(result.did for result in results))):
                break
            if time.monotonic() > until:
                if left:
                    return False
                break
            settled = not left
            time.sleep(_POLL_S if left else _SETTLE_S)
        self._registration.path.unlink(missing_ok=True)
        return True

    def _undo(self, entries: list[JournalEntry]) -> bool:
        """Whether something is left."""
        return any(result.problem for result in self._results(entries))

    def _results(self, entries: list[JournalEntry]) -> list[Undone]:
        run_folder = self._registration.journal.parent
        results = undo_all(entries, run_folder=run_folder, writer=self._writer, by="watchdog")
        for result in results:
            if result.did or result.problem:
                print(f"{result.entry.id}: {result.did or result.problem}", file=sys.stderr, flush=True)
        return results


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
