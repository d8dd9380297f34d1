"""SIGINT and SIGTERM, taken where they can be: never between doing something and knowing how to undo it.

By default a signal only sets `stop`; inside `allowed()` it raises `Interrupted` at once. So waits end immediately, and
starting processes or injecting faults is never torn in the middle. A second signal changes nothing: undoing goes on.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["Interrupted", "Interrupts"]


class Interrupted(BaseException):  # named after what happened, as KeyboardInterrupt is
    """The user, or the machine's init, asked us to stop. Not an Exception, so no handler for errors swallows it."""

    def __init__(self, signal_name: str) -> None:
        self.signal_name = signal_name
        super().__init__(f"interrupted by {signal_name}")


class Interrupts:
    """Installs the handlers for the length of a `with`. Use it in the main thread only."""

    def __init__(self, *, announce: Callable[[str], None] = lambda text: None) -> None:
        self.stop = threading.Event()
        self._announce = announce
        self._received: str | None = None
        self._raised = False
        self._allowed = False

    @contextlib.contextmanager
    def installed(self) -> Iterator[Interrupts]:
        """Handle SIGINT and SIGTERM until the block ends, then put back what was there."""
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def allowed(self) -> Iterator[None]:
        """Raise `Interrupted` at once, here and for a signal that came before; for waits and pure work."""
        self.check()
        self._allowed = True
        try:
            yield
        finally:
            self._allowed = False

    def check(self) -> None:
        """Raise `Interrupted` if a signal came and it was not raised yet."""
        if self._received is not None and not self._raised:
            self._raised = True
            raise Interrupted(self._received)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None:
            self._announce("still undoing what was done; a second signal does not speed it up")
            return
        self._received = signal.Signals(number).name
        self.stop.set()
        self._announce(f"{self._received}: stopping, and undoing what was done")
        if self._allowed:
            self.check()
