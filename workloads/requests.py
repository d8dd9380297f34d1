"""What a workload is to the load, and what it asks for. How that is written for a system is its client's part.

Keys are `prefix + number` within a key space: a slot then holds a number instead of a string.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

from ..harness.interfaces import Settings

__all__ = ["KeyedWorkload", "Request"]


class Request(NamedTuple):
    """One request of one process. `f` is one of `slots.FUNCTIONS`; for cas, `expected` None means "absent".

    `payload` is for workloads and clients that know each other and is not recorded.
    """

    # A named tuple, because one is made for every operation: a frozen dataclass takes twice as long to make.
    f: str
    key: int
    value: int | None = None
    expected: int | None = None
    payload: object = None


class KeyedWorkload(Protocol):
    """What the load generator needs of a `harness.interfaces.Workload`. One instance serves one load process.

    It may also have a static `key_names(settings)`, a sequence, for keys that have names of their own: key number i is
    then the i-th of them in the history.
    """

    name: ClassVar[str]
    settings: ClassVar[type[Settings]]
    key_prefix: ClassVar[str]

    def __init__(self, settings: Any) -> None: ...

    @staticmethod
    def hot_keys(settings: Any) -> Sequence[str]:
        """Keys that are used all the time under these settings, for faults to aim at; may be empty."""
        ...

    @staticmethod
    def functions(settings: Any) -> frozenset[str]:
        """Which of `slots.FUNCTIONS` may be asked for under these settings; the system's client must have them all."""
        ...

    def next(self, rng: random.Random, values: Callable[[], int]) -> Request:
        """The next request of a worker. Randomness from `rng` only; `values()` may be called once."""
        ...

    def saw(self, key: int, value: int | None) -> None:
        """A client saw `value` (None = absent) under `key`, or wrote it and was acknowledged."""
