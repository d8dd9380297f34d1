"""One sentence for each event of a run, for people who read the event log in the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ..record import Event, RunRecord
from .result import join

__all__ = ["event_rows"]

_MOST_EVENTS: Final = 5_000
_MOST_CHARACTERS: Final = 2_000

Fields = Mapping[str, Any]


def event_rows(record: RunRecord) -> list[dict[str, Any]]:
    """Rows of verdict.json's `events`, by time. An unknown kind is shown as it stands: plugins write their own."""
    shown = [event for event in record.events if not _is_noise(event)]
    rows = [
        {
            "t_s": round(record.seconds(event.t_ns), 3),
            "source": event.source,
            "kind": event.kind,
            "text": _text(event)[:_MOST_CHARACTERS],
            "fault": str(event.fields["fault"]) if "fault" in event.fields else None,
            "level": _level(event),
        }
        for event in shown[:_MOST_EVENTS]
    ]
    if len(shown) > _MOST_EVENTS:
        rest = len(shown) - _MOST_EVENTS
        text = f"{rest:,} later events are left out here; all are in events.jsonl"
        t_s = round(record.seconds(shown[_MOST_EVENTS].t_ns), 3)
        rows.append(
            {"t_s": t_s, "source": "harness", "kind": "warning", "text": text, "fault": None, "level": "warning"}
        )
    return rows


def _is_noise(event: Event) -> bool:
    """The configuration of every shard at the start is state, not news; the timeline shows it."""
    return event.kind == "decided" and event.fields.get("what") == "bootstrap"


def _text(event: Event) -> str:
    words = _WORDS.get(event.kind)
    if words is not None:
        try:
            return words(event.fields)
        except (KeyError, TypeError, ValueError):
            pass  # a field is missing or odd: show what there is rather than nothing
    return ", ".join(f"{name} {_value(value)}" for name, value in event.fields.items()) or event.kind


def _value(value: Any) -> str:
    return join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _level(event: Event) -> str:
    if event.kind in ("warning", "fault.unproven", "suspected", "abort") or (
        event.kind == "member.exited" and not event.fields.get("expected")
    ):
        return "warning"
    if event.kind == "fault.failed" or (event.kind == "fault.healed" and not event.fields.get("verified", True)):
        return "error"
    return "info"


def _facts(fields: Fields) -> str:
    return "; ".join(map(str, fields.get("facts") or ())) or "no facts recorded"


def _expected(f: Fields) -> str:
    return {
        "available": "is to stay available",
        "recovers": f"is to recover within {f['rto_s']:g} s",
        "unavailable": f"may be unavailable, and is to recover within {f['rto_s']:g} s of healing",
    }[f["expect"]]


def _topology(f: Fields) -> str:
    primary = f"primary {f['primary']}" if f["primary"] else "no primary"
    learners = f", learners {join(f['learners'])}" if f.get("learners") else ""
    why = f" ({f['why']})" if f.get("why") else ""
    return f"Shard {f['shard']}, epoch {f['epoch']}: {primary}, in sync {join(f['in_sync'])}{learners}{why}"


def _exited(f: Fields) -> str:
    status = int(f["status"])
    how = f"signal {-status}" if status < 0 else f"status {status}"
    return f"{f['member']} ended with {how}" + ("" if f.get("expected") else ", which we did not ask for")


_WORDS: Final[dict[str, Callable[[Fields], str]]] = {
    "phase": lambda f: f"Phase {f['phase']} begins",
    "fault.planned": lambda f: (
        f"Planned: {f['name']} from {f['start_s']:g} to {f['end_s']:g} s; the system {_expected(f)}"
    ),
    "fault.injected": lambda f: str(f["description"]),
    "fault.proven": lambda f: f"Proven: {_facts(f)}",
    "fault.unproven": lambda f: f"Not proven: {_facts(f)}",
    "fault.healing": lambda f: f"Healing of {f['fault']} begins",
    "fault.healed": lambda f: f"{'Healed' if f['verified'] else 'Healing could not be verified'}: {_facts(f)}",
    "fault.failed": lambda f: f"Could not be injected: {f['error']}",
    "fault.together": lambda f: f"{join(f['faults'])} together cut off {join(f['cut_off'])} from more than each does",
    "topology": _topology,
    "primary.open": lambda f: f"Serves shard {f['shard']} as primary of epoch {f['epoch']} from now",
    "suspected": lambda f: f"{f['member']} is suspected: {f['why']}",
    "decided": lambda f: f"Decided for shard {f['shard']}: {f['what']}, epoch {f['epoch']}",
    "member.started": lambda f: f"{f['member']} was started",
    "member.ready": lambda f: f"{f['member']} is ready",
    "member.exited": _exited,
    "member.paused": lambda f: f"{f['member']} is paused",
    "member.resumed": lambda f: f"{f['member']} is resumed",
    "heal": lambda f: str(f["text"]),
    "abort": lambda f: f"The run is ended early: {f['text']}",
    "warning": lambda f: str(f["text"]),
    "settled": lambda f: ("Settled: " if f["ok"] else "Not settled: ") + str(f["text"]),
}
