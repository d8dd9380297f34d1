"""Hot keys that are read, written and compared-and-set all the time: the food of the linearizability check."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, ClassVar

from pydantic import Field, model_validator

from ..harness.interfaces import Settings
from .requests import Request

__all__ = ["CasRegister", "CasRegisterSettings"]


class CasRegisterSettings(Settings):
    """`keys` hot keys `h-0`, `h-1`, …, and the mix of operations (shares that add up to 1)."""

    keys: int = Field(default=20, ge=1, le=100_000)
    read: float = Field(default=0.5, ge=0, le=1)
    write: float = Field(default=0.3, ge=0, le=1)
    cas: float = Field(default=0.2, ge=0, le=1)

    @model_validator(mode="after")
    def _adds_up(self) -> CasRegisterSettings:
        total = self.read + self.write + self.cas
        if abs(total - 1) > 1e-6:
            raise ValueError(f"read + write + cas add up to {total:g}, expected 1")
        return self


class CasRegister:
    """Reads, writes and compare-and-sets over a few keys.

    A cas expects the value that this load process last saw under the key, so that a good share of them matches.
    Function, key and written value of a worker's stream follow from the seed alone; `expected` follows from what the
    service answered.
    """

    name: ClassVar[str] = "cas-register"
    settings: ClassVar[type[Settings]] = CasRegisterSettings
    key_prefix: ClassVar[str] = "h-"

    def __init__(self, settings: Any) -> None:
        self._keys: int = settings.keys
        self._read: float = settings.read
        self._read_or_write: float = settings.read + settings.write
        self._last_seen: dict[int, int | None] = {}

    @staticmethod
    def hot_keys(settings: Any) -> tuple[str, ...]:
        """Keys that these settings make clients use all the time: what a fault may aim at."""
        return tuple(f"{CasRegister.key_prefix}{number}" for number in range(settings.keys))

    @staticmethod
    def functions(settings: Any) -> frozenset[str]:
        """Those of the mix that have a share."""
        return frozenset(f for f in ("read", "write", "cas") if getattr(settings, f) > 0)

    def next(self, rng: random.Random, values: Callable[[], int]) -> Request:
        key = rng.randrange(self._keys)
        draw = rng.random()
        if draw < self._read:
            return Request("read", key)
        if draw < self._read_or_write:
            return Request("write", key, values())
        return Request("cas", key, values(), self._last_seen.get(key))

    def saw(self, key: int, value: int | None) -> None:
        self._last_seen[key] = value
