"""Assumptions: each one broken alone is named, and keeps exactly the checks that rest on it from passing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from aftershock.harness.checks.assumptions import assumptions, check_assumptions
from aftershock.harness.checks.result import Assumption
from aftershock.harness.verdict import Verdict

from tests.runs import HOT_KEYS, Run, at, control, healthy
from tests.unit.checks.support import view_of

SAFETY = {"linearizability", "sessions", "data-loss"}
TIMED = {"availability", "recovery", "latency"}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = healthy(tmp_path / "run", duration_s=30)
    run.steady_load()
    return run


def broken(run: Run) -> list[Assumption]:
    if not any(row["final"] for row in run.operations):
        run.final_reads()
    return [a for a in assumptions(view_of(run)) if not a.held]


def only(run: Run) -> Assumption:
    found = broken(run)
    assert len(found) == 1, found
    return found[0]


def test_a_healthy_run_holds_them_all(run: Run) -> None:
    run.final_reads()
    found = assumptions(view_of(run))
    assert [a for a in found if not a.held] == []
    result = check_assumptions(found)
    assert result.verdict is Verdict.PASS
    assert result.summary == "15 of 15 assumptions hold"


def test_one_broken_makes_the_check_unknown_with_its_reason_and_scope(run: Run) -> None:
    run.faults.clear()
    run.events.clear()
    run.fault("f7", 10, 15, skip=["fault.proven"])
    result = check_assumptions(assumptions(view_of(run)))
    assert result.verdict is Verdict.UNKNOWN
    assert "f7 (Kill n1) was injected, and its effect could not be proven" in result.reason
    assert result.scope == ("f7",)


def test_overlap_within_a_process(run: Run) -> None:
    run.operation("write", "h-9", 29.0, 29.5, process=4000, value=1)
    run.operation("write", "h-9", 29.4, 29.6, process=4000, value=2)
    found = only(run)
    assert found.detail == "1 process had two operations open at once (process 4000)"
    assert set(found.taints) == SAFETY


def test_a_process_goes_on_after_an_unknown_write(run: Run) -> None:
    """Then its write is still open, and the process should have got a new id."""
    run.operation("write", "h-9", 28.0, None, process=4000, value=1)
    run.operation("write", "h-9", 29.4, 29.6, process=4000, value=2)
    assert "had two operations open at once" in only(run).detail


def test_a_process_may_go_on_after_an_unknown_read(run: Run) -> None:
    run.operation("read", "h-9", 28.0, None, process=4000)
    run.operation("write", "h-9", 29.4, 29.6, process=4000, value=2)
    assert broken(run) == []


def test_an_answer_before_its_question(run: Run) -> None:
    run.operation("read", "h-9", 29.0, 28.9, process=4000)
    found = only(run)
    assert found.detail == "1 answer came before the question, which no clock allows"
    assert set(found.taints) == SAFETY | TIMED | {"replica-agreement"}


def test_a_process_that_changes_its_client_group(run: Run) -> None:
    run.operation("read", "h-9", 29.0, 29.1, process=4000, client="clients-r1")
    run.operation("read", "h-9", 29.2, 29.3, process=4000, client="clients-r2")
    found = only(run)
    assert "1 process changed the client group" in found.detail
    assert set(found.taints) == TIMED


def test_a_value_written_twice(run: Run) -> None:
    run.operation("write", "h-9", 29.0, 29.1, process=4000, value=5)
    run.operation("write", "h-9", 29.2, 29.3, process=4000, value=5)
    assert only(run).detail == "1 value went to the same key more than once, so a read does not say which write it saw"


def test_times_before_the_run(run: Run) -> None:
    run.operation("read", "h-9", -3600.0, -3599.9, process=4000)
    assert "1 operation began before the load did" in only(run).detail


def test_known_holes(run: Run) -> None:
    run.load = {"holes": 2}
    found = only(run)
    assert found.detail == "the load generator knows of 2 operations that it could not record"
    assert set(found.taints) == SAFETY | TIMED


def test_the_load_generator_left_no_account(run: Run) -> None:
    run.load = None
    assert "left no account of itself" in only(run).detail


def test_an_incomplete_recording(run: Run) -> None:
    run.run = {"state": "interrupted", "problem": "SIGINT"}
    found = only(run)
    assert found.detail == "the recording is incomplete: the run was interrupted: SIGINT"
    assert set(found.taints) == SAFETY | TIMED | {"replica-agreement"}


def test_nothing_was_ever_answered(tmp_path: Path) -> None:
    run = healthy(tmp_path / "run", duration_s=30)
    run.steady_load(lambda t_s, shard, f: ("fail", 0.01, "refused"))
    said = "no operation of the load ever succeeded (most often: refused, 3,000 of 3,000)"
    assert said in [a.detail for a in broken(run)]


def test_no_faults_and_no_word_that_this_was_meant(tmp_path: Path) -> None:
    run = control(tmp_path / "run", duration_s=30)
    run.steady_load()
    assert broken(run) == []
    view = view_of(run)
    # `validate` refuses such a scenario before it runs; a judge must not rely on that.
    record = replace(view.record, scenario=view.record.scenario.model_copy(update={"control": False}))
    found = [a for a in assumptions(replace(view, record=record)) if not a.held]
    assert [a.detail for a in found] == ["no fault was planned and the scenario does not say control = true"]


def test_a_control_fault_counts_as_proven(tmp_path: Path) -> None:
    run = control(tmp_path / "run", duration_s=30)
    run.fault("f1", 10, 15, name="noop", reaction=None, targets=[], skip=["fault.proven"], fault_kind="none")
    run.steady_load()
    assert broken(run) == []


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"skip": ["fault.proven"]}, "was injected, and its effect could not be proven"),
        ({"skip": ["fault.healed"]}, "was not seen to be undone"),
        ({"reaction": {"kind": "new-epoch", "shards": [3]}}, "should have led to a new epoch of shard 3"),
        ({"reaction": {"kind": "dance", "shards": [0]}}, "this version cannot tell 'dance'"),
        ({"cut_off": {"clients-r3": None}}, "clients-r3 sent nothing while cut off in f1"),
        (
            {"cut_off": {"clients-r1": None, "clients-r2": None}},
            "no client that was owed service sent anything during f1",
        ),
    ],
)
def test_what_a_fault_must_have(tmp_path: Path, fields: dict[str, object], detail: str) -> None:
    run = Run(tmp_path / "run", duration_s=30)
    run.topology(-2, 0, 1, "n1", "n1", "n2", "n3")
    run.topology(-2, 3, 1, "n1", "n1", "n2", "n3")
    run.topology(10.5, 0, 2, "n2", "n2", "n3")
    run.fault("f1", 10, 15, **fields)
    run.steady_load()
    found = only(run)
    assert detail in found.detail
    assert found.scope == ("f1",)


def test_a_fault_that_failed_says_why(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", duration_s=30)
    run.fault("f1", 10, 15, skip=["fault.injected", "fault.proven", "fault.healing", "fault.healed"])
    run.event("fault.failed", 10.1, fault="f1", error="n1 is not running")
    run.steady_load()
    assert only(run).detail == "f1 (Kill) could not be injected: n1 is not running"


def test_an_epoch_before_the_injection_is_no_reaction(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", duration_s=30)
    run.topology(-2, 0, 1, "n1", "n1", "n2")
    run.topology(9.9, 0, 2, "n2", "n1", "n2")
    run.fault("f1", 10, 15)
    run.steady_load()
    assert "no such change is in the event log" in only(run).detail
    run.topology(10.1, 0, 3, "n2", "n2")
    assert broken(run) == []


def test_operations_in_the_record_are_the_builders_own(run: Run) -> None:
    """Guards the builder: a test above means nothing if the run it spoils is not the one it describes."""
    assert run.operations[0]["start_ns"] == at(0)
    assert len({row["process"] for row in run.operations}) < 10


def test_a_member_that_ends_by_itself_taints_what_is_timed(tmp_path: Path) -> None:
    """Nobody planned that fault; the safety checks judge the record as it is, and the run cannot pass."""
    run = healthy(tmp_path / "run")
    run.steady_load()
    run.final_reads()
    run.event("member.exited", 20.0, member="n2", status=-9, expected=False)
    [broken] = [a for a in assumptions(view_of(run)) if not a.held]
    assert broken.detail == "n2 ended by itself with status -9 at 20.00 s"
    assert broken.taints == ("availability", "recovery", "latency")


@pytest.mark.parametrize("spoil", ["unanswered", "missing", "too early"])
def test_a_written_key_without_a_final_read(run: Run, spoil: str) -> None:
    """Its last writes may be gone, and nobody would know: overwritten keys are judged by what is read of them."""
    run.final_reads()
    reads = [row for row in run.operations if row["final"] and row["key"] in HOT_KEYS]
    for row in reads:
        if spoil == "missing":
            run.operations.remove(row)
        elif spoil == "unanswered":
            row.update(outcome="unknown", result="", error="timeout", value=None)
        else:
            row.update(process=8_000_000 + reads.index(row), start_ns=at(1), end_ns=at(1.01))
    found = only(run)
    assert found.detail.startswith("2 keys had no answered final read")
    assert found.taints == ("linearizability", "sessions", "data-loss")


def test_a_cut_off_client_that_never_asked_for_the_shards_it_lost(run: Run) -> None:
    run.faults.clear()
    run.events.clear()
    run.fault("f7", 10, 15, cut_off={"clients-r1": [77]})
    assert "clients-r1 sent nothing while cut off in f7" in " ".join(a.detail for a in broken(run))
