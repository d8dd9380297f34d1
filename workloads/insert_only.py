"""A fresh key for every write: each acknowledged insert can be looked for afterwards, so data loss is countable."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

from pydantic import Field

from ..harness.interfaces import Settings
from .requests import Request

__all__ = ["InsertOnly", "InsertOnlySettings"]


class InsertOnlySettings(Settings):
    """`read` is the share of reads, each of a key that was inserted lately; the rest are inserts."""

    read: float = Field(default=0.2, ge=0, lt=1)
    recent: int = Field(default=200, ge=1, le=100_000, description="how many keys back a read may reach")


class InsertOnly:
    """Inserts of the unique value `v` under the key `i-v`, and reads of keys that were inserted lately.

    Function and inserted value of a worker's stream follow from the seed alone (until something was inserted there is
    nothing to read, and an insert takes the read's place); which key is read follows from what was inserted by then.
    """

    name: ClassVar[str] = "insert-only"
    settings: ClassVar[type[Settings]] = InsertOnlySettings
    key_prefix: ClassVar[str] = "i-"

    def __init__(self, settings: Any) -> None:
        self._read: float = settings.read
        self._limit: int = settings.recent
        self._recent: deque[int] = deque()
        self._known: set[int] = set()

    @staticmethod
    def hot_keys(settings: Any) -> tuple[str, ...]:
        """None: no key is used for long."""
        return ()

    @staticmethod
    def functions(settings: Any) -> frozenset[str]:
        """Inserts always, and reads if they have a share."""
        return frozenset({"insert", "read"} if settings.read > 0 else {"insert"})

    def next(self, rng: random.Random, values: Callable[[], int]) -> Request:
        # Both are drawn every time, so that what is answered cannot shift the stream.
        draw, place = rng.random(), rng.random()
        if draw < self._read and self._recent:
            return Request("read", self._recent[int(place * len(self._recent))])
        value = values()
        return Request("insert", value, value)

    def saw(self, key: int, value: int | None) -> None:
        if value is None or key in self._known:
            return  # it is absent, or this is the answer to a read of a key that is on the list
        self._recent.append(key)
        self._known.add(key)
        if len(self._recent) > self._limit:
            self._known.discard(self._recent.popleft())
