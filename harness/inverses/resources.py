"""The inverse of making a process the first that the kernel ends when memory runs out.

| inverse | arguments | undone when |
|---|---|---|
| `oom-score` | `process` (identity), `score`, `what` | its score is what it was, or it is gone |
"""

from __future__ import annotations

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


INVERSES: Final[dict[str, Inverse]] = {
    "oom-score": Inverse(
        undo=_restore_score, by_hand=lambda a: f"echo {a['score']} > /proc/{a['process']['pid']}/oom_score_adj", rank=10
    ),
}
