"""The simulator's time and network: one heap of events, one seeded generator, nothing else that decides."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Any

MS = 1_000_000
SECOND = 1000 * MS


class Engine:
    """Runs events in the order of simulated time (ns); equal times in the order in which they were asked for."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.now = 0
        self.events = 0
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._asked = 0

    def after(self, delay_ns: int, call: Callable[..., None], *arguments: Any) -> None:
        self._asked += 1
        heapq.heappush(self._heap, (self.now + delay_ns, self._asked, call, arguments))

    def at(self, time_ns: int, call: Callable[..., None], *arguments: Any) -> None:
        self.after(max(time_ns - self.now, 0), call, *arguments)

    def run_until(self, time_ns: int) -> None:
        heap = self._heap
        pop = heapq.heappop
        count = 0
        while heap and heap[0][0] <= time_ns:
            self.now, _, call, arguments = pop(heap)
            count += 1
            call(*arguments)
        self.now = time_ns
        self.events += count


class Network:
    """Messages between named endpoints: delayed, reordered, and at will lost, duplicated or cut one way."""

    def __init__(self, engine: Engine, receive: Callable[[str, str, Any], None]) -> None:
        self._engine = engine
        self._receive = receive
        self.cut: set[tuple[str, str]] = set()
        self.loss = 0.0
        self.duplication = 0.0
        self.slow: dict[tuple[str, str], int] = {}  # directed pair -> extra delay in ns, each message somewhere below
        self.base_ns = 100_000
        self.jitter_ns = 900_000

    def send(self, source: str, target: str, payload: Any) -> None:
        pair = (source, target)
        if pair in self.cut:
            return
        rng = self._engine.rng
        copies = 1
        if self.loss and rng.random() < self.loss:
            return
        if self.duplication and rng.random() < self.duplication:
            copies = 2
        for _ in range(copies):
            delay = self.base_ns + int(rng.random() * self.jitter_ns)
            extra = self.slow.get(pair)
            if extra:
                delay += int(rng.random() * extra)
            self._engine.after(delay, self._receive, source, target, payload)

    def partition(self, one: set[str], other: set[str], *, both_ways: bool = True) -> None:
        """Nothing passes from `one` to `other`, nor back unless `both_ways` is False."""
        self.cut |= {(a, b) for a in one for b in other}
        if both_ways:
            self.cut |= {(b, a) for a in one for b in other}

    def heal(self) -> None:
        self.cut.clear()
        self.slow.clear()
        self.loss = self.duplication = 0.0
