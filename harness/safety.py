"""What ends a run early, and what a run may touch: the `[safety]` table of a scenario and the decisions on it.

Pure: no clock, no thread, no file. `abort` looks and asks these; docs/safety.md is for whoever writes a scenario.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .errors import UsageError

__all__ = ["Abort", "Counts", "Excuses", "LoadConditions", "Nearest", "ProbePlan", "SafetyPlan", "mistakes", "permit"]

# Deploying, settling, reading everything back and judging take minutes at most; this is generous on a slow machine.
_BESIDE_LOAD_S: Final = 1800.0
# Counters are looked at a few times a second; what failed inside a window is seen this much later at most.
_LOOK_SLACK_S: Final = 1.0
_NS: Final = 1_000_000_000


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ProbePlan(_Model):
    """Something around the system that must stay well: a command that exits 0, or a URL that answers below 400."""

    command: tuple[str, ...] | None = Field(default=None, min_length=1, description="program and arguments, no shell")
    url: str | None = Field(default=None, description="http:// or https://")
    every_s: float = Field(default=2.0, ge=0.1, le=600)
    timeout_s: float = Field(default=5.0, gt=0, le=60, description="no answer within this is a failure")
    failures: int = Field(default=3, ge=1, le=100, description="so many in a row end the run")

    @model_validator(mode="after")
    def _one_of_both(self) -> ProbePlan:
        if (self.command is None) == (self.url is None):
            raise ValueError('expected either command = ["program", "argument"] or url = "http://..."')
        if self.url is not None:
            parts = urlsplit(self.url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("expected url = http://HOST/... or https://HOST/...")
        return self

    @property
    def subject(self) -> str:
        """What is probed, for a person."""
        return self.url if self.url is not None else " ".join(self.command or ())


class SafetyPlan(_Model):
    """When a run is ended early, and what it may touch that it did not start."""

    max_duration_s: float | None = Field(
        default=None, gt=0, le=7 * 86_400, description="from deploy to report; default: load.duration_s + 1800"
    )
    unavailable_s: float | None = Field(default=None, ge=1, description="no operation has succeeded for so long")
    error_budget: float | None = Field(
        default=None, gt=0, lt=1, description="failed operations outside recovery windows, as a share of all planned"
    )
    probe: ProbePlan | None = None
    stop_file: str | None = Field(default=None, min_length=1, description="the run ends once this path exists")
    allow: tuple[str, ...] = Field(default=(), description="what a run may touch that it did not start")

    def longest_s(self, load_s: float) -> float:
        """Seconds that a run with this much load may take."""
        return self.max_duration_s if self.max_duration_s is not None else load_s + _BESIDE_LOAD_S

    def words(self, load_s: float) -> list[str]:
        """Every condition that ends the run, one sentence each, for --dry-run."""
        found = [f"the run takes longer than {self.longest_s(load_s):g} s"]
        if self.unavailable_s is not None:
            found.append(f"no operation has succeeded for {self.unavailable_s:g} s")
        if self.error_budget is not None:
            found.append(f"more than {self.error_budget:.4g} of all operations have failed outside recovery windows")
        if self.probe is not None:
            found.append(f"the probe {self.probe.subject} has failed {self.probe.failures} times in a row")
        if self.stop_file is not None:
            found.append(f"the file {self.stop_file} exists")
        return [*found, "somebody says `aftershock stop`"]


def mistakes(plan: SafetyPlan, *, load_s: float) -> list[str]:
    """What cannot be meant, one sentence each, for the parser of scenarios."""
    found = []
    if plan.longest_s(load_s) <= load_s:
        found.append(f"safety.max_duration_s = {plan.max_duration_s:g}: the load alone takes {load_s:g} s; allow more")
    for pattern in plan.allow:
        kind, colon, name = pattern.partition(":")
        if not colon or not kind.isalnum() or not name.strip("*?"):
            found.append(
                f"safety.allow: {pattern!r} names nothing in particular; expected KIND:NAME such as "
                '"container:web-1" or "container:web-*"'
            )
    return found


# ------------------------------------------------------------------------------------------------ ending a run


@dataclass(frozen=True, slots=True, kw_only=True)
class Abort:
    """Why a run is ended early. `condition` names it; `value` reached `limit`, where it has one."""

    condition: str  # max-duration, unavailable, error-budget, probe, stop-file, stop-command, watchdog or watch
    text: str
    value: float | None = None
    limit: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {"condition": self.condition, "text": self.text, "value": self.value, "limit": self.limit}


@dataclass(frozen=True, slots=True)
class Nearest:
    """How near a condition is to ending the run: `share` of its limit that is used."""

    share: float
    text: str


class Counts(Protocol):
    """What the load says of itself at this moment (`workloads.launcher.LoadProgress`)."""

    @property
    def planned(self) -> int: ...
    @property
    def ok(self) -> int: ...
    @property
    def fail(self) -> int: ...
    @property
    def unknown(self) -> int: ...
    @property
    def not_sent(self) -> int: ...
    @property
    def in_flight(self) -> int: ...


@dataclass(slots=True, kw_only=True)
class _Window:
    start_ns: int
    expect: str
    rto_ns: int
    injected_ns: int | None = None
    cut_off: bool = False
    over_ns: int | None = None  # healed, or known not to have been injected


class Excuses:
    """Which moments the conditions on the load leave out, learnt from the run's own `fault.*` events.

    The live counters do not tell who was owed service. So while a fault keeps some clients cut off, and until they
    have had the window's recovery time, failures count against nobody: a condition may be late, never wrong.
    """

    def __init__(self, *, origin_ns: int, timeout_s: float) -> None:
        self._origin_ns = origin_ns
        # What was sent at the end of a window has failed one timeout later, and is counted a look after that.
        self._grace_ns = round((timeout_s + _LOOK_SLACK_S) * _NS)
        self._windows: dict[str, _Window] = {}

    def saw(self, kind: str, t_ns: int, fields: Mapping[str, Any]) -> None:
        """Take one event of the run; those that are not about faults change nothing."""
        if kind == "fault.planned":
            self._windows[fields["fault"]] = _Window(
                start_ns=self._origin_ns + round(fields["start_s"] * _NS),
                expect=fields["expect"],
                rto_ns=round(fields["rto_s"] * _NS),
            )
            return
        if kind == "fault.together":
            # Each of them keeps somebody cut off by what the others do.
            for name in fields["faults"]:
                if name in self._windows:
                    self._windows[name].cut_off = True
            return
        window = self._windows.get(fields.get("fault", ""))
        if window is None:
            return
        if kind == "fault.injected":
            window.injected_ns = t_ns
            window.cut_off = bool(fields.get("cut_off"))
        elif kind in ("fault.healed", "fault.failed"):
            window.over_ns = t_ns

    def failures(self, at_ns: int) -> bool:
        """Whether failures that are seen now count against nobody."""
        return any(window.start_ns <= at_ns < self._excused_until(window, at_ns) for window in self._windows.values())

    def outage(self, at_ns: int) -> bool:
        """Whether the scenario itself expects that nothing succeeds now."""
        return any(
            window.expect == "unavailable" and window.start_ns <= at_ns < self._excused_until(window, at_ns)
            for window in self._windows.values()
        )

    def _excused_until(self, window: _Window, at_ns: int) -> int:
        for_ever = at_ns + 1
        if window.injected_ns is None:
            return for_ever if window.over_ns is None else window.over_ns + self._grace_ns
        if window.cut_off or window.expect == "unavailable":
            return for_ever if window.over_ns is None else window.over_ns + window.rto_ns + self._grace_ns
        if window.expect == "recovers":
            return window.injected_ns + window.rto_ns + self._grace_ns
        return window.injected_ns


class LoadConditions:
    """The two conditions on the load, from its counters alone; call `look` a few times a second."""

    def __init__(self, plan: SafetyPlan, excuses: Excuses) -> None:
        self._plan = plan
        self._excuses = excuses
        self._ok = 0
        self._bad = 0
        self._charged = 0  # failures that count against the budget
        self._waiting_since_ns: int | None = None
        self.nearest: Nearest | None = None

    def look(self, at_ns: int, counts: Counts) -> Abort | None:
        """The condition that is met by these counters at this time (CLOCK_MONOTONIC), or None."""
        ok, bad = counts.ok, counts.fail + counts.unknown + counts.not_sent
        new_ok, new_bad = ok - self._ok, bad - self._bad
        self._ok, self._bad = ok, bad
        found = [
            self._outage(at_ns, new_ok=new_ok, waiting=counts.in_flight > 0 or new_bad > 0),
            self._budget(at_ns, new_bad=new_bad, planned=counts.planned),
        ]
        near = [(share, abort) for share, abort in found if share > 0]
        if not near:
            self.nearest = None
            return None
        share, abort = max(near, key=lambda item: item[0])
        self.nearest = Nearest(share, abort.text)
        return abort if share >= 1 else None

    def _outage(self, at_ns: int, *, new_ok: int, waiting: bool) -> tuple[float, Abort]:
        limit_s = self._plan.unavailable_s
        if new_ok > 0 or self._excuses.outage(at_ns):
            self._waiting_since_ns = None
        # The clock runs only while somebody waits or was turned away: below one arrival a second, silence says nothing.
        if self._waiting_since_ns is None and waiting and not self._excuses.outage(at_ns):
            self._waiting_since_ns = at_ns
        since_ns = self._waiting_since_ns
        value_s = 0.0 if since_ns is None else (at_ns - since_ns) / _NS
        text = f"no operation has succeeded for {value_s:.1f} s"
        if limit_s is None:
            return 0.0, Abort(condition="unavailable", text=text)
        text += f" (safety.unavailable_s is {limit_s:g})"
        return value_s / limit_s, Abort(condition="unavailable", text=text, value=round(value_s, 3), limit=limit_s)

    def _budget(self, at_ns: int, *, new_bad: int, planned: int) -> tuple[float, Abort]:
        if new_bad > 0 and not self._excuses.failures(at_ns):
            self._charged += new_bad
        limit = self._plan.error_budget
        if limit is None or planned <= 0:
            return 0.0, Abort(condition="error-budget", text="")
        value = self._charged / planned
        text = (
            f"{self._charged} of {planned} planned operations have failed outside recovery windows, "
            f"{value:.2%} (safety.error_budget is {limit:.4g})"
        )
        # At the limit the budget is used up; one more is over it.
        share = value / limit if value > limit else min(value / limit, 0.999)
        return share, Abort(condition="error-budget", text=text, value=round(value, 6), limit=limit)


# ------------------------------------------------------------------------------------------------ what may be touched


def permit(targets: Sequence[str], plan: SafetyPlan, *, confirmed: bool, scenario: str) -> None:
    """Let a run go on that may touch these things, which it did not start; nothing to permit when there are none.

    Names are `KIND:NAME`, such as `container:web-1`. Raises UsageError that lists what `safety.allow` does not name,
    with the line to add, and, when all is named, says how to confirm.
    """
    missing = [target for target in targets if not allowed(target, plan)]
    if missing:
        line = json.dumps([*plan.allow, *missing], ensure_ascii=False)
        raise UsageError(
            f"scenario {scenario!r} would break what Aftershock did not start, and its safety.allow does not name:\n"
            + "\n".join(f"  {target}" for target in missing)
            + f"\nNothing was touched. If it is meant, write into the scenario:\n  [safety]\n  allow = {line}"
        )
    if targets and not confirmed:
        raise UsageError(
            f"scenario {scenario!r} breaks what Aftershock did not start: {', '.join(targets)}.\n"
            f"Nothing was touched. If it is meant, say so with --yes-break {scenario}"
        )


def allowed(target: str, plan: SafetyPlan) -> bool:
    """Whether `safety.allow` names this target, exactly or by a pattern over the whole name."""
    return any(target == pattern or fnmatchcase(target, pattern) for pattern in plan.allow)
