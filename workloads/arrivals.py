"""The arrival schedule: absolute times that no answer can shift (open loop), dealt out evenly.

Arrival i of the run is due at `origin + i / rate`. Arrivals are dealt in turn to *lanes*, one for each pair of client
group and load process, so each lane has the same interval and the phases are staggered by themselves. A lane has
`in_flight / processes` clients; an arrival that finds all of them busy is not sent.

A schedule that waits for answers hides exactly the outages that it is there to measure ("coordinated omission",
G. Tene, "How NOT to Measure Latency", 2013).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Lane", "arrivals", "due_ns", "lanes", "planned_count", "worker_count"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """The clients of one group in one load process. Workers are numbered over all lanes; the last one of a lane
    stands for arrivals that were not sent, the others are its clients."""

    number: int
    process: int
    group: int
    clients: int
    first_worker: int

    @property
    def overflow_worker(self) -> int:
        return self.first_worker + self.clients


def lanes(*, groups: int, processes: int, in_flight: int) -> tuple[Lane, ...]:
    """All lanes of a run. A load process always gets at least one client per group."""
    made = []
    first_worker = 0
    for number in range(groups * processes):
        group, process = number % groups, number // groups
        clients = max(1, in_flight // processes + (1 if process < in_flight % processes else 0))
        made.append(Lane(number=number, process=process, group=group, clients=clients, first_worker=first_worker))
        first_worker += clients + 1
    return tuple(made)


def worker_count(all_lanes: tuple[Lane, ...]) -> int:
    """Workers of all lanes; the workers of the final reads are numbered from here on."""
    return all_lanes[-1].overflow_worker + 1


def planned_count(*, rate_per_s: float, duration_s: float) -> int:
    """Arrivals of the whole run: those due before `duration_s` has passed."""
    # A thousandth of an arrival is forgiven, so that 0.1 s at 30/s is 3 arrivals and not 4.
    return max(1, math.ceil(rate_per_s * duration_s - 1e-3))


def due_ns(number: int, *, rate_per_s: float) -> int:
    """When arrival `number` is due, from the origin."""
    return round(number * 1e9 / rate_per_s)


def arrivals(
    all_lanes: tuple[Lane, ...], *, process: int, rate_per_s: float, duration_s: float
) -> Iterator[tuple[int, Lane]]:
    """(due, lane) of one load process's arrivals in order of time; due is ns from the origin."""
    planned = planned_count(rate_per_s=rate_per_s, duration_s=duration_s)
    mine = [lane for lane in all_lanes if lane.process == process]
    for first in range(0, planned, len(all_lanes)):
        for lane in mine:
            number = first + lane.number
            if number < planned:
                yield due_ns(number, rate_per_s=rate_per_s), lane
