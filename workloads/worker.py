"""One client: takes an arrival, asks the workload what to do, writes it down, does it, writes down how it ended.

Knows neither Locust nor gevent. The order is the whole point: slot before send, clock before judging, renewal after
anything unknown.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from ..harness.operation import Outcome
from .arrivals import Lane
from .client import Client
from .outcomes import DEFECTS, Completion
from .page import Counter, Page
from .recorder import NullRecorder, Recorder
from .requests import KeyedWorkload, Request
from .spec import LoadFile, workload_class
from .values import Identity

__all__ = ["Done", "Shared", "Stream", "Worker", "make_workloads"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """An operation that has ended, for Locust's statistics. Times from the schedule and from the start."""

    space: str
    f: str
    intended_ns: int
    start_ns: int
    end_ns: int
    bytes_read: int
    completion: Completion


@dataclass(slots=True, kw_only=True)
class Shared:
    """What all workers of one load process share."""

    spec: LoadFile
    recorder: Recorder | NullRecorder
    page: Page
    workers: int
    workloads: Sequence[KeyedWorkload]


def make_workloads(spec: LoadFile) -> list[KeyedWorkload]:
    """One instance of each workload, made from the specification's settings."""
    made = []
    for space in spec.spaces:
        kind = workload_class(space.workload)
        made.append(kind(kind.settings.model_validate(space.settings)))
    return made


class Stream:
    """A worker's requests. The same seed and worker give the same stream (what answers decide is said in each
    workload)."""

    def __init__(self, spec: LoadFile, workloads: Sequence[KeyedWorkload], *, worker: int, workers: int) -> None:
        self.identity = Identity(worker=worker, workers=workers)
        # A string seed goes through SHA-512, so that neighbouring workers' streams have nothing in common.
        self._rng = random.Random(f"aftershock {spec.seed} {worker}")
        self._workloads = workloads
        self._numbers = range(len(workloads))
        self._cumulative = list(accumulate(space.share for space in spec.spaces))

    def next(self) -> tuple[int, Request]:
        """(space, request) of the next operation, whose process and sequence `identity` then has."""
        self.identity.begin()
        space = self._rng.choices(self._numbers, cum_weights=self._cumulative)[0]
        return space, self._workloads[space].next(self._rng, self.identity.value)


class Worker:
    """A sequential client of one group. Keeps its connections for life."""

    def __init__(self, shared: Shared, lane: Lane, worker: int, *, client: Client | None = None) -> None:
        self._shared = shared
        self._lane = lane
        self._stream = Stream(shared.spec, shared.workloads, worker=worker, workers=shared.workers)
        self._client = client or shared.spec.make_client(lane.group)
        self._timeout_ns = round(shared.spec.timeout_s * 1e9)

    def warm_up(self) -> None:
        """Open the connection ahead of the first operation; when that fails, the operation will tell."""
        self._client.connect(deadline_ns=time.monotonic_ns() + self._timeout_ns)

    def operate(self, intended_ns: int) -> Done:
        """Carry out one arrival. Raises NoSlotError, in which case nothing was sent."""
        shared, identity = self._shared, self._stream.identity
        space, request = self._stream.next()
        names = shared.spec.spaces[space]
        key = f"{names.key_prefix}{request.key}"
        request_id = f"{shared.spec.token}-{identity.process}:{identity.sequence}"
        slot, start_ns = shared.recorder.invoke(request, **self._where(space, intended_ns))
        shared.page.add(Counter.SENT)
        completion, answered_ns, bytes_read, note = self._client.execute(
            request, key=key, request_id=request_id, deadline_ns=start_ns + self._timeout_ns
        )
        end_ns = time.monotonic_ns() if answered_ns is None else answered_ns
        shared.recorder.complete(slot, end_ns, completion)  # type: ignore[arg-type]  # each recorder takes its own slot
        self._count(end_ns, completion)
        if completion.error in DEFECTS:
            self._report_defect(f"{request.f} of a key of {names.name}: {note}")
        if completion.outcome is Outcome.UNKNOWN:
            identity.renew()
        elif completion.outcome is Outcome.OK:
            seen = request.value if completion.result == "done" else completion.seen
            shared.workloads[space].saw(request.key, seen)
        return Done(
            space=names.name,
            f=request.f,
            intended_ns=intended_ns,
            start_ns=start_ns,
            end_ns=end_ns,
            bytes_read=bytes_read,
            completion=completion,
        )

    def not_sent(self, intended_ns: int) -> Done:
        """Write down an arrival that no client of the lane was free for, as the operation it would have been."""
        shared = self._shared
        space, request = self._stream.next()
        shared.recorder.not_sent(request, **self._where(space, intended_ns))
        shared.page.add(Counter.NOT_SENT)
        now_ns = time.monotonic_ns()
        return Done(
            space=shared.spec.spaces[space].name,
            f=request.f,
            intended_ns=intended_ns,
            start_ns=now_ns,
            end_ns=now_ns,
            bytes_read=0,
            completion=Completion(Outcome.FAIL, error="not-sent"),
        )

    def _where(self, space: int, intended_ns: int) -> dict[str, Any]:
        identity = self._stream.identity
        return {
            "space": space,
            "group": self._lane.group,
            "worker": identity.worker,
            "process": identity.process,
            "sequence": identity.sequence,
            "intended_ns": intended_ns,
        }

    def _count(self, end_ns: int, completion: Completion) -> None:
        page = self._shared.page
        if completion.outcome is Outcome.OK:
            page.add_ok(end_ns)
        elif completion.outcome is Outcome.FAIL:
            page.add(Counter.FAIL)
        else:
            page.add(Counter.UNKNOWN)

    def _report_defect(self, text: str) -> None:
        page = self._shared.page
        page.add(Counter.DEFECTS)
        if page[Counter.DEFECTS] == 1:
            page.say(text)
