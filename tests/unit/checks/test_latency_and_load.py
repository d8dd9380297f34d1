"""Latency from the schedule and from the send, and the generator's own punctuality."""

from __future__ import annotations

from pathlib import Path

import pytest
from aftershock.harness.checks.latency import check_latency
from aftershock.harness.checks.load_schedule import check_load
from aftershock.harness.verdict import Verdict

from tests.runs import OK, TIMEOUT, Run, at, healthy
from tests.unit.checks.support import view_of
from tests.unit.checks.test_availability import spoiled


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return healthy(tmp_path / "run", targets={"latency_p99_ms": 20.0})


def test_fast_enough(run: Run) -> None:
    run.steady_load()
    found = check_latency(view_of(run))
    assert found.result.verdict is Verdict.PASS
    assert found.result.numbers["p99_ms"] == pytest.approx(4.0, abs=0.01)
    assert found.targets[0]["budget"]["spent"] == 0


def test_too_slow_outside_the_excused_time(run: Run) -> None:
    run.steady_load(spoiled(30.0, 31.0, ("ok", 0.1, "")))
    found = check_latency(view_of(run))
    assert found.result.verdict is Verdict.FAIL
    assert found.result.reason == "Outside the excused times the p99 from schedule was 100.0 ms; the target is 20 ms."


def test_slow_answers_within_rto_are_excused(run: Run) -> None:
    run.steady_load(spoiled(10.5, 13.0, ("ok", 0.5, "")))
    assert check_latency(view_of(run)).result.verdict is Verdict.PASS


def test_operations_without_an_answer_count_with_the_time_waited(run: Run) -> None:
    """Otherwise the slowest of all would make the percentile better."""
    run.steady_load(spoiled(30.0, 31.0, TIMEOUT))
    found = check_latency(view_of(run))
    assert found.result.verdict is Verdict.FAIL
    assert found.result.numbers["p99_ms"] == pytest.approx(2000.0)


def test_the_wait_before_the_send_counts_from_the_schedule_only(run: Run) -> None:
    run.steady_load()
    for row in run.operations:
        if row["intended_ns"] >= at(30):
            row["intended_ns"] -= 40_000_000
    numbers = check_latency(view_of(run)).result.numbers
    assert numbers["p99_ms"] == pytest.approx(44.0, abs=0.01)
    assert numbers["p99_raw_ms"] == pytest.approx(4.0, abs=0.01)


def test_too_few_operations_are_unknown(run: Run) -> None:
    run.steady_load()
    run.operations = run.operations[:900]
    found = check_latency(view_of(run))
    assert found.result.verdict is Verdict.UNKNOWN
    assert found.result.reason == "900 operations outside the excused times are too few for a 99th percentile."


def test_no_target_is_skipped_with_its_figures(tmp_path: Path) -> None:
    run = healthy(tmp_path / "run")
    run.steady_load()
    found = check_latency(view_of(run))
    assert found.result.status == "skipped"
    assert found.result.numbers["p50_ms"] == pytest.approx(4.0, abs=0.01)


# ------------------------------------------------------------------------------------------------ load


def test_on_time(run: Run) -> None:
    run.steady_load()
    found = check_load(view_of(run))
    assert found.result.verdict is Verdict.PASS
    assert found.assumption.held
    assert (found.detail["planned"], found.detail["sent"], found.detail["missing"]) == (4000, 4000, 0)


def test_a_late_generator_taints_availability_and_latency_only(run: Run) -> None:
    run.steady_load()
    for row in run.operations:
        if at(20) <= row["start_ns"] < at(25):
            row["start_ns"] += 80_000_000
            row["end_ns"] += 80_000_000
    found = check_load(view_of(run))
    assert found.result.verdict is Verdict.UNKNOWN
    assert found.result.reason == (
        "The load generator fell behind its schedule: 500 operations started more than 50 ms late, of 4,000."
    )
    assert found.result.spans_s == ((20.0, 24.99),)
    assert not found.assumption.held
    assert set(found.assumption.taints) == {"availability", "latency"}


def test_arrivals_that_were_never_made_are_late(run: Run) -> None:
    run.steady_load()
    run.operations = run.operations[:3500]
    found = check_load(view_of(run))
    assert found.result.verdict is Verdict.UNKNOWN
    assert "500 planned operations never started" in found.result.reason


def test_arrivals_beyond_the_limit_in_flight_are_not_late(run: Run) -> None:
    """The system held up those before them; that is its unavailability, not the generator's lateness."""
    run.steady_load(lambda t_s, shard, f: ("fail", 0.0, "not-sent") if 20 <= t_s < 30 else OK)
    found = check_load(view_of(run))
    assert found.result.verdict is Verdict.PASS
    assert found.detail["not_sent"] == 1000


def test_nothing_sent_is_unknown(run: Run) -> None:
    found = check_load(view_of(run))
    assert found.result.verdict is Verdict.UNKNOWN
    assert "never started" in found.result.reason
