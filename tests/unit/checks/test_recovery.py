"""Recovery time: measured to the end of the last gap that began in time, and judged against the fault's own rto_s."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aftershock.harness.checks.recovery import Recovery, check_recovery
from aftershock.harness.verdict import Verdict

from tests.runs import OK, REFUSED, Run, healthy
from tests.unit.checks.support import owed_gaps, view_of
from tests.unit.checks.test_availability import LoadFate, spoiled


def judged(run: Run, fate: LoadFate = lambda t_s, shard, f: OK) -> Recovery:
    run.steady_load(fate)
    view = view_of(run)
    return check_recovery(view, owed_gaps(view))


def test_back_in_time(tmp_path: Path) -> None:
    found = judged(healthy(tmp_path / "run"), spoiled(10.0, 13.0, REFUSED, shard=1))
    assert found.result.verdict is Verdict.PASS
    assert found.by_fault["f1"]["rto_measured_s"] == pytest.approx(3.0, abs=0.1)
    assert found.result.reason.startswith("Service was back in time after 1 fault; the slowest took 3.")


def test_too_late(tmp_path: Path) -> None:
    found = judged(healthy(tmp_path / "run"), spoiled(10.0, 17.0, REFUSED, shard=1))
    assert found.result.verdict is Verdict.FAIL
    assert "shard 1 was missing 7." in found.result.reason
    assert "after f1 (Kill n1); 5 s are allowed" in found.result.reason
    assert found.targets[0]["verdict"] == "fail"


def test_never_back(tmp_path: Path) -> None:
    found = judged(healthy(tmp_path / "run"), spoiled(10.0, 40.0, REFUSED, shard=1))
    assert found.result.verdict is Verdict.FAIL
    assert "missing until the end of the load" in found.result.reason
    assert found.by_fault["f1"]["rto_measured_s"] is None
    assert found.result.value == "not back"


def test_no_gap_is_a_recovery_time_of_zero(tmp_path: Path) -> None:
    found = judged(healthy(tmp_path / "run"))
    assert found.result.verdict is Verdict.PASS
    assert found.by_fault["f1"]["rto_measured_s"] == 0.0
    assert found.result.reason == "No gap in service that counts followed the fault."


def test_a_second_gap_in_time_counts_and_a_later_one_does_not(tmp_path: Path) -> None:
    def twice(t_s: float, shard: int, f: str) -> Any:
        return REFUSED if 10.0 <= t_s < 11.0 or 13.0 <= t_s < 14.5 or 25.0 <= t_s < 27.0 else OK

    found = judged(healthy(tmp_path / "run"), twice)
    assert found.by_fault["f1"]["rto_measured_s"] == pytest.approx(4.5, abs=0.1)
    assert found.result.verdict is Verdict.PASS


def test_a_gap_before_the_fault_is_not_its_own(tmp_path: Path) -> None:
    found = judged(healthy(tmp_path / "run"), spoiled(5.0, 8.0, REFUSED))
    assert found.by_fault["f1"]["rto_measured_s"] == 0.0


def test_where_no_service_is_expected_the_time_counts_from_healing(tmp_path: Path) -> None:
    for end_s, verdict in ((18.0, Verdict.PASS), (21.0, Verdict.FAIL)):
        run = Run(tmp_path / f"run-{end_s:g}")
        run.fault("f1", 10.0, 15.0, expect="unavailable", reaction=None)
        found = judged(run, spoiled(10.0, end_s, REFUSED))
        assert found.result.verdict is verdict
        assert found.by_fault["f1"]["rto_measured_s"] == pytest.approx(end_s - 15.05, abs=0.4)


def test_a_recording_that_ends_too_early_is_unknown(tmp_path: Path) -> None:
    run = healthy(tmp_path / "run", run={"state": "interrupted", "problem": "SIGINT"})
    run.steady_load()
    run.operations = [row for row in run.operations if row["intended_ns"] < 5e12 + 12e9]
    view = view_of(run)
    found = check_recovery(view, owed_gaps(view))
    assert found.result.verdict is Verdict.UNKNOWN
    assert found.result.reason == "The recording ends before the 5 s that f1 is allowed were over."
    assert found.result.scope == ("f1",)


def test_a_fault_that_was_never_injected_is_unknown(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.fault("f1", 10.0, 15.0, skip=["fault.injected", "fault.proven", "fault.healing", "fault.healed"])
    found = judged(run)
    assert found.result.verdict is Verdict.UNKNOWN
    assert found.result.reason.startswith("No fault was injected")


def test_no_promise_is_skipped(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.fault("f1", 10.0, 15.0, expect="available", reaction=None)
    assert judged(run).result.status == "skipped"


def test_the_steps_are_those_of_the_shard_that_was_promoted_last(tmp_path: Path) -> None:
    run = healthy(tmp_path / "run")
    run.event("primary.open", 11.2, source="n3", shard=1, epoch=9)
    found = judged(run)
    steps = found.by_fault["f1"]
    assert (steps["detected_s"], steps["decided_s"], steps["promoted_s"]) == (10.4, 10.5, 10.6)
    assert steps["first_success_s"] >= 10.6
    assert found.result.numbers["mttd_s"] == pytest.approx(0.4)


def test_steps_that_the_system_does_not_report_are_none(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.fault("f1", 10.0, 15.0, reaction=None)
    steps = judged(run).by_fault["f1"]
    assert {steps[name] for name in ("detected_s", "decided_s", "promoted_s", "first_success_s")} == {None}
