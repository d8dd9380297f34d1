"""Each fault as it really happened, from the scenario's plan and the run's events.

Windows that were on at the same time share what was seen meanwhile (docs/scenarios.md, "What is judged"): `beside`
names them, and what cannot be told apart is not told of either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..record import Event, RunRecord
from .result import Span

# An injection that took longer did something else first, such as waiting.
_LONGEST_INJECTION_S: Final = 2.0

__all__ = ["FaultWindow", "Reaction", "Together", "fault_windows", "taken_together"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """What the fault expects of the system, and whether it was seen."""

    expected: str
    shards: tuple[int, ...]
    seen: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultWindow:
    """One fault. Times are seconds from the start of the load, None when that step was never recorded.

    The obligations follow from `expect` (DESIGN section 4, targets under faults): `excused_s` is the time in which
    only the gap is judged, `cut_off_s` the time in which the clients in `cut_off` are owed nothing.
    """

    id: str
    name: str
    kind: str
    title: str
    targets: tuple[str, ...]
    description: str
    planned_s: Span
    injected_s: float | None
    proven_s: float | None
    healing_s: float | None
    healed_s: float | None
    in_sync_s: float | None
    proven: bool
    evidence: tuple[str, ...]
    heal_verified: bool
    heal_evidence: tuple[str, ...]
    expect: str
    rto_s: float
    cut_off: Mapping[str, tuple[int, ...] | None]
    reaction: Reaction | None
    error: str | None
    ends_s: float  # healed, or the end of the record when it never was
    next_s: float  # when the next fault that was not on beside it begins, or the end of the record
    beside: tuple[str, ...] = ()  # faults that were on at some moment of it

    @property
    def is_control(self) -> bool:
        """The no-op fault: everything is recorded as for a fault, nothing is broken, nothing is excused."""
        return self.name == "noop"

    @property
    def begins_s(self) -> float:
        """When its effect may have begun: no earlier than planned; `injected` is written when all of it is done.

        A partition of many links takes a while to make; what failed meanwhile is the fault's.
        """
        injected_s = self.planned_s[0] if self.injected_s is None else self.injected_s
        return min(injected_s, max(self.planned_s[0], injected_s - _LONGEST_INJECTION_S))

    @property
    def excused_s(self) -> Span | None:
        if self.injected_s is None or self.is_control or self.expect == "available":
            return None
        if self.expect == "recovers":
            return (self.begins_s, self.injected_s + self.rto_s)
        return (self.begins_s, self.ends_s + self.rto_s)

    @property
    def cut_off_s(self) -> Span | None:
        if self.injected_s is None or not self.cut_off:
            return None
        return (self.begins_s, self.ends_s + self.rto_s)

    @property
    def recovery_from_s(self) -> float | None:
        """From when the recovery time counts: the injection, or the healing when no service was owed before it."""
        return self.healed_s if self.expect == "unavailable" else self.injected_s

    @property
    def window_s(self) -> Span:
        """Injected to healed; the plan when it never came to be."""
        return self.planned_s if self.injected_s is None else (self.injected_s, self.ends_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """Whom several faults cut off while they were on at the same time, beyond what each of them does."""

    span_s: Span
    cut_off: Mapping[str, tuple[int, ...] | None]


def taken_together(record: RunRecord, faults: Sequence[FaultWindow]) -> tuple[Together, ...]:
    """From `fault.together`: until the first of these faults ended, and the longest of their recovery times after."""
    known = {fault.id: fault for fault in faults}
    found = []
    for event in record.events:
        named = [known[each] for each in map(str, event.fields.get("faults") or ()) if each in known]
        if event.kind != "fault.together" or not named:
            continue
        newest = known.get(str(event.fields.get("newest")))
        from_s = record.seconds(event.t_ns) if newest is None else newest.begins_s
        until_s = min(fault.ends_s for fault in named) + max(fault.rto_s for fault in named)
        found.append(Together(span_s=(from_s, until_s), cut_off=_cut_off(event.fields.get("cut_off"))))
    return tuple(found)


def fault_windows(record: RunRecord, *, until_s: float) -> tuple[FaultWindow, ...]:
    """Faults of the scenario by start, with what the events say of them. `until_s` is the end of the record."""
    by_fault: dict[str, dict[str, Event]] = {}
    for event in record.events:
        if event.kind.startswith("fault.") and "fault" in event.fields:
            by_fault.setdefault(str(event.fields["fault"]), {}).setdefault(event.kind, event)
    plans = sorted(record.scenario.faults, key=lambda plan: plan.start_s)
    spans = {plan.id: _span(record, by_fault.get(plan.id, {}), plan.start_s, until_s) for plan in plans}
    found = []
    for plan in plans:
        steps = by_fault.get(plan.id, {})
        planned = _fields(steps, "fault.planned")
        injected = _fields(steps, "fault.injected")
        injected_s = _at(record, steps, "fault.injected")
        healed_s = _at(record, steps, "fault.healed")
        beside = _beside(plan.id, spans) if injected_s is not None else ()
        next_s = _next_s(plan.id, spans, beside, until_s)
        targets = tuple(str(t) for t in injected.get("targets", ()))
        # An unproven after a proven takes the proof back: at the end of the window the effect was gone.
        proof = _fields(steps, "fault.unproven") or _fields(steps, "fault.proven")
        healed = _fields(steps, "fault.healed")
        failed = _fields(steps, "fault.failed")
        found.append(
            FaultWindow(
                id=plan.id,
                name=plan.name,
                kind=str(planned.get("fault_kind", "none" if plan.name == "noop" else "process")),
                title=_title(plan.name, targets),
                targets=targets,
                description=str(injected.get("description", "")),
                planned_s=(plan.start_s, plan.end_s),
                injected_s=injected_s,
                proven_s=_at(record, steps, "fault.proven"),
                healing_s=_at(record, steps, "fault.healing"),
                healed_s=healed_s,
                in_sync_s=_own_in_sync_s(record, healed_s, next_s, [spans[each] for each in beside]),
                proven="fault.proven" in steps and "fault.unproven" not in steps,
                evidence=tuple(str(fact) for fact in proof.get("facts", ())),
                heal_verified=bool(healed.get("verified", False)),
                heal_evidence=tuple(str(fact) for fact in healed.get("facts", ())),
                expect=plan.expect,
                rto_s=plan.rto_s,
                cut_off=_cut_off(injected.get("cut_off")),
                reaction=_reaction(
                    record, injected, injected_s, _reacts_by_s(injected_s, healed_s, plan.rto_s, next_s)
                ),
                error=str(failed["error"]) if "error" in failed else None,
                ends_s=healed_s if healed_s is not None else until_s,
                next_s=next_s,
                beside=beside,
            )
        )
    return tuple(found)


def _span(record: RunRecord, steps: Mapping[str, Event], start_s: float, until_s: float) -> Span:
    """Injected to healed; nothing at its planned start for a fault that never came to be."""
    injected_s, healed_s = _at(record, steps, "fault.injected"), _at(record, steps, "fault.healed")
    if injected_s is None:
        return (start_s, start_s)
    return (injected_s, until_s if healed_s is None else healed_s)


def _beside(fault: str, spans: Mapping[str, Span]) -> tuple[str, ...]:
    start_s, end_s = spans[fault]
    return tuple(
        other for other, (a_s, b_s) in spans.items() if other != fault and a_s < end_s and b_s > start_s and b_s > a_s
    )


def _next_s(fault: str, spans: Mapping[str, Span], beside: Sequence[str], until_s: float) -> float:
    """When the next fault begins that was not on beside this one: what happens from then on is not its doing."""
    start_s = spans[fault][0]
    order = list(spans)
    later = [
        span[0]
        for other, span in spans.items()
        if other not in beside and (span[0], order.index(other)) > (start_s, order.index(fault))
    ]
    return min(later, default=until_s)


def _fields(steps: Mapping[str, Event], kind: str) -> Mapping[str, Any]:
    return steps[kind].fields if kind in steps else {}


def _at(record: RunRecord, steps: Mapping[str, Event], kind: str) -> float | None:
    return record.seconds(steps[kind].t_ns) if kind in steps else None


def _title(name: str, targets: Sequence[str]) -> str:
    words = {"noop": "No-op (control)"}.get(name, name.replace("-", " ").capitalize())
    return f"{words} {', '.join(targets)}" if targets and name != "noop" else words


def _cut_off(value: Any) -> dict[str, tuple[int, ...] | None]:
    if not isinstance(value, Mapping):
        return {}
    return {str(client): None if shards is None else tuple(shards) for client, shards in value.items()}


def _reaction(
    record: RunRecord, injected: Mapping[str, Any], injected_s: float | None, next_s: float
) -> Reaction | None:
    """A new epoch of one of the named shards, between this injection and the next."""
    wanted = injected.get("reaction")
    if not isinstance(wanted, Mapping) or injected_s is None:
        return None
    shards = tuple(int(s) for s in wanted.get("shards", ()))
    expected = (
        f"a new epoch of shard {' or '.join(map(str, shards))}"
        if len(shards) < 5
        else (f"a new epoch of one of {len(shards)} shards")
    )
    if wanted.get("kind") != "new-epoch":
        kind = wanted.get("kind")
        return Reaction(expected=f"{kind}", shards=shards, seen=False, detail=f"this version cannot tell {kind!r}")
    before: dict[int, int] = {}
    for event in record.events:
        if event.kind != "topology" or event.fields.get("shard") not in shards:
            continue
        shard, epoch, t_s = int(event.fields["shard"]), int(event.fields.get("epoch", 0)), record.seconds(event.t_ns)
        if t_s <= injected_s:
            before[shard] = max(before.get(shard, epoch), epoch)
        elif t_s < next_s and epoch > before.get(shard, -1):
            detail = f"shard {shard} went to epoch {epoch} {t_s - injected_s:.2f} s after the injection"
            return Reaction(expected=expected, shards=shards, seen=True, detail=detail)
    detail = "no such change is in the event log before the next fault" if before else "the system reported no epochs"
    return Reaction(expected=expected, shards=shards, seen=False, detail=detail)


def _reacts_by_s(injected_s: float | None, healed_s: float | None, rto_s: float, next_s: float) -> float:
    """Until when a change counts as a reaction: what comes after healing and recovery time is about something else."""
    if injected_s is None:
        return next_s
    return min(next_s, max(injected_s + rto_s, injected_s if healed_s is None else healed_s))


def _own_in_sync_s(record: RunRecord, healed_s: float | None, next_s: float, beside: Sequence[Span]) -> float | None:
    """None also where another fault was still on at the healing: whose replicas were missing cannot be told."""
    if healed_s is None or any(a_s <= healed_s < b_s for a_s, b_s in beside):
        return None
    return _in_sync_s(record, healed_s, next_s)


def _in_sync_s(record: RunRecord, healed_s: float, next_s: float) -> float | None:
    """When, from the healing on, every shard had a primary and as many replicas in sync as before the first fault."""
    full: dict[int, int] = {}
    now: dict[int, tuple[int, bool]] = {}
    first_fault_ns = min((e.t_ns for e in record.events if e.kind == "fault.injected"), default=None)
    whole_s: float | None = None
    for event in record.events:
        if event.kind != "topology" or "shard" not in event.fields:
            continue
        shard, t_s = int(event.fields["shard"]), record.seconds(event.t_ns)
        if t_s >= next_s and next_s > healed_s:
            break
        if t_s > healed_s and whole_s is None and full and _is_whole(now, full):
            whole_s = healed_s
        size = len(event.fields.get("in_sync") or ())
        now[shard] = (size, event.fields.get("primary") is not None)
        if first_fault_ns is None or event.t_ns <= first_fault_ns:
            full[shard] = max(full.get(shard, 0), size)
        if t_s > healed_s:
            if not _is_whole(now, full):
                whole_s = None
            elif whole_s is None:
                whole_s = t_s
    if whole_s is None and full and _is_whole(now, full):
        return healed_s
    return whole_s


def _is_whole(now: Mapping[int, tuple[int, bool]], full: Mapping[int, int]) -> bool:
    return all(shard in now and now[shard][1] and now[shard][0] >= size for shard, size in full.items())
