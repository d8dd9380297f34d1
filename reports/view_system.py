"""What was done to the system and how it took it: faults, recovery, targets, windows, the table of checks."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from .charts import meter, steps_bar
from .links import jump, slug
from .text import (
    DASH,
    Values,
    count,
    duration,
    goal,
    is_number,
    measure,
    milliseconds,
    numbers,
    percent,
    plural,
    time_text,
)
from .view_summary import WORDS, state_of
from .view_timeline import fault_kind

__all__ = ["checks", "fault_rows", "recoveries", "shard_rows", "targets", "windows"]

_STEPS = (
    ("detected_s", "detected"),
    ("decided_s", "decided"),
    ("promoted_s", "promoted"),
    ("first_success_s", "first success"),
)
_WINDOW_WORDS = {"before": "before", "during": "during", "recovery": "recovery", "after": "after", "whole": "whole run"}


def fault_rows(verdict: Values) -> list[Values]:
    """Rows of the faults table: target as resolved, planned, actual, proof, healed."""
    return [_fault_row(fault) for fault in verdict.get("faults") or []]


def _fault_row(fault: Values) -> Values:
    planned = numbers(fault.get("planned_s"))
    start, end = fault.get("injected_s"), fault.get("healed_s")
    reaction = fault.get("reaction") or {}
    rto = fault.get("rto_s")
    expect = str(fault.get("expect") or DASH)
    return {
        "id": fault.get("id", ""),
        "kind": fault_kind(fault),
        "title": fault.get("title") or fault.get("name") or "",
        "description": fault.get("description") or "",
        "targets": fault.get("targets") or [],
        "cut_off": [
            f"{client}: " + ("no service owed" if shards is None else f"not owed shards {', '.join(map(str, shards))}")
            for client, shards in (fault.get("cut_off") or {}).items()
        ],
        "planned": f"{planned[0]:.2f}\u2013{planned[1]:.2f}" if len(planned) == 2 else DASH,
        "actual": jump([start, end], label=f"{time_text(start)}\u2013{time_text(end)}") if is_number(end) else None,
        "actual_text": f"from {time_text(start)}" if is_number(start) else "never injected",
        "expect": f"{expect} within {goal(rto, 's')}" if expect == "recovers" and is_number(rto) else expect,
        "error": fault.get("error") or "",
        **_proof(fault),
        **_healing(fault),
        "reaction": {
            "state": "pass" if reaction.get("seen") else "unknown",
            "word": "Reaction seen" if reaction.get("seen") else "Reaction not seen",
            "text": reaction.get("detail") or reaction.get("expected") or "",
        }
        if reaction
        else None,
    }


def _proof(fault: Values) -> Values:
    if fault.get("error"):
        return {"proof_state": "unknown", "proof_word": "Not injected", "proof": [fault["error"]]}
    state = "pass" if fault.get("proven") else "unknown"
    after = (
        f" after {duration(fault['proven_s'] - fault['injected_s'])}"
        if _both(fault, "injected_s", "proven_s")
        and state == "pass"
        and fault["proven_s"] - fault["injected_s"] >= 0.001
        else ""
    )
    return {
        "proof_state": state,
        "proof_word": "Proven" + after if state == "pass" else "Not proven",
        "proof": fault.get("evidence") or [],
    }


def _healing(fault: Values) -> Values:
    verified = fault.get("heal_verified")
    if verified is None:
        return {
            "heal_state": "unknown",
            "heal_word": "Not verified",
            "heal": fault.get("heal_evidence") or [],
            "in_sync": "",
        }
    in_sync = fault.get("in_sync_s")
    text = f"in sync again at {time_text(in_sync)} s" if is_number(in_sync) else ""
    return {
        "heal_state": "pass" if verified else "fail",
        "heal_word": "Healed" if verified else "Not healed",
        "heal": fault.get("heal_evidence") or [],
        "in_sync": text,
    }


def _both(values: Values, *names: str) -> bool:
    return all(is_number(values.get(name)) for name in names)


def recoveries(verdict: Values) -> list[Values]:
    """Recovery steps of each fault that had any, from injection, to scale."""
    return [
        _recovery(fault)
        for fault in verdict.get("faults") or []
        if fault.get("recovery") and is_number(fault.get("injected_s"))
    ]


def _recovery(fault: Values) -> Values:
    recovery, start = fault["recovery"], fault["injected_s"]
    steps = [
        (label, recovery[name] - start)
        for name, label in _STEPS
        if is_number(recovery.get(name)) and recovery[name] >= start
    ]
    steps.sort(key=lambda step: step[1])
    missing = [label for name, label in _STEPS if not is_number(recovery.get(name))]
    measured, limit = recovery.get("rto_measured_s"), fault.get("rto_s")
    in_sync = fault.get("in_sync_s")
    last = steps[-1][1] if steps else 0.0
    end = f"Every replica in sync again {duration(in_sync - start)} after injection." if is_number(in_sync) else ""
    if is_number(in_sync) and _both(fault, "healed_s"):
        after_healing = duration(max(0.0, in_sync - fault["healed_s"]))
        end = f"Every replica in sync again {duration(in_sync - start)} after injection, {after_healing} after healing."
    return {
        "title": fault.get("title") or fault.get("name") or "",
        "kind": fault_kind(fault),
        "rto": duration(measured) if is_number(measured) else "",
        "limit": goal(limit, "s") if is_number(limit) else "",
        "late": is_number(measured) and is_number(limit) and measured > limit,
        "bar": steps_bar([end_s for _, end_s in steps]),
        "steps": [
            {"label": label, "after": f"+{duration(after)}", "index": index}
            for index, (label, after) in enumerate(steps)
        ],
        "missing": missing,
        "end": end,
        "jump": jump([start, start + max(last, 0.2)], label="Show on the timeline", margin_s=max(0.3, last * 0.3)),
    }


def targets(verdict: Values) -> list[Values]:
    """Rows of the targets table, with the share of what is allowed that was used."""
    rows = []
    for target in verdict.get("targets") or []:
        state, unit = state_of(target.get("verdict")), str(target.get("unit") or "")
        limit, measured, budget = target.get("target"), target.get("measured"), target.get("budget") or {}
        used = _used(limit, measured, unit, str(target.get("better") or ""), budget)
        sign = {"higher": "\u2265", "lower": "\u2264"}.get(str(target.get("better") or ""), "")
        rows.append(
            {
                "title": target.get("title") or target.get("name") or "",
                "scope": target.get("scope") or "",
                "goal": f"{sign}\u2009{goal(limit, unit)}" if is_number(limit) and sign else goal(limit, unit),
                "measured": measure(measured, unit),
                "detail": target.get("detail") or "",
                "state": state,
                "word": WORDS[state],
                "required": bool(target.get("required")),
                "meter": meter(used, state),
                "used": _used_text(used, measured, limit, budget),
            }
        )
    return rows


def _used(limit: Any, measured: Any, unit: str, better: str, budget: Values) -> float | None:
    allowed, spent = budget.get("allowed"), budget.get("spent")
    if is_number(allowed) and is_number(spent):
        return spent / allowed if allowed else (3.0 if spent else 0.0)
    if not (is_number(limit) and is_number(measured)):
        return None
    if unit == "ratio" and better == "higher":
        limit, measured = 1 - limit, 1 - measured
    elif better == "higher":
        limit, measured = measured, limit
    return float(measured / limit) if limit else (3.0 if measured else 0.0)


def _used_text(used: float | None, measured: Any, limit: Any, budget: Values) -> str:
    if is_number(budget.get("allowed")) and is_number(budget.get("spent")):
        return f"{count(budget['spent'])} of {count(budget['allowed'])} allowed"
    if used is None:
        return "not measured" if measured is None else ""
    return "none allowed" if limit == 0 else f"{used * 100:,.0f}\u2009% of limit"


def windows(verdict: Values) -> list[Values]:
    """Before, during and after each fault; what is owed and what is cut off apart."""
    faults = {fault.get("id"): fault for fault in verdict.get("faults") or []}
    groups = []
    for fault_id, entries in groupby(verdict.get("windows") or [], key=lambda window: window.get("fault")):
        fault = faults.get(fault_id, {})
        groups.append(
            {
                "title": fault.get("title")
                or fault.get("name")
                or ("Whole run" if fault_id is None else str(fault_id)),
                "kind": fault_kind(fault),
                "rows": [_window(entry) for entry in entries],
            }
        )
    return groups


def _window(entry: Values) -> Values:
    operations = entry.get("operations") or 0
    cut_off = entry.get("clients") == "cut-off"
    gap = entry.get("longest_gap_s")
    return {
        "name": _WINDOW_WORDS.get(str(entry.get("kind")), str(entry.get("kind") or DASH)),
        "clients": "cut off, nothing owed" if cut_off else "",
        "cut_off": cut_off,
        "jump": jump(entry.get("span_s")),
        "cells": [
            count(operations),
            percent(entry.get("success_ratio")) if operations else DASH,
            "none" if gap == 0 else duration(gap),
            duration(entry.get("unavailable_s")),
            count(entry.get("fail")),
            count(entry.get("unknown")),
            count(entry.get("not_sent")),
            milliseconds(entry.get("p50_ms")),
            milliseconds(entry.get("p99_ms")),
            milliseconds(entry.get("p999_ms")),
            milliseconds(entry.get("p99_raw_ms")),
        ],
    }


def shard_rows(verdict: Values) -> list[Values]:
    """Availability of each shard over the whole run, the worst first: advisory, it decides nothing."""
    rows = [
        {
            "shard": entry.get("shard"),
            "gap": entry.get("longest_gap_s") or 0.0,
            "cells": [
                count(entry.get("operations")),
                percent(entry.get("success_ratio")),
                "none" if entry.get("longest_gap_s") == 0 else duration(entry.get("longest_gap_s")),
                duration(entry.get("unavailable_s")),
            ],
        }
        for entry in verdict.get("shards") or []
    ]
    return sorted(rows, key=lambda row: -row["gap"])


def checks(verdict: Values) -> list[Values]:
    """Rows of the checks table: verdict, what was found, every number."""
    titles = {fault.get("id"): fault.get("title") or fault.get("name") for fault in verdict.get("faults") or []}
    rows = []
    for check in verdict.get("checks") or []:
        skipped = check.get("status") == "skipped"
        state = state_of(check.get("verdict"))
        scope = [str(titles.get(name) or name) for name in check.get("scope") or []]
        rows.append(
            {
                "id": f"check-{slug(str(check.get('name', '')))}",
                "title": check.get("title") or check.get("name") or "",
                "required": bool(check.get("required")),
                "skipped": skipped,
                "state": state,
                "word": "Not asked for" if skipped else WORDS[state],
                "summary": check.get("summary") or "",
                "reason": check.get("reason") or "",
                "scope": f"Undecided in {plural(len(scope), 'window')}: {', '.join(scope)}" if scope else "",
                "numbers": [
                    (name.replace("_", " "), _scalar(value)) for name, value in (check.get("numbers") or {}).items()
                ],
            }
        )
    return rows


def _scalar(value: Any) -> str:
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
