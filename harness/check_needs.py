"""What a check needs of the load: without any of these functions it has nothing to judge, whatever the system does.

A check that a load cannot feed is not unknown but not asked for; a scenario that requires it is a mistake.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

__all__ = ["unfed"]

_WRITES: Final = frozenset({"write", "cas", "insert", "delete"})

# Check -> the functions of which it needs one, and why it cannot be judged without.
_NEEDS: Final[dict[str, tuple[frozenset[str], str]]] = {
    "linearizability": (_WRITES, "No workload writes values, so there is no order of values to judge."),
    "data-loss": (frozenset({"insert"}), "No workload inserts keys, so there is nothing whose loss could be seen."),
}


def unfed(functions: Iterable[str]) -> dict[str, str]:
    """The checks that a load with these functions gives nothing to judge, and why, in a sentence."""
    asked = set(functions)
    return {name: why for name, (needed, why) in _NEEDS.items() if not needed & asked}
