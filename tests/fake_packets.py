"""What the fake network of tests/fakes.py does to packets, and how it can lie about it.

Nothing is left to chance: of every hundred packets of a flow those are hit that are due by the percentage.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import NamedTuple

from aftershock.harness.impairment import Bandwidth, Duplicate, Impairment, Loss, Reorder, Reset
from aftershock.harness.interfaces import Flow

__all__ = ["PACKET_LIES", "FakePackets", "Passage"]

RETRANSMISSION_MS = 220

PACKET_LIES = {
    "packets-ignored": "the change returns and reads back well, but packets pass as before",
    "packets-everywhere": "packets of every flow are hit, not only those that were asked for",
    "packets-one-way": "of two directions only what the member sends is hit",
    "packets-old-escape": "connections opened before are not hit",
    "packets-new-escape": "only connections opened before are hit",
    "packets-cut": "what was to be lost in part, slowed or reset does not arrive at all",
    "packets-uncounted": "the network counts no packet",
    "reset-refuses": "a new connection is refused instead of opened and reset",
}


class Passage(NamedTuple):
    """What becomes of the bytes that one exchange sends one way."""

    arrives: bool
    is_reset: bool = False
    wait_ms: int = 0
    stream_ms: int = 0  # how long the bytes take by their number; those of the two ways overlap


class FakePackets:
    """Impairments of packets, as they really are. `lies` are names of PACKET_LIES among others."""

    def __init__(self, lies: frozenset[str]) -> None:
        self._lies = lies
        self._lock = threading.Lock()
        self.on: dict[tuple[str, Flow], Impairment] = {}
        self._counts: dict[tuple[str, Flow], int] = {}
        self._passed: dict[tuple[str, Flow], int] = {}

    def impair(self, flows: Iterable[Flow], impairment: Impairment, *, everywhere: Iterable[Flow]) -> None:
        wanted = sorted(flows)
        if "packets-ignored" in self._lies:
            return
        if "packets-everywhere" in self._lies:
            wanted = list(everywhere)
        if "packets-one-way" in self._lies:
            common = set.intersection(*({*flow} for flow in wanted))
            wanted = [flow for flow in wanted if flow.source in common]
        self.on |= {(impairment.kind, flow): impairment for flow in wanted}

    def mend(self, flows: Iterable[Flow], kind: str) -> None:
        wanted = set(flows)
        for key in [key for key in self.on if key[0] == kind]:
            if key[1] in wanted or "packets-everywhere" in self._lies:
                del self.on[key]
                self._counts.pop(key, None)

    def counters(self, flows: Iterable[Flow], kind: str) -> dict[Flow, int]:
        if "packets-uncounted" in self._lies:
            return {}
        return {flow: self._counts.get((kind, flow), 0) for flow in flows if (kind, flow) in self.on}

    def refuses(self, flows: Iterable[Flow]) -> bool:
        """Whether a new connection with these flows is refused."""
        return "reset-refuses" in self._lies and any(("reset", flow) in self.on for flow in flows)

    def is_reset(self, flows: Iterable[Flow], *, old: bool) -> bool:
        """Whether a connection that was open when the reset came on has been reset by it."""
        return old and not self._escapes(old=True) and any(("reset", flow) in self.on for flow in flows)

    def passage(self, flow: Flow, *, old: bool, size_bytes: int) -> Passage:
        """One packet, or as many at once as `size_bytes` takes."""
        if self._escapes(old=old):
            return Passage(arrives=True)
        wait_ms = stream_ms = 0
        for impairment in [each for (_, its), each in self.on.items() if its == flow]:
            if "packets-cut" in self._lies:
                return Passage(arrives=False)
            match impairment:
                case Reset():
                    return Passage(arrives=False, is_reset=True)
                case Loss(percent=percent):
                    wait_ms += RETRANSMISSION_MS * self._hit(impairment.kind, flow, percent)
                case Duplicate(percent=percent):
                    self._hit(impairment.kind, flow, percent)
                case Reorder(percent=percent, hold_ms=hold_ms) if size_bytes:
                    wait_ms += hold_ms * self._hit(impairment.kind, flow, min(100, percent * 5))
                case Bandwidth(kbit_per_s=kbit_per_s):
                    stream_ms += size_bytes * 8 // kbit_per_s
                    self._hit(impairment.kind, flow, 100)
                case _:
                    pass
        return Passage(arrives=True, wait_ms=wait_ms, stream_ms=stream_ms)

    def _hit(self, kind: str, flow: Flow, percent: float) -> bool:
        with self._lock:
            number = self._passed[kind, flow] = self._passed.get((kind, flow), 0) + 1
            hit = int(number * percent / 100) > int((number - 1) * percent / 100)
            self._counts[kind, flow] = self._counts.get((kind, flow), 0) + hit
            return hit

    def _escapes(self, *, old: bool) -> bool:
        return ("packets-old-escape" if old else "packets-new-escape") in self._lies
