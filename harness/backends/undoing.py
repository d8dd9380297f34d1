"""What was changed and journalled, by what it is, and its undoing by the very inverse that the journal names."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from ..interfaces import Journal
from ..inverses import undo

__all__ = ["Undoing"]


class Undoing:
    """Open inverses of one network. Not for several threads at once."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._open: dict[Hashable, tuple[str, str, dict[str, Any]]] = {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self._open

    def keys(self, kind: str) -> list[Any]:
        """Keys, which are tuples, that begin with `kind`."""
        return [key for key in self._open if isinstance(key, tuple) and key[0] == kind]

    def announce(self, key: Hashable, inverse: str, **arguments: Any) -> None:
        """Journal how something is undone, before it is done; nothing happens when that is in the journal already."""
        if key not in self._open:
            entry = self._journal.record(inverse, expires_ns=None, **arguments)
            self._open[key] = (entry, inverse, arguments)

    def undo(self, key: Hashable) -> None:
        """Undo one, and verify it. It stays in the journal when that raises (OSError, RuntimeError)."""
        if key in self._open:
            entry, inverse, arguments = self._open[key]
            undo(inverse, arguments)
            del self._open[key]
            self._journal.done(entry)

    def undo_where(self, wanted: Callable[[Any], bool]) -> list[str]:
        """Undo all whose key is wanted, each although others fail. Returns the reasons of those that did."""
        problems = []
        for key in [key for key in self._open if wanted(key)]:
            try:
                self.undo(key)
            except (OSError, RuntimeError) as problem:
                problems.append(str(problem))
        return problems
