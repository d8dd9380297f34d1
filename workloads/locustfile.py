"""Locust's part, and the only file that imports Locust: users that carry out arrivals, and Locust's own statistics.

A user waits for an arrival, carries it out and fires `events.request`; Locust's response time is counted from the
schedule, because that is what a client of the service suffers. Idle users stand on a stack: the one that was busy last
is taken first, so a quiet load uses few connections, and the others open theirs when a stall needs them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ClassVar

import gevent
from gevent.event import Event
from locust import User, constant, task
from locust.env import Environment

from ..harness.errors import SetupError
from .arrivals import Lane
from .recorder import NoSlotError
from .worker import Done, Shared, Worker

__all__ = ["Fleet"]

_WARM_CONNECTIONS = 4  # per lane; the rest connect when they are first needed
_SPAWN_DEADLINE_S = 60.0


class _Client(User):
    """A client of one lane. Locust runs `serve` again and again."""

    abstract = True
    wait_time = constant(0)
    fleet: ClassVar[Fleet]
    lane: ClassVar[Lane]

    def on_start(self) -> None:
        number = self.fleet.next_worker(self.lane)
        self._arrival_ns = 0
        self._called = Event()
        self._worker = Worker(self.fleet.shared, self.lane, number)
        # By number, not by how many are idle: none is while all of them connect.
        if number - self.lane.first_worker < _WARM_CONNECTIONS:
            self._worker.warm_up()

    def call(self, intended_ns: int) -> None:
        """Hand an arrival to this user, who is idle."""
        self._arrival_ns = intended_ns
        self._called.set()

    @task
    def serve(self) -> None:
        self.fleet.idle[self.lane.number].append(self)
        self._called.wait()
        self._called.clear()
        try:
            self.fleet.report(self._worker.operate(self._arrival_ns))
        except NoSlotError as error:
            self.fleet.stop(str(error))
        except Exception as error:
            # Locust would log this and carry on; a client of ours that fails in its own code must end the run.
            self.fleet.crash(error)


class Fleet:
    """All users of one load process, run by Locust's LocalRunner (which listens nowhere)."""

    def __init__(self, shared: Shared, lanes: list[Lane], *, crash: Callable[[Exception], None]) -> None:
        self.shared = shared
        self.crash = crash
        self.stopped: str | None = None  # why nothing more can be sent
        self.idle: dict[int, list[_Client]] = {lane.number: [] for lane in lanes}
        self._lanes = lanes
        self._next_worker = {lane.number: lane.first_worker for lane in lanes}
        self._overflow = {lane.number: Worker(shared, lane, lane.overflow_worker) for lane in lanes}
        classes: list[type[User]] = [
            type(f"Client{lane.number}", (_Client,), {"fleet": self, "lane": lane, "fixed_count": lane.clients})
            for lane in lanes
        ]
        self._environment: Any = Environment(user_classes=classes, catch_exceptions=True)
        self._runner: Any = self._environment.create_local_runner()

    @property
    def clients(self) -> int:
        return sum(lane.clients for lane in self._lanes)

    @property
    def idle_clients(self) -> int:
        return sum(len(idle) for idle in self.idle.values())

    def start(self) -> None:
        """Spawn all users and wait until each is idle. Raises SetupError when they are not within a minute."""
        self._runner.start(self.clients, spawn_rate=max(100, self.clients))
        deadline = time.monotonic() + _SPAWN_DEADLINE_S
        while self.idle_clients < self.clients:
            if time.monotonic() > deadline:
                raise SetupError(
                    f"Locust started {self.idle_clients} of {self.clients} clients in {_SPAWN_DEADLINE_S:g} s; "
                    "use fewer (in_flight in [load]) or a faster machine"
                )
            gevent.sleep(0.01)

    def next_worker(self, lane: Lane) -> int:
        """A worker number for one more user of the lane."""
        number = self._next_worker[lane.number]
        self._next_worker[lane.number] = number + 1
        return number

    def dispatch(self, lane: Lane, intended_ns: int) -> None:
        """Hand one arrival to an idle user of the lane; without one it is recorded as not sent."""
        idle = self.idle[lane.number]
        if idle:
            idle.pop().call(intended_ns)
            return
        try:
            self.report(self._overflow[lane.number].not_sent(intended_ns))
        except NoSlotError as error:
            self.stop(str(error))

    def stop(self, reason: str) -> None:
        """Nothing more is to be sent."""
        self.stopped = self.stopped or reason

    def report(self, done: Done) -> None:
        """Tell Locust, whose statistics are then those of the same operations that the slots hold."""
        completion = done.completion
        self._environment.events.request.fire(
            request_type=done.f,
            name=done.space,
            response_time=(done.end_ns - done.intended_ns) / 1e6,
            response_length=done.bytes_read,
            response=None,
            context={},
            exception=None if not completion.error else RuntimeError(completion.error),
            start_time=time.time() - (done.end_ns - done.intended_ns) / 1e9,
            url=None,
        )

    def statistics(self) -> dict[str, Any]:
        """Locust's own totals."""
        total = self._environment.stats.total
        return {
            "requests": total.num_requests,
            "failures": total.num_failures,
            "median_ms": total.median_response_time,
            "average_ms": total.avg_response_time,
            "max_ms": total.max_response_time,
            "by_name": {
                f"{method} {name}": {"requests": entry.num_requests, "failures": entry.num_failures}
                for (name, method), entry in sorted(self._environment.stats.entries.items())
            },
        }
