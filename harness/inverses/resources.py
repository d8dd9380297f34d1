"""Inverses on a member's share of the machine: who is ended first for want of memory, and what helpers leave behind.

| inverse | arguments | undone when |
|---|---|---|
| `oom-score` | `process` (identity), `score`, `what` | its score is what it was, or it is gone |
| `remove-cgroups` | `folders`, `what` | each is gone, or somebody runs in it |

An engine removes a container's cgroups when the container ends. One in which a helper of ours still runs then is kept
by the kernel, and the engine does not come back for it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Any, Final

from ..identity import ProcessIdentity
from ._inverse import Inverse

__all__ = ["INVERSES", "oom_score", "set_oom_score"]


def oom_score(identity: ProcessIdentity) -> int | None:
    """The score of exactly this process; None when it is gone."""
    return _at(identity, None)


def set_oom_score(identity: ProcessIdentity, score: int) -> bool:
    """Set the score of exactly this process. False when it is gone. Raises OSError."""
    return _at(identity, score) is not None


def _at(identity: ProcessIdentity, score: int | None) -> int | None:
    """Read, or write and read back, through a descriptor of the process's folder: that one is never another's."""
    try:
        folder = os.open(f"/proc/{identity.pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if not identity.alive():
            return None
        file = os.open("oom_score_adj", os.O_RDWR | os.O_CLOEXEC, dir_fd=folder)
        try:
            if score is not None:
                os.write(file, str(score).encode())
            return int(os.pread(file, 32, 0))
        finally:
            os.close(file)
    except (FileNotFoundError, ProcessLookupError):
        return None
    finally:
        os.close(folder)


def _restore_score(arguments: Mapping[str, Any]) -> str:
    identity, score = ProcessIdentity.from_json(arguments["process"]), int(arguments["score"])
    if oom_score(identity) in (None, score):
        return ""
    set_oom_score(identity, score)
    now = oom_score(identity)
    if now not in (None, score):
        raise RuntimeError(f"oom_score_adj of process {identity.pid} is {now}, and was {score}")
    return f"put oom_score_adj of {arguments['what']} back to {score}"


def _remove_cgroups(arguments: Mapping[str, Any]) -> str:
    removed = False
    for folder in arguments["folders"]:
        try:
            os.rmdir(folder)  # noqa: PTH106 - the kernel refuses while anybody is inside, and that is what is wanted
            removed = True
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
    return f"removed the cgroups that {arguments['what']} had left" if removed else ""


INVERSES: Final[dict[str, Inverse]] = {
    "oom-score": Inverse(
        undo=_restore_score, by_hand=lambda a: f"echo {a['score']} > /proc/{a['process']['pid']}/oom_score_adj", rank=10
    ),
    # After the containers: theirs are removed with them, if no helper is in the way.
    "remove-cgroups": Inverse(
        undo=_remove_cgroups, by_hand=lambda a: f"rmdir {' '.join(a['folders'])}  # those that are empty", rank=60
    ),
}
