"""Reports: pure functions from verdict.json to HTML, JUnit XML and Markdown, and one that writes all three."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..harness.files import write_text
from .html import render_html
from .junit import render_junit
from .markdown import render_markdown

__all__ = ["render_html", "render_junit", "render_markdown", "write_reports"]

_RENDERERS: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
    ("report.html", render_html),
    ("junit.xml", render_junit),
    ("summary.md", render_markdown),
)


def write_reports(verdict: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write report.html, junit.xml and summary.md into `folder`; returns their paths in this order.

    Each file appears whole or not at all: a reader never sees half a report, and an old one stays when the new one
    cannot be written. Raises OSError when it cannot.
    """
    texts = [(folder / name, render(verdict)) for name, render in _RENDERERS]
    for path, text in texts:
        write_text(path, text)
    return [path for path, _ in texts]
