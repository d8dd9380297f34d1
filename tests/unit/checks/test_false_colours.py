"""Whole runs that once had the wrong colour: a green that should be red or unknown, or a red that should be neither.

Each was found by asking how a verdict could be wrong; the twin beside it keeps the right colour right.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aftershock.harness.judge import judge

from tests.checkers import agreeable
from tests.runs import REFUSED, Run, at, control, healthy
from tests.unit.checks.test_availability import spoiled

RESET = ("unknown", 0.001, "reset")


def judged(run: Run) -> dict[str, Any]:
    return judge(run.write(), checker=agreeable)


def verdict_of(run: Run, check: str) -> str:
    found = {row["name"]: row["verdict"] for row in judged(run)["checks"] if row["status"] == "judged"}
    return str(found[check])


@pytest.mark.parametrize("dies", [True, False])
def test_what_happens_after_the_load_died_is_not_the_systems(tmp_path: Path, dies: bool) -> None:
    """A helper of ours that dies takes the links with it; what fails then is no broken promise."""
    run = healthy(tmp_path / "run", run={"state": "failed", "problem": "toxiproxy died"} if dies else {})
    run.steady_load(spoiled(25.0, 27.0, REFUSED))
    run.final_reads()
    assert verdict_of(run, "availability") == ("unknown" if dies else "fail")


@pytest.mark.parametrize("breaks_off", [True, False])
def test_an_injection_that_breaks_off_is_not_the_systems(tmp_path: Path, breaks_off: bool) -> None:
    run = healthy(tmp_path / "run")
    if breaks_off:
        run.events = [event for event in run.events if not event["kind"].startswith("fault.")]
        run.event("fault.failed", 10.4, fault="f1", error="3 of 6 links were cut, then the proxy did not answer")
    run.steady_load(spoiled(18.0, 20.0, REFUSED))
    run.final_reads()
    assert verdict_of(run, "availability") == ("unknown" if breaks_off else "fail")


def test_a_generator_that_stood_still_makes_no_gap(tmp_path: Path) -> None:
    """It sent nothing for 6 s, late by up to that; the system answered each request in 4 ms."""
    run = healthy(tmp_path / "run")
    run.steady_load()
    for row in run.operations:
        if at(10.2) <= row["intended_ns"] < at(16.2):
            row["start_ns"], row["end_ns"] = at(16.2), at(16.204)
    for number, row in enumerate(run.operations):
        row["process"] = 1_000 + number  # so that the pile-up is not an overlap
    run.final_reads()
    assert verdict_of(run, "load") == "unknown"
    assert verdict_of(run, "recovery") == "pass"
    assert verdict_of(run, "availability") == "unknown"


def test_the_next_faults_gap_is_not_charged_to_the_one_before(tmp_path: Path) -> None:
    run = healthy(tmp_path / "run")
    run.faults.clear()
    run.events = [event for event in run.events if not event["kind"].startswith("fault.")]
    run.fault("f1", 10.0, 12.0)
    run.fault("f2", 14.0, 16.0)
    run.steady_load(spoiled(14.0, 17.0, REFUSED))
    run.final_reads()
    value = judged(run)
    measured = {fault["id"]: fault["recovery"]["rto_measured_s"] for fault in value["faults"]}
    assert measured["f1"] == 0
    assert measured["f2"] == pytest.approx(3.0, abs=0.1)
    assert {row["name"]: row["verdict"] for row in value["checks"]}["recovery"] == "pass"


def test_a_run_in_which_nothing_that_was_asked_for_can_be_judged(tmp_path: Path) -> None:
    run = healthy(tmp_path / "run", required=["latency"])
    run.steady_load(spoiled(1.0, 60.0, REFUSED))
    run.final_reads()
    assert judged(run)["verdict"] == "unknown"


@pytest.mark.parametrize("begin_s", [6.0, 8.1])
def test_what_broke_before_the_fault_is_not_excused_by_it(tmp_path: Path, begin_s: float) -> None:
    """A reset that came after a millisecond was not still waiting when the fault came two seconds later."""
    run = healthy(tmp_path / "run")
    run.steady_load(spoiled(begin_s, begin_s + 1.8, RESET))
    for row in run.operations:
        if row["error"] == "reset":
            row["end_ns"] = row["start_ns"] + 1_000_000
    run.final_reads()
    assert verdict_of(run, "availability") == "fail"


@pytest.mark.parametrize(("observed", "expected"), [(5, "fail"), (7, "pass")])
def test_a_refusal_that_shows_the_value_it_asked_for(tmp_path: Path, observed: int, expected: str) -> None:
    run = healthy(tmp_path / "run")
    run.steady_load()
    cas: dict[str, Any] = {"process": 77, "value": 6, "expected": 5, "observed": observed, "result": "mismatch"}
    run.operation("cas", "h-0", 20.0, 20.01, **cas)
    run.final_reads()
    assert verdict_of(run, "linearizability") == expected


@pytest.mark.parametrize(("epoch_s", "expected"), [(10.6, "pass"), (16.0, "unknown")])
def test_an_epoch_that_changes_after_healing_is_no_reaction(tmp_path: Path, epoch_s: float, expected: str) -> None:
    run = healthy(tmp_path / "run")
    run.faults.clear()
    run.events = [e for e in run.events if not e["kind"].startswith("fault.") and e["t_ns"] < at(5)]
    run.fault("f1", 10.0, 15.0, reaction={"kind": "new-epoch", "shards": [0]})
    run.topology(epoch_s, 0, 2, "n2", "n1", "n2", "n3")
    run.steady_load()
    run.final_reads()
    assert verdict_of(run, "assumptions") == expected


def test_replicas_of_shards_that_no_topology_names(tmp_path: Path) -> None:
    run = control(tmp_path / "run")
    run.steady_load()
    run.final_reads()
    run.events = [event for event in run.events if event["kind"] != "topology"]
    assert verdict_of(run, "replica-agreement") == "unknown"


def test_operations_that_the_account_has_and_the_history_has_not(tmp_path: Path) -> None:
    run = healthy(tmp_path / "run")
    run.steady_load()
    run.final_reads()
    sent = sum(1 for row in run.operations if not row["final"])
    run.load = {"sent": sent + 15, "not_sent": 0}
    assert verdict_of(run, "assumptions") == "unknown"
    run.load = {"sent": sent, "not_sent": 0}
    assert verdict_of(run, "assumptions") == "pass"


def test_a_value_behind_a_hole_is_not_called_resurrected(tmp_path: Path) -> None:
    run = healthy(tmp_path / "run")
    run.steady_load()
    run.operation("insert", "i-900000", 20.0, 20.01, process=77, value=5, observed=7, result="mismatch")
    run.final_reads(i_900000=7)
    assert verdict_of(run, "data-loss") == "fail"
    run.load = {"holes": 1}
    assert verdict_of(run, "data-loss") == "unknown"


def test_too_few_operations_to_tell_the_ratio(tmp_path: Path) -> None:
    run = healthy(tmp_path / "run", targets={"success_ratio": 0.9995})
    run.steady_load()
    assert verdict_of(run, "availability") == "pass"
    # Excused until nearly the end: a heal that came late.
    run.faults[0].update(expect="unavailable")
    for event in run.events:
        if event["kind"] == "fault.healed":
            event["t_ns"] = at(33.0)
    assert verdict_of(run, "availability") == "unknown"
