"""The page of somebody's own history: what it shows, that it is one file, and that hostile text stays text."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from aftershock.reports.history_page import render_history_page, write_history_page


class Page(HTMLParser):
    """Elements with their attributes, and the text outside scripts; complains about tags that do not match."""

    VOID = frozenset({"meta", "link"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))


def operation(line: int, process: int, f: str, value: Any, start_ns: int, end_ns: int | None, **fields: Any) -> Any:
    return {
        "line": line,
        "end_line": line,
        "process": process,
        "f": f,
        "value": value,
        "expected": None,
        "observed": None,
        "result": "",
        "outcome": "ok" if end_ns is not None else "unknown",
        "start_ns": start_ns,
        "end_ns": end_ns,
        "text": f"read -> {value}" if f == "read" else f"{f} {value}",
        "role": "read" if f == "read" else "write",
        "note": "",
        **fields,
    }


def failing() -> dict[str, Any]:
    """What `aftershock check FILE --json` prints of a stale read."""
    operations = [
        operation(3, 0, "write", 1, 1_000_000, 3_000_000),
        operation(8, 1, "cas", 3, 5_000_000, 9_000_000, end_line=10, expected=1, text="cas 1 to 3", role="lost"),
        operation(14, 2, "read", 1, 12_000_000, 13_000_000, end_line=15, role="impossible"),
    ]
    return {
        "schema": 1,
        "file": "runs/stale.edn",
        "format": "jepsen-edn",
        "model": "cas-register",
        "verdict": "fail",
        "reason": "1 of 3 keys cannot be linearized; 1 more were not decided",
        "engine": "auto",
        "seconds": 0.0123,
        "clock": "ns",
        "operations": 4711,
        "notes": ["1 failed compare-and-sets are left out"],
        "keys": {
            "checked": 2,
            "violated": [
                {
                    "key": "x",
                    "engine": "unique",
                    "reason": "The compare-and-set was acknowledged before the read began, yet that read found 1.",
                    "reasons": ["1 came before 3.", "The older state was gone."],
                    "minimal": True,
                    "rejudged": True,
                    "operations": operations,
                    "edges": [{"from": 0, "to": 2, "kind": "seen"}, {"from": 1, "to": 2, "kind": "contradicts"}],
                    "orders": [{"order": [0, 1, 2], "ruled_out_by": 2, "why": "the read found 1, but 3 was there."}],
                    "precedences": [],
                }
            ],
            "unknown": [{"key": "y", "reason": "the deadline passed"}],
        },
        "sessions": {
            "verdict": "fail",
            "reason": "on 1 of 3 keys a session guarantee is broken (monotonic reads)",
            "guarantees": [
                {"guarantee": "read your writes", "verdict": "pass", "reason": "kept on 3 keys"},
                {"guarantee": "monotonic reads", "verdict": "fail", "reason": "process 2 read 3, then read 1"},
                {"guarantee": "monotonic writes", "verdict": "unknown", "reason": "could not be decided"},
            ],
            "counterexamples": [
                {"key": "x", "guarantees": ["monotonic reads"], "reason": "no order keeps it", "operations": operations}
            ],
        },
    }


def passing() -> dict[str, Any]:
    keys = {"checked": 2, "violated": [], "unknown": []}
    return {**failing(), "verdict": "pass", "reason": "every answer fits one order", "keys": keys, "sessions": None}


def test_a_fail_shows_everything_that_was_found() -> None:
    page = Page(render_history_page(failing()))
    for text in (
        "Fail",
        "1 of 3 keys cannot be linearized; 1 more were not decided.",
        "runs/stale.edn",
        "jepsen-edn",
        "cas-register",
        "4,711",
        "2, 1 violated",
        "auto, 0.012 s",
        "1 failed compare-and-sets are left out",
        "Counterexample: key x",
        "yet that read found 1.",
        "1 came before 3.",
        "the read found 1, but 3 was there.",
        "Judged again on its own: still impossible.",
        "Without any one of these operations there is no contradiction.",
        "cas 1 to 3",
        "lines 8 and 10, 4 ms",
        "the deadline passed",
        "Monotonic reads",
        "Process 2 read 3, then read 1.",
    ):
        assert text in page.words, text
    assert len([tag for tag, _ in page.elements if tag == "h1"]) == 1
    links = [attrs["href"] for tag, attrs in page.elements if tag == "a"]
    assert links[2:6] == ["#summary", "#counterexample", "#undecided", "#sessions"]


def test_every_link_of_the_page_leads_somewhere_and_ids_are_unique() -> None:
    page = Page(render_history_page(failing()))
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs in page.elements:
        if tag == "a":
            assert (attrs["href"] or "").removeprefix("#") in ids


def test_bars_are_to_scale() -> None:
    text = render_history_page(failing())
    figure = re.search(r'<svg class="ce-svg ce-wide ce-full".*?</svg>', text, re.DOTALL)
    assert figure
    bars = [
        (float(x), float(width))
        for x, width in re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)" height="18"', figure.group())
    ]
    (write, cas, read) = bars
    assert cas[1] / read[1] == pytest.approx(4, rel=0.02)
    assert (read[0] - write[0]) / (cas[0] - write[0]) == pytest.approx(11 / 4, rel=0.02)
    assert " ms</text>" in figure.group()


@pytest.mark.parametrize(
    ("scale", "unit"),
    [(1, "ns"), (1_000, "\u00b5s"), (1_000_000, "ms"), (1_000_000_000, "s")],
    ids=["ns", "us", "ms", "s"],
)
def test_the_unit_fits_the_times(scale: int, unit: str) -> None:
    result = failing()
    for one in result["keys"]["violated"][0]["operations"]:
        one["start_ns"] = 10**18 + one["start_ns"] // 1_000_000 * scale
        one["end_ns"] = 10**18 + one["end_ns"] // 1_000_000 * scale
    page = Page(render_history_page(result))
    assert f"4 {unit}" in page.words
    assert f"{unit}" in page.words.split("cas 1 to 3", maxsplit=1)[1]


def test_a_file_without_times_is_drawn_by_its_lines() -> None:
    result = {**failing(), "clock": "lines"}
    for one in result["keys"]["violated"][0]["operations"]:
        one["start_ns"], one["end_ns"] = one["line"], one["end_line"]
    page = Page(render_history_page(result))
    assert "Width is time, in lines of the file" in page.words
    assert "14 lines" in page.words or "15 lines" in page.words
    assert " ms" not in page.words


def test_an_initial_value_and_an_open_operation_are_shown() -> None:
    result = failing()
    violation = result["keys"]["violated"][0]
    violation["operations"][0] |= {"line": None, "end_line": None, "start_ns": None, "end_ns": None, "process": -1}
    violation["operations"][1] |= {"end_ns": None, "outcome": "unknown"}
    page = Page(render_history_page(result))
    assert "before all" in page.words
    assert "never answered" in page.words
    assert "at first, 1, 2" in page.words
    assert "p-1" not in page.words


def test_a_violation_that_nobody_found_the_cause_of_is_still_shown() -> None:
    result = failing()
    result["keys"]["violated"][0] |= {"operations": [], "edges": [], "orders": [], "reasons": [], "rejudged": False}
    page = Page(render_history_page(result))
    assert "yet that read found 1." in page.words
    assert "Not judged again on its own." in page.words


def test_a_pass_has_no_counterexample() -> None:
    page = Page(render_history_page(passing()))
    assert "Pass" in page.words
    assert "Every answer fits one order." in page.words
    assert "Counterexample" not in page.words
    assert "Session guarantees" not in page.words


@pytest.mark.parametrize("verdict", ["unknown", "nonsense", None])
def test_what_is_no_verdict_is_unknown(verdict: Any) -> None:
    text = render_history_page({**passing(), "verdict": verdict})
    assert '<body class="is-unknown">' in text
    assert "<title>Unknown: " in text


def test_many_keys_are_not_all_drawn() -> None:
    result = failing()
    one = result["keys"]["violated"][0]
    result["keys"]["violated"] = [{**one, "key": f"k{n}"} for n in range(30)]
    page = Page(render_history_page(result))
    assert "10 more keys are violated and not drawn" in page.words
    assert "k29" in page.words


def test_the_longest_prefix_is_told_where_it_is_known() -> None:
    result = failing()
    result["keys"]["violated"][0] |= {"prefix_operations": 12, "prefix_end_line": 15}
    page = Page(render_history_page(result))
    assert "One order explains the first 12 answers on this key." in page.words
    assert "The answer in line 15 is the first that no order explains." in page.words


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}'\"\u202e\x00"


def spoiled(value: Any) -> Any:
    """The same object with hostile text in every text that a file can choose."""
    if isinstance(value, dict):
        return {
            name: HOSTILE if isinstance(entry, str) and name not in ("verdict", "clock", "kind") else spoiled(entry)
            for name, entry in value.items()
        }
    if isinstance(value, list):
        return [HOSTILE if isinstance(entry, str) else spoiled(entry) for entry in value]
    return value


def test_hostile_text_is_inert() -> None:
    plain = Page(render_history_page(failing()))
    text = render_history_page(spoiled(copy.deepcopy(failing())))
    page = Page(text)
    tags = {tag for tag, _ in page.elements}
    assert "img" not in tags
    assert len([tag for tag, _ in page.elements if tag == "script"]) == 2
    assert tags == {tag for tag, _ in plain.elements}
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on") or name == "style"]
    assert "<img src=x onerror=alert(1)>" in page.words  # shown, as text
    assert "{{ 7*7 }}" in page.words
    assert "49'" not in page.words
    assert "\u202e" not in text
    assert "\x00" not in text


def test_one_file_that_loads_nothing() -> None:
    page = Page(render_history_page(failing()))
    policy = next(attrs["content"] for tag, attrs in page.elements if attrs.get("http-equiv"))
    assert (policy or "").startswith("default-src 'none'; style-src 'sha256-")
    for tag, attrs in page.elements:
        if tag in ("link", "script", "img"):
            assert not attrs.get("src")
            assert (attrs.get("href") or "data:").startswith("data:")


def test_it_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_history_page(path, json.loads(json.dumps(failing())))
    assert path.read_text(encoding="utf-8") == render_history_page(failing())
    with pytest.raises(OSError, match="missing"):
        write_history_page(tmp_path / "missing" / "page.html", failing())
