"""Counterexamples: which operations are shown, and that the figure is to scale."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pytest
from aftershock.reports import render_html
from aftershock.reports.counterexample import OPERATIONS_MAX, chosen_operations, counterexample
from aftershock.reports.counterexample_figure import operation_text
from aftershock.reports.time_axis import make_axis, nice_step


def operation(
    index: int, start: float, *, role: str = "write", end: float | None = None, process: int | None = None
) -> dict[str, Any]:
    return {
        "process": index if process is None else process,
        "client": "clients-r1",
        "f": "read" if role in ("read", "impossible") else "write",
        "value": 100 + index,
        "expected": None,
        "observed": None,
        "result": "done",
        "outcome": "ok",
        "start_s": start,
        "end_s": start + 0.01 if end is None else end,
        "role": role,
        "note": "",
    }


def test_up_to_twelve_operations_are_all_shown() -> None:
    operations = [operation(index, index * 0.1) for index in range(OPERATIONS_MAX)]
    assert chosen_operations(operations, []) == list(range(12))


def test_of_more_the_contradiction_and_what_is_tied_to_it_are_shown() -> None:
    operations = [operation(index, index * 1.0, role="impossible" if index == 30 else "write") for index in range(40)]
    edges = [{"from": 2, "to": 30, "kind": "contradicts"}, {"from": 0, "to": 2, "kind": "seen"}]
    chosen = chosen_operations(operations, edges)
    assert len(chosen) == OPERATIONS_MAX
    assert {0, 2, 30} <= set(chosen)
    assert set(chosen) - {0, 2} <= set(range(24, 37))


def test_the_page_says_that_it_shows_a_part(examples: Any) -> None:
    verdict = examples.failing()
    example = verdict["linearizability"]["counterexamples"][0]
    example["operations"] = [
        operation(index, 35 + index * 0.01, role="impossible" if index == 20 else "write") for index in range(31)
    ]
    example["edges"], example["orders"], example["precedences"] = [], [], ["write 100 ended before read of 101 began"]
    text = render_html(verdict)
    assert "12 of 31 operations are shown" in text
    assert "write 100 ended before read of 101 began" in text


def bars(svg: str) -> list[tuple[float, float]]:
    root = ElementTree.fromstring(svg)
    return [
        (float(rect.get("x", 0)), float(rect.get("width", 0)))
        for group in root.iter("g")
        for rect in group.iter("rect")
    ]


def test_bars_are_to_scale() -> None:
    example = {
        "key": "k",
        "operations": [operation(0, 1.0, end=1.1), operation(1, 1.1, end=1.3), operation(2, 1.35, end=1.75)],
        "edges": [],
    }
    figure = counterexample(example, faults=[], shards=[], uid="x")["figures"][0]
    widths = [width for _, width in bars(str(figure))]
    assert widths[1] / widths[0] == pytest.approx(2, rel=0.02)
    assert widths[2] / widths[0] == pytest.approx(4, rel=0.02)


def test_idle_time_is_cut_and_dated_and_full_scale_is_not() -> None:
    example = {"key": "k", "operations": [operation(0, 1.0), operation(1, 9.0)], "edges": []}
    cut, full, *_ = counterexample(example, faults=[], shards=[], uid="x")["figures"]
    assert "7.91 s cut" in cut  # 7.99 s of idle time less the margin that is left beside the bars
    assert " cut</text>" not in full
    (_, cut_width), _ = bars(str(cut))
    (_, full_width), _ = bars(str(full))
    assert cut_width > 5 * full_width


def test_an_operation_that_was_never_answered_stays_open() -> None:
    example = {"key": "k", "operations": [{**operation(0, 1.0), "end_s": None}, operation(1, 1.2)], "edges": []}
    figure = str(counterexample(example, faults=[], shards=[], uid="x")["figures"][0])
    assert "never answered" in figure
    assert 'class="op write open"' in figure


def test_figures_are_well_formed_and_ids_are_unique(examples: Any) -> None:
    text = render_html(examples.hostile())
    figures = re.findall(r"<svg class=\"ce-svg.*?</svg>", text, re.DOTALL)
    assert len(figures) == 4
    for figure in figures:
        ElementTree.fromstring(figure)
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_one_row_per_process_and_no_label_on_another() -> None:
    example = {
        "key": "k",
        "operations": [operation(index, 1 + index * 0.002, process=7, end=1.001 + index * 0.002) for index in range(6)],
        "edges": [],
    }
    root = ElementTree.fromstring(str(counterexample(example, faults=[], shards=[], uid="x")["figures"][0]))
    labels = [node for node in root.iter("text") if node.get("class") == "lab"]
    spans = []
    for node in labels:
        width = 7.4 * len("".join(node.itertext())) * 0.8
        x, y = float(node.get("x", 0)), float(node.get("y", 0))
        spans.append(
            (
                y,
                x - width if node.get("text-anchor") == "end" else x,
                x if node.get("text-anchor") == "end" else x + width,
            )
        )
    for index, (y, left, right) in enumerate(spans):
        assert not [other for other in spans[index + 1 :] if other[0] == y and other[1] < right and other[2] > left]
    assert len([node for node in root.iter("text") if node.get("class") == "proc"]) == 1


def test_axis_runs_left_to_right_and_covers_everything() -> None:
    axis = make_axis([(1.0, 1.1), (5.0, 5.05), (90.0, 90.1)], left=50, right=700, cut_px=100, cut_idle=True)
    positions = [axis.x(moment) for moment in (1.0, 1.1, 3.0, 5.0, 5.05, 50.0, 90.0, 90.1)]
    assert positions == sorted(positions)
    assert positions[0] >= 50
    assert positions[-1] <= 700
    assert sum(piece.cut for piece in axis.pieces) == 2


def test_a_single_moment_has_an_axis() -> None:
    axis = make_axis([(5.0, 5.0)], left=0, right=100, cut_px=10, cut_idle=True)
    assert 0 <= axis.x(5.0) <= 100
    assert axis.ticks(apart_px=50)


@pytest.mark.parametrize(("wanted", "step"), [(0.13, 0.2), (1, 1), (3, 5), (7, 10), (0.0001, 0.0001)])
def test_nice_steps(wanted: float, step: float) -> None:
    assert nice_step(wanted) == pytest.approx(step)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"f": "write"}, "write 100"),
        ({"f": "read", "value": None}, "read \u2192 nothing"),
        ({"f": "read", "outcome": "unknown"}, "read \u2192 ?"),
        ({"f": "cas", "expected": 3, "result": "mismatch", "observed": 9}, "cas 3 \u2192 100, saw 9"),
        ({"f": "delete"}, "delete"),
    ],
)
def test_operation_texts(change: dict[str, Any], text: str) -> None:
    assert operation_text({**operation(0, 1.0), **change}) == text
