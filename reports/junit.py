"""verdict.json as JUnit XML for CI servers: one case per check and one per target.

| in the verdict | in the file |
|---|---|
| required, pass | passed |
| required, fail | `failure` |
| required, unknown | `error`: not judged is not passed |
| advisory and not pass, or skipped | `skipped` with the reason: it never decides a run |

A run whose exit code is not 0 never looks green: without any failure or error above, a case `run` holds an error. When
the scenario says that unknown only warns (exit code 0), its cases are `skipped` and say so, so that the exit code and
this file agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from .text import Values, clean_tree, goal, is_number, measure
from .view_summary import state_of

__all__ = ["render_junit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    group: str
    name: str
    outcome: str  # passed, failure, error, skipped
    message: str
    text: str = ""


def render_junit(verdict: Mapping[str, Any]) -> str:
    """Return the JUnit XML of a run; pure."""
    clean: Values = clean_tree(verdict)
    run = clean.get("run") or {}
    cases = _cases(clean)
    totals = {
        "tests": str(len(cases)),
        "failures": str(sum(case.outcome == "failure" for case in cases)),
        "errors": str(sum(case.outcome == "error" for case in cases)),
        "skipped": str(sum(case.outcome == "skipped" for case in cases)),
        "time": f"{run['duration_s']:.3f}" if is_number(run.get("duration_s")) else "0",
    }
    name = f"aftershock {run.get('scenario') or ''}".strip()
    root = ElementTree.Element("testsuites", {"name": "aftershock", **totals})
    suite = ElementTree.SubElement(root, "testsuite", {"name": name, **totals})
    if run.get("started_utc"):
        suite.set("timestamp", str(run["started_utc"]).removesuffix("Z"))
    properties = ElementTree.SubElement(suite, "properties")
    for key, value in _properties(clean, run):
        ElementTree.SubElement(properties, "property", {"name": key, "value": value})
    for case in cases:
        node = ElementTree.SubElement(
            suite, "testcase", {"classname": f"{name}.{case.group}", "name": case.name, "time": "0"}
        )
        if case.outcome != "passed":
            ElementTree.SubElement(node, case.outcome, _attributes(case)).text = case.text or None
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _attributes(case: _Case) -> dict[str, str]:
    kinds = {"failure": "fail", "error": "unknown"}
    kind = {"type": f"aftershock.{kinds[case.outcome]}"} if case.outcome in kinds else {}
    return {"message": case.message, **kind}


def _properties(clean: Values, run: Values) -> list[tuple[str, str]]:
    values = {
        "run_id": run.get("id"),
        "scenario": run.get("scenario"),
        "seed": run.get("seed"),
        "verdict": clean.get("verdict"),
        "exit_code": clean.get("exit_code"),
        "headline": clean.get("headline"),
        "tool_version": (clean.get("tool") or {}).get("version"),
        "reproduce": (clean.get("reproduce") or {}).get("run"),
    }
    return [(name, str(value)) for name, value in values.items() if value is not None]


def _cases(clean: Values) -> list[_Case]:
    warned = clean.get("exit_code") == 0 and clean.get("verdict") == "unknown"
    cases = [_check_case(check, clean, warned=warned) for check in clean.get("checks") or []]
    cases += [_target_case(target, warned=warned) for target in clean.get("targets") or []]
    decided = any(case.outcome in ("failure", "error") for case in cases)
    if clean.get("exit_code") != 0 and not decided:
        message = str(clean.get("headline") or "the run did not end with a pass")
        warnings = "\n".join(map(str, clean.get("warnings") or []))
        cases.append(
            _Case(
                group="run",
                name="run",
                outcome="error",
                message=f"exit code {clean.get('exit_code')}: {message}",
                text=warnings,
            )
        )
    return cases


def _outcome(state: str, *, required: bool, warned: bool) -> str:
    if state == "pass":
        return "passed"
    if not required or (warned and state == "unknown"):
        return "skipped"
    return "failure" if state == "fail" else "error"


def _why_skipped(state: str, *, required: bool, message: str) -> str:
    return f"{'unknown, which this scenario only warns about' if required else f'advisory, {state}'}: {message}"


def _check_case(check: Values, clean: Values, *, warned: bool) -> _Case:
    name = str(check.get("title") or check.get("name") or "check")
    if check.get("status") == "skipped":
        return _Case(group="checks", name=name, outcome="skipped", message=str(check.get("reason") or "not asked for"))
    state, required = state_of(check.get("verdict")), bool(check.get("required"))
    outcome = _outcome(state, required=required, warned=warned)
    message = str(check.get("reason") or check.get("summary") or state)
    if outcome == "skipped":
        message = _why_skipped(state, required=required, message=message)
    lines = [str(check.get("summary") or "")]
    for finding in clean.get("findings") or []:
        if finding.get("check") == check.get("name"):
            spans = ", ".join(f"{span[0]} to {span[1]} s" for span in finding.get("spans_s") or [] if len(span) == 2)
            lines.append(
                f"{finding.get('value', '')} {finding.get('context') or ''}{f' ({spans})' if spans else ''}".strip()
            )
    lines += [f"{key} = {value}" for key, value in (check.get("numbers") or {}).items()]
    return _Case(group="checks", name=name, outcome=outcome, message=message, text="\n".join(filter(None, lines)))


def _target_case(target: Values, *, warned: bool) -> _Case:
    state, required = state_of(target.get("verdict")), bool(target.get("required", True))
    outcome = _outcome(state, required=required, warned=warned)
    unit = str(target.get("unit") or "")
    name = f"{target.get('title') or target.get('name') or 'target'}" + (
        f" ({target['scope']})" if target.get("scope") else ""
    )
    message = f"measured {measure(target.get('measured'), unit)}, target {goal(target.get('target'), unit)}"
    text = str(target.get("detail") or "")
    if outcome == "skipped":
        message = _why_skipped(state, required=required, message=message)
    return _Case(group="targets", name=name, outcome=outcome, message=message, text=text)
