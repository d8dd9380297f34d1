"""Puts what the checks found together as verdict.json (docs/verdict.md): every number that a report shows."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..environment import tool_version
from ..verdict import ExitCode, Verdict
from .data_loss import DataLoss
from .event_texts import event_rows
from .fault_windows import FaultWindow
from .findings import cause, certainty, findings, headline, not_checked
from .gaps import Gaps
from .linearizability import Linearizability
from .load_schedule import Load
from .logs import log_excerpts
from .members import member_names
from .recovery import Recovery
from .result import Assumption, CheckResult, count
from .timeline import timeline
from .view import View
from .windows import window_rows

__all__ = ["Judged", "verdict_json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the judge found; parts are None when their check crashed."""

    results: Sequence[CheckResult]
    required: Sequence[CheckResult]
    verdict: Verdict
    exit_code: ExitCode
    gaps: Gaps
    assumptions: Sequence[Assumption]
    linearizability: Linearizability | None
    data_loss: DataLoss | None
    targets: Sequence[dict[str, Any]]
    recovery: Recovery | None
    load: Load | None
    shards: Sequence[dict[str, Any]]
    warnings: Sequence[str]


def verdict_json(view: View, judged: Judged) -> dict[str, Any]:
    """The whole of verdict.json."""
    record = view.record
    loss = judged.data_loss.detail if judged.data_loss else None
    why, why_span = cause(view, judged.verdict, judged.required)
    required = {result.name for result in judged.required}
    return {
        "schema": 1,
        "tool": {"name": "aftershock", "version": tool_version()},
        "run": _run(view),
        "verdict": str(judged.verdict),
        "exit_code": int(judged.exit_code),
        "headline": headline(view, judged.verdict, judged.required, loss),
        "cause": why,
        "cause_span_s": list(why_span) if why_span else None,
        "findings": findings(judged.results),
        "certainty": certainty(view, judged.results, judged.assumptions, judged.linearizability),
        "checks": [_check(result, required=result.name in required) for result in judged.results],
        "reproduce": {
            "run": f"aftershock run {shlex.quote(record.facts.source)} --seed {record.facts.seed}",
            "check": f"aftershock check {shlex.quote(str(record.folder))}",
        },
        "faults": [_fault(fault, judged.recovery) for fault in view.faults],
        "targets": list(judged.targets),
        "windows": window_rows(view, judged.gaps),
        "shards": list(judged.shards),
        "data_loss": loss,
        "linearizability": judged.linearizability.detail if judged.linearizability else None,
        "timeline": timeline(view),
        "events": event_rows(record),
        "logs": log_excerpts(view),
        "assumptions": [{"text": a.text, "held": a.held, "detail": a.detail} for a in judged.assumptions],
        "not_checked": not_checked(view, judged.results),
        "environment": {name: value for name, value in record.environment.items() if name != "schema"},
        "load": judged.load.detail if judged.load else None,
        "warnings": _warnings(view, judged),
    }


def _run(view: View) -> dict[str, Any]:
    facts, scenario = view.record.facts, view.record.scenario
    incomplete = view.incomplete
    shards = {
        event.fields["shard"] for event in view.record.events if event.kind == "topology" and "shard" in event.fields
    }
    parts = [scenario.system.name]
    nodes = member_names(view)
    parts += [count(len(nodes), "node")] if nodes else []
    parts += [count(len(shards), "shard")] if shards else []
    return {
        "id": facts.run_id,
        "scenario": scenario.name,
        "description": scenario.description,
        "seed": facts.seed,
        "started_utc": facts.started_utc,
        "duration_s": round(view.recorded_s, 3),
        "backend": scenario.backend.name,
        "system": scenario.system.name,
        "system_text": ", ".join(parts),
        "operations": view.record.history.height,
        "control": scenario.control,
        "state": facts.state,
        "incomplete": None
        if incomplete is None
        else {
            "reason": incomplete,
            "recorded_until_s": round(view.judged_until_s, 3),
        },
        "aborted": None if facts.aborted is None else dict(facts.aborted),
    }


def _check(result: CheckResult, *, required: bool) -> dict[str, Any]:
    return {
        "name": result.name,
        "title": result.title,
        "verdict": str(result.verdict),
        "required": required,
        "status": result.status,
        "reason": result.reason,
        "summary": result.summary,
        "value": result.value,
        "context": result.context,
        "numbers": dict(result.numbers),
        "scope": list(result.scope),
        "evidence": result.evidence,
    }


def _fault(fault: FaultWindow, recovery: Recovery | None) -> dict[str, Any]:
    def r(t_s: float | None) -> float | None:
        return None if t_s is None else round(t_s, 3)

    reaction = fault.reaction
    return {
        "id": fault.id,
        "name": fault.name,
        "kind": fault.kind,
        "title": fault.title,
        "targets": list(fault.targets),
        "description": fault.description,
        "planned_s": list(fault.planned_s),
        "injected_s": r(fault.injected_s),
        "proven_s": r(fault.proven_s),
        "healing_s": r(fault.healing_s),
        "healed_s": r(fault.healed_s),
        "in_sync_s": r(fault.in_sync_s),
        "proven": fault.proven,
        "evidence": list(fault.evidence),
        "heal_verified": fault.heal_verified,
        "heal_evidence": list(fault.heal_evidence),
        "expect": fault.expect,
        "rto_s": fault.rto_s,
        "cut_off": {client: None if s is None else list(s) for client, s in fault.cut_off.items()},
        "error": fault.error,
        "reaction": None
        if reaction is None
        else {
            "expected": reaction.expected,
            "seen": reaction.seen,
            "detail": reaction.detail,
        },
        "recovery": recovery.by_fault.get(fault.id) if recovery else None,
    }


def _warnings(view: View, judged: Judged) -> list[str]:
    found = [*view.record.warnings, *judged.warnings, *view.record.holes]
    admitted = [e.fields.get("unsafe") for e in view.record.events if e.kind == "member.started"]
    unsafe = sorted({str(setting) for settings in admitted if isinstance(settings, list) for setting in settings})
    if unsafe:
        found.append(f"The system says that it runs with settings that break a promise on purpose: {', '.join(unsafe)}")
    found += [str(e.fields["text"]) for e in view.record.events if e.kind == "warning" and "text" in e.fields]
    if judged.verdict is Verdict.UNKNOWN and judged.exit_code is ExitCode.PASS:
        found.append("The verdict is unknown and the exit code is 0, because the scenario says on_unknown.then = warn.")
    if isinstance(view.record.load, Mapping):
        found += [str(text) for text in view.record.load.get("warnings", ())]
    return list(dict.fromkeys(found))
