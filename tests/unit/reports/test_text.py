"""Formats: honest figures, and text that cannot hide or reorder what a person reads."""

from __future__ import annotations

from typing import Any

import pytest
from aftershock.reports.text import DASH, clean, clean_tree, duration, goal, measure, milliseconds, percent, span_text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (1, "100\u2009%"),
        (0, "0\u2009%"),
        (0.99961, "99.96\u2009%"),
        (0.99999, "99.999\u2009%"),
        (0.00001, "0.001\u2009%"),
        (1 - 1e-9, "<\u2009100\u2009%"),
        (1e-9, ">\u20090\u2009%"),
        (None, DASH),
    ],
)
def test_percent_never_rounds_to_all_or_nothing(ratio: Any, text: str) -> None:
    assert percent(ratio) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.152, "0.152 s"), (1.21, "1.21 s"), (17.87, "17.9 s"), (0, "0 s"), (None, DASH), (float("nan"), DASH)],
)
def test_durations(value: Any, text: str) -> None:
    assert duration(value) == text


@pytest.mark.parametrize(("value", "text"), [(3.14, "3.1 ms"), (900, "900 ms"), (1100, "1.10 s"), (None, DASH)])
def test_milliseconds(value: Any, text: str) -> None:
    assert milliseconds(value) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (5.0, "s", "5 s"),
        (0.999, "ratio", "99.9\u2009%"),
        (50.0, "ms", "50 ms"),
        (0.5, "s", "0.5 s"),
        (1, "ratio", "100\u2009%"),
        (100, "s", "100 s"),
        (0, "writes", "0 writes"),
    ],
)
def test_goals_have_no_zeros_that_nobody_wrote(value: Any, unit: str, text: str) -> None:
    assert goal(value, unit) == text


def test_measure_with_a_noun() -> None:
    assert measure(12, "writes") == "12 writes"
    assert measure(None, "writes") == DASH


def test_spans() -> None:
    assert span_text(44.87, 45.02) == "44.87\u201345.02 s"
    assert span_text(44.870, 44.871) == "44.87 s"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x00b", "a\\x00b"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\u202eabc", "\\u202eabc"),
        ("\ud800", "\\ud800"),
        ("tab\tline\n", "tab\tline\n"),
        ("\u0645\u0631", "\u0645\u0631"),
        ("\ufeff", "\\ufeff"),
    ],
)
def test_invisible_characters_become_visible(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_long_text_is_cut_and_says_so() -> None:
    assert clean("x" * 5000, limit=10) == "xxxxxxxxxx\u2026 (5,000 characters)"


def test_trees_are_cleaned_in_keys_and_values_and_kept_where_asked() -> None:
    dirty = {"a\x00": [1, float("inf"), {"heat": "x" * 9000, "b": ("\x1b", True, None)}]}
    assert clean_tree(dirty) == {"a\\x00": [1, None, {"heat": "x" * 9000, "b": ["\\x1b", True, None]}]}
