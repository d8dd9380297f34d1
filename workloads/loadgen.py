"""A load process: `python -m aftershock.workloads.loadgen FOLDER NUMBER`.

Reads the specification in FOLDER, makes its slots and its page of counters there, starts its users, says READY on the
page, and waits on standard input for `begin <origin_ns>`. When standard input ends, the parent has gone or wants it
to, and the process ends at once: what it recorded is already in the files.
"""

from gevent import monkey

monkey.patch_all()

# ruff: noqa: E402  # gevent must have patched the interpreter before anything imports sockets or ssl

import argparse
import contextlib
import gc
import json
import logging
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

import gevent
from gevent.fileobject import FileObject

from .arrivals import arrivals, worker_count
from .locustfile import Fleet
from .page import Counter, Page, Phase, seconds_needed
from .recorder import NoSlotError, NullRecorder, Recorder
from .spec import LoadFile, read_spec
from .worker import Shared, make_workloads

_log = logging.getLogger("aftershock.load")

EXIT_NO_SLOTS = 74  # EX_IOERR of sysexits.h
EXIT_CRASH = 70
_FILES_BESIDE_CONNECTIONS = 100
_NICE = -10
_HAND_OVERS_AT_ONCE = 50  # then the users get a turn, however late the schedule is


def main() -> None:
    parser = argparse.ArgumentParser(description="One load process of a run; started by aftershock run.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("number", type=int)
    arguments = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    # Locust warns of spawning fast, which does no harm to users that begin by waiting.
    logging.getLogger("locust").setLevel(logging.ERROR)
    # Ctrl-C at a terminal reaches every process; what becomes of the load is for the parent to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _go_first()
    try:
        status = _run(arguments.folder, arguments.number)
    except Exception:
        _log.exception("the load process failed")
        status = EXIT_CRASH
    _exit(status)


def _go_first() -> None:
    """Before everybody else, where we may: a machine that others keep busy makes arrivals late, and then nothing can
    be said of availability. It takes a tenth of a core.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    # A niceness counts inside the session only where the kernel groups by sessions (sched(7), "the autogroup feature"):
    # there everything else on the machine, of whatever class, is as heavy as this session is.
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(_NICE), encoding="ascii")


def _run(folder: Path, number: int) -> int:
    spec = read_spec(folder)
    lanes = spec.lanes()
    try:
        _allow_files(sum(lane.clients for lane in lanes if lane.process == number) + _FILES_BESIDE_CONNECTIONS)
        page = Page(
            folder / f"load-{number}.page",
            seconds=seconds_needed(duration_s=spec.duration_s, timeout_s=spec.timeout_s),
        )
        recorder = _recorder(spec, folder, number)
    except (NoSlotError, OSError) as error:
        _log.error("%s", error)
        return EXIT_NO_SLOTS
    shared = Shared(
        spec=spec,
        recorder=recorder,
        page=page,
        # Beside the lanes' workers come those of the final reads, which run in the parent.
        workers=worker_count(lanes) + spec.final_workers,
        workloads=make_workloads(spec),
    )
    fleet = Fleet(shared, [lane for lane in lanes if lane.process == number], crash=_crash)
    commands = FileObject(sys.stdin.fileno(), "rb", close=False)
    fleet.start()
    # What exists now lives as long as the load; the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    page[Counter.PHASE] = Phase.READY
    origin_ns = _wait_for_begin(commands)
    gevent.spawn(_exit_with_parent, commands)
    _begin(page, origin_ns)
    gevent.spawn(_keep_books, page)
    gevent.spawn(_make_files_ahead, recorder)
    _play(fleet, spec, number, origin_ns)
    return _finish(fleet, folder, number)


def _allow_files(needed: int) -> None:
    """Make sure that every client can have its connection: a lack of descriptors would look like a failing service."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise OSError(
            f"this load process needs {needed} open files and may have {hard}; raise the limit (ulimit -n), lower "
            "in_flight, or use more processes in [load]"
        )
    if soft != resource.RLIM_INFINITY and needed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _recorder(spec: LoadFile, folder: Path, number: int) -> Recorder | NullRecorder:
    if not spec.record:
        return NullRecorder()
    mine = sum(1 for lane in spec.lanes() if lane.process == number)
    # Every arrival takes one slot, sent or not; lanes differ by one arrival at most.
    needed = mine * (spec.planned // len(spec.lanes()) + 1)
    return Recorder(folder, f"load-{number}", slots_per_file=spec.slots_per_file, needed=needed)


def _wait_for_begin(commands: FileObject) -> int:
    line = commands.readline()
    if not line:
        os._exit(0)
    word, _, rest = line.partition(b" ")
    if word != b"begin":
        raise ValueError(f"standard input: expected 'begin <origin_ns>', found {line!r}")
    return int(rest)


def _exit_with_parent(commands: FileObject) -> None:
    while commands.readline():
        pass
    os._exit(0)


def _begin(page: Page, origin_ns: int) -> None:
    page[Counter.ORIGIN_NS] = origin_ns
    page[Counter.CPU_BEGIN_NS] = page[Counter.CPU_NOW_NS] = time.process_time_ns()
    page[Counter.CLOCK_BEGIN_NS] = page[Counter.CLOCK_NOW_NS] = time.monotonic_ns()
    page[Counter.PHASE] = Phase.RUNNING


def _keep_books(page: Page) -> None:
    """CPU of this process while load runs, so that it is known however the process ends."""
    while page[Counter.PHASE] == Phase.RUNNING:
        page[Counter.CPU_NOW_NS] = time.process_time_ns()
        page[Counter.CLOCK_NOW_NS] = time.monotonic_ns()
        gevent.sleep(0.2)


def _make_files_ahead(recorder: Recorder | NullRecorder) -> None:
    """Keep one file of slots ahead, in a real thread: allocating may take the disk a while."""
    while True:
        if recorder.wants_file:
            gevent.get_hub().threadpool.apply(recorder.allocate)
        gevent.sleep(0.05)


def _play(fleet: Fleet, spec: LoadFile, number: int, origin_ns: int) -> None:
    """Hand out every arrival at its time, then wait for the last operations to end."""
    schedule = arrivals(spec.lanes(), process=number, rate_per_s=spec.rate_per_s, duration_s=spec.duration_s)
    hand_overs = 0
    for due_ns, lane in schedule:
        intended_ns = origin_ns + due_ns
        wait_ns = intended_ns - time.monotonic_ns()
        if wait_ns > 0:
            gevent.sleep(wait_ns / 1e9)
            hand_overs = 0
        elif hand_overs >= _HAND_OVERS_AT_ONCE:
            gevent.sleep(0)
            hand_overs = 0
        if fleet.stopped is not None:
            break
        hand_overs += 1
        fleet.dispatch(lane, intended_ns)
    # Every operation ends by itself at its timeout; the margin is for a machine that is very busy.
    deadline = time.monotonic() + spec.timeout_s + 5
    while fleet.idle_clients < fleet.clients and time.monotonic() < deadline:
        gevent.sleep(0.005)


def _finish(fleet: Fleet, folder: Path, number: int) -> int:
    page = fleet.shared.page
    page[Counter.CPU_NOW_NS] = time.process_time_ns()
    page[Counter.CLOCK_NOW_NS] = time.monotonic_ns()
    status = 0
    if fleet.stopped is not None:
        page.say(fleet.stopped)
        _log.error("stopped sending: %s", fleet.stopped)
        status = EXIT_NO_SLOTS
    else:
        try:
            (folder / f"locust-{number}.json").write_text(json.dumps(fleet.statistics(), indent=1))
        except OSError as error:
            _log.error("%s: cannot write Locust's statistics: %s", folder, error)
    page[Counter.PHASE] = Phase.STOPPED if fleet.stopped is not None else Phase.DONE
    return status


def _crash(error: Exception) -> None:
    """A bug of ours in the middle of an operation: end, so that the run is seen to be incomplete."""
    _log.critical("a client of the load process failed in its own code", exc_info=error)
    _exit(EXIT_CRASH)


def _exit(status: int) -> NoReturn:
    """End at once: users still wait for arrivals that will not come, and nothing they hold needs a clean end."""
    with contextlib.suppress(OSError):  # the log may be on the full disk that is the reason
        sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
