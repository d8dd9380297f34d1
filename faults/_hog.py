"""A program that takes CPU or memory, for a fault to run inside a member's limits (interfaces.Confinement.start).

    _hog.py cpu CORES                     burns this many cores' worth of CPU
    _hog.py memory USED FAST              takes memory until USED bytes are used in its cgroup, by whomever, and holds
                                          it; up to FAST without pausing, and slowly from there

Run by path, with nothing but the standard library. It takes no memory outside of a cgroup that has a limit: it looks
itself whether the kernel lists it there, and ends with status 3 otherwise. When the member is gone it takes no more.
"""

from __future__ import annotations

import math
import mmap
import os
import select
import sys
import threading
import time
import zlib
from pathlib import Path

__all__ = ["main"]

PERIOD_S = 0.05
STEP_BYTES = 1 << 20
SLOW_STEP_BYTES = 1 << 17
SLOW_PAUSE_S = 0.002
TOUCH_EVERY_S = 1.0
NOT_CONFINED = 3


def main(arguments: list[str]) -> None:
    """Until it is ended: by whoever started it, or by the alarm that it was given."""
    if arguments[0] == "cpu":
        _burn(float(arguments[1]))
    else:
        problem = _not_confined()
        if problem:
            print(problem, file=sys.stderr)
            sys.exit(NOT_CONFINED)
        _hold(int(arguments[1]), int(arguments[2]))


# ------------------------------------------------------------------------------------------------ CPU


def _burn(cores: float) -> None:
    """Threads that each burn an equal part; the checksum gives up the interpreter's lock, so they run at once."""
    count = max(1, math.ceil(cores))
    for _ in range(count - 1):
        threading.Thread(target=_burn_forever, args=(cores / count,), daemon=True).start()
    _burn_forever(cores / count)


def _burn_forever(part: float) -> None:
    """Burn `part` of one core: so much of each period, and then nothing until the next."""
    block = bytes(1 << 18)
    while True:
        begun_s, used_s = time.monotonic(), time.thread_time()
        while time.thread_time() - used_s < part * PERIOD_S:
            zlib.crc32(block)
        time.sleep(max(begun_s + PERIOD_S - time.monotonic(), 0) if part < 1 else 0)


# ------------------------------------------------------------------------------------------------ memory


def _not_confined() -> str:
    """Why memory must not be taken here, or nothing."""
    folder = Path(os.environ.get("AFTERSHOCK_MEMORY_CGROUP", "/nonexistent"))
    try:
        if str(os.getpid()) not in (folder / "cgroup.procs").read_text(encoding="ascii").split():
            return f"this process is not in {folder}"
        name = "memory.max" if _unified(folder) else "memory.limit_in_bytes"
        limit = (folder / name).read_text(encoding="ascii").strip()
    except OSError as error:
        return f"{folder} is no memory cgroup that can be read: {error}"
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return "" if limit != "max" and int(limit) < machine else f"{folder} has no limit below the machine's memory"


def _hold(wanted: int, fast: int) -> None:
    """Take memory page by page, slowly towards the end, so that what the kernel does about it is seen in time."""
    member = _member()
    held: list[mmap.mmap] = []
    while True:
        used = _used()
        while used < wanted and not member.poll(0):
            block = mmap.mmap(
                -1, STEP_BYTES if used < fast else SLOW_STEP_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            )
            _touch(block)
            held.append(block)
            if used >= fast:
                time.sleep(SLOW_PAUSE_S)
            used = _used()
        time.sleep(TOUCH_EVERY_S)
        for block in held:  # so that none of it is swapped out for being idle
            _touch(block)


def _used() -> int:
    """What is used in our cgroup, without page cache that the kernel would drop at once."""
    folder = Path(os.environ["AFTERSHOCK_MEMORY_CGROUP"])
    name, cache = "memory.usage_in_bytes", "total_inactive_file "
    if _unified(folder):
        name, cache = "memory.current", "inactive_file "
    used = int((folder / name).read_text(encoding="ascii"))
    for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines():
        if line.startswith(cache):
            return used - int(line[len(cache) :])
    return used


def _unified(folder: Path) -> bool:
    return (folder / "memory.max").exists()


def _touch(block: mmap.mmap) -> None:
    for offset in range(0, len(block), mmap.PAGESIZE):
        block[offset] = 1


def _member() -> select.poll:
    """Readable once the member's main process has ended."""
    poller = select.poll()
    try:
        poller.register(os.pidfd_open(int(os.environ["AFTERSHOCK_MEMBER_PID"])), select.POLLIN)
    except ProcessLookupError:
        sys.exit(0)
    return poller


if __name__ == "__main__":
    main(sys.argv[1:])
