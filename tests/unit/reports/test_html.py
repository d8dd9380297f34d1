"""The HTML page as text: what it says, that it is one file, and that nothing in a record can become markup or code."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from aftershock.reports import render_html

VOID = {"meta", "link", "input", "img", "br", "hr"}


class Page(HTMLParser):
    """Collects elements, attributes and the text outside scripts; complains about tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        (self.scripts if self.open and self.open[-1] in ("script", "style") else self.text).append(data)

    def words(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))


def data_of(text: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found.group(1))


@pytest.mark.parametrize("name", ["pass", "fail", "unknown", "incomplete", "control", "heal-failed", "not-started"])
def test_every_state_is_well_formed(examples: Any, name: str) -> None:
    page = Page(render_html(examples.EXAMPLES[name]()))
    assert page.open == []
    assert len([tag for tag, _ in page.elements if tag == "h1"]) == 1


@pytest.mark.parametrize(("name", "word"), [("pass", "Pass"), ("fail", "Fail"), ("unknown", "Unknown")])
def test_verdict_headline_and_command_are_on_the_page(examples: Any, name: str, word: str) -> None:
    verdict = examples.EXAMPLES[name]()
    text = render_html(verdict)
    words = Page(text).words()
    assert f"<title>{word}: " in text
    assert verdict["headline"] in words
    assert " ".join(verdict["reproduce"]["run"].split()) in words
    assert verdict["reproduce"]["check"] in words


def test_one_file_that_may_load_nothing(examples: Any) -> None:
    text = render_html(examples.failing())
    page = Page(text)
    for tag, attributes in page.elements:
        assert tag not in {"img", "iframe", "object", "embed", "base", "form"}
        assert "src" not in attributes
        if tag == "link":
            assert str(attributes["href"]).startswith("data:image/svg+xml,")
        if "href" in attributes and tag == "a":
            assert str(attributes["href"]).startswith("#")
        assert "style" not in attributes  # the policy would drop it silently
        assert not [name for name in attributes if name.startswith("on")]
    assert "@import" not in text
    assert "url(http" not in text


def test_the_policy_allows_exactly_our_style_and_script(examples: Any) -> None:
    text = render_html(examples.passing())
    policy = next(
        attrs["content"] for tag, attrs in Page(text).elements if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'")
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        inner = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert inner
        digest = base64.b64encode(hashlib.sha256(inner.group(1).encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy


ATTACKS = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "]]>",
    "\"' onmouseover=alert(1) x='",
    "{{ 7*7 }}{% raw %}{#",
    "\u202egnp.exe",
    "\x00\x1b[31m\x7f\x85",
    "\ud800",
    "x" * 100_000,
    "&lt;b&gt;",
    "\u2028\u2029",
]


@pytest.mark.parametrize("attack", ATTACKS, ids=[repr(attack[:16]) for attack in ATTACKS])
def test_hostile_text_stays_text(examples: Any, attack: str) -> None:
    clean, poisoned = Page(render_html(examples.failing())), render_html(examples.hostile(text=attack))
    page = Page(poisoned)
    assert page.open == []
    added = {tag for tag, _ in page.elements} - {tag for tag, _ in clean.elements}
    assert added == set()
    assert len(page.scripts) == len(clean.scripts)
    assert [tag for tag, _ in page.elements if tag in {"script", "style"}] == ["style", "script", "script"]
    assert {name for _, attributes in page.elements for name in attributes if name.startswith("on")} == set()
    poisoned.encode("utf-8")  # a lone surrogate would raise
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", poisoned)
    data_of(poisoned)
    assert len(poisoned) < 2_500_000


def test_template_marks_in_a_record_are_text(examples: Any) -> None:
    words = Page(render_html(examples.hostile(text="{{ 7*7*7*7*7 }}"))).words()
    assert "{{ 7*7*7*7*7 }}" in words
    assert "16807" not in words


def test_script_data_holds_no_angle_bracket(examples: Any) -> None:
    text = render_html(examples.hostile())
    block = text.split('id="data">', 1)[1].split("</script>", 1)[0]
    assert "<" not in block
    assert ">" not in block
    assert data_of(text)["nodes"][0]["name"].startswith("</script>")


def test_no_verdict_colour_for_what_was_not_judged(examples: Any) -> None:
    verdict = examples.incomplete()
    page = render_html(verdict)
    section = page.split('id="data-loss"', 1)[1].split("</section>", 1)[0]
    assert "Not judged" in section
    assert "the final reads are missing" in section
    assert "badge pass" not in section


def test_evidence_comes_first_on_a_fail_and_later_otherwise(examples: Any) -> None:
    failed, passed = render_html(examples.failing()), render_html(examples.passing())
    assert failed.index('id="data-loss"') < failed.index('id="faults"')
    assert passed.index('id="data-loss"') > passed.index('id="faults"')


def test_lanes_without_data_are_left_out(examples: Any) -> None:
    lanes = re.findall(r'lane-label" data-lane="(\w+)"', render_html(examples.control()))
    assert lanes == ["faults", "availability", "throughput", "latency", "nodes", "shards"]
    assert "none injected" in render_html(examples.control())
    verdict = examples.passing()
    verdict["timeline"]["shards"] = []
    assert "shards" not in re.findall(r'lane-label" data-lane="(\w+)"', render_html(verdict))


def test_a_failed_heal_stands_above_everything(examples: Any) -> None:
    text = render_html(examples.heal_failed())
    assert text.index("Heal failed") < text.index('class="v-head"')
    assert "aftershock heal" in text
    assert "toxic f4" in text
    assert "Heal failed" not in render_html(examples.failing())


def test_an_incomplete_run_says_how_much_was_recorded(examples: Any) -> None:
    words = Page(render_html(examples.incomplete())).words()
    assert "Incomplete run." in words
    assert "31.2 s of 60.0 s" in words


def test_missing_measurements_are_dashes(examples: Any) -> None:
    verdict = examples.unknown()
    text = render_html(verdict)
    row = text.split("Success ratio outside fault windows", 1)[1].split("</tr>", 1)[0]
    assert "<b>\u2013</b>" in row
    assert "not measured" in row


PARTS = [
    "schema",
    "tool",
    "run",
    "verdict",
    "exit_code",
    "headline",
    "cause",
    "cause_span_s",
    "findings",
    "certainty",
    "checks",
    "reproduce",
    "faults",
    "targets",
    "windows",
    "shards",
    "data_loss",
    "linearizability",
    "timeline",
    "events",
    "logs",
    "assumptions",
    "not_checked",
    "environment",
    "load",
    "warnings",
]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("missing", [True, False])
def test_any_part_may_be_missing_or_null(examples: Any, part: str, missing: bool) -> None:
    verdict = examples.failing()
    assert set(verdict) == set(PARTS)
    verdict["timeline"]["points"] = []
    if missing:
        del verdict[part]
    else:
        verdict[part] = None
    page = Page(render_html(verdict))
    assert page.open == []
    assert ("Fail" if part != "verdict" else "Unknown") in page.words()


def test_unknown_parts_are_ignored_and_nothing_is_unknown(examples: Any) -> None:
    verdict = examples.passing()
    verdict["later"] = {"anything": [1]}
    assert "Pass" in render_html(verdict)
    assert "Unknown" in render_html({})


def test_a_verdict_word_that_nobody_knows_is_never_green(examples: Any) -> None:
    verdict = examples.passing()
    verdict["verdict"] = "green"
    assert "<title>Unknown" in render_html(verdict)


def test_rendering_is_pure(examples: Any) -> None:
    verdict = examples.failing()
    before = copy.deepcopy(verdict)
    assert render_html(verdict) == render_html(verdict)
    assert verdict == before


def test_a_page_of_this_size_stays_small(examples: Any) -> None:
    assert len(render_html(examples.failing()).encode()) < 400_000


def test_a_long_run_is_thinned_and_says_so(examples: Any) -> None:
    verdict = examples.failing()
    verdict["timeline"]["points"] = [[index, 300, 1 if index % 1000 == 0 else 0] for index in range(100_000)]
    data = data_of(render_html(verdict))
    kept = len(data["points"]) // 2
    assert kept <= 30_000
    assert sum(value % 3 == 1 for value in data["points"][1::2]) == 100  # every failure is kept


def test_points_survive_the_way_into_the_page(examples: Any) -> None:
    verdict = examples.failing()
    flat = data_of(render_html(verdict))["points"]
    time_ms, found = 0, []
    for step, packed in zip(flat[::2], flat[1::2], strict=True):
        time_ms += step
        found.append([time_ms, packed // 3, packed % 3])
    assert found == sorted(verdict["timeline"]["points"], key=lambda point: point[0])


def test_overlapping_times_of_one_finding_are_one_mark(examples: Any) -> None:
    verdict = examples.failing()
    verdict["findings"][1]["spans_s"] = [[36.0, 37.0], [35.9, 36.5], [40.0, 41.0], [37.0, 37.2]]
    marks = [mark for mark in data_of(render_html(verdict))["marks"] if mark["number"] == 2]
    assert [(mark["from"], mark["to"]) for mark in marks] == [(35.9, 37.2), (40.0, 41.0)]
