"""The schedule: same scenario and seed, same windows; and a text that says what a run would break."""

from __future__ import annotations

from typing import Any

import pytest
from aftershock.harness.scenario import Scenario, parse, to_toml
from aftershock.harness.schedule import Schedule, plan, render_text, resolve
from aftershock.harness.schedule_chart import Bar, chart

from tests.unit.faults.support import registry as faults_registry
from tests.unit.plugins import registry as plugins_registry

TEXT = """
name = "good"
[system]
name = "reference"
[load]
rate_per_s = 300
duration_s = 40
[[workload]]
name = "cas-register"
share = 1.0
[[fault]]
name = "partition"
id = "cut"
start_s = 5
duration_s = 6
shape = "bridge"
rto_s = 4
[[fault]]
name = "noop"
start_s = 20
duration_s = 5
expect = "available"
"""


def scenario(**changes: Any) -> Scenario:
    return parse(TEXT, plugins_registry(), where="test").model_copy(update=changes)


def test_same_seed_same_schedule() -> None:
    first, second = plan(scenario(), 7), plan(scenario(), 7)

    assert first == second
    assert [w.rng().random() for w in first.windows] == [w.rng().random() for w in second.windows]


def test_the_streams_of_a_seed_never_change() -> None:
    """Written down once: a new version of Aftershock or Python must replay an old run's choices."""
    # printf 'aftershock/7/fault/cut' | sha256sum, the first sixteen digits, and the same for f2.
    expected = [15074578437947287438, 12061707430437108525]

    assert [window.rng_seed for window in plan(scenario(), 7).windows] == expected


def test_another_seed_makes_other_choices() -> None:
    assert plan(scenario(), 7).windows[0].rng_seed != plan(scenario(), 8).windows[0].rng_seed


def test_another_window_leaves_the_choices_of_the_first_alone() -> None:
    whole, shorter = scenario(), scenario(faults=scenario().faults[:1])

    assert plan(whole, 7).windows[0] == plan(shorter, 7).windows[0]


def test_a_saved_scenario_and_its_seed_give_the_same_schedule() -> None:
    saved = parse(to_toml(scenario(seed=7)), plugins_registry(), where="saved")

    assert saved.seed is not None
    assert plan(saved, saved.seed) == plan(scenario(), 7)


def test_windows_keep_what_the_scenario_says() -> None:
    window = plan(scenario(), 7).window("cut")

    assert (window.name, window.start_s, window.end_s, window.duration_s) == ("partition", 5, 11, 6)
    assert (window.expect, window.rto_s, window.settings["shape"]) == ("recovers", 4, "bridge")


def test_current_names_the_fault_that_is_on() -> None:
    schedule: Schedule = plan(scenario(), 7)

    assert schedule.current(4.9) is None
    assert schedule.current(5.0) == "cut partition bridge"
    assert schedule.current(11.0) is None


def test_a_schedule_makes_its_faults() -> None:
    made = plan(scenario(), 7).fault("cut", faults_registry())

    assert "'bridge'" in made.describe()


def test_dry_run_says_what_when_whom_how_undone_and_what_is_expected() -> None:
    text = render_text(plan(scenario(), 7), faults_registry())

    assert "seed 7: 2 fault windows" in text
    assert "     5.0 s  cut partition, until 11 s" in text
    assert "around the primary of the hot key's shard" in text
    assert "Undone by removing what cuts the links" in text
    assert "available again within 4 s" in text
    assert "must stay available" in text
    assert "    40.0 s  load ends" in text
    assert text.index("cut partition") < text.index("f2 noop") < text.index("load ends")


def test_dry_run_without_plugins_shows_the_settings() -> None:
    assert "shape = bridge" in render_text(plan(scenario(), 7))


def test_dry_run_of_a_control_run_says_that_nothing_is_broken() -> None:
    assert "seed 7: no fault windows" in render_text(plan(scenario(faults=(), control=True), 7))


OVERLAPPING = (
    TEXT
    + """
[[fault]]
name = "latency"
start_s = 8
duration_s = 20
latency_ms = 300
overlap = true
[[fault]]
name = "kill"
start_s = 30
duration_s = 1
target = ["n1", "half:router"]
expect = "available"
"""
)


def overlapping() -> Scenario:
    text = OVERLAPPING.replace("start_s = 20", "start_s = 34").replace("duration_s = 5\n", "duration_s = 3\n")
    known = plugins_registry()
    for name in ("latency", "kill"):
        known.add("fault", faults_registry().get("fault", name), origin="test")
    return parse(text, known, where="test")


def test_dry_run_draws_windows_that_overlap() -> None:
    text = render_text(plan(overlapping(), 7), faults_registry())
    rows = text[text.index("seconds") :].splitlines()[:6]

    assert "some on at the same time" in text
    assert max(map(len, rows)) <= 100
    assert [row.split()[0] for row in rows] == ["seconds", "cut", "f3", "f4", "f2", "#"]
    axis, cut, latency, kill, noop, _ = rows
    assert cut.index("#") < latency.index("#") < cut.rindex("#") < latency.rindex("#") < kill.index("#")
    assert latency.count("#") == pytest.approx(20 / 6 * cut.count("#"), abs=3)
    assert "-" not in cut, "it is on for longer than its recovery time"
    assert "-" not in kill, "nothing is excused"
    assert axis[cut.index("#") - 1 : cut.index("#") + 2].strip() in ("5", ""), "the axis stands above"
    assert noop.rstrip()[-1] in ".#"


def test_dry_run_of_windows_that_follow_each_other_has_no_chart() -> None:
    assert "seconds  " not in render_text(plan(scenario(), 7), faults_registry())


def test_current_names_all_that_are_on() -> None:
    assert plan(overlapping(), 7).current(9) == "cut partition bridge + f3 latency primary"
    assert plan(overlapping(), 7).current(30.5) == "f4 kill n1+half:router"


def test_windows_that_touch_do_not_meet() -> None:
    cut, latency, kill, noop = plan(overlapping(), 7).windows

    assert cut.meets(latency)
    assert latency.meets(cut)
    assert not latency.meets(kill)
    assert not kill.meets(noop)


def test_a_short_window_in_a_long_load_is_still_seen() -> None:
    rows = chart([Bar(label="f1", start_s=86_399, end_s=86_399.5, excused_until_s=86_400)], 86_400)

    assert rows[1].count("#") == 1
    assert all(len(row) <= 100 for row in rows)


def test_resolving_a_scenario_without_random_windows_writes_the_seed_down() -> None:
    assert resolve(scenario(), 7) == scenario(seed=7)
