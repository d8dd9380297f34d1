"""JUnit XML: its structure as CI servers read it, and that it never looks greener than the run."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest
from aftershock.reports import render_junit

# The common core of the JUnit schemas in use: element -> (required attributes, allowed attributes, allowed children).
STRUCTURE: dict[str, tuple[set[str], set[str], set[str]]] = {
    "testsuites": (
        {"tests", "failures", "errors"},
        {"name", "tests", "failures", "errors", "skipped", "time"},
        {"testsuite"},
    ),
    "testsuite": (
        {"name", "tests", "failures", "errors", "skipped", "time"},
        {"name", "tests", "failures", "errors", "skipped", "time", "timestamp"},
        {"properties", "testcase"},
    ),
    "properties": (set(), set(), {"property"}),
    "property": ({"name", "value"}, {"name", "value"}, set()),
    "testcase": ({"name", "classname", "time"}, {"name", "classname", "time"}, {"failure", "error", "skipped"}),
    "failure": ({"message", "type"}, {"message", "type"}, set()),
    "error": ({"message", "type"}, {"message", "type"}, set()),
    "skipped": ({"message"}, {"message"}, set()),
}


def check_structure(node: ElementTree.Element) -> None:
    required, allowed, children = STRUCTURE[node.tag]
    assert required <= set(node.attrib) <= allowed, node.tag
    assert {child.tag for child in node} <= children
    if node.tag == "testcase":
        assert len(node) <= 1
    if node.tag in ("testsuites", "testsuite"):
        cases = list(node.iter("testcase"))
        assert int(node.attrib["tests"]) == len(cases)
        for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(node.attrib[attribute]) == len(list(node.iter(tag)))
        float(node.attrib["time"])
    for child in node:
        check_structure(child)


def outcomes(root: ElementTree.Element) -> dict[str, str]:
    return {str(case.get("name")): case[0].tag if len(case) else "passed" for case in root.iter("testcase")}


@pytest.mark.parametrize("name", ["pass", "fail", "unknown", "incomplete", "control", "heal-failed", "not-started"])
def test_structure(examples: Any, name: str) -> None:
    check_structure(ElementTree.fromstring(render_junit(examples.EXAMPLES[name]())))


def test_hostile_text_stays_text(examples: Any) -> None:
    root = ElementTree.fromstring(render_junit(examples.hostile()))
    check_structure(root)
    assert any("</script>" in str(case.get("name")) for case in root.iter("testcase"))


def test_the_structure_check_can_fail(examples: Any) -> None:
    root = ElementTree.fromstring(render_junit(examples.failing()))
    root.set("failures", "0")
    with pytest.raises(AssertionError):
        check_structure(root)


def test_one_case_per_check_and_per_target(examples: Any) -> None:
    verdict = examples.passing()
    found = outcomes(ElementTree.fromstring(render_junit(verdict)))
    assert len(found) == len(verdict["checks"]) + len(verdict["targets"])
    assert found["Data loss"] == "passed"
    assert found["Session guarantees"] == "skipped"


def test_a_fail_is_a_failure_and_an_unknown_is_an_error(examples: Any) -> None:
    assert outcomes(ElementTree.fromstring(render_junit(examples.failing())))["Data loss"] == "failure"
    assert outcomes(ElementTree.fromstring(render_junit(examples.unknown())))["Load"] == "error"


def test_the_failure_says_what_and_when(examples: Any) -> None:
    root = ElementTree.fromstring(render_junit(examples.failing()))
    failure = next(case for case in root.iter("testcase") if case.get("name") == "Data loss")[0]
    assert failure.get("message") == "12 acknowledged writes are gone"
    assert "12 writes of 7,200 acknowledged, on 12 keys; target is none (35.871 to 36.0 s)" in str(failure.text)


def test_an_advisory_check_never_fails_a_run(examples: Any) -> None:
    verdict = examples.passing()
    next(check for check in verdict["checks"] if check["name"] == "latency").update(verdict="fail", reason="too slow")
    root = ElementTree.fromstring(render_junit(verdict))
    assert outcomes(root)["Latency"] == "skipped"
    assert root.get("failures") == root.get("errors") == "0"


def test_seed_run_and_command_are_properties(examples: Any) -> None:
    root = ElementTree.fromstring(render_junit(examples.failing()))
    found = {node.get("name"): node.get("value") for node in root.iter("property")}
    assert found["seed"] == "7"
    assert found["run_id"] == "20261121T140211Z-demo-7"
    assert str(found["reproduce"]).startswith("aftershock run")


@pytest.mark.parametrize("exit_code", [1, 2, 3, 4, 5, 70, 130])
def test_a_run_that_did_not_exit_0_is_never_green(examples: Any, exit_code: int) -> None:
    verdict = examples.passing()
    verdict["exit_code"] = exit_code
    root = ElementTree.fromstring(render_junit(verdict))
    assert outcomes(root)["run"] == "error"


def test_unknown_that_only_warns_agrees_with_exit_code_0(examples: Any) -> None:
    verdict = examples.unknown()
    verdict["exit_code"] = 0
    root = ElementTree.fromstring(render_junit(verdict))
    assert root.get("failures") == root.get("errors") == "0"
    load = next(case for case in root.iter("testcase") if case.get("name") == "Load")[0]
    assert load.tag == "skipped"
    assert str(load.get("message")).startswith("unknown, which this scenario only warns about")


def test_a_fail_stays_a_failure_whatever_the_exit_code(examples: Any) -> None:
    verdict = examples.failing()
    verdict["exit_code"] = 0
    assert outcomes(ElementTree.fromstring(render_junit(verdict)))["Data loss"] == "failure"
