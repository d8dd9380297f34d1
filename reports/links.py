"""Links inside the page: moments on the timeline, and the section that holds the evidence for a finding."""

from __future__ import annotations

import re
from typing import Any

from .text import Values, numbers, span_text

__all__ = ["SECTIONS", "evidence_link", "jump", "slug"]

# Section ids in the order of the reader's questions (docs/reading-a-report.md), with the word of the link.
SECTIONS = {
    "summary": ("Summary", "Summary"),
    "timeline": ("Timeline", "Timeline"),
    "data-loss": ("Data loss", "By key"),
    "linearizability": ("Linearizability", "Why"),
    "faults": ("Faults", "Faults"),
    "recovery": ("Recovery", "Recovery"),
    "targets": ("Targets", "Targets"),
    "windows": ("Windows", "Windows"),
    "checks": ("Checks", "Check"),
    "events": ("Events", "Events"),
    "logs": ("Logs", "Logs"),
    "not-checked": ("Not checked", "Details"),
    "environment": ("Environment", "Load"),
}

# Checks whose evidence is a section of its own; every other check has a row of the checks table.
_EVIDENCE = {
    "availability": "targets",
    "latency": "targets",
    "counterexample": "linearizability",
    "load": "environment",
    "loss": "data-loss",
    "notchecked": "not-checked",
    "reproduce": "summary",
    "assumptions": "not-checked",
}


def slug(text: str) -> str:
    """A name as it stands in an id or a fragment: letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "none"


def evidence_link(evidence: Any) -> Values | None:
    """Where the evidence named in a finding stands: `{"href": "#data-loss", "text": "By key"}`."""
    if not evidence:
        return None
    name = str(evidence).lstrip("#")
    section = _EVIDENCE.get(name, name)
    if section in SECTIONS:
        return {"href": f"#{section}", "text": SECTIONS[section][1]}
    return {"href": f"#check-{slug(name)}", "text": "Check"}


def jump(span: Any, *, label: str | None = None, margin_s: float = 0.4) -> Values | None:
    """A link that shows `span` (seconds) on the timeline with some time around it; None without a span."""
    pair = numbers(span)
    if len(pair) != 2:
        return None
    start, end = min(pair), max(pair)
    around = max(margin_s, 0.15 * (end - start))
    return {"href": f"#t={max(0.0, start - around):.3f}-{end + around:.3f}", "text": label or span_text(start, end)}
