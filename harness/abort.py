"""Looks, while a run goes on, at every condition that ends it early, and asks the run to stop once one is met.

What the conditions are is in `safety`; this has the threads, the clock and the files. The first condition counts: it
goes into events.jsonl as `abort` and into run.json as `aborted`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from .errors import SetupError
from .identity import TOKEN_VARIABLE, ProcessIdentity, run_token
from .interfaces import EventSink
from .safety import Abort, Counts, Excuses, LoadConditions, Nearest, ProbePlan, SafetyPlan
from .stop import STOP_REQUEST

__all__ = ["Watcher", "probe"]

_LOOK_S: Final = 0.2
_WAIT_S: Final = 0.02
_SAID: Final = 200


class Watcher:
    """The watch over one run. Make it when the run begins; `max_duration_s` counts from there.

    `ask` stops the run (`Interrupts.abort`); it is called once at most, from a thread of the watcher's own.
    """

    def __init__(
        self, plan: SafetyPlan, *, load_s: float, run_folder: Path, ask: Callable[[Abort], bool], events: EventSink
    ) -> None:
        self._plan = plan
        self._longest_s = plan.longest_s(load_s)
        self._ask = ask
        self._events = events
        self._request = run_folder / STOP_REQUEST
        self._stop_file = Path(plan.stop_file).absolute() if plan.stop_file is not None else None
        # The run's token: a probe that is under way when the tool dies is ended with the rest.
        self._environment = {**os.environ, TOKEN_VARIABLE: run_token(run_folder)}
        self._begun_s = time.monotonic()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._recorded = False
        self._load: tuple[LoadConditions, Callable[[], Counts]] | None = None
        self._excuses: Excuses | None = None
        self._watchdog: ProcessIdentity | None = None
        self._failed_probes = 0
        self._probe_problem = ""

    def check_before(self) -> None:
        """What must hold before anything is started. Raises SetupError when it does not."""
        if self._stop_file is not None and self._stop_file.exists():
            raise SetupError(
                f"{self._stop_file}: the scenario's safety.stop_file exists, so nothing was started; "
                "delete it when runs are welcome again"
            )
        if self._plan.probe is not None:
            problem = probe(self._plan.probe, self._environment, self._ended)
            if problem is not None:
                raise SetupError(
                    f"the scenario's safety.probe fails before anything was started: {self._plan.probe.subject}: "
                    f"{problem}. Mend that first, or correct the probe"
                )

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watch until the block ends."""
        threads = [threading.Thread(target=self._watch, name="abort-watch", daemon=True)]
        if self._plan.probe is not None:
            threads.append(threading.Thread(target=self._probing, args=(self._plan.probe,), name="abort-probe"))
            threads[-1].daemon = True
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ended.set()
            for thread in threads:
                # A request to a URL may last until its own timeout; it holds nothing that outlives us.
                thread.join(1.0)

    @contextlib.contextmanager
    def needing(self, watchdog: ProcessIdentity) -> Iterator[None]:
        """Until the block ends, the run ends early too should its watchdog die: nobody would heal if we died then."""
        with self._lock:
            self._watchdog = watchdog
        try:
            yield
        finally:
            with self._lock:
                self._watchdog = None

    @contextlib.contextmanager
    def load(self, progress: Callable[[], Counts], *, origin_ns: int, timeout_s: float) -> Iterator[None]:
        """Look at the load's counters too until the block ends."""
        excuses = Excuses(origin_ns=origin_ns, timeout_s=timeout_s)
        with self._lock:
            self._excuses = excuses
            self._load = LoadConditions(self._plan, excuses), progress
        try:
            yield
        finally:
            with self._lock:
                self._load = None

    def recorded(self) -> None:
        """Everything is undone and recorded: from here only the duration counts."""
        with self._lock:
            self._recorded = True

    def event(self, kind: str, /, *, source: str = "harness", t_ns: int | None = None, **fields: Any) -> None:
        """An event sink in front of the run's own: the conditions on the load must know when faults are on."""
        t_ns = time.monotonic_ns() if t_ns is None else t_ns
        with self._lock:
            if self._excuses is not None:
                self._excuses.saw(kind, t_ns, fields)
        self._events(kind, source=source, t_ns=t_ns, **fields)

    def nearest(self) -> str | None:
        """The condition on the load that is nearest to ending the run, in words; None while all are far."""
        with self._lock:
            near = self._load[0].nearest if self._load is not None else None
            if self._plan.probe is not None and self._failed_probes > 0:
                share = self._failed_probes / self._plan.probe.failures
                if near is None or share > near.share:
                    near = Nearest(share, f"{self._failed_probes} of {self._plan.probe.failures} probes failed")
        return near.text if near is not None and near.share >= 0.2 else None

    # -------------------------------------------------------------------------------------------- threads

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_S):
            try:
                abort = self._look()
            except Exception as error:
                # Nobody watches any more, so nothing may go on being broken.
                abort = Abort(
                    condition="watch", text=f"the watch over the run crashed: {type(error).__name__}: {error}"
                )
            if abort is not None:
                if self._ask(abort):
                    self._events("abort", **abort.to_json())
                return

    def _look(self) -> Abort | None:
        with self._lock:
            lasted_s = time.monotonic() - self._begun_s
            if lasted_s >= self._longest_s:
                text = f"the run has taken {lasted_s:.1f} s (safety.max_duration_s is {self._longest_s:g})"
                return Abort(condition="max-duration", text=text, value=round(lasted_s, 3), limit=self._longest_s)
            if self._recorded:
                return None
            if self._watchdog is not None and not self._watchdog.alive():
                pid = self._watchdog.pid
                text = f"the watchdog of this run (process {pid}) has died, and without it nothing may be broken"
                return Abort(condition="watchdog", text=text)
            if self._request.exists():
                return Abort(condition="stop-command", text="somebody said `aftershock stop`")
            if self._stop_file is not None and self._stop_file.exists():
                return Abort(condition="stop-file", text=f"the file {self._stop_file} exists (safety.stop_file)")
            if self._plan.probe is not None and self._failed_probes >= self._plan.probe.failures:
                return Abort(
                    condition="probe",
                    text=f"the probe {self._plan.probe.subject} has failed {self._failed_probes} times in a row: "
                    f"{self._probe_problem}",
                    value=self._failed_probes,
                    limit=self._plan.probe.failures,
                )
            if self._load is not None:
                conditions, progress = self._load
                return conditions.look(time.monotonic_ns(), progress())
        return None

    def _probing(self, plan: ProbePlan) -> None:
        while not self._ended.wait(plan.every_s):
            try:
                problem = probe(plan, self._environment, self._ended)
            except Exception as error:
                problem = f"the probe could not be made: {type(error).__name__}: {error}"
            if self._ended.is_set():
                return
            with self._lock:
                self._failed_probes = self._failed_probes + 1 if problem is not None else 0
                self._probe_problem = problem or ""
                if self._failed_probes >= plan.failures:
                    return


# ------------------------------------------------------------------------------------------------ probes


def probe(plan: ProbePlan, environment: Mapping[str, str], ended: threading.Event) -> str | None:
    """Probe once. None when it is well, otherwise what is wrong; a command is killed once `ended` is set."""
    if plan.url is not None:
        return _ask_url(plan.url, plan.timeout_s)
    assert plan.command is not None
    return _run_command(plan.command, plan.timeout_s, environment, ended)


def _ask_url(url: str, timeout_s: float) -> str | None:
    # No proxy of the user's environment: what is probed is what the scenario names.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout_s) as response:
            return None if response.status < 400 else f"answered {response.status}"
    except urllib.error.HTTPError as error:
        with error:
            return f"answered {error.code}"
    except urllib.error.URLError as error:
        return _no_answer(error.reason, timeout_s)
    except (OSError, ValueError) as error:
        return _no_answer(error, timeout_s)


def _no_answer(error: object, timeout_s: float) -> str:
    return f"no answer within {timeout_s:g} s" if isinstance(error, TimeoutError) else f"no answer: {error}"


def _run_command(
    command: tuple[str, ...], timeout_s: float, environment: Mapping[str, str], ended: threading.Event
) -> str | None:
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        return f"cannot be started: {error.strerror or error}"
    assert process.stderr is not None
    os.set_blocking(process.stderr.fileno(), False)
    said = b""
    deadline = time.monotonic() + timeout_s
    with process.stderr:
        while process.poll() is None and time.monotonic() < deadline and not ended.is_set():
            # Read as it goes: a command that fills the pipe would wait for us for ever.
            said = (said + (process.stderr.read() or b""))[-_SAID:]
            time.sleep(_WAIT_S)
        if process.poll() is None:
            # Not reaped yet, so the group still is its own; this ends its children too.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"has not ended within {timeout_s:g} s"
        said = (said + (process.stderr.read() or b""))[-_SAID:]
    if process.returncode == 0:
        return None
    words = said.decode(errors="replace").strip()
    how = f"signal {-process.returncode}" if process.returncode < 0 else f"status {process.returncode}"
    return f"ended with {how}" + (f": {words}" if words else "")
