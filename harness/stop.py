"""`aftershock stop`: tells runs that go on to end, and waits until they have undone what they did.

A run is found by its registration, as `heal` finds it, and told by a file in its own folder that it looks for. No
signal is sent, so nobody else can be hit, whatever has become of the process in between.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .errors import UsageError
from .journal import Registration, registrations

__all__ = ["STOP_REQUEST", "Stopped", "choose", "request", "running", "wait_healed"]

# Its existence in the run folder asks the run to end; it stays there as a record.
STOP_REQUEST: Final = "stop-requested"
_POLL_S: Final = 0.05
# A tool that dies is healed by its watchdog within 10 s (DESIGN section 4); this is a little more.
_WATCHDOG_S: Final = 12.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """What became of a run that was told to stop. `problem` is empty when it has healed."""

    run_id: str
    run_folder: Path
    problem: str


def running(state_folder: Path) -> list[Registration]:
    """Runs whose tool lives and which have something to undo, oldest first."""
    found = []
    for path in registrations(state_folder):
        try:
            registration = Registration.load(path)
        except (OSError, ValueError):
            continue  # it has ended in between, or is for `aftershock heal` to complain about
        if registration.owner.alive():
            found.append(registration)
    return found


def choose(name: str | None, going_on: Sequence[Registration]) -> Registration:
    """The one run that is meant: by run id, by its folder's name or path, or the only one there is.

    Raises UsageError, which lists those that go on, when there is none or more than one.
    """
    listed = "\n".join(f"  {run.run_id}   ({run.journal.parent})" for run in going_on)
    if name is None:
        found = list(going_on)
        wrong = "several runs are under way; name one of them, or say --all:" if found else "no run is under way"
    else:
        path = Path(name).resolve()
        found = [
            run
            for run in going_on
            if name in (run.run_id, run.journal.parent.name) or run.journal.parent.resolve() == path
        ]
        wrong = (
            f"{name!r} means several runs; name one by its id:"
            if found
            else f"no run {name!r} is under way" + ("; these are:" if going_on else "")
        )
    if len(found) != 1:
        raise UsageError(f"{wrong}\n{listed}" if listed else wrong)
    return found[0]


def request(registration: Registration) -> None:
    """Ask a run to end. Raises UsageError when its folder cannot be written."""
    path = registration.journal.parent / STOP_REQUEST
    try:
        path.touch()
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be written ({error.strerror}), so the run was not asked to stop; "
            f"by hand: kill -TERM {registration.owner.pid}"
        ) from None


def wait_healed(
    registration: Registration, *, deadline_s: float, clock_s: Callable[[], float] = time.monotonic
) -> Stopped:
    """Wait until a run has undone what it did, which is when its registration goes."""
    until_s = clock_s() + deadline_s
    died_s: float | None = None
    while registration.path.exists():
        if not registration.owner.alive():
            died_s = clock_s() if died_s is None else died_s
            if clock_s() - died_s > _WATCHDOG_S:
                return _result(registration, "its tool died before everything was undone; run `aftershock heal`")
        if clock_s() > until_s:
            pid = registration.owner.pid
            return _result(
                registration,
                f"it has not undone everything within {deadline_s:g} s (process {pid}). It may need longer: say stop "
                f"again. If it hangs, `kill -KILL {pid}` lets its watchdog undo what is left",
            )
        time.sleep(_POLL_S)
    return _result(registration, _unverified(registration.journal.parent / "events.jsonl"))


def _result(registration: Registration, problem: str) -> Stopped:
    return Stopped(run_id=registration.run_id, run_folder=registration.journal.parent, problem=problem)


def _unverified(events: Path) -> str:
    """A heal that ran and could not be verified leaves nothing in the journal; the run's events tell of it."""
    try:
        lines = events.read_bytes().splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if event.get("kind") == "fault.healed" and event.get("verified") is False:
            return (
                f"fault {event.get('fault')} was not seen to be undone: {'; '.join(map(str, event.get('facts', [])))}"
            )
    return ""
