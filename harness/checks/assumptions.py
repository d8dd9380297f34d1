"""Is this record worth judging? An assumption that does not hold keeps the checks that rest on it from passing.

Checked before the property, as etcd's robustness tests do (`anchors/style.md`, habit 6). The check itself can only be
pass or unknown: a broken assumption says nothing against the system under test.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import polars as pl

from ..operation import REQUEST
from ..verdict import Verdict
from .fault_windows import FaultWindow, Reaction
from .result import Assumption, CheckResult, count, join
from .view import View, named_by, overlaps

__all__ = ["assumptions", "check_assumptions"]

_SAFETY: Final = ("linearizability", "sessions", "data-loss")
_TIMED: Final = ("availability", "recovery", "latency")
_ALL: Final = (*_SAFETY, *_TIMED, "replica-agreement")


def check_assumptions(found: list[Assumption]) -> CheckResult:
    """The check `assumptions`: pass when all hold."""
    broken = [a for a in found if not a.held]
    summary = f"{len(found) - len(broken)} of {count(len(found), 'assumption')} hold"
    return CheckResult(
        name="assumptions",
        title="Assumptions",
        verdict=Verdict.UNKNOWN if broken else Verdict.PASS,
        reason="; ".join(a.detail for a in broken) if broken else "Everything that the other checks rest on holds.",
        summary=summary,
        value=summary,
        context=broken[0].detail if broken else "",
        numbers={"assumptions": len(found), "broken": len(broken)},
        scope=tuple(sorted({fault for a in broken for fault in a.scope})),
        evidence="not-checked",
    )


def assumptions(view: View) -> list[Assumption]:
    """Every assumption on this run, held or not."""
    return [*_on_history(view), *_on_recording(view), *_on_faults(view), _nobody_died(view)]


# ------------------------------------------------------------------------------------------------ history


def _on_history(view: View) -> Iterator[Assumption]:
    history = view.record.history
    sent = history.filter(pl.col("start_ns").is_not_null())
    yield _times_in_order(sent)
    yield _sequential(sent)
    yield _one_client_each(history)
    yield _unique_values(history)
    yield _inside_the_run(view, sent)
    yield _read_back(history)


def _verdict(text: str, broken: pl.DataFrame, detail: str, taints: tuple[str, ...]) -> Assumption:
    return Assumption(text=text, held=not broken.height, detail=detail if broken.height else "", taints=taints)


def _times_in_order(sent: pl.DataFrame) -> Assumption:
    bad = sent.filter(pl.col("end_ns") < pl.col("start_ns"))
    detail = f"{count(bad.height, 'answer')} came before the question, which no clock allows"
    return _verdict("No operation ends before it begins", bad, detail, _ALL)


def _sequential(sent: pl.DataFrame) -> Assumption:
    """Within a process, each operation ends before the next one starts; one without an end must be the last."""
    ordered = (
        sent.sort("process", "start_ns")
        .with_columns(open_update=(pl.col("outcome") == "unknown") & (pl.col("f") != "read"))
        .with_columns(
            before_end=pl.col("end_ns").shift(1).over("process"),
            before=pl.col("start_ns").shift(1).over("process"),
            # A read without an answer has no effect, and its client has given it up: it overlaps nothing.
            before_open=pl.col("open_update").shift(1).over("process"),
        )
    )
    bad = ordered.filter(
        pl.col("before").is_not_null()
        & (pl.col("before_open") | (pl.col("before_end") > pl.col("start_ns")).fill_null(value=False))
    )
    processes = bad["process"].unique(maintain_order=True).to_list()
    named = join(map(str, processes), most=3)
    number = count(len(processes), "process", "processes")
    detail = f"{number} had two operations open at once (process {named})"
    return _verdict("No process overlaps itself", bad, detail, _SAFETY)


def _one_client_each(history: pl.DataFrame) -> Assumption:
    bad = (
        history.filter(~pl.col("final"))
        .group_by("process")
        .agg(pl.col("client").n_unique())
        .filter(pl.col("client") > 1)
    )
    detail = f"{count(bad.height, 'process', 'processes')} changed the client group, so who was cut off is not certain"
    return _verdict("A process never changes its client group", bad, detail, _TIMED)


def _unique_values(history: pl.DataFrame) -> Assumption:
    written = history.filter(pl.col("f").is_in(["write", "cas", "insert"]) & pl.col("start_ns").is_not_null())
    twice = written.group_by("key", "value").len().filter(pl.col("len") > 1)
    number = count(twice.height, "value")
    detail = f"{number} went to the same key more than once, so a read does not say which write it saw"
    return _verdict("Every written value is unique within its key", twice, detail, ("data-loss",))


def _inside_the_run(view: View, sent: pl.DataFrame) -> Assumption:
    first = view.record.facts.origin_ns - 1_000_000_000
    bad = sent.filter((pl.col("start_ns") < first) | (pl.col("intended_ns") < first))
    detail = f"{count(bad.height, 'operation')} began before the load did: clocks or run.json were mixed up"
    return _verdict("All times lie inside the run", bad, detail, _ALL)


def _read_back(history: pl.DataFrame) -> Assumption:
    """What may have been written is read once more at the end, or nobody knows whether it is still there."""
    may = history.filter(
        ~pl.col("final")
        & pl.col("start_ns").is_not_null()
        & ~pl.col("f").is_in(["read", REQUEST])
        & (pl.col("outcome") != "fail")
        & (pl.col("result") != "mismatch")
    )
    last = may.group_by("key").agg(done_ns=pl.col("end_ns").max())
    answered = history.filter(pl.col("final") & (pl.col("f") == "read") & (pl.col("outcome") == "ok"))
    seen = answered.group_by("key").agg(read_ns=pl.col("start_ns").max())
    bad = last.join(seen, on="key", how="left").filter(
        pl.col("read_ns").is_null() | (pl.col("read_ns") <= pl.col("done_ns"))
    )
    detail = f"{count(bad.height, 'key')} had no answered final read, so its last writes are not known to be there"
    return _verdict("Every key that may have been written was read back at the end", bad, detail, _SAFETY)


# ------------------------------------------------------------------------------------------------ recording


def _on_recording(view: View) -> Iterator[Assumption]:
    record = view.record
    yield Assumption(
        text="The history has no known hole",
        held=not record.holes,
        detail="; ".join(record.holes),
        taints=(*_SAFETY, *_TIMED),
    )
    died = record.load.get("died") if record.load else None
    reason = (
        f"a load process ended early: {died}"
        if died
        else "the load generator left no account of itself (history/load.json)"
    )
    yield Assumption(
        text="The load generator lived to the end",
        held=bool(record.load) and not died,
        detail="" if record.load and not died else reason,
        taints=(*_SAFETY, *_TIMED),
        breaks=_TIMED,
    )
    yield Assumption(
        text="The recording is complete",
        held=view.incomplete is None,
        detail=f"the recording is incomplete: {view.incomplete}" if view.incomplete else "",
        taints=_ALL,
        breaks=_TIMED,
    )
    yield _answered(view)


def _answered(view: View) -> Assumption:
    """Also of a load that writes nothing which could be read back: without a single success, nothing was measured."""
    held = bool(view.load["ok"].any())
    detail = "" if held else "no operation of the load ever succeeded"
    errors = view.load.filter(pl.col("error") != "")["error"].value_counts(sort=True)
    if not held and errors.height:
        detail += f" (most often: {errors['error'][0]}, {errors['count'][0]:,} of {view.load.height:,})"
    return Assumption(text="Something was asked of the system", held=held, detail=detail, taints=_ALL)


# ------------------------------------------------------------------------------------------------ faults


def _on_faults(view: View) -> Iterator[Assumption]:
    if not view.faults:
        control = view.record.scenario.control
        yield Assumption(
            text="Something was broken, or the scenario says that it is a control run",
            held=control,
            detail="" if control else "no fault was planned and the scenario does not say control = true",
            taints=_ALL,
        )
    for fault in view.faults:
        yield _took_effect(fault)
        if fault.injected_s is not None:
            yield _was_undone(fault)
            yield from _attempted(view, fault)
            if fault.reaction is not None:
                yield _reacted(fault, fault.reaction)


def _nobody_died(view: View) -> Assumption:
    """A process that ends by itself is a fault that nobody planned: what it did to the run is not in the schedule."""
    deaths = [e for e in view.record.events if e.kind == "member.exited" and e.fields.get("expected") is False]
    told = [
        f"{event.fields.get('member')} ended by itself with status {event.fields.get('status')} "
        f"at {view.record.seconds(event.t_ns):.2f} s"
        for event in deaths
    ]
    return Assumption(text="No member ended by itself", held=not told, detail=join(told, most=3), taints=_TIMED)


def _reacted(fault: FaultWindow, reaction: Reaction) -> Assumption:
    should = f"{fault.id} ({fault.title}) should have led to {reaction.expected}, and {reaction.detail}"
    return Assumption(
        text=f"The system reacted to {fault.id} as expected",
        held=reaction.seen,
        detail="" if reaction.seen else should,
        taints=("availability", "recovery"),
        scope=(fault.id,),
    )


def _took_effect(fault: FaultWindow) -> Assumption:
    if fault.proven or (fault.is_control and fault.injected_s is not None):
        detail = ""
    elif fault.error is not None:
        detail = f"{fault.id} ({fault.title}) could not be injected: {fault.error}"
    elif fault.injected_s is None:
        detail = f"{fault.id} ({fault.title}) was planned and never injected"
    else:
        facts = ": " + "; ".join(fault.evidence) if fault.evidence else ""
        detail = f"{fault.id} ({fault.title}) was injected, and its effect could not be proven{facts}"
    return Assumption(
        text=f"{fault.id} took effect",
        held=not detail,
        detail=detail,
        taints=("availability", "recovery"),
        # An injection that broke off half way has cut something for a while, and is excused by no window.
        breaks=_TIMED if fault.error is not None else (),
        scope=(fault.id,),
    )


def _was_undone(fault: FaultWindow) -> Assumption:
    held = fault.heal_verified or (fault.is_control and fault.healed_s is not None)
    facts = ": " + "; ".join(fault.heal_evidence) if fault.heal_evidence else ""
    return Assumption(
        text=f"{fault.id} was undone",
        held=held,
        detail="" if held else f"{fault.id} ({fault.title}) was not seen to be undone{facts}",
        # What is still broken says nothing against the figures taken while it was meant to be broken.
        taints=("recovery", "replica-agreement"),
        scope=(fault.id,),
    )


def _attempted(view: View, fault: FaultWindow) -> Iterator[Assumption]:
    """A fault that nobody's operations met proves nothing: both sides must have asked during its window."""
    during = view.load.filter(overlaps(view.load, fault.window_s) & ~view.load["not_sent"].to_numpy())
    owed = during.filter(~pl.col("cut_off")).height
    if not owed and fault.beside:
        # Others had cut off the rest: this fault met whoever it did not cut off itself.
        owed = during.filter(~named_by(during, fault.cut_off)).height
    text = f"Clients were at work during {fault.id}"
    if not owed:
        detail = f"no client that was owed service sent anything during {fault.id} ({fault.title})"
        yield Assumption(text=text, held=False, detail=detail, taints=_TIMED, scope=(fault.id,))
        return
    silent = [
        client
        for client, shards in fault.cut_off.items()
        if not during.filter(
            (pl.col("client") == client)
            & (pl.lit(value=True) if shards is None else pl.col("shard").is_in(list(shards)))
        ).height
    ]
    detail = f"{join(silent)} sent nothing while cut off in {fault.id}, so nobody saw the other side" if silent else ""
    yield Assumption(text=text, held=not silent, detail=detail, taints=_SAFETY, scope=(fault.id,))
