"""A real browser opens the report and reads the verdict, as a person would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

WORDS = {"pass": "Pass", "fail": "Fail", "unknown": "Unknown"}
EVERY = ["pass", "fail", "unknown", "incomplete", "control", "heal-failed", "not-started", "hostile"]
COLOURS = """(() => {
  const chart = document.querySelector("#tl-chart"), seen = new Set();
  const d = chart.getContext("2d").getImageData(0, 0, chart.width, chart.height).data;
  for (let i = 0; i < d.length; i += 4) if (d[i + 3]) seen.add(d[i] << 16 | d[i + 1] << 8 | d[i + 2]);
  return seen.size;
})()"""
DEAD_LINKS = """[...document.querySelectorAll("a[href]")].map(a => a.getAttribute("href"))
  .filter(h => !h.startsWith("#t=") && !(h.startsWith("#") && document.getElementById(h.slice(1))))"""
FIGURES = """[...document.querySelectorAll(".ce-svg")].filter(s => getComputedStyle(s).display !== "none")
  .map(s => s.getAttribute("class"))"""
CHART_BOX = """(() => {
  const b = document.querySelector("#tl-over").getBoundingClientRect();
  return [b.left, b.top, b.width];
})()"""
TYPE_NONSENSE = """(() => {
  const q = document.querySelector("#event-filter");
  q.value = "no such event";
  q.dispatchEvent(new Event("input"));
})()"""


@pytest.mark.parametrize("name", ["pass", "fail", "unknown"])
def test_the_verdict_is_the_first_thing_read(browser: Any, pages: dict[str, Path], name: str) -> None:
    browser.open(pages[name])
    assert browser.js("document.querySelector('.v-word').innerText.trim()") == WORDS[name]
    assert browser.js("document.title").startswith(f"{WORDS[name]}: ")
    assert browser.js("document.querySelector('.top-verdict').innerText.trim()") == WORDS[name]
    assert browser.js("document.querySelector('h1').innerText") in browser.js("document.title")


@pytest.mark.parametrize("name", EVERY)
def test_no_page_complains_or_asks_the_network_for_anything(browser: Any, pages: dict[str, Path], name: str) -> None:
    browser.open(pages[name])
    browser.js("document.querySelectorAll('details').forEach(d => d.open = true)")
    browser.js("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    own = pages[name].as_uri()
    # The icon is a data address in the page itself.
    assert [url for url in browser.requests if url != own and not url.startswith("data:")] == []
    assert browser.problems == []


def test_the_browser_reports_what_these_tests_look_for(browser: Any, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text(
        '<title>x</title><img src="missing.png"><script>console.error("heard"); nothing.here</script>', encoding="utf-8"
    )
    browser.open(page)
    assert any("missing.png" in url for url in browser.requests)
    assert any("heard" in problem for problem in browser.problems)
    assert any("nothing is not defined" in problem for problem in browser.problems)


@pytest.mark.parametrize("name", ["pass", "fail", "unknown", "incomplete", "control", "hostile"])
def test_the_chart_is_drawn(browser: Any, pages: dict[str, Path], name: str) -> None:
    browser.open(pages[name])
    colours = browser.js(COLOURS)
    assert colours > 20


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("width", [400, 768, 1280, 1920])
def test_the_page_never_scrolls_sideways(browser: Any, pages: dict[str, Path], name: str, width: int) -> None:
    browser.open(pages[name], width=width)
    browser.js("document.querySelectorAll('details').forEach(d => d.open = true)")
    widest = browser.js("Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)")
    assert widest <= width


@pytest.mark.parametrize("name", ["pass", "fail", "unknown"])
def test_the_first_screen_answers_the_first_six_questions(browser: Any, pages: dict[str, Path], name: str) -> None:
    browser.open(pages[name], width=1280, height=800)
    for part in (".v-word", "h1", ".findings", ".held", ".sure", "#reproduce"):
        assert browser.js(f"document.querySelector('{part}').getBoundingClientRect().bottom") <= 800, part
    assert browser.js("document.querySelector('#h-timeline').getBoundingClientRect().top") < 800


def _middle_of_chart(browser: Any, share: float) -> tuple[float, float]:
    box = browser.js(CHART_BOX)
    return box[0] + box[2] * share, box[1] + 60


def test_dragging_zooms_and_the_address_remembers_it(browser: Any, pages: dict[str, Path]) -> None:
    browser.open(pages["fail"])
    browser.js("document.querySelector('#timeline').scrollIntoView({behavior: 'instant'})")
    start, end = _middle_of_chart(browser, 0.3), _middle_of_chart(browser, 0.5)
    browser.drag(start, end)
    address = browser.until("location.hash", lambda text: text.startswith("#t="))
    first, last = map(float, address.removeprefix("#t=").split("-"))
    assert 10 < first < last < 40
    browser.js("document.querySelector('#tl').focus()")
    browser.press("0")
    assert browser.until("location.hash", lambda text: text == "#timeline")


def test_a_link_to_a_moment_opens_there(browser: Any, pages: dict[str, Path]) -> None:
    browser.open(pages["fail"], fragment="#t=35.800-37.400")
    assert browser.until("document.querySelector('#readout').innerText", lambda text: "35.8" in text and "37.4" in text)
    assert browser.js(
        "[...document.querySelectorAll('.preset')].every(b => b.getAttribute('aria-pressed') === 'false')"
    )


def test_presets_keys_and_findings(browser: Any, pages: dict[str, Path]) -> None:
    browser.open(pages["fail"])
    browser.js("[...document.querySelectorAll('.preset')].find(b => b.textContent === 'kill n5').click()")
    assert browser.until("location.hash", lambda text: text.startswith("#t=35."))
    browser.js("document.querySelector('#tl').focus()")
    browser.press("Escape")
    browser.press("n")  # the first finding in time is the availability at the partition
    assert "10.00" in browser.until("document.querySelector('#spoken').textContent", lambda text: "finding" in text)
    browser.press("Enter")
    assert browser.until("location.hash", lambda text: text == "#targets")


def test_the_theme_follows_the_system_and_the_button(browser: Any, pages: dict[str, Path]) -> None:
    surface = "getComputedStyle(document.querySelector('main>section')).backgroundColor"
    browser.open(pages["pass"], dark=True)
    assert browser.js(surface) == "rgb(21, 24, 27)"
    browser.js("document.querySelector('#theme').click()")  # auto -> light
    assert browser.js(surface) == "rgb(255, 255, 255)"
    browser.js("document.querySelector('#theme').click()")
    browser.js("document.querySelector('#theme').click()")  # back to auto, so that the next test starts there


def test_the_event_filter(browser: Any, pages: dict[str, Path]) -> None:
    browser.open(pages["fail"])
    shown = "[...document.querySelectorAll('.events tbody tr')].filter(r => !r.hidden).length"
    every = browser.js(shown)
    browser.js("document.querySelector('.chip[data-kind=fault]').click()")
    assert 0 < browser.js(shown) < every
    browser.js(TYPE_NONSENSE)
    assert browser.js(shown) == 0
    assert browser.js("document.querySelector('#event-count').textContent") == "No event matches this filter"


def test_hostile_text_does_nothing(browser: Any, pages: dict[str, Path]) -> None:
    browser.open(pages["hostile"])
    assert browser.js("document.title") != "owned"
    assert browser.js("document.querySelectorAll('img').length") == 0
    assert browser.js("document.scripts.length") == 2
    assert "onerror=alert(1)" in browser.js("document.body.innerText")  # shown as the text that it is


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("name", EVERY)
def test_everything_that_can_be_used_has_a_name(browser: Any, pages: dict[str, Path], name: str, width: int) -> None:
    browser.open(pages[name], width=width)
    browser.call("Accessibility.enable")
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "link", "searchbox", "combobox", "group", "region", "navigation"}
    named = [node for node in nodes if node.get("role", {}).get("value") in roles and not node.get("ignored")]
    nameless = [node for node in named if not node.get("name", {}).get("value") and node["role"]["value"] != "group"]
    assert len(named) > 10
    assert nameless == []
    levels = browser.js("[...document.querySelectorAll('h1,h2,h3')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    ids = browser.js("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", EVERY)
def test_every_link_inside_the_page_leads_somewhere(browser: Any, pages: dict[str, Path], name: str) -> None:
    browser.open(pages[name])
    dead = browser.js(DEAD_LINKS)
    assert dead == []


def test_printing_shows_the_whole_run_and_everything_closed(browser: Any, pages: dict[str, Path]) -> None:
    browser.open(pages["fail"], dark=True)
    browser.js("dispatchEvent(new Event('beforeprint'))")
    assert browser.js("document.querySelectorAll('details:not([open])').length") == 0
    assert browser.js("document.documentElement.dataset.theme") == "light"
    assert browser.js("document.querySelector('#tl').clientWidth") == 640  # fits a sheet: no lane under its label
    browser.js("dispatchEvent(new Event('afterprint'))")
    assert browser.js("document.querySelectorAll('details:not([open])').length") > 0
    assert browser.js("document.querySelector('#tl').clientWidth") > 1000


def test_the_counterexample_has_two_scales_and_a_phone_figure(browser: Any, pages: dict[str, Path]) -> None:
    browser.open(pages["fail"])
    assert browser.js(FIGURES) == ["ce-svg ce-wide ce-cut"]
    browser.js("document.querySelector('[data-scale=full]').click()")
    assert browser.js(FIGURES) == ["ce-svg ce-wide ce-full"]
    browser.open(pages["fail"], width=400)
    assert browser.js(FIGURES) == ["ce-svg ce-narrow ce-cut"]
