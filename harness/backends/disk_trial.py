"""Writes to a member's disk as the member would, and says how that went, as one line of JSON.

    disk_trial.py COUNT SIZE          (working folder: the root of the file system)

COUNT times SIZE bytes, each followed by fsync, in a file of its own that it takes away again. Run by path in the
member's cgroups (enter.py), with nothing but the standard library.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time

__all__ = ["main"]

TRIAL = ".aftershock-trial"


def main(arguments: list[str]) -> None:
    """`error` is the name of the error that ended it (`ENOSPC`, `EROFS`), or empty."""
    count, size = int(arguments[0]), int(arguments[1])
    written, error, begun_ns = 0, "", time.monotonic_ns()
    try:
        file = os.open(TRIAL, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            for _ in range(count):
                if os.write(file, bytes(size)) != size:
                    error = "ENOSPC"  # what fitted was written; the next one would raise it
                    break
                os.fsync(file)
                written += 1
        finally:
            os.close(file)
            os.unlink(TRIAL)  # noqa: PTH108, the standard library's smallest part starts soonest
    except OSError as problem:
        error = errno.errorcode.get(problem.errno or 0, str(problem))
    seconds = (time.monotonic_ns() - begun_ns) / 1e9
    sys.stdout.write(json.dumps({"written": written, "error": error, "seconds": seconds}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
