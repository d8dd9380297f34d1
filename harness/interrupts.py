"""Whatever ends a run early, taken where it can be: never between doing something and knowing how to undo it.

That is SIGINT and SIGTERM, and an abort that another thread asks for (`abort`). By default it only sets `stop`; inside
`allowed()` it raises `Interrupted` or `Aborted` at once. So waits end immediately, and starting processes or injecting
faults is never torn in the middle. A second signal changes nothing: undoing goes on.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from types import FrameType

from .safety import Abort

__all__ = ["Aborted", "Interrupted", "Interrupts"]

# Wakes the main thread from a wait; Python runs handlers there only, whoever asks.
_WAKE = signal.SIGUSR1


class Interrupted(BaseException):  # named after what happened, as KeyboardInterrupt is
    """The user, or the machine's init, asked us to stop. Not an Exception, so no handler for errors swallows it."""

    def __init__(self, signal_name: str) -> None:
        self.signal_name = signal_name
        super().__init__(f"interrupted by {signal_name}")


class Aborted(BaseException):  # not an Exception for the same reason
    """A condition of the scenario's `[safety]`, or `aftershock stop`, ends the run."""

    def __init__(self, abort: Abort) -> None:
        self.abort = abort
        super().__init__(abort.text)


class Interrupts:
    """Installs the handlers for the length of a `with`. Use it in the main thread only."""

    def __init__(self, *, announce: Callable[[str], None] = lambda text: None) -> None:
        self.stop = threading.Event()
        self.aborted: Abort | None = None  # what was asked for, whether or not it was still in time
        self._announce = announce
        # A handler runs between any two bytecodes of the main thread. It may not take a lock that this thread may hold
        # (an Event's), nor write to a console that may be gone; putting into a SimpleQueue is reentrant.
        self._said: SimpleQueue[str | None] = SimpleQueue()
        self._received: str | None = None
        self._raised_signal = False
        self._raised_abort = False
        self._allowed = False
        self._installed = False
        self._asking = threading.Lock()  # never taken by the handlers

    @contextlib.contextmanager
    def installed(self) -> Iterator[Interrupts]:
        """Handle SIGINT and SIGTERM until the block ends, then put back what was there."""
        teller = threading.Thread(target=self._tell, name="interrupts", daemon=True)
        teller.start()
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        before[_WAKE] = signal.signal(_WAKE, self._wake)
        self._installed = True
        try:
            yield self
        finally:
            with self._asking:
                # From here nobody sends the waking signal, whose default is to end us.
                self._installed = False
            for number, handler in before.items():
                signal.signal(number, handler)
            self._said.put(None)
            teller.join()

    @contextlib.contextmanager
    def allowed(self) -> Iterator[None]:
        """Raise at once, here and for what came before; for waits and pure work."""
        try:
            # First allowed, then asked: a signal in between is raised by the one or the other.
            self._allowed = True
            self.check()
            yield
        finally:
            self._allowed = False

    def check(self) -> None:
        """Raise `Interrupted` or `Aborted` if one is due and was not raised yet."""
        if self._received is not None and not self._raised_signal:
            self._raised_signal = True
            raise Interrupted(self._received)
        if self.aborted is not None and not self._raised_abort and not self._raised_signal:
            self._raised_abort = True
            raise Aborted(self.aborted)

    def abort(self, abort: Abort) -> bool:
        """Ask the main thread to stop, from any other. False when it is stopping already: the first one counts."""
        with self._asking:
            if self.aborted is not None or self._received is not None or not self._installed:
                return False
            self.aborted = abort
            self._said.put(f"Ending the run early, and undoing what was done: {abort.text}")
            self.stop.set()
            main = threading.main_thread().ident
            assert main is not None
            signal.pthread_kill(main, _WAKE)
        return True

    def too_late(self) -> None:
        """Everything is undone and recorded: an abort that was not raised until now ends nothing any more."""
        self._raised_abort = self._raised_abort or self.aborted is not None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None:
            self._said.put("still undoing what was done; a second signal does not speed it up")
            return
        self._received = signal.Signals(number).name
        self._said.put(f"{self._received}: stopping, and undoing what was done")
        if self._allowed:
            self.check()

    def _wake(self, number: int, frame: FrameType | None) -> None:
        if self._allowed:
            self.check()

    def _tell(self) -> None:
        while (text := self._said.get()) is not None:
            self.stop.set()
            # rich leaves by SystemExit when standard output is closed; stopping must not depend on who listens.
            with contextlib.suppress(Exception, SystemExit):
                self._announce(text)
