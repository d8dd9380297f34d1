"""Linearizability of every key (DESIGN section 7): exact, with a counterexample that was judged again.

What goes to the checker: every operation of the load and the final reads, of all key spaces (one key is one register,
whoever wrote it). An insert is a compare-and-set on absence; a compare-and-set or insert that did not match is a read
of what stood there; operations that certainly did not happen and reads without an answer are left out; an unknown
write stays open for ever.

The first answer is the near-linear decider's wherever values are unique. Porcupine then judges the same keys again,
independently, within a small budget: two engines that disagree are a bug of ours, and make the check unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from .. import porcupine
from ..check_needs import unfed
from ..porcupine import CheckOutcome, Counterexample, Edge, Engine, F, KeyResult, Model, Operations, Order
from ..record import RunRecord
from ..verdict import Verdict
from .register_columns import MISMATCH, UNKNOWN, Registers, pick, registers
from .result import CheckResult, answer, count, join

__all__ = ["Checker", "Linearizability", "check_linearizability"]

Checker = Callable[..., CheckOutcome]

_result = partial(answer, "linearizability", "Linearizability")
_MEMORY_LIMIT_BYTES: Final = 2 * 2**30
_CROSS_CHECK_S: Final = 5.0
# Porcupine is quadratic in the operations of a key, and exponential in those of unknown outcome (anchors/checkers.md,
# section 2): keys up to here take it milliseconds.
_CHEAP_OPERATIONS: Final = 1000
_CHEAP_UNKNOWN: Final = 6
# A second opinion on so many operations takes it half a second or so; a run of millions of small keys would else wait
# for it longer than for everything before.
_CROSS_CHECKED_OPERATIONS: Final = 200_000
_MOST_COUNTEREXAMPLES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Linearizability:
    """The check's answer and what verdict.json shows of it (None when it could not be run)."""

    result: CheckResult
    detail: dict[str, Any] | None


def check_linearizability(
    record: RunRecord, *, checker: Checker = porcupine.check, deadline_s: float = 60.0
) -> Linearizability:
    """Judge every key. `checker` has the signature of `porcupine.check`; whatever it raises is left to the caller."""
    found = registers(record.recorded)
    if found.backwards:
        reason = "Some operations ended before they began, so nobody knows in which order they happened."
        return Linearizability(result=_result(Verdict.UNKNOWN, reason, "not judged"), detail=None)
    operations = found.operations
    if operations is None or not len(operations):
        why_not = unfed(record.history["f"].unique()).get("linearizability")
        reason = why_not or "Nothing was recorded that could be judged: no operation may have taken effect."
        return Linearizability(result=_result(Verdict.UNKNOWN, reason, "no operations"), detail=None)
    if found.absurd:
        return _absurd(record, found)
    outcome = checker(
        operations,
        model=Model.CAS_REGISTER,
        engine=Engine.AUTO,
        deadline_s=deadline_s,
        memory_limit_bytes=_MEMORY_LIMIT_BYTES,
    )
    cross = _cross_check(operations, outcome, checker)
    violated = [r for r in outcome.results if r.verdict is Verdict.FAIL]
    survivors = [r for r in violated if not record.holes or _survives_holes(record, found, r)]
    result = _judge(outcome, found, cross, violated, survivors, record)
    shown = [_counterexample(record, found, r) for r in (survivors or violated)[:_MOST_COUNTEREXAMPLES]]
    detail = {
        "engine": str(outcome.engine),
        "cross_check": cross.text,
        "operations": len(operations),
        "keys_checked": outcome.keys_checked,
        "keys_violated": outcome.keys_violated,
        "keys_unknown": outcome.keys_unknown,
        "seconds": round(outcome.seconds, 3),
        "counterexamples": [shown_one for shown_one in shown if shown_one is not None],
    }
    return Linearizability(result=result, detail=detail)


def _absurd(record: RunRecord, found: Registers) -> Linearizability:
    """A compare-and-set or insert that says "no match" and shows the very value that it compared with.

    As a mere read of that value it would look right. Systems answer verdict and value from one moment (operation.py).
    """
    answers = count(len(found.absurd), "answer says", "answers say")
    example = record.recorded.rows(found.absurd)["key"].min()
    reason = f"{answers} that a comparison did not match, and show the very value that it asked for ({example!r})."
    result = _result(Verdict.FAIL, reason, "judged by the answers themselves", value=count(len(found.absurd), "answer"))
    return Linearizability(result=result, detail=None)


# ------------------------------------------------------------------------------------------------ cross-check


@dataclass(frozen=True, slots=True, kw_only=True)
class _CrossCheck:
    text: str
    disagreements: tuple[int, ...]


def _cross_check(operations: Operations, outcome: CheckOutcome, checker: Checker) -> _CrossCheck:
    """Porcupine on every key that is cheap for it; a key that it could not finish neither agrees nor disagrees."""
    first = {
        r.key: r.verdict
        for r in outcome.results
        if r.verdict is not Verdict.UNKNOWN and r.engine is not Engine.PORCUPINE
    }
    chosen = _for_porcupine(operations, first)
    if not chosen.any():
        return _CrossCheck(text="not cross-checked: no key is small enough for Porcupine's budget", disagreements=())
    try:
        second = checker(
            pick(operations, chosen[operations.key]),
            model=Model.CAS_REGISTER,
            engine=Engine.PORCUPINE,
            deadline_s=_CROSS_CHECK_S,
            memory_limit_bytes=_MEMORY_LIMIT_BYTES,
        )
    except Exception as error:  # the first engine's answer stands without the second's
        return _CrossCheck(text=f"not cross-checked: Porcupine could not be run ({error})", disagreements=())
    decided = {r.key: r.verdict for r in second.results if r.verdict is not Verdict.UNKNOWN}
    differing = tuple(sorted(key for key, verdict in decided.items() if first[key] is not verdict))
    agreed = len(decided) - len(differing)
    text = f"Porcupine agreed on {agreed:,} of {len(first):,} keys"
    skipped = len(first) - len(decided)
    if skipped:
        text += f", {skipped:,} beyond its budget"
    return _CrossCheck(text=text, disagreements=differing)


def _for_porcupine(operations: Operations, first: Mapping[int, Verdict]) -> npt.NDArray[np.bool_]:
    """Which keys Porcupine judges too: of those that are cheap for it, as many as its budget allows."""
    keys = int(operations.key.max()) + 1
    sizes = np.bincount(operations.key, minlength=keys)
    unknown = np.bincount(operations.key[operations.unknown], minlength=keys)
    known, broken = np.zeros(keys, dtype=np.bool_), np.zeros(keys, dtype=np.bool_)
    known[list(first)] = True
    broken[[key for key, verdict in first.items() if verdict is Verdict.FAIL]] = True
    cheap = np.flatnonzero(known & (sizes <= _CHEAP_OPERATIONS) & (unknown <= _CHEAP_UNKNOWN))
    # Broken keys first, then those with most operations: there the engines have most to disagree about.
    cheap = cheap[np.lexsort((cheap, -sizes[cheap], ~broken[cheap]))]
    cheap = cheap[np.cumsum(sizes[cheap]) <= _CROSS_CHECKED_OPERATIONS]
    chosen = np.zeros(keys, dtype=np.bool_)
    chosen[cheap] = True
    return chosen


# ------------------------------------------------------------------------------------------------ verdict


def _judge(
    outcome: CheckOutcome,
    found: Registers,
    cross: _CrossCheck,
    violated: list[KeyResult],
    survivors: list[KeyResult],
    record: RunRecord,
) -> CheckResult:
    keys = found.keys
    operations = len(found.places)
    summary = f"{count(operations, 'operation')} on {count(outcome.keys_checked, 'key')}"
    numbers = {
        "operations": operations,
        "keys_checked": outcome.keys_checked,
        "keys_violated": outcome.keys_violated,
        "keys_unknown": outcome.keys_unknown,
        "seconds": round(outcome.seconds, 3),
    }
    if cross.disagreements:
        names = join((repr(keys[k]) for k in cross.disagreements), most=3)
        reason = (
            f"Our two engines disagree on {count(len(cross.disagreements), 'key')} ({names}): this is a bug of "
            "aftershock, nothing is known of the system. Please report it with the run folder."
        )
        return _result(Verdict.UNKNOWN, reason, summary, numbers, value="internal error", context="engines disagree")
    if survivors:
        reason = (
            f"The answers on {count(len(survivors), 'key')} of {outcome.keys_checked:,} contradict each other: no "
            f"order of the operations explains them ({join((repr(keys[r.key]) for r in survivors), most=3)})."
        )
        spans = tuple(s for r in survivors[:50] if (s := _span(record, found, r)) is not None)
        context = f"of {outcome.keys_checked:,} broken; shown on {keys[survivors[0].key]}"
        value = count(len(survivors), "key")
        return _result(Verdict.FAIL, reason, summary, numbers, value=value, context=context, spans=spans)
    if violated:
        reason = (
            f"The answers on {count(len(violated), 'key')} contradict each other, but operations that are missing from "
            "the history could explain them."
        )
        return _result(Verdict.UNKNOWN, reason, summary, numbers, value="not decided", context=record.holes[0])
    if outcome.verdict is not Verdict.PASS or outcome.keys_unknown:
        names = join((repr(keys[r.key]) for r in outcome.results if r.verdict is Verdict.UNKNOWN), most=3)
        why = outcome.reason or "the checker gave no reason"
        reason = (
            f"{count(outcome.keys_unknown, 'key')} of {len(outcome.results):,} could not be decided ({names}): {why}"
        )
        value = f"{count(outcome.keys_unknown, 'key')} open"
        return _result(Verdict.UNKNOWN, reason, summary, numbers, value=value, context=why)
    reason = f"One order of all operations explains every answer, on each of {count(outcome.keys_checked, 'key')}."
    value = f"{count(outcome.keys_checked, 'key')}"
    return _result(Verdict.PASS, reason, summary, numbers, value=value, context="all linearizable, decided exactly")


def _survives_holes(record: RunRecord, found: Registers, result: KeyResult) -> bool:
    """Would the contradiction stand if any operations had been missed?

    Values are unique, so a missed write cannot have written a value that has a recorded writer. It could have
    written one that has none, and a missed delete could have made a key absent.
    """
    operations = found.operations
    if result.counterexample is None or operations is None:
        return False
    writers = (operations.key == result.key) & np.isin(operations.f, (F.WRITE, F.CAS))
    written = set(operations.value[writers].tolist())
    deletes = any((part["f"] == "delete").any() for part in record.recorded.slices("f"))
    for row in _operations_of(record, found, result.counterexample).iter_rows(named=True):
        seen = [row["observed"]] if row["mismatch"] else [row["value"]] if row["f"] == "read" else []
        seen += [row["expected"]] if row["f"] == "cas" and not row["mismatch"] else []
        if any((value is None and deletes) or (value is not None and value not in written) for value in seen):
            return False
    return True


# ------------------------------------------------------------------------------------------------ counterexample


def _operations_of(record: RunRecord, found: Registers, counterexample: Counterexample) -> pl.DataFrame:
    """Everything that is recorded of the operations of a counterexample, in its order."""
    rows = np.asarray(counterexample.rows, dtype=np.int64)
    return record.recorded.rows(found.places[rows].tolist()).with_columns(unknown=UNKNOWN, mismatch=MISMATCH)


def _span(record: RunRecord, found: Registers, result: KeyResult) -> tuple[float, float] | None:
    if result.counterexample is None:
        return None
    part = _operations_of(record, found, result.counterexample)
    ends = part["end_ns"].drop_nulls()
    first, last = int(part["start_ns"].min()), int(part["start_ns"].max())  # type: ignore[arg-type]
    last = max([last, *ends.to_list()])
    return (round(record.seconds(first), 3), round(record.seconds(last), 3))


def _counterexample(record: RunRecord, registers: Registers, result: KeyResult) -> dict[str, Any] | None:
    found = result.counterexample
    if found is None:
        return None
    part = _operations_of(record, registers, found)
    operations = [
        _operation(record, row, role, note)
        for row, role, note in zip(part.iter_rows(named=True), found.roles, found.notes, strict=True)
    ]
    span = _span(record, registers, result)
    return {
        "key": registers.keys[result.key],
        "shard": part["shard"][0],
        "reason": found.reason,
        "reasons": list(found.reasons),
        "rejudged": bool(found.rejudged),
        "span_s": list(span) if span else None,
        "operations": operations,
        "edges": [_edge(edge) for edge in found.edges],
        "orders": [_order(order) for order in found.orders],
        "precedences": [str(p) for p in found.precedences],
    }


def _operation(record: RunRecord, row: Mapping[str, Any], role: str, note: str) -> dict[str, Any]:
    return {
        "process": row["process"],
        "client": row["client"],
        "f": row["f"],
        "value": row["value"],
        "expected": row["expected"],
        "observed": row["observed"],
        "result": row["result"],
        "outcome": row["outcome"],
        "start_s": round(record.seconds(row["start_ns"]), 6),
        "end_s": None if row["end_ns"] is None or row["unknown"] else round(record.seconds(row["end_ns"]), 6),
        "role": role,
        "final": row["final"],
        "note": "; ".join(filter(None, ("final read" if row["final"] else "", note))),
    }


def _edge(edge: Edge) -> dict[str, Any]:
    return {"from": int(edge.source), "to": int(edge.target), "kind": str(edge.kind)}


def _order(order: Order) -> dict[str, Any]:
    return {"order": [int(i) for i in order.order], "ruled_out_by": int(order.ruled_out_by), "why": str(order.why)}
