"""Carries the schedule out: waits, injects, has the effect proven, holds, heals, has the healing verified.

The order of the events of one window is fault.planned (all of them first), fault.injected, fault.proven or
fault.unproven, fault.healing, fault.healed; or fault.failed alone when it could not be injected. A fault.unproven after
fault.proven takes it back: the effect was there, and had gone before the window ended. A window whose fault
could not be injected, or whose effect was not seen, does not end the run: what it taints is for the checks to say.
A heal that cannot be verified does end it, with HealError, because every later measurement would be of a changed world.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from .errors import HealError
from .interfaces import Cluster, EventSink, Evidence, Fault, FaultContext, Injection, Journal, MemberState, Role
from .registry import Registry
from .schedule import Schedule, Window

__all__ = ["EXPIRY_MARGIN_S", "Timeline", "WindowRecord"]

# After the planned end the watchdog undoes what the tool, hung or dead, did not (DESIGN section 4, faults).
EXPIRY_MARGIN_S = 10.0

_NS = 1_000_000_000


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

    @property
    def records(self) -> list[WindowRecord]:
        return list(self._records.values())

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
        for window in self._schedule.windows:
            if self._wait(self._instant(window.start_s), stop):
                break
            self._carry_out(window, stop)
        return self.records

    # -------------------------------------------------------------------------------------------- one window

    def _carry_out(self, window: Window, stop: threading.Event) -> None:
        self._records[window.id] = WindowRecord(
            fault=window.id,
            planned_start_ns=self._instant(window.start_s),
            planned_end_ns=self._instant(window.end_s),
        )
        # A window that comes late, because its forerunner was slow to heal, still gets the whole margin.
        expires_ns = max(self._instant(window.end_s), self._clock_ns()) + int(EXPIRY_MARGIN_S * _NS)
        # The stack is the net: whatever is raised between here and `_heal`, leaving it undoes the fault.
        with ExitStack() as stack:
            injection = self._inject(window, stack, expires_ns)
            if injection is None:
                return
            try:
                self._announce(window, injection)
                self._prove(window, injection, expires_ns)
                self._wait(self._instant(window.end_s), stop)
                self._confirm(window, injection)
            finally:
                self._heal(window, injection, stack)

    def _inject(self, window: Window, stack: ExitStack, expires_ns: int) -> Injection | None:
        fault, entered_ns = self._faults[window.id], self._clock_ns()
        try:
            reason = fault.available(self._cluster.stage)
            if reason is not None:
                self._failed(window, reason)
                return None
            injection = stack.enter_context(fault.inject(self._context(window, expires_ns)))
        except HealError:
            self._note(window, heal_verified=False)
            raise
        except Exception as error:
            self._failed(window, _sentence(error))
            # A fault that broke off half way has undone its half; the stage is asked whether that is so.
            left = self._left()
            if left:
                self._healed(window, left, [])
            return None
        injected_ns = injection.began_ns if injection.began_ns is not None else entered_ns
        self._note(window, injected_ns=injected_ns, targets=injection.targets)
        return injection

    def _announce(self, window: Window, injection: Injection) -> None:
        self._events(
            "fault.injected",
            t_ns=self._records[window.id].injected_ns,
            fault=window.id,
            targets=list(injection.targets),
            description=injection.description,
            cut_off={group: None if lost is None else list(lost) for group, lost in injection.cut_off.items()},
            reaction=_plain(injection.reaction),
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
        try:
            evidence = injection.verify_healed()
        except Exception as error:
            evidence = Evidence(proven=False, facts=(f"healing could not be verified: {_sentence(error)}",))
        self._note(window, healing_ns=healing_ns)
        problems += self._left()
        self._healed(window, problems if evidence.proven else [*problems, *evidence.facts], list(evidence.facts))
        if unwritten is not None:
            raise unwritten

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

    def _left(self) -> list[str]:
        """Ask the stage itself, whatever the fault believes: windows never overlap, so nothing may be left."""
        stage = self._cluster.stage
        try:
            left = [
                f"{a} -> {b} is still impaired: {what}" for (a, b), what in sorted(stage.network.impaired().items())
            ]
            return left + [
                f"{name} is still paused"
                for name, member in stage.members.items()
                if member.role is not Role.CLIENT and stage.processes.state(name) is MemberState.PAUSED
            ]
        except Exception as error:
            return [f"the backend cannot say what is still changed: {_sentence(error)}"]

    def _failed(self, window: Window, error: str) -> None:
        self._note(window, error=error)
        self._events("fault.failed", fault=window.id, error=error)

    def _context(self, window: Window, expires_ns: int) -> FaultContext:
        return FaultContext(
            cluster=self._cluster,
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
        """Wait until an instant; True at once when `stop` is set."""
        while not stop.is_set():
            left_ns = until_ns - self._clock_ns()
            if left_ns <= 0:
                return False
            stop.wait(left_ns / _NS)
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
