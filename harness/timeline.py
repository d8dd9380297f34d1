"""Carries the schedule out: waits, injects, has the effect proven, holds, heals, has the healing verified.

The order of the events of one window is fault.planned (all of them first), fault.injected, fault.proven or
fault.unproven, fault.healing, fault.healed; or fault.failed alone when it could not be injected. A fault.unproven after
fault.proven takes it back: the effect was there, and had gone before the window ended. A window whose fault
could not be injected, or whose effect was not seen, does not end the run: what it taints is for the checks to say.
A heal that cannot be verified does end it, with HealError, because every later measurement would be of a changed world.

Every window has a thread of its own. One that was not planned to overlap another waits for it to be healed. Those that
overlap take turns where they must not disturb each other: while one is injected and proven, or its healing is verified,
no other is injected. Undoing waits for nobody. Once one ends in an error, or `stop` is set, all are healed. When what
several windows broke cuts off more together than each by itself, `fault.together` says so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from .errors import HealError
from .interfaces import Cluster, EventSink, Evidence, Fault, FaultContext, Injection, Journal
from .open_windows import OpenWindows
from .registry import Registry
from .schedule import Schedule, Window

__all__ = ["EXPIRY_MARGIN_S", "Timeline", "WindowRecord"]

# After the planned end the watchdog undoes what a hung tool did not; with its own time it is healed within 10 s.
EXPIRY_MARGIN_S = 8.0

_NS = 1_000_000_000
# A window that waits looks this often whether another one has ended the schedule.
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowRecord:
    """What became of one window. Times are CLOCK_MONOTONIC nanoseconds; None is "did not happen"."""

    fault: str
    planned_start_ns: int
    planned_end_ns: int
    targets: tuple[str, ...] = ()
    injected_ns: int | None = None
    proven: bool = False
    healing_ns: int | None = None
    heal_verified: bool | None = None
    error: str | None = None


class Timeline:
    """One run's fault windows. `run` may be called once; `records` is readable also after it raised."""

    def __init__(
        self,
        *,
        schedule: Schedule,
        cluster: Cluster,
        registry: Registry,
        events: EventSink,
        journal: Journal,
        origin_ns: int,
        hot_key: str,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._schedule = schedule
        self._cluster = cluster
        self._events = events
        self._journal = journal
        self._origin_ns = origin_ns
        self._hot_key = hot_key
        self._clock_ns = clock_ns
        self._faults: dict[str, Fault] = {w.id: schedule.fault(w.id, registry) for w in schedule.windows}
        self._records: dict[str, WindowRecord] = {}
        self._open = OpenWindows(cluster)
        self._cut_off: dict[str, Mapping[str, tuple[int, ...] | None]] = {}  # of each window that is on, by itself
        self._turn = threading.Lock()
        self._over = threading.Event()  # a window ended in an error: the others are healed
        self._done = {window.id: threading.Event() for window in schedule.windows}
        self._errors: list[BaseException] = []

    @property
    def records(self) -> list[WindowRecord]:
        """What became of the windows that were carried out, in the order of the schedule."""
        return [self._records[w.id] for w in self._schedule.windows if w.id in self._records]

    def run(self, stop: threading.Event) -> list[WindowRecord]:
        """Carry out every window; returns early, with everything healed, once `stop` is set.

        Raises HealError when something could not be put back; the message says what, and how to undo it by hand.
        """
        for window in self._schedule.windows:
            self._events(
                "fault.planned",
                fault=window.id,
                name=window.name,
                fault_kind=self._faults[window.id].kind,
                start_s=window.start_s,
                end_s=window.end_s,
                expect=window.expect,
                rto_s=window.rto_s,
                settings=dict(window.settings),
            )
        threads: list[threading.Thread] = []
        try:
            for window in self._schedule.windows:
                if self._wait(self._instant(window.start_s), stop):
                    break
                thread = threading.Thread(target=self._guarded, args=(window, stop), name=f"fault {window.id}")
                threads.append(thread)
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException:
            self._over.set()
            raise
        finally:
            # Nobody leaves before everything is undone, whatever was raised here.
            for thread in threads:
                thread.join()
            self._raise()
        return self.records

    def _guarded(self, window: Window, stop: threading.Event) -> None:
        try:
            for other in self._schedule.windows:
                if other.start_s < window.start_s and not other.meets(window) and self._wait_for(other, stop):
                    return
            self._carry_out(window, stop)
        except BaseException as error:
            self._errors.append(error)
            self._over.set()
        finally:
            self._done[window.id].set()

    def _raise(self) -> None:
        """Raise what ended the schedule; a failed heal before all else, and of several all that they say."""
        heals = [error for error in self._errors if isinstance(error, HealError)]
        if len(heals) > 1:
            raise HealError("\n".join(map(str, heals)))
        for error in (*heals, *self._errors):
            raise error

    # -------------------------------------------------------------------------------------------- one window

    def _carry_out(self, window: Window, stop: threading.Event) -> None:
        injection: Injection | None = None
        # The stack is the net: whatever is raised between here and `_heal`, leaving it undoes the fault.
        with ExitStack() as stack:
            try:
                with self._turn:
                    if stop.is_set() or self._over.is_set():
                        return
                    expires_ns = self._begin(window)
                    injection = self._inject(window, stack, expires_ns)
                    if injection is None:
                        return
                    self._announce(window, injection)
                    self._prove(window, injection, expires_ns)
                self._wait(self._instant(window.end_s), stop)
                # Not in turn: undoing must not wait for the proof of another window, and this only asks for states.
                self._confirm(window, injection)
            finally:
                if injection is not None:
                    self._heal(window, injection, stack)

    def _begin(self, window: Window) -> int:
        """Note that a window is carried out; returns when its fault expires (CLOCK_MONOTONIC)."""
        self._records[window.id] = WindowRecord(
            fault=window.id,
            planned_start_ns=self._instant(window.start_s),
            planned_end_ns=self._instant(window.end_s),
        )
        # A window that comes late, because its forerunner was slow to heal, still gets the whole margin.
        return max(self._instant(window.end_s), self._clock_ns()) + int(EXPIRY_MARGIN_S * _NS)

    def _inject(self, window: Window, stack: ExitStack, expires_ns: int) -> Injection | None:
        fault, entered_ns = self._faults[window.id], self._clock_ns()
        cluster = self._open.open(window.id)
        try:
            reason = fault.available(cluster.stage)
            if reason is not None:
                self._open.close(window.id)
                self._failed(window, reason)
                return None
            injection = stack.enter_context(fault.inject(self._context(window, cluster, expires_ns)))
        except HealError:
            self._open.close(window.id)
            self._note(window, heal_verified=False)
            raise
        except Exception as error:
            # A fault that broke off half way has undone its half; the stage is asked whether that is so.
            self._open.close(window.id)
            left = self._open.left()
            try:
                self._failed(window, _sentence(error))
            finally:
                if left:
                    self._healed(window, left, [])
            return None
        injected_ns = injection.began_ns if injection.began_ns is not None else entered_ns
        self._note(window, injected_ns=injected_ns, targets=injection.targets)
        return injection

    def _announce(self, window: Window, injection: Injection) -> None:
        self._cut_off[window.id] = injection.cut_off
        self._events(
            "fault.injected",
            t_ns=self._records[window.id].injected_ns,
            fault=window.id,
            targets=list(injection.targets),
            description=injection.description,
            cut_off={group: None if lost is None else list(lost) for group, lost in injection.cut_off.items()},
            reaction=_plain(self._owed_reaction(injection.reaction)),
        )
        self._tell_together(newest=window.id)

    def _owed_reaction(self, reaction: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """Of the shards that this fault alone would move, those that can move under all that is broken by now."""
        if reaction is None or not self._open.several() or reaction.get("kind") != "new-epoch":
            return reaction
        shards = self._open.still_deposed(list(reaction["shards"]))
        return {**reaction, "shards": shards} if shards else None

    def _tell_together(self, *, newest: str | None) -> None:
        """Say whom the windows that are on now cut off together, where that is more than each of them says.

        `newest` is the window with which that began; None when another one ended, and it holds for the rest from now.
        """
        if not self._cut_off or not self._open.several():
            return
        on, together = dict(self._cut_off), self._open.together()
        if _exceeds(together, on.values()):
            self._events(
                "fault.together",
                faults=sorted(on),
                newest=newest,
                cut_off={group: None if lost is None else list(lost) for group, lost in together.items()},
            )

    def _prove(self, window: Window, injection: Injection, expires_ns: int) -> None:
        try:
            evidence = injection.prove()
        except Exception as error:
            evidence = Evidence(proven=False, facts=(f"the proof itself failed: {_sentence(error)}",))
        if evidence.proven and self._clock_ns() >= expires_ns:
            late = "the proof ended after the fault's own expiry, so the effect may have been over by then"
            evidence = Evidence(proven=False, facts=(*evidence.facts, late))
        self._note(window, proven=evidence.proven)
        self._events(
            "fault.proven" if evidence.proven else "fault.unproven", fault=window.id, facts=list(evidence.facts)
        )

    def _confirm(self, window: Window, injection: Injection) -> None:
        """A proven effect that did not last until the end of the window is not proven: a second event says so."""
        if injection.still_on is None or not self._records[window.id].proven:
            return
        try:
            evidence = injection.still_on()
        except Exception as error:
            evidence = Evidence(proven=False, facts=(f"whether it was still on cannot be told: {_sentence(error)}",))
        if not evidence.proven:
            self._note(window, proven=False)
            self._events("fault.unproven", fault=window.id, facts=list(evidence.facts))

    def _heal(self, window: Window, injection: Injection, stack: ExitStack) -> None:
        problems: list[str] = []
        unwritten: OSError | None = None
        healing_ns = self._clock_ns()
        try:
            self._events("fault.healing", t_ns=healing_ns, fault=window.id)
        except OSError as error:
            # A full disk must neither leave a partition behind nor hide that one was left.
            unwritten = error
        try:
            stack.close()
        except Exception as error:
            problems.append(_sentence(error))
        with self._turn:
            try:
                evidence = injection.verify_healed()
            except Exception as error:
                evidence = Evidence(proven=False, facts=(f"healing could not be verified: {_sentence(error)}",))
            self._note(window, healing_ns=healing_ns)
            # From here on nothing that is still changed is this window's doing.
            self._open.close(window.id)
            self._cut_off.pop(window.id, None)
            problems += self._open.left()
            self._healed(window, problems if evidence.proven else [*problems, *evidence.facts], list(evidence.facts))
            if unwritten is not None:
                raise unwritten
            self._tell_together(newest=None)

    def _healed(self, window: Window, problems: list[str], facts: list[str]) -> None:
        """Write fault.healed; raise HealError when there are problems."""
        self._note(window, heal_verified=not problems)
        told = [*problems, *(fact for fact in facts if fact not in problems)]
        try:
            self._events("fault.healed", fault=window.id, verified=not problems, facts=told)
        finally:
            # Inside `finally`, so that an event that cannot be written does not take the place of this.
            if problems:
                raise HealError(
                    f"fault {window.id} ({window.name}) could not be undone, or not be seen to be undone:\n"
                    + "\n".join(f"  {line}" for line in problems)
                    + "\nThe run has ended here. Run `aftershock heal` now; it undoes what the journal of this run "
                    "names and says what is left."
                )

    # -------------------------------------------------------------------------------------------- helpers

    def _failed(self, window: Window, error: str) -> None:
        self._note(window, error=error)
        self._events("fault.failed", fault=window.id, error=error)

    def _context(self, window: Window, cluster: Cluster, expires_ns: int) -> FaultContext:
        return FaultContext(
            cluster=cluster,
            rng=window.rng(),
            journal=self._journal,
            events=self._events,
            fault_id=window.id,
            duration_s=window.duration_s,
            expires_ns=expires_ns,
            hot_key=self._hot_key,
        )

    def _instant(self, at_s: float) -> int:
        return self._origin_ns + round(at_s * _NS)

    def _wait(self, until_ns: int, stop: threading.Event) -> bool:
        """Wait until an instant; True soon after `stop` is set, or another window has ended in an error."""
        while not (stop.is_set() or self._over.is_set()):
            left_ns = until_ns - self._clock_ns()
            if left_ns <= 0:
                return False
            stop.wait(min(left_ns / _NS, _LOOK_S))
        return True

    def _wait_for(self, other: Window, stop: threading.Event) -> bool:
        """Wait until another window is healed; True when the schedule has ended meanwhile."""
        while not (stop.is_set() or self._over.is_set()):
            if self._done[other.id].wait(_LOOK_S):
                return self._over.is_set()
        return True

    def _note(self, window: Window, **changes: Any) -> None:
        self._records[window.id] = replace(self._records[window.id], **changes)


def _sentence(error: BaseException) -> str:
    """An error in one line; the type is named when the text alone would not say what happened."""
    text = " ".join(str(error).split())
    return text if type(error).__module__.endswith("harness.errors") and text else f"{type(error).__name__}: {text}"


def _plain(reaction: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if reaction is None:
        return None
    return {key: list(value) if isinstance(value, tuple) else value for key, value in reaction.items()}


def _exceeds(
    together: Mapping[str, tuple[int, ...] | None], alone: Iterable[Mapping[str, tuple[int, ...] | None]]
) -> bool:
    """Whether somebody is cut off from more by all windows together than by each of them."""
    single = list(alone)
    for group, lost in together.items():
        said = [each[group] for each in single if group in each]
        if None in said:
            continue
        if lost is None or not set(lost) <= {shard for shards in said for shard in shards or ()}:
            return True
    return False
