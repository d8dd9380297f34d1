"""Text tokens reach 4.5:1 on every surface in both themes (WCAG 2, relative luminance)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TEMPLATES = Path(__file__).parents[3] / "reports" / "templates"
TEXT = ["ink", "ink2", "ink3", "link", "ok", "fail", "unknown"]
SURFACES = ["bg", "surface", "sunk"]


def tokens(theme: str) -> dict[str, str]:
    text = (TEMPLATES / ("report.css" if theme == "light" else "dark.css")).read_text(encoding="utf-8")
    block = text.split(":root{", 1)[1].split("}", 1)[0] if theme == "light" else text
    return dict(re.findall(r"--([\w-]+):([^;]+)", block))


def luminance(colour: str) -> float:
    channels = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_measure_itself() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") < 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("text", TEXT)
def test_text_is_readable(theme: str, surface: str, text: str) -> None:
    found = tokens(theme)
    assert contrast(found[text], found[surface]) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["fail", "unknown", "ok"])
def test_numbers_on_their_marks_are_readable(theme: str, name: str) -> None:
    found = tokens(theme)
    assert contrast(found["surface"], found[name]) >= 4.5
    assert contrast(found["ink"], found.get(f"{name}-bg", found["surface"])) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["network", "process", "disk", "clock", "resource", "none"])
def test_names_on_fault_bars_are_readable(theme: str, kind: str) -> None:
    found = tokens(theme)
    assert contrast(found["surface"], found[f"k-{kind}"]) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("tint", ["t0", "t1", "t2", "t3", "t4"])
def test_names_on_node_tints_are_readable(theme: str, tint: str) -> None:
    found = tokens(theme)
    assert contrast(found["ink"], found[tint]) >= 4.5


def test_both_themes_have_the_same_tokens() -> None:
    assert set(tokens("light")) - {"mono"} == set(tokens("dark"))
