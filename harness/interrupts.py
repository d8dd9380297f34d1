"""SIGINT and SIGTERM, taken where they can be: never between doing something and knowing how to undo it.

By default a signal only sets `stop`; inside `allowed()` it raises `Interrupted` at once. So waits end immediately, and
starting processes or injecting faults is never torn in the middle. A second signal changes nothing: undoing goes on.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
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
        # A handler runs between any two bytecodes of the main thread. It may not take a lock that this thread may hold
        # (an Event's), nor write to a console that may be gone; putting into a SimpleQueue is reentrant.
        self._said: SimpleQueue[str | None] = SimpleQueue()
        self._received: str | None = None
        self._raised = False
        self._allowed = False

    @contextlib.contextmanager
    def installed(self) -> Iterator[Interrupts]:
        """Handle SIGINT and SIGTERM until the block ends, then put back what was there."""
        teller = threading.Thread(target=self._tell, name="interrupts", daemon=True)
        teller.start()
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self._said.put(None)
            teller.join()

    @contextlib.contextmanager
    def allowed(self) -> Iterator[None]:
        """Raise `Interrupted` at once, here and for a signal that came before; for waits and pure work."""
        try:
            # First allowed, then asked: a signal in between is raised by the one or the other.
            self._allowed = True
            self.check()
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
            self._said.put("still undoing what was done; a second signal does not speed it up")
            return
        self._received = signal.Signals(number).name
        self._said.put(f"{self._received}: stopping, and undoing what was done")
        if self._allowed:
            self.check()

    def _tell(self) -> None:
        while (text := self._said.get()) is not None:
            self.stop.set()
            # rich leaves by SystemExit when standard output is closed; stopping must not depend on who listens.
            with contextlib.suppress(Exception, SystemExit):
                self._announce(text)
