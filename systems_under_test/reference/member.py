"""What all three kinds of process share: start, logs, events, ready, signals, graceful stop, exit status."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Coroutine
from typing import Any, Final, Protocol

import uvloop

from .data_folder import DataFolderError, FolderLock
from .event_log import EventLog
from .http_common import HttpServer, MemberApp
from .member_config import MemberConfig
from .metrics import Metrics
from .transport import listening_socket

EXIT_USAGE: Final = 2
EXIT_BUG: Final = 70  # EX_SOFTWARE of sysexits.h
_READY_POLL_S: Final = 0.02

logger = logging.getLogger("reference")


class Service(Protocol):
    """A node, a router or a controller."""

    fatal_errors: bool  # whether an unexpected exception must end the process rather than be logged

    def app(self) -> MemberApp: ...

    async def start(self) -> None:
        """Open everything and begin to serve the peer port."""

    def missing(self) -> str:
        """What is still missing before this member serves; empty when it does."""
        ...

    async def stop(self) -> None:
        """Drain, write what is queued, close."""


class Context:
    """What a service is given: its configuration and the places it reports to."""

    def __init__(self, config: MemberConfig, events: EventLog) -> None:
        self.config = config
        self.events = events
        self.metrics = Metrics(member=config.name)
        self.started_ns = time.monotonic_ns()

    @staticmethod
    def clock_ns() -> int:
        """The protocol's interval clock: goes on while the process is stopped and while the machine is suspended."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def run(config: MemberConfig, make: Any) -> int:
    """Run one member until SIGTERM or SIGINT. Returns the exit status. `make(context)` builds the service."""
    _log_to_stderr(config.name)
    try:
        lock = FolderLock(config.data)
        events = EventLog(config.data, source=config.name)
    except (DataFolderError, OSError) as error:
        print(f"aftershock reference {config.role} {config.name}: {error}", file=sys.stderr)
        return EXIT_USAGE
    unsafe = config.settings.unsafe()
    if unsafe:
        logger.warning("unsafe settings, each breaks a promise on purpose: %s", ", ".join(unsafe))
    events.write("member.started", {"member": config.name, "pid": os.getpid(), "role": config.role, "unsafe": unsafe})
    logger.info("started role=%s pid=%d data=%s", config.role, os.getpid(), config.data)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(Context(config, events), make))
        logger.info("stopped")
        return 0
    except (DataFolderError, OSError) as error:
        logger.critical("cannot start: %s", error)
        return EXIT_USAGE
    finally:
        events.close()
        lock.release()


async def _serve(context: Context, make: Any) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    service: Service = make(context)
    loop.set_exception_handler(lambda _, what: _unexpected(service, what))
    host, port = context.config.listen["http"]
    listener = listening_socket(host, port)
    await service.start()
    http = HttpServer(service.app())
    http.begin(listener)
    # What was read at the start lives as long as the process: keep the collector from walking it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    ready = watched(_announce_ready(context, service, http))
    await stopping.wait()
    logger.info("stopping")
    ready.cancel()
    await http.finish()
    await service.stop()


async def _announce_ready(context: Context, service: Service, http: HttpServer) -> None:
    while not http.started or service.missing():
        await asyncio.sleep(_READY_POLL_S)
    after_ms = (time.monotonic_ns() - context.started_ns) // 1_000_000
    context.events.write("member.ready", {"member": context.config.name, "after_ms": after_ms})
    logger.info("ready after_ms=%d", after_ms)


def watched(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task whose unexpected end is reported at once: one that is merely kept would fail in silence."""
    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(_report)
    return task


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        context = {"message": f"task {task.get_coro()} ended", "exception": error}
        asyncio.get_running_loop().call_exception_handler(context)


def _unexpected(service: Service, what: dict[str, Any]) -> None:
    error = what.get("exception")
    logger.error("unexpected: %s", what.get("message"), exc_info=error)
    if service.fatal_errors:
        # Going on after a broken invariant could turn one wrong replica into lost data.
        sys.stderr.flush()
        os._exit(EXIT_BUG)


class _MonotonicFormatter(logging.Formatter):
    """Puts CLOCK_MONOTONIC seconds first: the clock that every other record of a run is in."""

    def format(self, record: logging.LogRecord) -> str:
        return f"[{time.monotonic():.6f}] {super().format(record)}"


def _log_to_stderr(name: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    text = f"%(asctime)s.%(msecs)03d {name} %(levelname)s %(message)s"
    handler.setFormatter(_MonotonicFormatter(text, datefmt="%Y-%m-%dT%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
