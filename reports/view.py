"""verdict.json to plain view values: everything that the template shows, formatted, in the order it is shown.

Pure. The only input is the verdict (docs/verdict.md); a missing part leaves its section out or leaves one sentence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .links import SECTIONS
from .text import Values, clean_tree
from .view_details import environment, event_log, log_id, node_logs, not_checked
from .view_evidence import data_loss, linearizability
from .view_summary import summary
from .view_system import checks, fault_rows, recoveries, shard_rows, targets, windows
from .view_timeline import timeline

__all__ = ["page_view"]

_EVIDENCE_FIRST = ["data-loss", "linearizability", "faults", "recovery", "targets", "windows", "checks"]
_EVIDENCE_LATER = ["faults", "recovery", "targets", "windows", "checks", "data-loss", "linearizability"]
_DETAILS = ["events", "logs", "not-checked", "environment"]


def page_view(verdict: Mapping[str, Any]) -> Values:
    """All values of the HTML page. Raises nothing for missing parts; unknown parts are ignored."""
    clean: Values = clean_tree(verdict)
    view: Values = {
        "run_id": (clean.get("run") or {}).get("id") or "",
        "scenario": (clean.get("run") or {}).get("scenario") or "",
        "control": bool((clean.get("run") or {}).get("control")),
        "tool_version": (clean.get("tool") or {}).get("version") or "",
        "schema": clean.get("schema"),
        "summary": summary(clean),
        "timeline": timeline(clean),
        "data_loss": data_loss(clean),
        "linearizability": linearizability(clean),
        "faults": fault_rows(clean),
        "recoveries": recoveries(clean),
        "targets": targets(clean),
        "windows": windows(clean),
        "shards": shard_rows(clean),
        "checks": checks(clean),
        "events": event_log(clean),
        "logs": node_logs(clean),
        "not_checked": not_checked(clean),
        "environment": environment(clean),
    }
    log = view["linearizability"].get("log")
    view["linearizability"]["log_href"] = f"#{log_id(log)}" if log is not None else ""
    view["sections"] = _sections(view)
    # The verdict section is the whole first screen, so it is always there; Recovery is left out of the bar, it follows.
    view["nav"] = [
        (name, _nav_word(name, view)) for name in ["summary", *view["sections"]] if name not in ("windows", "logs")
    ]
    _mend_links(view)
    return view


def _sections(view: Values) -> list[str]:
    """Sections after the verdict, in order. On a fail the evidence comes right after the timeline."""
    empty = {
        "recovery": not view["recoveries"],
        "targets": not view["targets"],
        "windows": not view["windows"],
        "checks": not view["checks"],
        "events": not view["events"]["rows"],
        "logs": not view["logs"],
    }
    middle = _EVIDENCE_FIRST if view["summary"]["state"] == "fail" else _EVIDENCE_LATER
    return ["timeline", *(name for name in [*middle, *_DETAILS] if not empty.get(name, False))]


def _nav_word(name: str, view: Values) -> str:
    if name == "linearizability" and view["linearizability"]["examples"]:
        return "Counterexample"
    return SECTIONS[name][0]


def _mend_links(view: Values) -> None:
    """Point links to evidence that this page does not hold at the nearest thing it does hold."""
    present = {f"#{name}" for name in ["summary", *view["sections"]]} | {f"#{row['id']}" for row in view["checks"]}
    fallback = "#checks" if "checks" in view["sections"] else "#summary"
    for link in _links(view):
        if link["href"] not in present:
            link["href"] = fallback
    for mark in view["timeline"]["data"]["marks"]:
        if mark["href"] not in present:
            mark["href"] = fallback


def _links(view: Values) -> Iterator[Values]:
    head = view["summary"]
    for row in [*head["findings"], *head["findings_more"], *head["sure"]]:
        if row["link"]:
            yield row["link"]
