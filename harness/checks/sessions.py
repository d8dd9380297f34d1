"""Session guarantees of a run: what each client could rely on, where linearizability does not hold or is not promised.

Advisory: it says how bad it is, and decides nothing. A linearizable history keeps every session guarantee, so nothing
is said of it where linearizability is required and was found to hold. Meaning and method: `harness/sessions.py`.
"""

from __future__ import annotations

from functools import partial

from ..check_needs import unfed
from ..porcupine import Model
from ..record import RunRecord
from ..sessions import SessionCounterexample, SessionOutcome, check_sessions
from ..verdict import Verdict
from .register_columns import Registers, registers
from .result import CheckResult, Span, answer, count, join

__all__ = ["check_session_guarantees"]

_result = partial(answer, "sessions", "Session guarantees")


def check_session_guarantees(record: RunRecord, *, linearizability: CheckResult | None) -> CheckResult | None:
    """Judge the processes of a run as sessions; None where there is nothing to add to `linearizability`.

    That check's answer is None when it crashed. A fail stands whatever operations are missing from the record: values
    are unique, so a missed write wrote none of those that were seen, and where something was deleted, a missed delete
    may be why a key was absent, so that proves nothing then.
    """
    held = linearizability is not None and linearizability.verdict is Verdict.PASS
    if held and "linearizability" in record.scenario.required:
        return None
    functions = {str(name) for name in record.recorded.distinct("f")[0].to_pylist()}
    if "linearizability" in unfed(functions):
        return None
    found = registers(record.recorded)
    if found.operations is None or not len(found.operations):
        return None  # `linearizability` says why there is nothing to judge
    outcome = check_sessions(
        found.operations,
        model=Model.CAS_REGISTER,
        absent_is_initial=not (record.holes and "delete" in functions),
    )
    return _judge(record, found, outcome)


def _judge(record: RunRecord, found: Registers, outcome: SessionOutcome) -> CheckResult:
    keys = outcome.keys_checked + len(outcome.keys_unknown)
    summary = f"{count(len(found.places), 'operation')} on {count(keys, 'key')}"
    numbers = {
        "keys_checked": outcome.keys_checked,
        "keys_violated": len(outcome.keys_violated),
        "keys_unknown": len(outcome.keys_unknown),
        **{str(r.guarantee).replace(" ", "_"): str(r.verdict) for r in outcome.results},
    }
    if outcome.verdict is Verdict.FAIL:
        violated = len(outcome.keys_violated)
        shown = [f"{_sentence(one)} (key {found.keys[one.key]!r})." for one in outcome.counterexamples]
        broken = [r.guarantee for r in outcome.results if r.verdict is Verdict.FAIL]
        either = [r.guarantee for r in outcome.results if r.counterexample is not None and r.guarantee not in broken]
        what = join(broken) or f"one of {join(either)}"
        verb = "were" if len(broken) > 1 else "was"
        return _result(
            Verdict.FAIL,
            f"On {count(violated, 'key')} of {keys:,}, {what} {verb} broken. {' '.join(shown)}",
            summary,
            numbers,
            value=count(violated, "key"),
            context=f"of {keys:,}: {what} {verb} broken",
            spans=tuple(_span(record, found, one) for one in outcome.counterexamples),
        )
    if outcome.verdict is Verdict.UNKNOWN:
        first = found.keys[outcome.keys_unknown[0]]
        reason = f"Of {keys:,} keys, {outcome.reason} (key {first!r})."
        value = f"{count(len(outcome.keys_unknown), 'key')} open"
        return _result(Verdict.UNKNOWN, reason, summary, numbers, value=value, context=outcome.reason)
    kept = join(r.guarantee for r in outcome.results)
    reason = f"Every process could rely on its own operations, on each of {count(keys, 'key')}: {kept} held."
    return _result(Verdict.PASS, reason, summary, numbers, value=count(keys, "key"), context=f"{kept} held")


def _sentence(one: SessionCounterexample) -> str:
    return one.reason.removesuffix(".")


def _span(record: RunRecord, found: Registers, one: SessionCounterexample) -> Span:
    assert found.operations is not None
    rows = list(one.rows)
    starts = found.operations.start_ns[rows]
    ends = found.operations.end_ns[rows][~found.operations.unknown[rows]]
    last = max([int(starts.max()), *ends.tolist()])
    return (round(record.seconds(int(starts.min())), 3), round(record.seconds(last), 3))
