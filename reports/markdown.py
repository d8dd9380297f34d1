"""verdict.json as a short Markdown summary for a pull request or a CI job page: verdict first.

Text from the record cannot leave its cell: HTML and Markdown marks are escaped, line breaks become spaces, and
addresses, mentions and issue numbers stay plain text (a key named `@everyone` must not call everyone).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .text import Values, clean_tree, count, duration, goal, measure, numbers, plural, shorten, span_text
from .view_summary import WORDS, state_of

__all__ = ["escape_markdown", "render_markdown"]

_SIGNS = {"pass": "\u2705", "fail": "\u274c", "unknown": "\u2754"}
_PUNCTUATION = re.compile(r"([\\`*_\[\]#|~$])")
_CELL_MAX = 240
_ROWS_MAX = 40


def render_markdown(verdict: Mapping[str, Any]) -> str:
    """Return the summary of a run as GitHub-flavoured Markdown; pure."""
    clean: Values = clean_tree(verdict)
    run = clean.get("run") or {}
    state = state_of(clean.get("verdict"))
    title = escape_markdown(str(clean.get("headline") or "no headline in the record"))
    lines = [f"## {_SIGNS[state]} {WORDS[state]}: {title}", ""]
    if clean.get("cause"):
        lines += [escape_markdown(str(clean["cause"])), ""]
    lines += _notices(clean, run)
    lines += [_facts(clean, run), ""]
    lines += _findings(clean)
    lines += _checks(clean)
    lines += _targets(clean)
    lines += _faults(clean)
    lines += _reproduce(clean)
    return "\n".join(lines).rstrip() + "\n"


def escape_markdown(text: str, *, limit: int = _CELL_MAX) -> str:
    """Text that reads the same in Markdown and in a table cell, and is nothing but text."""
    line = shorten(" ".join(text.split()), limit)
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = _PUNCTUATION.sub(r"\\\1", line)
    line = re.sub(r"^(\d+)([.)])", r"\1\\\2", line)
    line = re.sub(r"^([-=+])", r"\\\1", line)
    # An invisible word joiner breaks addresses, mentions and issue numbers, which sites link in plain text.
    line = re.sub(r"(@(?=\w)|\\#(?=\d))", r"\1&#8288;", line)
    return re.sub(r"(?i)(://|www\.)", lambda match: match.group()[0] + "&#8288;" + match.group()[1:], line)


def _text(entry: Values, *names: str) -> str:
    """The first of the fields that is there, escaped."""
    return escape_markdown(str(next(filter(None, map(entry.get, names)), "")))


def _code(text: str, *, limit: int = _CELL_MAX) -> str:
    """A code span, with a fence longer than any run of backticks inside."""
    line = shorten(" ".join(text.split()), limit) or " "
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows[:_ROWS_MAX]]
    if len(rows) > _ROWS_MAX:
        lines += ["", f"{plural(len(rows) - _ROWS_MAX, 'more row')} in the HTML report."]
    return [*lines, ""]


def _notices(clean: Values, run: Values) -> list[str]:
    notices = []
    if clean.get("exit_code") == 5:
        notices.append("**Heal failed: something is still changed.** Undo it with `aftershock heal`.")
    if run.get("incomplete"):
        reason = escape_markdown(str(run["incomplete"].get("reason") or ""))
        notices.append(
            f"**Incomplete run**, recorded until {duration(run['incomplete'].get('recorded_until_s'))}: {reason}"
        )
    notices += [f"**Warning:** {escape_markdown(str(warning))}" for warning in (clean.get("warnings") or [])[:5]]
    return [line for notice in notices for line in (f"> {notice}", "")]


def _facts(clean: Values, run: Values) -> str:
    scenario = _code(str(run.get("scenario") or "?"))
    control = " (control arm)" if run.get("control") else ""
    parts = [
        f"Scenario {scenario}{control}",
        f"seed {_code(str(run.get('seed')))}",
        escape_markdown(str(run.get("system_text") or run.get("system") or "")),
        f"{plural(run.get('operations'), 'operation')} in {duration(run.get('duration_s'))}",
        f"exit code {clean.get('exit_code')}",
    ]
    return ", ".join(filter(None, parts))


def _findings(clean: Values) -> list[str]:
    rows = []
    for finding in clean.get("findings") or []:
        spans = [span_text(*span) for span in map(numbers, finding.get("spans_s") or []) if len(span) == 2]
        rows.append(
            [
                escape_markdown(str(finding.get("number") or "")),
                f"{_SIGNS[state_of(finding.get('verdict'))]} {escape_markdown(str(finding.get('title') or ''))}",
                f"**{_text(finding, 'value')}** {_text(finding, 'context')}",
                ", ".join(spans[:3]) + (f" and {len(spans) - 3} more" if len(spans) > 3 else ""),
            ]
        )
    return ["### Findings", "", *_table(["#", "Check", "Found", "When"], rows)] if rows else []


def _checks(clean: Values) -> list[str]:
    rows = []
    for check in clean.get("checks") or []:
        state = state_of(check.get("verdict"))
        skipped = check.get("status") == "skipped"
        word = "\u2796 not asked for" if skipped else f"{_SIGNS[state]} {state}"
        advisory = "" if check.get("required") or skipped else " (advisory)"
        text = check.get("reason") if skipped or state != "pass" else check.get("summary")
        rows.append(
            [
                escape_markdown(str(check.get("title") or check.get("name") or "")) + advisory,
                word,
                escape_markdown(str(text or check.get("summary") or "")),
            ]
        )
    return ["### Checks", "", *_table(["Check", "Verdict", "Why"], rows)] if rows else []


def _targets(clean: Values) -> list[str]:
    rows = []
    for target in clean.get("targets") or []:
        unit = str(target.get("unit") or "")
        state = state_of(target.get("verdict"))
        advisory = "" if target.get("required", True) else " (advisory)"
        rows.append(
            [
                escape_markdown(str(target.get("title") or target.get("name") or "")) + advisory,
                escape_markdown(str(target.get("scope") or "")),
                escape_markdown(measure(target.get("measured"), unit)),
                escape_markdown(goal(target.get("target"), unit)),
                f"{_SIGNS[state]} {state}",
            ]
        )
    return ["### Targets", "", *_table(["Target", "Over", "Measured", "Objective", "Verdict"], rows)] if rows else []


def _faults(clean: Values) -> list[str]:
    faults = clean.get("faults") or []
    if not faults:
        return ["No faults were injected.", ""]
    proven = sum(bool(fault.get("proven")) for fault in faults)
    healed = sum(bool(fault.get("heal_verified")) for fault in faults)
    odd = [fault for fault in faults if not (fault.get("proven") and fault.get("heal_verified"))]
    lines = [f"**Faults:** {count(proven)} of {count(len(faults))} proven, {count(healed)} healed.", ""]
    for fault in odd[:10]:
        what = "not injected" if fault.get("error") else "not proven" if not fault.get("proven") else "not healed"
        why = fault.get("error") or " ".join(
            map(str, fault.get("evidence" if what == "not proven" else "heal_evidence") or [])
        )
        lines.append(f"- {_text(fault, 'title', 'name')}: **{what}**. {escape_markdown(str(why))}")
    return [*lines, ""] if odd else lines


def _reproduce(clean: Values) -> list[str]:
    command = str((clean.get("reproduce") or {}).get("run") or "").strip()
    if not command:
        return []
    fence = "`" * max(3, max((len(run) for run in re.findall("`+", command)), default=0) + 1)
    lines = ["### Run it again", "", f"{fence}sh", command, fence, ""]
    check = (clean.get("reproduce") or {}).get("check")
    return [*lines, f"Judge the same record again: {_code(str(check))}"] if check else lines
