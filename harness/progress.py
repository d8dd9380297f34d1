"""What a person sees while a run goes on: one live line on a terminal, plain lines elsewhere.

Also the watch on the load: when a load process dies, nobody records any more, so the run is stopped at once.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

__all__ = ["LoadCounters", "Progress", "Watch", "WatchedLoad", "WatchedSchedule"]

_PHASES = {
    "deploy": "Deploying the system",
    "load": "Load and faults",
    "settle": "Waiting until the system is whole again",
    "final": "Reading everything back",
    "collect": "Collecting what was recorded",
    "check": "Checking",
    "report": "Writing the report",
}
_PLAIN_INTERVAL_S = 5.0
_LIVE_INTERVAL_S = 0.25


class LoadCounters(Protocol):
    """What the load says of itself at this moment."""

    @property
    def per_second(self) -> int: ...
    @property
    def unavailable_s(self) -> int: ...


class WatchedLoad(Protocol):
    def progress(self) -> LoadCounters: ...
    def alive(self) -> str | None: ...


class WatchedSchedule(Protocol):
    def current(self, at_s: float) -> str | None:
        """Title of the fault that is planned to be on at this time."""


@dataclass(slots=True)
class Watch:
    """Result of watching: `problem` is set when the load died."""

    problem: str | None = None


class Progress:
    """Prints to one console. `quiet` prints nothing but what ends the run."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._begun_s = time.monotonic()

    def started(self, folder: Path, scenario: str, seed: int) -> None:
        self._begun_s = time.monotonic()
        self._print(f"Scenario {scenario}, seed {seed}, record in {folder}")

    def phase(self, phase: str) -> None:
        if phase in _PHASES:
            self._print(f"{time.monotonic() - self._begun_s:6.1f} s  {_PHASES[phase]}")

    def note(self, text: str) -> None:
        """Something that the person must see now, also when quiet."""
        self._say(text)

    @contextlib.contextmanager
    def watching(
        self,
        load: WatchedLoad,
        schedule: WatchedSchedule,
        origin_ns: int,
        duration_s: float,
        stop: threading.Event,
        *,
        nearest: Callable[[], str | None] = lambda: None,
    ) -> Iterator[Watch]:
        """Show the load until the block ends; sets `stop` when a load process dies.

        `nearest` gives what is about to end the run early, if anything is.
        """
        watch, ended = Watch(), threading.Event()
        live = Live(console=self._console, transient=True, auto_refresh=False) if self._live else None
        thread = threading.Thread(
            target=self._watch,
            args=(load, schedule, origin_ns, duration_s, stop, ended, watch, live, nearest),
            name="progress",
            daemon=True,
        )
        with live or contextlib.nullcontext():
            thread.start()
            try:
                yield watch
            finally:
                ended.set()
                thread.join()

    def _watch(
        self,
        load: WatchedLoad,
        schedule: WatchedSchedule,
        origin_ns: int,
        duration_s: float,
        stop: threading.Event,
        ended: threading.Event,
        watch: Watch,
        live: Live | None,
        nearest: Callable[[], str | None],
    ) -> None:
        printed_s = 0.0
        while not ended.wait(_LIVE_INTERVAL_S):
            watch.problem = load.alive()
            if watch.problem is not None:
                self.note(f"The load has stopped: {watch.problem}")
                stop.set()
                return
            at_s = (time.monotonic_ns() - origin_ns) / 1e9
            line = _line(load.progress(), schedule.current(at_s), max(0.0, duration_s - at_s))
            near = nearest()
            if near is not None:
                line += f"   near its end: {near}"
            if live is not None:
                live.update(Text(line), refresh=True)
            elif at_s - printed_s >= _PLAIN_INTERVAL_S:
                printed_s = at_s
                self._print(f"{time.monotonic() - self._begun_s:6.1f} s  {line}")

    @property
    def _live(self) -> bool:
        return self._console.is_terminal and not self._quiet

    def _print(self, text: str) -> None:
        if not self._quiet:
            self._say(text)

    def _say(self, text: str) -> None:
        # rich leaves by SystemExit when whoever read our output is gone. The run goes on: it has things to undo.
        with contextlib.suppress(SystemExit):
            self._console.print(Text(text))


def _line(counters: LoadCounters, fault: str | None, left_s: float) -> str:
    return (
        f"{left_s:4.0f} s left   {counters.per_second:5d} ok/s   "
        f"unavailable {counters.unavailable_s} s   fault: {fault or 'none'}"
    )
