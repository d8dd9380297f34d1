"""The run: the one place that wires scenario, system, load, faults, record, checks and report together.

    run(request) = record everything into a run folder, then judge that folder, then render the judgement.

Whatever goes wrong while recording is undone first (context managers, then the watchdog should we die) and judged
after: a run that was cut short, also by a condition of its own `[safety]`, may fail and never passes.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import random
import shutil
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..reports import write_reports
from ..workloads.convert import convert
from ..workloads.launcher import LoadHandle, LoadSpec, start_load
from . import environment, resources
from .abort import Watcher
from .attached import attached
from .errors import AftershockError, HealError, SetupError
from .files import write_json, write_text
from .identity import ProcessIdentity
from .interfaces import Backend, Cluster, Stage
from .interrupts import Aborted, Interrupted, Interrupts
from .journal import RunJournal, default_state_folder
from .judge import check_folder
from .progress import Progress
from .registry import Registry
from .run_folder import RunFolder
from .safety import permit
from .scenario import Scenario, to_toml
from .schedule import Schedule, plan, resolve
from .timeline import Timeline
from .verdict import ExitCode
from .watchdog import start_watchdog

__all__ = ["RunRequest", "RunResult", "run"]

# How long each step may take before it is a failure of the environment, not of the system under test.
READY_DEADLINE_S = 60.0
FINAL_READS_DEADLINE_S = 30.0
LOAD_DRAIN_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What to run, and where the run folder goes. `confirmed`: the user has said that attached targets may break."""

    scenario: Scenario
    seed: int
    source: str  # how the user named the scenario, for the command that runs it again
    runs: Path
    registry: Registry
    checker_deadline_s: float = 60.0
    confirmed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """Outcome of a run that was judged. `verdict` is the content of verdict.json."""

    folder: Path
    exit_code: ExitCode
    verdict: Mapping[str, Any]


def run(request: RunRequest, *, progress: Progress, interrupts: Interrupts) -> RunResult:
    """Run one scenario and judge it.

    Raises UsageError when it would touch what nobody permitted (exit 2), SetupError when the system did not start
    (exit 4), HealError when something is still changed (exit 5), Interrupted after undoing everything (exit 130), and
    Aborted after undoing everything when a condition ended it before there was anything to judge, or while judging
    (exit 3). The run folder is kept in every case but the first.
    """
    scenario = request.scenario
    permit(attached(scenario, request.registry), scenario.safety, confirmed=request.confirmed, scenario=scenario.name)
    with RunFolder.create(request.runs, scenario=scenario.name, seed=request.seed) as folder:
        progress.started(folder.path, scenario.name, request.seed)
        watcher = Watcher(
            scenario.safety,
            load_s=scenario.load.duration_s,
            run_folder=folder.path,
            ask=interrupts.abort,
            events=folder.event,
        )
        with watcher.watching():
            heal_error = _record(request, folder, progress, interrupts, watcher)
            watcher.recorded()
            interrupts.too_late()
            if heal_error is not None and folder.facts.get("origin_ns") is None:
                raise heal_error
            try:
                verdict, exit_code = _judge(request, folder, progress, interrupts, heal_error)
            except BaseException:
                if heal_error is not None:
                    raise heal_error from None
                raise
        if heal_error is not None:
            raise heal_error
        return RunResult(folder=folder.path, exit_code=exit_code, verdict=verdict)


def _judge(
    request: RunRequest, folder: RunFolder, progress: Progress, interrupts: Interrupts, heal_error: HealError | None
) -> tuple[Mapping[str, Any], ExitCode]:
    progress.phase("check")
    with interrupts.allowed():
        verdict, exit_code = check_folder(folder.path, deadline_s=request.checker_deadline_s)
    if heal_error is not None:
        verdict["exit_code"] = int(ExitCode.HEAL_FAILED)
        verdict["warnings"] = [f"Heal failed: {heal_error}", *verdict["warnings"]]
        write_json(folder.path / "verdict.json", verdict)
    progress.phase("report")
    with interrupts.allowed():  # each file is written whole or not at all
        write_reports(verdict, folder.path)
    return verdict, exit_code


def _record(
    request: RunRequest, folder: RunFolder, progress: Progress, interrupts: Interrupts, watcher: Watcher
) -> HealError | None:
    """Record the run. A failed heal is returned, not raised, and an abort of the load is neither: what was recorded
    until then is worth judging.
    """
    scenario = request.scenario
    try:
        write_text(folder.path / "scenario.toml", to_toml(resolve(scenario, request.seed)))
        write_json(folder.path / "environment.json", environment.facts())
        folder.update(
            scenario=scenario.name,
            source=request.source,
            seed=request.seed,
            tool=environment.tool_version(),
            backend=scenario.backend.name,
            system=scenario.system.name,
            started_utc=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            state="running",
            problem=None,
        )
        with interrupts.allowed():
            watcher.check_before()
        _Recording(request, folder, progress, interrupts, watcher).record()
        if folder.lost is not None:
            raise folder.lost
    except BaseException as error:
        # Whatever was raised on the way out of a failed heal must not hide it: something is still changed.
        heal_error = _heal_error_behind(error)
        aborted = _abort_behind(error)
        if aborted is not None:
            with suppress(OSError):
                folder.update(aborted=aborted.abort.to_json())
        if heal_error is not None:
            _keep_problem(folder, heal_error)
            return heal_error
        _keep_problem(folder, error, state="interrupted" if isinstance(error, Interrupted | Aborted) else "failed")
        if isinstance(error, Aborted) and folder.facts.get("origin_ns") is not None and folder.lost is None:
            return None
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SetupError(
                f"{folder.path}: the disk is full, so the record of this run is cut short and cannot be judged. "
                "Everything was undone. Make room there, or choose another place with --runs"
            ) from None
        raise
    return None


def _heal_error_behind(error: BaseException | None) -> HealError | None:
    """The failed heal that an exception is, or was raised in the handling of."""
    while error is not None and not isinstance(error, HealError):
        error = error.__context__
    return error


def _abort_behind(error: BaseException | None) -> Aborted | None:
    """The abort that an exception is, or was raised in the handling of."""
    while error is not None and not isinstance(error, Aborted):
        error = error.__context__
    return error


def _keep_problem(folder: RunFolder, error: BaseException, *, state: str = "failed") -> None:
    """Write the problem into run.json. A disk that is full has no room for that either, which is no new problem."""
    with suppress(OSError):
        folder.update(state=state, problem=str(error))


class _Recording:
    """Everything before the run folder is complete. One instance records once."""

    def __init__(
        self, request: RunRequest, folder: RunFolder, progress: Progress, interrupts: Interrupts, watcher: Watcher
    ) -> None:
        self._request = request
        self._watcher = watcher
        self._scenario = request.scenario
        self._folder = folder
        self._progress = progress
        self._interrupts = interrupts
        self._problems: list[str] = []
        self._cluster: Cluster | None = None
        # Until the system has announced its members nobody but the backend's own helpers can die.
        self._members: frozenset[str] = frozenset()

    def record(self) -> None:
        scenario, registry = self._scenario, self._request.registry
        plugin = registry.get("backend", scenario.backend.name)
        backend: Backend = plugin(_settings(registry, "backend", scenario.backend))
        reason = backend.available()
        if reason is not None:
            raise SetupError(f"backend {scenario.backend.name!r} cannot be used here: {reason}")
        schedule = plan(scenario, self._request.seed)
        try:
            with ExitStack() as stack:
                self._phase("deploy")
                self._deployed(stack, backend, schedule)
        finally:
            self._convert()
        self._phase("done")
        state = "failed" if self._problems else "recorded"
        self._folder.update(state=state, problem="; ".join(self._problems) or None)

    def _deployed(self, stack: ExitStack, backend: Backend, schedule: Schedule) -> None:
        """Everything that has to be undone stands on `stack`, in the order of its making."""
        registry, folder = self._request.registry, self._folder
        journal = stack.enter_context(RunJournal.open(folder.path, folder.run_id, default_state_folder()))
        watchdog = ProcessIdentity.of(stack.enter_context(start_watchdog(journal)))
        if watchdog is None:
            raise SetupError("the watchdog ended as soon as it had started; logs/watchdog.log may say why")
        stack.enter_context(self._watcher.needing(watchdog))
        stage = stack.enter_context(
            backend.open(run_id=folder.run_id, run_folder=folder.path, journal=journal, events=self._event)
        )
        system = registry.get("system", self._scenario.system.name)()
        settings = _settings(registry, "system", self._scenario.system)
        cluster = stack.enter_context(system.deploy(stage, settings, seed=self._request.seed))
        self._cluster = cluster
        self._members = frozenset(stage.members)
        load = stack.enter_context(start_load(self._load_spec(cluster, journal)))
        resources_path = folder.path / "metrics" / "resources.jsonl"
        stack.enter_context(resources.sampling(resources_path, lambda: self._pids(stage, load)))
        with self._interrupts.allowed():
            cluster.wait_ready(deadline_s=READY_DEADLINE_S)
        for window in schedule.windows:
            reason = schedule.fault(window.id, registry).available(stage)
            if reason is not None:
                raise SetupError(f"fault {window.name!r} cannot be injected here: {reason}")
        try:
            self._load_and_faults(cluster, load, schedule, journal)
            self._final(cluster, load)
        finally:
            self._collect(cluster)

    def _load_and_faults(self, cluster: Cluster, load: LoadHandle, schedule: Schedule, journal: RunJournal) -> None:
        origin_ns = time.monotonic_ns() + 300_000_000
        load.begin(origin_ns)
        self._folder.update(origin_ns=origin_ns)
        self._phase("load")
        stop = self._interrupts.stop
        timeline = Timeline(
            schedule=schedule,
            cluster=cluster,
            registry=self._request.registry,
            events=self._watcher.event,
            journal=journal,
            origin_ns=origin_ns,
            hot_key=self._hot_key(),
        )
        duration_s, timeout_s = self._scenario.load.duration_s, self._scenario.load.timeout_s
        with (
            self._watcher.load(load.progress, origin_ns=origin_ns, timeout_s=timeout_s),
            self._progress.watching(
                load, schedule, origin_ns, duration_s, stop, nearest=self._watcher.nearest
            ) as watch,
        ):
            timeline.run(stop)
            # A load process that hangs must not hold the run for ever; what it lacks shows in its own account.
            deadline_s = timeout_s + LOAD_DRAIN_S
            until_ns = origin_ns + int((duration_s + deadline_s) * 1e9)
            while not stop.is_set() and not load.finished() and time.monotonic_ns() < until_ns:
                stop.wait(0.05)
        self._interrupts.check()
        if watch.problem is not None:
            self._problems.append(watch.problem)
        if self._problems:
            return
        if not load.finished():
            self._problems.append("a load process was still running long after its schedule had ended")
        self._note_dead_load(load)
        self._folder.update(load_end_ns=time.monotonic_ns())

    def _final(self, cluster: Cluster, load: LoadHandle) -> None:
        if self._problems:
            return
        self._phase("settle")
        with self._interrupts.allowed():
            missing = cluster.wait_settled(deadline_s=self._scenario.settle_s)
            self._folder.event("settled", ok=missing is None, text=missing or "every shard is whole again")
            self._phase("final")
            reads = load.final_reads(deadline_s=FINAL_READS_DEADLINE_S)
        if reads.problem is not None or reads.failed:
            text = reads.problem or "no answer in time"
            self._folder.event("warning", text=f"{len(reads.failed)} keys could not be read back: {text}")
        self._note_dead_load(load)

    def _note_dead_load(self, load: LoadHandle) -> None:
        reason = load.alive()
        if reason is not None and reason not in self._problems:
            self._problems.append(reason)

    def _collect(self, cluster: Cluster) -> None:
        """Save what can be saved, also on the way out of a failure: evidence first."""
        if self._folder.facts.get("origin_ns") is None:
            return
        self._phase("collect")
        try:
            replicas = [dataclasses.asdict(state) for state in cluster.replicas()]
            write_json(self._folder.path / "replicas.json", {"schema": 1, "replicas": replicas})
        except AftershockError as error:
            self._folder.event("warning", text=f"replicas could not be compared: {error}")
        cluster.collect_events(self._folder.event)

    def _convert(self) -> None:
        """Slots to Arrow, once nobody writes to them any more; the slots stay when that fails."""
        if self._cluster is not None and self._slots.is_dir():
            convert(self._slots, self._folder.path / "history", shard_of=self._cluster.shard_of)
            shutil.rmtree(self._slots)

    def _event(self, kind: str, /, *, source: str = "harness", t_ns: int | None = None, **fields: Any) -> None:
        """The stage's events; a helper of the backend that dies by itself takes the links with it, and ends the run."""
        self._folder.event(kind, source=source, t_ns=t_ns, **fields)
        if kind == "backend":
            self._progress.note(fields["text"])  # where it runs is never a surprise
        if kind == "member.exited" and not fields["expected"] and fields["member"] not in self._members:
            self._problems.append(f"{fields['member']} of the backend died by itself; see its log in logs/")
            self._interrupts.stop.set()

    @property
    def _slots(self) -> Path:
        return self._folder.path / "history" / "slots"

    def _load_spec(self, cluster: Cluster, journal: RunJournal) -> LoadSpec:
        names = {workload.name for workload in self._scenario.workloads}
        return LoadSpec(
            classes={name: self._request.registry.get("workload", name) for name in names},
            environment=journal.environment,
            seed=self._request.seed,
            load=self._scenario.load,
            workloads=self._scenario.workloads,
            clients=cluster.clients(),
            folder=self._slots,
        )

    def _hot_key(self) -> str:
        """The key whose shard "the primary" means in a fault: one of the first workload that has hot keys."""
        for workload in self._scenario.workloads:
            plugin = self._request.registry.get("workload", workload.name)
            keys = plugin.hot_keys(_settings(self._request.registry, "workload", workload))
            if keys:
                return str(random.Random(f"hot-key/{self._request.seed}").choice(keys))
        return "aftershock"

    def _pids(self, stage: Stage, load: LoadHandle) -> dict[str, int]:
        found = {name: stage.processes.pid(name) for name in stage.members}
        found |= {f"load-{number}": pid for number, pid in enumerate(load.pids)}
        found["harness"] = os.getpid()
        return {name: pid for name, pid in found.items() if pid is not None}

    def _phase(self, phase: str) -> None:
        self._folder.event("phase", phase=phase)
        self._progress.phase(phase)


def _settings(registry: Registry, kind: str, choice: Any) -> Any:
    """A plugin's validated settings value."""
    return registry.get(kind, choice.name).settings.model_validate(choice.settings)
