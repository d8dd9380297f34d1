"""A scenario is read once, completely: every mistake is told, with its key and what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest
from aftershock.harness.errors import ScenarioError
from aftershock.harness.scenario import Scenario, load, parse, to_toml

from tests.unit.plugins import registry

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
            "fault.1 (partition): starts at 2 s, before the one before it has ended (3 s)",
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
