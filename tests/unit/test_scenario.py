"""A scenario is read once, completely: every mistake is told, with its key and what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest
from aftershock.harness.errors import ScenarioError
from aftershock.harness.scenario import Scenario, load, parse, to_toml

from tests.unit.plugins import plugin, registry

GOOD = """
name = "good"
[system]
name = "reference"
[load]
rate_per_s = 300
duration_s = 30
[[workload]]
name = "cas-register"
share = 0.6
keys = 5
[[workload]]
name = "insert-only"
share = 0.4
[[fault]]
name = "noop"
start_s = 1
duration_s = 2
expect = "available"
[[fault]]
name = "partition"
start_s = 5
duration_s = 4
rto_s = 3
"""


def parsed(text: str, **overrides: str) -> Scenario:
    return parse(text, registry(), where="s.toml", overrides={k.replace("__", "."): v for k, v in overrides.items()})


def problems(text: str, **overrides: str) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        parsed(text, **overrides)
    return caught.value.problems


def test_good_scenario_gets_defaults_and_fault_ids() -> None:
    scenario = parsed(GOOD)

    assert scenario.backend.name == "process"
    assert [fault.id for fault in scenario.faults] == ["f1", "f2"]
    assert scenario.workloads[0].settings == {"keys": 5}
    assert scenario.targets.success_ratio == 0.999


def test_resolved_scenario_reads_back_to_the_same_value() -> None:
    scenario = parsed(GOOD).model_copy(update={"seed": 7, "description": 'tab\t "quoted" \\ \x7f ü'})

    assert parsed(to_toml(scenario)) == scenario


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            ('[system]\nname = "reference"', '[system]\nname = "referense"'),
            "system.name: unknown system 'referense'; did you mean 'reference'?",
        ),
        (('name = "noop"', 'name = "nop"'), "fault.0.name: unknown fault 'nop'; did you mean 'noop'?"),
        (("duration_s = 4", "duration_s = -4"), "fault.1.duration_s: input should be greater than 0, found -4"),
        (("duration_s = 30", "duration_s = 30\nrate = 3"), "load.rate: unknown key"),
        (("keys = 5", "keyz = 5"), "workload.0.keyz: unknown key; did you mean 'keys'?"),
        (("keys = 5", 'keys = "many"'), "workload.0.keys: input should be a valid integer"),
        (("share = 0.4", "share = 0.3"), "workload: the shares add up to 0.9, expected 1"),
        (
            ("start_s = 5", "start_s = 2"),
            "fault.1 (partition): starts at 2 s, before f1 (noop) has ended (3 s)",
        ),
        (("start_s = 5", "start_s = 28"), "fault.1 (partition): ends at 32 s, after the load (30 s)"),
        (("rto_s = 3", "rto_s = 26"), "fault.1 (partition): rto_s = 26 reaches past the end of the load"),
        (
            ("[load]", "[targets]\nsuccess_ratio = 0.99999\n[load]"),
            "targets.success_ratio = 0.99999: needs 100000 operations",
        ),
        (("[load]", "[targets]\nlatency_p99 = 1\n[load]"), "targets.latency_p99: unknown key"),
        (("[load]", '[targets]\nadvisory = ["latency"]\n[load]'), "targets.advisory: unknown target 'latency'"),
        (
            ("[load]", '[checks]\nrequired = ["linearisability"]\n[load]'),
            "unknown check 'linearisability'; did you mean 'linearizability'?",
        ),
        (("[load]", "[laod]\nx = 1\n[load]"), "laod: unknown key; did you mean 'load'?"),
        (('name = "good"', 'name = "Not Good"'), "name: string should match pattern"),
        (('name = "good"', 'name = "good"\nschema = 9'), "schema: expected 1, found 9"),
    ],
)
def test_each_mistake_names_its_key_and_what_was_expected(change: tuple[str, str], expected: str) -> None:
    assert change[0] in GOOD, "the change must change something"

    found = problems(GOOD.replace(*change, 1))

    assert any(expected in problem for problem in found), found


def test_all_mistakes_are_told_at_once() -> None:
    text = GOOD.replace("keys = 5", "keyz = 5").replace("start_s = 5", "start_s = 2").replace("0.4", "0.3")

    # Settings of plugins stop nothing; what only the whole shows is told as well.
    assert len(problems(text)) == 3


def test_no_fault_must_be_meant() -> None:
    text = GOOD.partition("[[fault]]")[0]

    assert problems(text) == ["fault: there is none; add [[fault]], or say control = true if that is meant"]
    assert parsed("control = true\n" + text).control


def test_control_run_holds_no_other_fault() -> None:
    assert "control: a control run may hold no fault but noop" in problems("control = true\n" + GOOD)


def test_broken_toml_names_line_and_column() -> None:
    assert problems("name = [") == ["not valid TOML: Invalid value (at end of document)"]


def test_overrides_reach_tables_and_entries() -> None:
    scenario = parsed(GOOD, load__rate_per_s="50", fault__1__shape="halves", name="other", system__ack="primary",
                      targets__success_ratio="0.99")  # fmt: skip

    assert scenario.load.rate_per_s == 50
    assert scenario.faults[1].settings["shape"] == "halves"
    assert scenario.name == "other"
    assert scenario.system.settings["ack"] == "primary"


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("fault.9.shape", "--set fault.9.shape: there is no entry '9'; entries are numbered from 0"),
        ("name.x.y", "--set name.x.y: 'name' is a value, it has no keys below it"),
        ("fault.0", "--set fault.0: name a key inside an entry"),
    ],
)
def test_wrong_override_is_told(key: str, expected: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse(GOOD, registry(), where="s.toml", overrides={key: "1"})

    assert any(expected in problem for problem in caught.value.problems)


def test_missing_file_and_bad_bytes_are_told(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="cannot be read: No such file or directory"):
        load(tmp_path / "none.toml", registry())
    bad = tmp_path / "bad.toml"
    bad.write_bytes(b"name = \xff")
    with pytest.raises(ScenarioError, match="is not UTF-8 text"):
        load(bad, registry())


# ------------------------------------------------------------------------------------------------ windows

SECOND = 'name = "partition"\nstart_s = 5\nduration_s = 4\nrto_s = 3\n'
THIRD = '\n[[fault]]\nname = "partition"\nstart_s = 7\nduration_s = 4\n'


def test_windows_may_overlap_where_one_of_them_says_so() -> None:
    assert any("say overlap = true on one of them" in problem for problem in problems(GOOD + THIRD))

    for text in (GOOD + THIRD + "overlap = true\n", GOOD.replace(SECOND, SECOND + "overlap = true\n") + THIRD):
        assert [fault.start_s for fault in parsed(text).faults] == [1, 5, 7]
        assert parsed(to_toml(parsed(text))) == parsed(text)


def test_the_control_arm_overlaps_nothing() -> None:
    text = GOOD.replace("start_s = 5", "start_s = 2\noverlap = true")

    assert any("noop overlaps nothing" in problem for problem in problems(text))


def test_windows_are_sorted_and_keep_the_ids_of_the_file() -> None:
    scenario = parsed(GOOD.replace("start_s = 1", "start_s = 20"))

    assert [(fault.id, fault.start_s) for fault in scenario.faults] == [("f2", 5), ("f1", 20)]


def test_a_fault_is_repeated_as_often_as_it_says() -> None:
    scenario = parsed(GOOD.replace(SECOND, SECOND + "every_s = 6\ntimes = 3\n"))

    assert [(f.id, f.start_s, f.end_s) for f in scenario.faults[1:]] == [
        ("f2.1", 5, 9),
        ("f2.2", 11, 15),
        ("f2.3", 17, 21),
    ]
    assert all(fault.settings == {"shape": "isolate"} for fault in scenario.faults[1:])
    assert parsed(to_toml(scenario)) == scenario, "the resolved file has the windows, and nothing to repeat"


@pytest.mark.parametrize(
    ("every_s", "rto_s", "last_s"),
    [
        (5, 3, 25),  # 25 + 4 = 29 is within the load of 30 s
        (5, 5, 25),  # recovery until 30 s can just be seen
        (5, 6, 20),  # from 25 s on it could not
        (0.1, 3, 26),
    ],
)
def test_without_times_it_is_repeated_until_the_load_ends(every_s: float, rto_s: float, last_s: float) -> None:
    more = f"every_s = {every_s}\noverlap = {'true' if every_s < 4 else 'false'}\n"
    text = GOOD.replace(SECOND, SECOND.replace("rto_s = 3", f"rto_s = {rto_s}") + more)
    # At so many windows hardly any time is left outside their excuses.
    scenario = parsed(text.replace("[load]", "[targets]\nsuccess_ratio = 0.5\n[load]"))

    assert scenario.faults[-1].start_s == pytest.approx(last_s)
    assert len({fault.id for fault in scenario.faults}) == len(scenario.faults)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("every_s = 3", "every_s = 3 is shorter than duration_s = 4, so it would be on twice at once"),
        ("times = 3", "fault.1 (partition): times = 3 needs every_s"),
        ("every_s = 6\ntimes = 0", "fault.1.times: input should be greater than or equal to 1, found 0"),
        ("every_s = 6\ntimes = 9", "fault.1 (partition), turn 5: ends at 33 s, after the load (30 s)"),
        ("every = 6", "fault.1.every: unknown key; did you mean 'every_s'?"),
        ("overlaps = true", "fault.1.overlaps: unknown key; did you mean 'overlap'?"),
        ("overlap = 3", "fault.1.overlap: input should be a valid boolean"),
    ],
)
def test_mistakes_in_repeating_and_overlapping_are_told(more: str, expected: str) -> None:
    found = problems(GOOD.replace(SECOND, SECOND + more + "\n"))

    assert any(expected in problem for problem in found), found


def test_a_repeated_fault_meets_another_window() -> None:
    text = GOOD.replace(SECOND, SECOND + "every_s = 6\ntimes = 2\n") + THIRD.replace("start_s = 7", "start_s = 12")

    assert [p for p in problems(text) if "before f2.2 (partition) has ended (15 s)" in p]


def test_excuses_that_overlap_are_counted_once() -> None:
    """Two windows of 20 s rto that begin together leave 10 s of 30: 3000 operations at 300/s."""
    both = GOOD.replace("rto_s = 3", "rto_s = 20") + THIRD + "overlap = true\nrto_s = 18\n"

    assert parsed(both.replace("[load]", "[targets]\nsuccess_ratio = 0.9996\n[load]"))
    assert problems(both.replace("[load]", "[targets]\nsuccess_ratio = 0.9997\n[load]"))


def test_a_plugin_setting_that_the_table_takes_for_itself_is_told() -> None:
    """It would be lost without a word."""

    known = registry()
    known.add("fault", plugin("wait", overlap=(bool, False)), origin="test")
    with pytest.raises(ScenarioError) as caught:
        parse(GOOD.replace('name = "noop"', 'name = "wait"'), known, where="s.toml", overrides={})
    assert "fault.0: fault 'wait' has settings of its own named overlap" in caught.value.problems[0]
