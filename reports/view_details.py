"""The details at the end of the page: event log, node logs, what was not checked, environment and load."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .links import jump
from .text import DASH, Values, count, is_number, numbers, percent, time_text
from .view_timeline import fault_kind

__all__ = ["environment", "event_log", "log_id", "node_logs", "not_checked"]

_EVENTS_MAX = 1500
_LOG_LINES_MAX = 400
_KIND_GROUPS = (
    ("fault.", "fault"),
    ("heal", "fault"),
    ("topology", "topology"),
    ("primary.", "topology"),
    ("decided", "recovery"),
    ("suspected", "recovery"),
    ("settled", "recovery"),
    ("member.", "health"),
    ("phase", "phase"),
    ("warning", "warning"),
)
_LEVELS = ("info", "warning", "error")
_RUN_FACTS = ("id", "scenario", "description", "system", "system_text", "backend", "seed", "state")


def event_log(verdict: Values) -> Values:
    """Rows of the event log and the kinds that it can be filtered by."""
    events = verdict.get("events") or []
    rows = [_event(event) for event in _most_telling(events)]
    kinds = list(dict.fromkeys(group for _, group in _KIND_GROUPS if any(row["group"] == group for row in rows)))
    kinds += ["other"] if any(row["group"] == "other" for row in rows) else []
    return {"rows": rows, "kinds": kinds, "total": len(events)}


def _most_telling(events: list[Values]) -> list[Values]:
    """All events, or the `_EVENTS_MAX` that matter most, in their order: warnings and faults before the rest."""
    if len(events) <= _EVENTS_MAX:
        return events
    rank = sorted(
        range(len(events)),
        key=lambda index: (
            events[index].get("level") == "info",
            not str(events[index].get("kind")).startswith("fault"),
            index,
        ),
    )
    return [events[index] for index in sorted(rank[:_EVENTS_MAX])]


def _event(event: Values) -> Values:
    kind, moment = str(event.get("kind") or ""), event.get("t_s")
    level = str(event.get("level") or "info")
    return {
        "group": next((group for prefix, group in _KIND_GROUPS if kind.startswith(prefix)), "other"),
        "kind": kind,
        "level": level if level in _LEVELS else "warning" if level == "warn" else "info",
        "jump": jump([moment, moment], label=time_text(moment, places=3), margin_s=1.0) if is_number(moment) else None,
        "source": event.get("source") or "",
        "text": event.get("text") or "",
    }


def log_id(incident: Any) -> str:
    """Id of an incident's logs on the page."""
    return "log-" + "".join(letter if letter.isalnum() else "-" for letter in str(incident))[:40]


def node_logs(verdict: Values) -> list[Values]:
    """Logs per incident: the lines of all members, merged by time."""
    faults = {fault.get("id"): fault for fault in verdict.get("faults") or []}
    incidents: dict[str, list[Values]] = {}
    for entry in verdict.get("logs") or []:
        incidents.setdefault(str(entry.get("incident")), []).append(entry)
    shown = []
    for incident, entries in incidents.items():
        lines = [
            {
                "time": time_text(line.get("t_s"), places=3),
                "at": line.get("t_s"),
                "member": entry.get("member") or "",
                "text": line.get("text") or "",
            }
            for entry in entries
            for line in entry.get("lines") or []
        ]
        lines.sort(key=lambda line: line["at"] if is_number(line["at"]) else 0.0)
        fault = faults.get(incident, {})
        starts = [span[0] for entry in entries if len(span := numbers(entry.get("span_s"))) == 2]
        ends = [span[1] for entry in entries if len(span := numbers(entry.get("span_s"))) == 2]
        shown.append(
            {
                "id": log_id(incident),
                "title": fault.get("title") or fault.get("name") or incident,
                "kind": fault_kind(fault),
                "lines": lines[:_LOG_LINES_MAX],
                "total": len(lines) + sum(entry.get("lines_more") or 0 for entry in entries),
                "members": ", ".join(dict.fromkeys(str(entry.get("member") or DASH) for entry in entries)),
                "jump": jump([min(starts), max(ends)], margin_s=0.0) if starts else None,
            }
        )
    return shown


def not_checked(verdict: Values) -> Values:
    """What nobody judged, and the assumptions under all that was judged."""
    return {
        "items": [
            {"what": entry.get("what") or "", "reason": entry.get("reason") or ""}
            for entry in verdict.get("not_checked") or []
        ],
        "assumptions": [
            {
                "state": "pass" if entry.get("held") else "unknown",
                "word": "held" if entry.get("held") else "not met",
                "text": entry.get("text") or "",
                "detail": entry.get("detail") or "",
            }
            for entry in verdict.get("assumptions") or []
        ],
    }


def environment(verdict: Values) -> list[Values]:
    """Groups of name and value: the system, the load generator, the machine, the versions."""
    run, tool = verdict.get("run") or {}, verdict.get("tool") or {}
    facts = dict(verdict.get("environment") or {})
    packages = facts.pop("packages", None)
    machine = [("aftershock", str(tool.get("version") or DASH)), *_flat(facts)]
    system = [(name.replace("_", " "), _value(run.get(name))) for name in _RUN_FACTS if run.get(name) is not None]
    groups = [
        {"title": "Run and system", "rows": system},
        {"title": "Load generator", "rows": _load(verdict.get("load") or {})},
        {"title": "Machine", "rows": machine},
    ]
    if isinstance(packages, dict) and packages:
        groups.append({"title": "Packages", "rows": _flat(packages, rename=False)})
    return [group for group in groups if group["rows"]]


def _load(load: Values) -> list[tuple[str, str]]:
    if not load:
        return []
    known: dict[str, tuple[str, Callable[[Any], str]]] = {
        "planned": ("operations planned", count),
        "missing": ("planned and never seen", count),
        "sent": ("sent", count),
        "not_sent": ("not sent", count),
        "rate_per_s": ("schedule", lambda value: f"{count(value)}/s"),
        "on_time_ratio": ("starts on time", percent),
        "late_p99_ms": ("late, p99", lambda value: f"{value:,.1f} ms" if is_number(value) else DASH),
        "generator_cpu": ("CPU of the generator", lambda value: percent(value, digits=0)),
        "holes": ("holes in the record", count),
        "processes": ("load processes", count),
    }
    rows = [(label, show(load[name])) for name, (label, show) in known.items() if name in load]
    return rows + _flat({name: value for name, value in load.items() if name not in known})


def _flat(facts: Values, *, rename: bool = True, prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in facts.items():
        label = prefix + (name.replace("_", " ") if rename else name)
        if isinstance(value, dict):
            rows += _flat(value, rename=rename, prefix=f"{label} ")
        else:
            rows.append((label, _value(value)))
    return rows


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_value, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return DASH if value is None else str(value)
