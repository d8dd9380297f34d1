"""Recovery: after each fault, was service back in time, and by which steps? (docs/checks.md, "Recovery time")

RTO measured = from the injection (from the healing, when the scenario expects no service before it) until the end of
the last gap in service that counts and began no later than the deadline. A later gap is not this recovery: it falls
under the steady target.

Where the time that another fault excuses covers the deadline, the two are not separable: service must be back by the
end of what they excuse together, and no recovery time is measured for the one whose own deadline had passed
(docs/scenarios.md, "What is judged").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from ..record import Event
from ..verdict import Verdict, worst
from .fault_windows import FaultWindow
from .gaps import Gaps
from .result import CheckResult, Span, count, join
from .view import View

__all__ = ["Recovery", "check_recovery"]

_NAME: Final = "recovery"
# A gap begins with the oldest operation that waited in it, which may have been under way when the fault came.
_IN_FLIGHT_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    fault: FaultWindow
    verdict: Verdict
    rto_measured_s: float | None
    text: str
    span: Span | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """The check's answer, verdict.json's `recovery` by fault, and its rows among the targets."""

    result: CheckResult
    by_fault: dict[str, dict[str, Any]]
    targets: tuple[dict[str, Any], ...]


def check_recovery(view: View, gaps: Gaps) -> Recovery:
    """Judge every fault from which the scenario says that the system recovers."""
    judged, by_fault, targets = [], {}, []
    for fault in view.faults:
        if fault.injected_s is None or fault.is_control:
            continue
        found = _judge(view, fault, gaps)
        by_fault[fault.id] = {**_steps(view, fault), "rto_measured_s": found.rto_measured_s}
        if fault.expect == "available":
            continue
        judged.append(found)
        targets.append(_target(found))
    return Recovery(result=_conclude(view, judged, by_fault), by_fault=by_fault, targets=tuple(targets))


def _judge(view: View, fault: FaultWindow, gaps: Gaps) -> _Judged:
    from_s, until_s = fault.recovery_from_s, view.judged_until_s
    if from_s is None:
        text = f"{fault.id} was never healed, so recovery from it could not begin."
        return _Judged(fault=fault, verdict=Verdict.UNKNOWN, rto_measured_s=None, text=text, span=None)
    deadline_s = from_s + fault.rto_s
    allowed_s, sharing = _allowed_until(fault, deadline_s, view.faults)
    # A gap that began before and is over before is not of this fault; one that lasts across its start is.
    own = [gap for gap in gaps.counted if gap.start_s <= deadline_s and gap.until_s > from_s]
    if fault.next_s < deadline_s:
        # What began with the next fault, or was in flight then, is that one's.
        own = [gap for gap in own if gap.start_s <= fault.next_s - _IN_FLIGHT_S]
    last = max(own, key=lambda gap: gap.until_s, default=None)
    if last is not None and last.until_s > deadline_s:
        span = (round(last.start_s, 3), round(last.until_s, 3))
        if last.end_s is None and until_s < allowed_s:
            text = f"The recording ends before the {allowed_s - from_s:g} s that {fault.id} is allowed were over."
            return _Judged(fault=fault, verdict=Verdict.UNKNOWN, rto_measured_s=None, text=text, span=span)
        took = f"{last.until_s - from_s:.2f} s" if last.end_s is not None else "until the end of the load"
        who = f"{fault.id} ({fault.title})"
        if last.end_s is not None and last.until_s <= allowed_s:
            text = (
                f"Service on {last.stream} was back {took} after {who}, within what {join(sharing)} excused from then "
                f"on; the recovery from {fault.id} alone is not separable from that."
            )
            return _Judged(fault=fault, verdict=Verdict.PASS, rto_measured_s=None, text=text, span=span)
        more = f", and {allowed_s - from_s:.2f} s together with {join(sharing)}" if sharing else ""
        text = f"Service on {last.stream} was missing {took} after {who}; {fault.rto_s:g} s are allowed{more}."
        measured = None if last.end_s is None else round(last.end_s - from_s, 3)
        return _Judged(fault=fault, verdict=Verdict.FAIL, rto_measured_s=measured, text=text, span=span)
    if until_s < deadline_s:
        text = f"The recording ends before the {fault.rto_s:g} s that {fault.id} is allowed were over."
        return _Judged(fault=fault, verdict=Verdict.UNKNOWN, rto_measured_s=None, text=text, span=None)
    if gaps.resolution_s is None or gaps.resolution_s > fault.rto_s:
        text = f"At this rate a gap of {fault.rto_s:g} s, which {fault.id} allows, cannot be seen on one shard."
        return _Judged(fault=fault, verdict=Verdict.UNKNOWN, rto_measured_s=None, text=text, span=None)
    if last is None:
        text = f"No gap that counts ({gaps.resolution_s:.2f} s or more) followed {fault.id}."
        return _Judged(fault=fault, verdict=Verdict.PASS, rto_measured_s=0.0, text=text, span=None)
    measured_s = last.until_s - from_s
    text = f"Service was back on {last.stream} {measured_s:.2f} s after {fault.id}; {fault.rto_s:g} s are allowed."
    span = (round(last.start_s, 3), round(last.until_s, 3))
    return _Judged(fault=fault, verdict=Verdict.PASS, rto_measured_s=round(measured_s, 3), text=text, span=span)


def _allowed_until(
    fault: FaultWindow, deadline_s: float, faults: Sequence[FaultWindow]
) -> tuple[float, tuple[str, ...]]:
    """Until when failures are excused without a break from the fault's own deadline on, and by which other faults."""
    until_s, sharing = deadline_s, list[str]()
    spans = [(other.excused_s, other.id) for other in faults if other.id != fault.id]
    for span, other in sorted((span, other) for span, other in spans if span is not None):
        if span[0] <= until_s < span[1]:
            until_s = span[1]
            sharing.append(other)
    return until_s, tuple(sharing)


def _target(found: _Judged) -> dict[str, Any]:
    fault = found.fault
    return {
        "name": f"recovery.{fault.id}",
        "title": f"Recovery from {fault.id}: {fault.title}",
        "scope": "owed operations, from the healing"
        if fault.expect == "unavailable"
        else "owed operations, from the injection",
        "measured": found.rto_measured_s,
        "target": fault.rto_s,
        "unit": "s",
        "better": "lower",
        "verdict": str(found.verdict),
        "required": True,
        "budget": None,
        "detail": found.text,
    }


def _conclude(view: View, judged: list[_Judged], by_fault: dict[str, dict[str, Any]]) -> CheckResult:
    base: dict[str, Any] = {"name": _NAME, "title": "Recovery", "evidence": "recovery"}
    if not judged:
        promised = any(fault.expect != "available" and not fault.is_control for fault in view.faults)
        if promised:
            reason = "No fault was injected from which the system could have recovered."
            return CheckResult(**base, verdict=Verdict.UNKNOWN, reason=reason, value="not decided", context=reason)
        reason = "No fault in the scenario promises a recovery time."
        return CheckResult(**base, verdict=Verdict.UNKNOWN, reason=reason, status="skipped")
    verdict = worst(j.verdict for j in judged)
    deciding = [j for j in judged if j.verdict is verdict]
    measured = [j.rto_measured_s for j in judged if j.rto_measured_s is not None]
    slowest = max(
        (j for j in judged if j.rto_measured_s is not None), key=lambda j: j.rto_measured_s or 0.0, default=None
    )
    numbers = {
        "faults": len(judged),
        "rto_measured_s": max(measured, default=None),
        "mttd_s": _mean(_since(view, by_fault, "detected_s")),
        "mttr_s": _mean(m for m in measured),
    }
    if verdict is not Verdict.PASS:
        reason = deciding[0].text
    elif not measured:
        reason = f"Service was back in time after {count(len(judged), 'fault')} that cannot be told apart."
    elif max(measured) == 0:
        reason = f"No gap in service that counts followed {'the fault' if len(judged) == 1 else 'any of the faults'}."
    else:
        reason = (
            f"Service was back in time after {count(len(judged), 'fault')}; the slowest took {max(measured):.2f} s."
        )
    value, context = "not decided", deciding[0].text
    if verdict is Verdict.PASS and slowest is None:
        value = "not separable"
    elif verdict is not Verdict.UNKNOWN and slowest is not None:
        worst_one = deciding[0] if verdict is Verdict.FAIL else slowest
        value = "not back" if worst_one.rto_measured_s is None else f"{worst_one.rto_measured_s:.2f} s"
        context = f"target {worst_one.fault.rto_s:g} s after {worst_one.fault.id} ({worst_one.fault.title})"
    elif verdict is Verdict.FAIL:
        value, context = (
            "not back",
            f"target {deciding[0].fault.rto_s:g} s after {deciding[0].fault.id} ({deciding[0].fault.title})",
        )
    return CheckResult(
        **base,
        verdict=verdict,
        reason=reason,
        summary=f"{count(len(judged), 'fault')}, slowest recovery "
        + (f"{max(measured):.2f} s" if measured else "not measured"),
        value=value,
        context=context,
        numbers=numbers,
        scope=tuple(j.fault.id for j in deciding) if verdict is Verdict.UNKNOWN else (),
        spans_s=tuple(j.span for j in deciding if j.span is not None and verdict is Verdict.FAIL),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return round(sum(found) / len(found), 3) if found else None


def _since(view: View, by_fault: dict[str, dict[str, Any]], step: str) -> list[float | None]:
    starts = {fault.id: fault.injected_s for fault in view.faults}
    found: list[float | None] = []
    for fault_id, steps in by_fault.items():
        at_s, start_s = steps[step], starts[fault_id]
        found.append(None if at_s is None or start_s is None else at_s - start_s)
    return found


# ------------------------------------------------------------------------------------------------ steps


def _steps(view: View, fault: FaultWindow) -> dict[str, Any]:
    """Suspected, decided, promoted, first successful update: of the shard that was promoted last.

    Only what the system's own event log says; a step that it does not report is None.
    """
    record = view.record
    inside = [
        event
        for event in record.events
        if fault.injected_s is not None and fault.injected_s <= record.seconds(event.t_ns) < fault.next_s
    ]
    before = [
        event for event in record.events if fault.injected_s is None or record.seconds(event.t_ns) < fault.injected_s
    ]
    opened = _new_primaries(before, inside)
    if fault.beside:
        # Whose doing the others were cannot be told while another fault is on.
        moved = fault.reaction.shards if fault.reaction is not None else ()
        opened = {number: event for number, event in opened.items() if number in moved}
    shard = max(opened, key=lambda s: opened[s].t_ns, default=None)
    suspected = next((e for e in inside if e.kind == "suspected" and e.fields.get("member") in fault.targets), None)
    if not fault.beside:
        suspected = suspected or next((e for e in inside if e.kind == "suspected"), None)
    decided = next(
        (
            e
            for e in inside
            if e.kind == "decided" and e.fields.get("what") == "promote" and e.fields.get("shard") == shard
        ),
        None,
    )
    if not fault.beside:
        decided = decided or next(
            (e for e in inside if e.kind == "decided" and e.fields.get("what") != "bootstrap"), None
        )
    promoted = opened.get(shard) if shard is not None else None
    return {
        "shard": shard,
        "detected_s": _at(view, suspected),
        "decided_s": _at(view, decided),
        "promoted_s": _at(view, promoted),
        "first_success_s": _first_success_s(view, shard, promoted),
    }


def _new_primaries(before: list[Event], inside: list[Event]) -> dict[int, Event]:
    """Shard -> the first time that another member than before opened as its primary."""
    primary: dict[int, str] = {}
    for event in before:
        if event.kind == "primary.open" and "shard" in event.fields:
            primary[int(event.fields["shard"])] = event.source
    opened: dict[int, Event] = {}
    for event in inside:
        if event.kind == "primary.open" and "shard" in event.fields:
            shard = int(event.fields["shard"])
            if primary.get(shard) != event.source:
                opened.setdefault(shard, event)
    return opened


def _at(view: View, event: Event | None) -> float | None:
    return None if event is None else round(view.record.seconds(event.t_ns), 3)


def _first_success_s(view: View, shard: int | None, promoted: Event | None) -> float | None:
    """First answered update of the shard after its new primary opened."""
    if shard is None or promoted is None:
        return None
    from_s = view.record.seconds(promoted.t_ns)
    after = view.load.filter((pl.col("shard") == shard) & pl.col("update") & pl.col("ok") & (pl.col("end_s") >= from_s))
    first = after["end_s"].min()
    return round(first, 3) if isinstance(first, float) else None
