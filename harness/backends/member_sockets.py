"""Open TCP connections of a member, by the ss program in its network namespace: resetting them, what they counted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from ..errors import SetupError
from ..identity import ProcessIdentity
from ..network_namespace import inside
from ..programs_here import ask

__all__ = ["OutOfOrder", "reset_connections"]

# A line of `ss -tnioH`: state, queues, ours, theirs, and what the connection has counted.
_CONNECTION: Final = re.compile(r"^\S+\s+\d+\s+\d+\s+(\S+)\s+(\S+)\s(.*)$", re.MULTILINE)
_OUT_OF_ORDER: Final = re.compile(r"\brcv_ooopack:(\d+)")


class OutOfOrder:
    """Segments that a member's TCP got out of order, by the address that they came from; never less than before.

    A connection's own count goes with it, so what it had counted when it was last looked at is kept.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[ProcessIdentity, str, str], int] = {}
        self._sums: dict[tuple[ProcessIdentity, str], int] = {}

    def count(self, process: ProcessIdentity, sources: Iterable[str]) -> dict[str, int]:
        """Source -> segments out of order, since this was first asked. Raises SetupError, ProcessLookupError."""
        wanted = list(sources)
        for ours, theirs, rest in _CONNECTION.findall(_ss(process, ["-tniOH", _peers(wanted)])):
            counted = _OUT_OF_ORDER.search(rest)
            now = int(counted[1]) if counted is not None else 0
            key = (process, ours, theirs)
            # Less than before: another connection between the same ports.
            grew = now - self._seen.get(key, 0) if now >= self._seen.get(key, 0) else now
            self._seen[key] = now
            source = theirs.rpartition(":")[0].strip("[]").removeprefix("::ffff:")
            self._sums[process, source] = self._sums.get((process, source), 0) + grew
        return {source: self._sums.get((process, source), 0) for source in wanted}


def reset_connections(process: ProcessIdentity, sources: Iterable[str]) -> None:
    """Reset every open TCP connection between a member and these addresses. Raises SetupError, ProcessLookupError.

    The member's programs see theirs aborted (ECONNABORTED), the other end sees it reset.
    """
    _ss(process, ["-tnK", _peers(sources)])


def _peers(sources: Iterable[str]) -> str:
    return " or ".join(f"dst {source}" for source in sources)


def _ss(process: ProcessIdentity, arguments: list[str]) -> str:
    done = inside(process, lambda: ask("ss", *arguments, package="iproute2", problem=SetupError))
    if done.returncode != 0:
        raise SetupError(f"ss {' '.join(arguments)}, in the namespace of process {process.pid}: {done.stderr.strip()}")
    return done.stdout
