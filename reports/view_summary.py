"""The first screen: verdict, cause, findings, what held, how sure, how to run it again."""

from __future__ import annotations

from typing import Any

from .links import evidence_link, jump
from .text import DASH, Values, duration, is_number, numbers, plural, shorten, time_text

__all__ = ["STATES", "WORDS", "state_of", "summary"]

STATES = ("pass", "fail", "unknown")
WORDS = {"pass": "Pass", "fail": "Fail", "unknown": "Unknown"}
_FINDINGS_SHOWN = 6
_TIMES_SHOWN = 2
_DETAIL_MAX = 90
# What a user of the system was promised; the checks of the run itself (load, assumptions) stand in the line below.
_PROMISES = ("data-loss", "linearizability", "availability", "recovery", "replica-agreement", "latency")
_PROMISES_SHOWN = 4
_EXIT_MEANING = {
    0: "0",
    1: "1, a promise was broken",
    2: "2, usage",
    3: "3, not decided",
    4: "4, the system did not start",
    5: "5, heal failed",
    70: "70, internal error",
    130: "130, interrupted",
}


def state_of(value: Any) -> str:
    """A verdict word; anything else counts as unknown, because nothing that was not judged may look green."""
    return value if value in STATES else "unknown"


def summary(verdict: Values) -> Values:
    """View values of the verdict section."""
    run = verdict.get("run") or {}
    state = state_of(verdict.get("verdict"))
    findings = [_finding(entry) for entry in verdict.get("findings") or []]
    promised = _promised(verdict) if state == "pass" and not findings else []
    told = {entry["check"] for entry in findings + promised}
    rows = findings or promised
    titles = {
        "pass": "What was promised",
        "fail": "What broke, and when",
        "unknown": "What keeps it from being decided",
    }
    return {
        "state": state,
        "word": WORDS[state],
        "headline": verdict.get("headline") or f"{WORDS[state]}, without a headline in the record",
        "cause": verdict.get("cause") or "",
        "cause_jump": jump(verdict.get("cause_span_s")),
        "meta": _meta(verdict, run),
        "strips": _strips(verdict, run),
        "findings_title": titles[state] if rows else "What was found",
        "findings": rows[:_FINDINGS_SHOWN],
        "findings_more": rows[_FINDINGS_SHOWN:],
        "held": _held(verdict, told),
        "sure_title": "Why it is not sure" if state == "unknown" else "How sure this is",
        "sure": [
            {
                "state": state_of(entry.get("state")),
                "text": entry.get("text", ""),
                "detail": entry.get("detail") or "",
                "link": evidence_link(entry.get("evidence")),
            }
            for entry in verdict.get("certainty") or []
        ],
        "reproduce": {name: (verdict.get("reproduce") or {}).get(name) or "" for name in ("run", "check")},
        "seed": run.get("seed"),
    }


def _meta(verdict: Values, run: Values) -> list[tuple[str, str]]:
    started = str(run.get("started_utc") or "").replace("T", " ").removesuffix("Z")
    exit_code = verdict.get("exit_code")
    return [
        ("Scenario", str(run.get("scenario") or DASH) + (" (control arm)" if run.get("control") else "")),
        ("Started", f"{started} UTC" if started else DASH),
        ("System", str(run.get("system_text") or run.get("system") or DASH)),
        ("Load", f"{plural(run.get('operations'), 'operation')}, {duration(run.get('duration_s'))}"),
        ("Seed", str(run.get("seed", DASH))),
        ("Exit code", _EXIT_MEANING.get(exit_code, str(exit_code)) if isinstance(exit_code, int) else DASH),
    ]


def _strips(verdict: Values, run: Values) -> list[Values]:
    """Notices that outrank the rest: what is still changed on the machine, what was not recorded, warnings."""
    strips: list[Values] = []
    left = [
        f"{fault.get('title') or fault.get('name')}: {' '.join(fault.get('heal_evidence') or ['no proof of healing'])}"
        for fault in verdict.get("faults") or []
        if fault.get("heal_verified") is False and is_number(fault.get("injected_s"))
    ]
    failed = verdict.get("exit_code") == 5
    if failed or left:
        title = "Heal failed: something is still changed." if failed else "Not everything was seen to be undone."
        text = shorten("; ".join(left), 600) or "The warnings say what."
        strips.append({"state": "fail", "title": title, "text": text, "undo": "aftershock heal"})
    incomplete = run.get("incomplete")
    if incomplete:
        planned = (verdict.get("timeline") or {}).get("planned_until_s")
        recorded = f"Recorded {duration(incomplete.get('recorded_until_s'))} of {duration(planned)}."
        text = f"{recorded} {incomplete.get('reason') or ''} What is missing is marked, never filled in."
        strips.append({"state": "unknown", "title": "Incomplete run.", "text": text, "more": []})
    warnings = [str(warning) for warning in verdict.get("warnings") or []]
    if warnings:
        title = "Warning." if len(warnings) == 1 else f"{len(warnings)} warnings."
        strips.append({"state": "unknown", "title": title, "text": warnings[0], "more": warnings[1:]})
    return strips


def _finding(entry: Values) -> Values:
    spans = [pair for pair in map(numbers, entry.get("spans_s") or []) if len(pair) == 2]
    short = len(spans) > 1
    return {
        "number": entry.get("number"),
        "check": entry.get("check", ""),
        "state": state_of(entry.get("verdict")),
        "title": entry.get("title", ""),
        "value": entry.get("value", ""),
        "context": entry.get("context") or "",
        "jumps": [jump(pair, label=time_text(pair[0]) + " s" if short else None) for pair in spans[:_TIMES_SHOWN]],
        "more_times": max(0, len(spans) - _TIMES_SHOWN),
        "link": evidence_link(entry.get("evidence") or entry.get("check")),
    }


def _promised(verdict: Values) -> list[Values]:
    """On a pass the same rows say what was promised, with the figure that shows it."""
    held = [
        check
        for check in verdict.get("checks") or []
        if check.get("verdict") == "pass" and check.get("required") and check.get("name") in _PROMISES
    ]
    held.sort(key=lambda check: _PROMISES.index(check["name"]))
    return [
        {
            "number": None,
            "check": check["name"],
            "state": "pass",
            "title": check.get("title") or check["name"],
            "value": check.get("value") or "held",
            "context": check.get("context") or check.get("summary") or "",
            "jumps": [],
            "more_times": 0,
            "link": evidence_link(check.get("evidence") or check["name"]),
        }
        for check in held[:_PROMISES_SHOWN]
    ]


def _held(verdict: Values, told: set[str]) -> list[Values]:
    """Quiet line: checks that passed, and advisory ones that did not (they never decide a run)."""
    rows = []
    for check in verdict.get("checks") or []:
        state = state_of(check.get("verdict"))
        if check.get("status") == "skipped" or check.get("name") in told or (state != "pass" and check.get("required")):
            continue
        figures = ", ".join(filter(None, [check.get("value"), check.get("context")])) or check.get("summary")
        detail = shorten(str((figures if state == "pass" else check.get("reason")) or ""), _DETAIL_MAX)
        advisory = "" if check.get("required") else "advisory"
        rows.append(
            {"state": state, "title": check.get("title") or check.get("name"), "detail": detail, "advisory": advisory}
        )
    return rows
