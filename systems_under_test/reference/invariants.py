"""The one exception of the replication core: a rule that can only be broken by a bug or by a disk that lies."""

from __future__ import annotations

__all__ = ["InvariantError"]


class InvariantError(Exception):
    """An invariant of docs/replication.md does not hold here any more.

    The process must end at once and touch nothing: going on could turn one wrong replica into lost data. Whoever
    reads this should keep the data folder and the logs, and report both.
    """

    def __init__(self, invariant: str, text: str) -> None:
        super().__init__(f"invariant {invariant} is broken: {text}")
        self.invariant = invariant
