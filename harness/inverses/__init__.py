"""The known inverses: how what a journal entry names is undone. Each module has a table of its own; here they are one.

Standard library only: the watchdog imports this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from . import containers, disks, packets, processes, resources, toxics
from ._inverse import Inverse

__all__ = ["KNOWN_INVERSES", "by_hand", "rank", "undo"]

KNOWN_INVERSES: Final[Mapping[str, Inverse]] = {
    **toxics.INVERSES,
    **packets.INVERSES,
    **processes.INVERSES,
    **containers.INVERSES,
    **disks.INVERSES,
    **resources.INVERSES,
}

_LAST: Final = 100


def undo(inverse: str, arguments: Mapping[str, Any]) -> str:
    """Carry out one inverse and verify it. Returns what was done, `""` when there was nothing left to undo.

    Raises OSError or RuntimeError saying what is still changed, and anything for an entry that is not what we write.
    """
    if inverse not in KNOWN_INVERSES:
        raise RuntimeError(f"unknown inverse {inverse!r}; known: {', '.join(sorted(KNOWN_INVERSES))}")
    return KNOWN_INVERSES[inverse].undo(arguments)


def by_hand(inverse: str, arguments: Mapping[str, Any]) -> str:
    """What a person types to undo it when we could not. Never raises: one bad entry must not hide the others."""
    try:
        return KNOWN_INVERSES[inverse].by_hand(arguments)
    except Exception:
        return f"we cannot read this entry; look at what {inverse!r} of {arguments!r} means, and undo that"


def rank(inverse: str) -> int:
    """Where it stands among the others: lower is undone first, and what we do not know last."""
    return KNOWN_INVERSES[inverse].rank if inverse in KNOWN_INVERSES else _LAST
