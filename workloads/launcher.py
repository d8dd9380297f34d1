"""Starts load processes and watches them: the side of the load that lives in the harness's own process.

    with start_load(spec) as load:          # children are up, connected, and wait
        load.begin(time.monotonic_ns() + 200_000_000)
        while not load.finished(): ...      # load.progress(), load.alive()
        reads = load.final_reads(deadline_s=30)

Leaving the block ends the children in any case; should this process die, they end by themselves (end of their
standard input). Nothing here imports Locust or gevent.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..harness.errors import SetupError, UsageError
from ..harness.interfaces import ClientSpec
from ..harness.scenario import LoadPlan, WorkloadPlan
from .arrivals import due_ns
from .final_reads import BATCH_KEYS, FinalReads, read_everything
from .page import Counter, Page, Phase
from .requests import KeyedWorkload
from .spec import BUILT_IN, SPEC_FILE, Group, LoadFile, client_class, make_space

__all__ = ["FinalReads", "LoadHandle", "LoadProgress", "LoadSpec", "specification", "start_load"]

_START_DEADLINE_S = 90.0
_STOP_DEADLINE_S = 3.0
_POLL_S = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSpec:
    """What to drive against whom, with which clients. `folder` (made if missing, private to this load) gets the slots.

    `classes` gives workload classes by name, for plugins; the built-in ones need not be in it. A file of slots holds
    `slots_per_file` operations (6 MB as it is); the next one is always made ahead. `environment` is added to the load
    processes', which the run's journal marks as its own by it.
    """

    seed: int
    load: LoadPlan
    workloads: tuple[WorkloadPlan, ...]
    clients: ClientSpec
    folder: Path
    classes: Mapping[str, type[KeyedWorkload]] = field(default_factory=dict)
    slots_per_file: int = 65_536
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadProgress:
    """Counts so far. `per_second`: ok answers in the last whole second; `unavailable_s`: whole seconds in which
    operations were due and none was answered, over all clients, cut off or not (for the eye; checks judge)."""

    planned: int
    sent: int
    ok: int
    fail: int
    unknown: int
    not_sent: int
    in_flight: int
    per_second: int
    unavailable_s: int


@contextlib.contextmanager
def start_load(spec: LoadSpec) -> Iterator[LoadHandle]:
    """Start the load processes; yields when all are connected and wait to begin.

    Raises SetupError when one does not come up (the message ends with what it printed), UsageError for a workload
    that nobody provides, or that asks for what the system's client cannot do.
    """
    written = specification(spec)
    spec.folder.mkdir(parents=True, exist_ok=True)
    path = spec.folder / SPEC_FILE
    if path.exists():
        raise UsageError(f"{spec.folder}: already holds the record of a load; expected a fresh folder")
    path.write_text(written.model_dump_json(indent=1))
    children: list[_Child] = []
    with contextlib.ExitStack() as stack:
        for number in range(written.processes):
            child = _Child(spec.folder, number, spec.environment)
            stack.callback(child.end)
            children.append(child)
        _wait_until_ready(children)
        yield LoadHandle(written, spec.folder, children)


class LoadHandle:
    """A load that is ready to begin, is running, or has ended."""

    def __init__(self, spec: LoadFile, folder: Path, children: list[_Child]) -> None:
        self.folder = folder
        self._spec = spec
        self._children = children
        self._origin_ns: int | None = None
        self._read_finally = False

    @property
    def origin_ns(self) -> int:
        """The schedule's origin (CLOCK_MONOTONIC). Raises UsageError before `begin`."""
        if self._origin_ns is None:
            raise UsageError("the load has not begun; call begin(origin_ns) first")
        return self._origin_ns

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the load processes, for measuring what they use."""
        return tuple(child.process.pid for child in self._children)

    def begin(self, origin_ns: int) -> None:
        """Start the schedule at `origin_ns` (CLOCK_MONOTONIC), which should lie a little ahead. Once only."""
        if self._origin_ns is not None:
            raise UsageError("the load has begun already; a load plays its schedule once")
        self._origin_ns = origin_ns
        for child in self._children:
            child.tell(f"begin {origin_ns}\n")

    def progress(self) -> LoadProgress:
        """Counts so far, from the pages of counters: a few microseconds."""
        pages = [child.page for child in self._children if child.page is not None]

        def total(counter: Counter) -> int:
            return sum(page[counter] for page in pages)

        sent, ok, fail, unknown = (
            total(counter) for counter in (Counter.SENT, Counter.OK, Counter.FAIL, Counter.UNKNOWN)
        )
        per_second, unavailable_s = self._seconds(pages)
        return LoadProgress(
            planned=self._spec.planned,
            sent=sent,
            ok=ok,
            fail=fail,
            unknown=unknown,
            not_sent=total(Counter.NOT_SENT),
            in_flight=max(0, sent - ok - fail - unknown),
            per_second=per_second,
            unavailable_s=unavailable_s,
        )

    def finished(self) -> bool:
        """Whether no load process will send any more: each has played its schedule, stopped short or died."""
        return all(child.over() for child in self._children)

    def wait(self, deadline_s: float) -> bool:
        """Wait until `finished`, for `deadline_s` at most. Returns whether it is."""
        deadline = time.monotonic() + deadline_s
        while not self.finished():
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
        return True

    def alive(self) -> str | None:
        """None while all is well, also after a whole schedule; otherwise why the record of this run is incomplete."""
        problems = [problem for child in self._children if (problem := child.problem()) is not None]
        return "; ".join(problems) or None

    def final_reads(self, *, deadline_s: float) -> FinalReads:
        """Read every key that any load process ever tried to write, linearizably, and record that as final reads.

        Keys that could not be read by the deadline are in `failed`. A load process that still runs is ended first:
        what it would write later could not be looked for. A load without record has no keys that anybody knows of.
        """
        for child in self._children:
            if not child.over():
                child.end()
        if not self._spec.record:
            return FinalReads(read=0, failed=(), problem="the load was not recorded (record = false)")
        if self._read_finally:
            raise UsageError("the final reads have been made; they are made once, with a deadline for trying again")
        self._read_finally = True
        return read_everything(self._spec, self.folder, deadline_s=deadline_s)

    def _seconds(self, pages: list[Page]) -> tuple[int, int]:
        if self._origin_ns is None or not pages:
            return 0, 0
        spec = self._spec
        elapsed = (time.monotonic_ns() - self._origin_ns) // 1_000_000_000
        whole = max(0, min(elapsed, pages[0].seconds))
        answered = [sum(page.ok_in(second) for page in pages) for second in range(whole)]
        last_due_s = due_ns(spec.planned - 1, rate_per_s=spec.rate_per_s) / 1e9
        unavailable = sum(
            1
            for second, ok in enumerate(answered)
            # Below one operation a second most seconds have none due; such seconds say nothing.
            if ok == 0 and second <= last_due_s and _any_due(second, spec.rate_per_s)
        )
        return (answered[-1] if answered else 0), unavailable


class _Child:
    """One load process."""

    def __init__(self, folder: Path, number: int, environment: Mapping[str, str]) -> None:
        self.number = number
        self.log = folder / f"load-{number}.log"
        self._page_path = folder / f"load-{number}.page"
        self.page: Page | None = None
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "aftershock.workloads.loadgen", str(folder), str(number)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,  # see loadgen._go_first
            )

    @property
    def phase(self) -> Phase:
        if self.page is None:
            if not self._page_path.exists():
                return Phase.STARTING
            self.page = Page(self._page_path)
        return Phase(self.page[Counter.PHASE])

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        # A child that has died is reported by `problem`, with its reason.
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(line.encode())
            self.process.stdin.flush()

    def over(self) -> bool:
        # The process is asked first: a phase that is read after its end is its last one.
        ended = self.process.poll() is not None
        return self.phase in (Phase.DONE, Phase.STOPPED) or ended

    def problem(self) -> str | None:
        status = self.process.poll()
        phase = self.phase
        who = f"load process {self.number} (pid {self.process.pid})"
        if status is None and phase in (Phase.STARTING, Phase.READY, Phase.RUNNING):
            # It lives; only what it has already said against itself counts.
            defects = self.page is not None and self.page[Counter.DEFECTS] > 0
            return f"{who} {self.page.problem()}" if defects and self.page is not None else None
        if phase in (Phase.DONE, Phase.STOPPED):
            problem = self.page.problem() if self.page is not None else None
            return f"{who} {problem}" if problem is not None else None
        assert status is not None
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return f"{who} {how} before its schedule was played{self.last_words()}"

    def last_words(self) -> str:
        """The end of what it printed, to append to a message."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()[-15:]
        except OSError:
            return ""
        return "\n".join([f"; the end of {self.log}:", *(f"  {line}" for line in lines)]) if lines else ""

    def end(self) -> None:
        """End it: politely by closing its standard input, then firmly."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(_STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _wait_until_ready(children: list[_Child]) -> None:
    deadline = time.monotonic() + _START_DEADLINE_S
    for child in children:
        while child.phase is not Phase.READY:
            status = child.process.poll()
            if status is not None:
                raise SetupError(f"load process {child.number} ended with status {status}{child.last_words()}")
            if time.monotonic() >= deadline:
                raise SetupError(
                    f"load process {child.number} is not ready after {_START_DEADLINE_S:g} s{child.last_words()}"
                )
            time.sleep(_POLL_S)


def specification(spec: LoadSpec) -> LoadFile:
    """What load processes are told, with every name resolved. Raises UsageError for what does not fit together."""
    clients = spec.clients
    if not clients.groups:
        raise UsageError("a load needs at least one client group; the system has none")
    can = client_class(clients.client).functions
    spaces = []
    for plan in spec.workloads:
        workload = spec.classes.get(plan.name) or BUILT_IN.get(plan.name)
        if workload is None:
            known = sorted({*spec.classes, *BUILT_IN})
            raise UsageError(f"unknown workload {plan.name!r}; known: {', '.join(known)}")
        spaces.append(make_space(plan.name, plan.share, plan.settings, workload))
        if not hasattr(workload, "functions"):
            raise UsageError(f"workload {plan.name!r}: lacks functions(settings), which says what it asks of a client")
        missing = sorted(workload.functions(workload.settings.model_validate(plan.settings)) - can)
        if missing:
            raise UsageError(
                f"workload {plan.name!r} asks for {', '.join(missing)}, which the system's client {clients.client} "
                f"cannot do (it can do {', '.join(sorted(can))}); choose another workload for this system"
            )
    load = spec.load
    draft = LoadFile(
        seed=spec.seed,
        token=secrets.token_hex(4),
        rate_per_s=load.rate_per_s,
        duration_s=load.duration_s,
        timeout_s=load.timeout_s,
        in_flight=load.in_flight,
        processes=load.processes,
        record=load.record,
        slots_per_file=spec.slots_per_file,
        final_workers=len(clients.groups) * BATCH_KEYS,
        client=clients.client,
        client_settings=dict(clients.settings),
        groups=tuple(Group(name=name, addresses=dict(addresses)) for name, addresses in clients.groups.items()),
        spaces=tuple(spaces),
    )
    _try_clients(draft)
    lanes = draft.lanes()
    per_process = len(draft.groups) * (draft.planned // len(lanes) + 1)
    return draft.model_copy(update={"slots_per_file": min(spec.slots_per_file, per_process)})


def _try_clients(spec: LoadFile) -> None:
    """Make one client of each group, which opens nothing: what is wrong with its settings is found here and now."""
    for number, group in enumerate(spec.groups):
        try:
            spec.make_client(number)
        except UsageError:
            raise
        except Exception as error:
            raise UsageError(
                f"the system's client {spec.client} cannot be made for group {group.name!r}: "
                f"{type(error).__name__}: {error}"
            ) from error


def _any_due(second: int, rate_per_s: float) -> bool:
    first = int(second * rate_per_s)
    return any(second * 10**9 <= due_ns(n, rate_per_s=rate_per_s) < (second + 1) * 10**9 for n in (first, first + 1))
