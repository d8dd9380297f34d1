"""What can be done to the bytes of a flow. Values only; `interfaces.Network` puts them on links and takes them off.

A flow may carry one impairment of each class at a time; a second of the same class takes the place of the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

__all__ = ["IMPAIRMENTS", "Bandwidth", "Block", "Delay", "Duplicate", "Impairment", "Loss", "Reorder", "Reset"]


@dataclass(frozen=True, slots=True)
class Block:
    """Nothing arrives and nothing is refused: connections stay silent."""

    kind: ClassVar[str] = "block"

    def words(self) -> str:
        return "blocked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """Everything is held for `latency_ms` ± `jitter_ms` (uniform) before it is passed on.

    On backends that act on packets, jitter may change their order, as it does in a real network.
    """

    kind: ClassVar[str] = "delay"
    latency_ms: int
    jitter_ms: int = 0

    def words(self) -> str:
        return f"delayed by {self.latency_ms} ± {self.jitter_ms} ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Each packet is dropped with this probability, independently."""

    kind: ClassVar[str] = "loss"
    percent: float

    def words(self) -> str:
        return f"losing {self.percent:g} % of packets"


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate:
    """Each packet is sent a second time with this probability."""

    kind: ClassVar[str] = "duplicate"
    percent: float

    def words(self) -> str:
        return f"duplicating {self.percent:g} % of packets"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reorder:
    """Each packet is held back for `hold_ms` with this probability, so that later ones overtake it."""

    kind: ClassVar[str] = "reorder"
    percent: float
    hold_ms: int

    def words(self) -> str:
        return f"holding {self.percent:g} % of packets back for {self.hold_ms} ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bandwidth:
    """The flow carries at most this many kilobits (1000 bits) a second; what is above waits."""

    kind: ClassVar[str] = "bandwidth"
    kbit_per_s: int

    def words(self) -> str:
        return f"limited to {self.kbit_per_s} kbit/s"


@dataclass(frozen=True, slots=True)
class Reset:
    """Connections of the flow are reset: open ones now, new ones as soon as they send anything in this direction."""

    kind: ClassVar[str] = "reset"

    def words(self) -> str:
        return "reset"


Impairment = Block | Delay | Loss | Duplicate | Reorder | Bandwidth | Reset
IMPAIRMENTS: tuple[type[Impairment], ...] = (Block, Delay, Loss, Duplicate, Reorder, Bandwidth, Reset)
