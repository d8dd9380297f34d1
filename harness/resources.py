"""Samples CPU, memory and descriptors of a run's processes into `metrics/resources.jsonl`, once a second.

Read from /proc, which needs no privilege for one's own children.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

__all__ = ["sampling"]

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def sampling(path: Path, pids: Callable[[], Mapping[str, int]], *, interval_s: float = 1.0) -> Iterator[None]:
    """Sample while the context lasts. `pids` names the processes to look at now; those gone are left out."""
    stop = threading.Event()
    thread = threading.Thread(target=_sample, args=(path, pids, interval_s, stop), name="resources", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _sample(path: Path, pids: Callable[[], Mapping[str, int]], interval_s: float, stop: threading.Event) -> None:
    # A full disk ends the samples and nothing else: the run says so where it matters, at the record itself.
    with contextlib.suppress(OSError), path.open("a", encoding="utf-8") as file:
        while True:
            t_ns = time.monotonic_ns()
            for member, pid in pids().items():
                usage = _usage(pid)
                if usage is not None:
                    file.write(json.dumps({"t_ns": t_ns, "member": member, **usage}, separators=(",", ":")) + "\n")
            file.flush()
            if stop.wait(interval_s):
                return


def _usage(pid: int) -> dict[str, float] | None:
    """CPU seconds (user and system), resident bytes and open descriptors; None when the process is gone."""
    try:
        # The command's name stands in brackets and may hold anything; the fields we want come after the last one.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        descriptors = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return None
    return {
        "cpu_s": (int(fields[11]) + int(fields[12])) / _TICKS_PER_S,
        "rss_bytes": int(fields[21]) * _PAGE_BYTES,
        "fds": descriptors,
    }
