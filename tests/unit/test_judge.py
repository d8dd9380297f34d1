"""The judge: the worst required check is the verdict, unknown never passes, and verdict.json keeps its schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from aftershock.harness import judge as judge_module
from aftershock.harness import porcupine
from aftershock.harness.errors import InternalError, RunFolderError
from aftershock.harness.judge import check_folder, judge, validate
from aftershock.harness.scenario import CHECK_NAMES
from aftershock.harness.verdict import ExitCode, Verdict

from tests.checkers import FakeChecker, agreeable
from tests.runs import REFUSED, TIMEOUT, Run, at, control, healthy
from tests.unit.checks.test_availability import spoiled

SCHEMA = json.loads((Path(judge_module.__file__).parent / "schema" / "verdict.schema.json").read_text())


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = healthy(tmp_path / "run")
    run.steady_load()
    run.final_reads()
    return run


def judged(run: Run, checker: Any = agreeable) -> dict[str, Any]:
    verdict = judge(run.write(), checker=checker)
    assert json.loads(json.dumps(verdict, allow_nan=False)) == verdict
    return verdict


def check(verdict: dict[str, Any], name: str) -> dict[str, Any]:
    return next(c for c in verdict["checks"] if c["name"] == name)


def test_the_schema_is_a_schema_and_strict() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    open_objects = []

    def walk(node: Any, path: str) -> None:
        if isinstance(node, dict):
            if node.get("type") == "object" and node.get("additionalProperties") is not False:
                open_objects.append(path)
            for name, child in node.items():
                walk(child, f"{path}/{name}")
        elif isinstance(node, list):
            for number, child in enumerate(node):
                walk(child, f"{path}/{number}")

    walk(SCHEMA, "")
    assert sorted(open_objects) == [
        "/$defs/check/properties/numbers",
        "/$defs/fault/properties/cut_off",
        "/properties/environment",
    ]


def test_a_healthy_run_passes(run: Run) -> None:
    verdict = judged(run)
    # In full: the judge itself looks at the first entries of long lists only.
    jsonschema.Draft202012Validator(SCHEMA).validate(verdict)
    assert (verdict["verdict"], verdict["exit_code"]) == ("pass", 0)
    assert verdict["headline"] == "Every promise held under 1 fault"
    assert verdict["findings"] == []
    assert [c["name"] for c in verdict["checks"]] == list(CHECK_NAMES)
    assert {c["state"] for c in verdict["certainty"]} == {"pass"}
    assert verdict["reproduce"] == {
        "run": "aftershock run demo.toml --seed 7",
        "check": f"aftershock check {run.folder}",
    }
    assert verdict["run"]["system_text"] == "reference, 3 nodes, 4 shards"


def test_a_control_run_passes(tmp_path: Path) -> None:
    run = control(tmp_path / "run")
    run.steady_load()
    run.final_reads()
    verdict = judged(run)
    assert verdict["verdict"] == "pass"
    assert verdict["headline"] == "Every promise held in the control run, in which nothing was broken"


def test_lost_writes_fail_with_what_was_lost(run: Run) -> None:
    keys = [row["key"] for row in run.operations if row["f"] == "insert" and at(9.5) <= row["end_ns"] < at(10)]
    run.operations = [row for row in run.operations if not row["final"]]
    run.final_reads(**{key.replace("-", "_"): None for key in keys})
    verdict = judged(run)
    assert (verdict["verdict"], verdict["exit_code"]) == ("fail", 1)
    assert verdict["headline"] == f"{len(keys)} acknowledged writes were lost"
    assert verdict["data_loss"]["lost"] == len(keys) > 10
    assert "The next fault, f1 (n1 was killed), came 0.0" in verdict["cause"]
    (finding,) = verdict["findings"]
    assert (finding["number"], finding["check"], finding["verdict"]) == (1, "data-loss", "fail")
    assert finding["spans_s"] == [verdict["data_loss"]["window_s"]]


def test_a_loss_during_a_fault_names_the_fault(run: Run) -> None:
    lost = next(row["key"] for row in run.operations if row["f"] == "insert" and row["end_ns"] > at(10.2))
    run.operations = [row for row in run.operations if not row["final"]]
    run.final_reads(**{lost.replace("-", "_"): None})
    verdict = judged(run)
    assert verdict["headline"] == "1 acknowledged write was lost"
    assert "It happened during or right after f1 (n1 was killed)" in verdict["cause"]


def test_the_two_worst_things_are_in_the_headline(run: Run) -> None:
    run.operations = [row for row in run.operations if not row["final"]]
    run.final_reads(i_000002=None)
    verdict = judged(run, FakeChecker({0: Verdict.FAIL}))
    assert verdict["headline"] == "1 acknowledged write was lost, and answers on 1 key contradict each other"
    assert [f["number"] for f in verdict["findings"]] == [1, 2]


@pytest.mark.parametrize(
    ("spoil", "check_name", "headline"),
    [
        (lambda run: run.load.update(holes=1), "assumptions", "Undecided: the load generator knows of 1 operation"),
        (lambda run: run.run.update(state="interrupted"), "assumptions", "Undecided: the run was interrupted"),
        (lambda run: setattr(run, "replicas", None), "replica-agreement", "Undecided: the replicas were not collected"),
        (lambda run: setattr(run, "load", None), "assumptions", "Undecided: the load generator left no account"),
    ],
)
def test_what_is_undecided_is_unknown_and_exits_3(
    run: Run, spoil: Callable[[Run], None], check_name: str, headline: str
) -> None:
    spoil(run)
    verdict = judged(run)
    assert (verdict["verdict"], verdict["exit_code"]) == ("unknown", 3)
    assert check(verdict, check_name)["verdict"] == "unknown"
    assert verdict["headline"].startswith(headline)


def test_an_unproven_fault_is_scoped_to_its_window(run: Run) -> None:
    run.events = [event for event in run.events if event["kind"] != "fault.proven"]
    verdict = judged(run)
    assert verdict["verdict"] == "unknown"
    found = {c["name"]: (c["verdict"], c["scope"]) for c in verdict["checks"] if c["status"] == "judged"}
    assert found["availability"] == found["recovery"] == found["assumptions"] == ("unknown", ["f1"])
    assert found["linearizability"] == found["data-loss"] == found["replica-agreement"] == ("pass", [])
    assert "could not be proven" in check(verdict, "recovery")["reason"]


def test_a_late_generator_is_scoped_to_what_is_timed(run: Run) -> None:
    for number, row in enumerate(run.operations):
        if at(20) <= row["start_ns"] < at(25):
            # As many clients as it takes, so that none overlaps itself.
            row |= {"process": 10_000 + number}
            row["start_ns"] += 80_000_000
            row["end_ns"] += 80_000_000
    verdict = judged(run)
    unknown = {c["name"] for c in verdict["checks"] if c["verdict"] == "unknown" and c["status"] == "judged"}
    assert unknown == {"availability", "load"}
    assert verdict["headline"].startswith("Undecided: the load generator fell behind its schedule")


@pytest.mark.parametrize("state", ["running", "interrupted", "failed"])
def test_a_run_that_was_cut_short_never_passes_and_may_fail(run: Run, state: str) -> None:
    run.run = {"state": state, "problem": "SIGINT"}
    verdict = judged(run)
    assert verdict["verdict"] == "unknown"
    assert verdict["run"]["incomplete"]["reason"].endswith("SIGINT")
    assert not [
        c for c in verdict["checks"] if c["verdict"] == "pass" and c["name"] not in ("load", "recovery")
    ] or all(
        c["verdict"] != "pass"
        for c in verdict["checks"]
        if c["name"] in ("linearizability", "data-loss", "availability")
    )
    assert judged(run, FakeChecker({0: Verdict.FAIL}))["verdict"] == "fail"


def test_a_run_without_a_single_operation_can_be_judged(tmp_path: Path) -> None:
    run = healthy(tmp_path / "run", run={"state": "failed", "problem": "load died at once"})
    verdict = judged(run)
    assert verdict["verdict"] == "unknown"
    assert verdict["headline"] == "Undecided: the run failed: load died at once"


def test_advisory_checks_do_not_decide(tmp_path: Path) -> None:
    run = healthy(tmp_path / "run", required=["data-loss"])
    run.steady_load(spoiled(30.0, 32.0, REFUSED))
    run.final_reads()
    verdict = judged(run)
    assert verdict["verdict"] == "pass"
    assert check(verdict, "availability")["verdict"] == "fail"
    assert check(verdict, "availability")["required"] is False
    assert verdict["findings"][0]["check"] == "availability"


@pytest.mark.parametrize(("advisory", "expected"), [([], "fail"), (["latency_p99_ms"], "pass")])
def test_a_check_of_one_target_is_as_advisory_as_it(tmp_path: Path, advisory: list[str], expected: str) -> None:
    run = healthy(tmp_path / "run", targets={"latency_p99_ms": 20.0, "advisory": advisory})
    run.steady_load(spoiled(30.0, 31.0, ("ok", 0.1, "")))
    run.final_reads()
    verdict = judged(run)
    assert check(verdict, "latency")["verdict"] == "fail"
    assert verdict["verdict"] == expected


def test_assumptions_cannot_be_left_out(tmp_path: Path) -> None:
    """A scenario that does not require them would pass on a fault that had no effect."""
    run = healthy(tmp_path / "run", required=["data-loss"])
    run.steady_load()
    run.final_reads()
    run.events = [event for event in run.events if event["kind"] != "fault.proven"]
    verdict = judged(run)
    assert check(verdict, "assumptions")["required"] is True
    assert verdict["verdict"] == "unknown"


def test_what_nobody_asked_for_is_skipped_and_listed(tmp_path: Path) -> None:
    run = healthy(tmp_path / "run", required=["linearizability"])
    run.steady_load()
    run.final_reads()
    run.replicas = None
    verdict = judged(run)
    assert verdict["verdict"] == "pass"
    assert check(verdict, "replica-agreement")["status"] == "skipped"
    assert {"Latency", "Replica agreement"} <= {row["what"] for row in verdict["not_checked"]}


def test_warn_exits_0_and_says_so(tmp_path: Path) -> None:
    run = healthy(tmp_path / "run", on_unknown="warn")
    run.steady_load()
    verdict = judged(run)
    assert (verdict["verdict"], verdict["exit_code"]) == ("unknown", 0)
    assert "on_unknown.then = warn" in verdict["warnings"][-1]


def test_warn_does_not_soften_a_fail(tmp_path: Path) -> None:
    run = healthy(tmp_path / "run", on_unknown="warn")
    run.steady_load()
    run.final_reads(i_000002=None)
    assert judged(run)["exit_code"] == 1


def test_a_check_that_crashes_is_unknown_and_the_others_are_judged(run: Run) -> None:
    def crashing(*_: Any, **__: Any) -> Any:
        raise RuntimeError("planted")

    verdict = judged(run, crashing)
    found = check(verdict, "linearizability")
    assert found["verdict"] == "unknown"
    assert "RuntimeError" in found["reason"]
    assert "planted" in found["reason"]
    assert check(verdict, "data-loss")["verdict"] == "pass"
    assert (verdict["verdict"], verdict["exit_code"]) == ("unknown", 3)


@pytest.mark.parametrize(
    "name",
    ["all_assumptions", "check_load", "check_data_loss", "check_availability", "check_recovery", "check_latency",
     "check_replica_agreement"],
)  # fmt: skip
def test_whichever_check_crashes_the_run_cannot_pass(run: Run, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(judge_module, name, crash)
    verdict = judged(run)
    assert verdict["verdict"] == "unknown"
    assert [c["verdict"] for c in verdict["checks"] if "crashed" in c["reason"]] == ["unknown"]


def test_hostile_text_survives_as_data(run: Run) -> None:
    hostile = "</script><img src=x onerror=alert(1)>\u2028\x1b[31m'\";--"
    run.operation("insert", f"i-{hostile}", 20.0, 20.1, process=777, value=3)
    run.operation("read", f"i-{hostile}", 50.0, 50.1, process=778, final=True)
    run.events[0] |= {"why": hostile}
    run.event("their.own.kind", 12.0, source=hostile, text=hostile, deep={"a": [1]})
    run.logs["n1"] = f"[{5011.5:.3f}] {hostile}\n"
    verdict = judged(run)
    assert verdict["data_loss"]["keys"][0]["key"] == f"i-{hostile}"
    assert any(hostile in event["text"] for event in verdict["events"])
    (log,) = verdict["logs"]
    assert log["lines"] == [{"t_s": 11.5, "text": f"[5011.500] {hostile}"}]


def test_judging_twice_gives_the_same(run: Run) -> None:
    run.write()
    first, second = judge(run.folder, checker=agreeable), judge(run.folder, checker=agreeable)
    assert first == second


def test_check_folder_writes_the_verdict_whole(run: Run) -> None:
    verdict, code = check_folder(run.write(), checker=agreeable)
    assert code is ExitCode.PASS
    assert json.loads((run.folder / "verdict.json").read_text()) == verdict
    assert not list(run.folder.glob("*.tmp"))


def test_check_folder_names_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="is missing; every run has one"):
        check_folder(tmp_path)


def test_what_would_break_the_schema_is_an_internal_error_with_its_place(run: Run) -> None:
    verdict = judged(run)
    verdict["checks"][0]["numbers"] = {"bad": [1]}
    with pytest.raises(InternalError, match=r"checks\[0\]\.numbers\.bad"):
        validate(verdict)


def test_the_timeline_holds_every_operation(tmp_path: Path) -> None:
    run = healthy(tmp_path / "run")
    run.steady_load(spoiled(30.0, 31.0, TIMEOUT))
    line = judged(run)["timeline"]
    assert sum(sum(counts) for counts in line["bins"].values()) == 4000
    assert sum(line["bins"]["unknown"]) == 100
    assert line["bins"]["unknown"][120:124] == [25, 25, 25, 25]
    assert len(line["points"]) == 4000
    assert sum(point[2] == 2 for point in line["points"]) == 100
    assert {node["name"]: [s[2] for s in node["segments"]] for node in line["nodes"]} == {
        "n1": ["up", "down", "up"],
        "n2": ["up"],
        "n3": ["up"],
    }
    assert line["shards"][0]["segments"][0] == [0.0, 10.0, "n1", 1]
    assert [s[2] for s in line["shards"][0]["segments"]] == ["n1", "", "", "n2", "n2"]


def test_many_points_are_thinned_and_every_failure_kept(tmp_path: Path) -> None:
    run = healthy(tmp_path / "run", rate_per_s=600.0)
    run.steady_load(spoiled(30.0, 31.0, REFUSED))
    line = judged(run)["timeline"]
    assert len(line["points"]) <= 20_000
    assert sum(point[2] == 1 for point in line["points"]) == 600
    assert line["points_text"].endswith("every failure, the slowest hundredth, one of 2 others")


@pytest.mark.processes
def test_a_healthy_run_passes_with_the_real_checker(run: Run) -> None:
    verdict = judged(run, porcupine.check)
    assert verdict["verdict"] == "pass"
    assert verdict["linearizability"]["keys_checked"] == 1335
    assert verdict["linearizability"]["cross_check"].startswith("Porcupine agreed on 1,3")


@pytest.mark.processes
def test_a_read_back_in_time_fails_with_the_real_checker(run: Run) -> None:
    reads = [row for row in run.operations if row["f"] == "read" and row["key"] == "h-0" and not row["final"]]
    reads[100] |= {"value": reads[40]["value"]}
    verdict = judged(run, porcupine.check)
    assert verdict["verdict"] == "fail"
    assert verdict["headline"] == "Answers on 1 key contradict each other"
    (example,) = verdict["linearizability"]["counterexamples"]
    assert example["rejudged"]
    assert 2 <= len(example["operations"]) <= 6


def test_unsafe_settings_that_the_system_admits_are_a_warning(tmp_path: Path) -> None:
    run = healthy(tmp_path / "run")
    run.steady_load()
    run.final_reads()
    run.event("member.started", -1.0, source="n1", member="n1", unsafe=['ack = "primary"'])
    run.event("member.started", -1.0, source="n2", member="n2", unsafe=['ack = "primary"'])
    [warning] = judged(run)["warnings"]
    assert warning.endswith('break a promise on purpose: ack = "primary"')


def test_logs_of_the_controller_that_decided_stand_beside_the_target(tmp_path: Path) -> None:
    run = healthy(tmp_path / "run")
    run.steady_load()
    run.final_reads()
    run.logs["c1"] = f"[{at(10.5) / 1e9:.6f}] n1 suspected\n"
    excerpts = {(log["incident"], log["member"]): log["lines"] for log in judged(run)["logs"]}
    assert excerpts["f1", "c1"] == [{"t_s": 10.5, "text": f"[{at(10.5) / 1e9:.6f}] n1 suspected"}]
