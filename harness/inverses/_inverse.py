"""What an inverse is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Inverse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inverse:
    """One way of undoing. `undo` is idempotent, bounded in time, and verifies what it did.

    `undo` returns what was done, `""` when there was nothing left to undo, and raises OSError or RuntimeError saying
    what is still changed. `by_hand` gives what a person types instead. Lower `rank` is undone first: 10 for what is on
    links, disks and clocks, 20 for what stops processes, 30 for single processes, 40 for containers, 45 for mounts,
    50 for networks, 60 for what containers leave, 90 for whatever else carries the run's token.
    """

    undo: Callable[[Mapping[str, Any]], str]
    by_hand: Callable[[Mapping[str, Any]], str]
    rank: int
