"""Gaps, availability and who is owed service: DESIGN section 4, targets under faults, sentence by sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from aftershock.harness.checks.availability import Availability, check_availability
from aftershock.harness.checks.windows import window_rows
from aftershock.harness.verdict import Verdict

from tests.runs import HOT_KEYS, NOT_SENT, OK, REFUSED, TIMEOUT, Fate, Run, healthy, shard_of
from tests.unit.checks.support import owed_gaps, view_of

LoadFate = Callable[[float, int, str], Fate]


def spoiled(begin_s: float, end_s: float, fate: Fate, *, shard: int | None = None) -> LoadFate:
    """Operations due in the span get this fate; all, or those of one shard."""

    def decide(t_s: float, its_shard: int, f: str) -> Fate:
        hit = begin_s <= t_s < end_s and shard in (None, its_shard)
        return fate if hit else OK

    return decide


def judged(tmp_path: Path, fate: LoadFate | None = None, **fields: Any) -> Availability:
    run = healthy(tmp_path / "run", **fields)
    run.steady_load(*([fate] if fate else []))
    view = view_of(run)
    return check_availability(view, owed_gaps(view))


def test_all_answered_passes_with_the_budget(tmp_path: Path) -> None:
    found = judged(tmp_path)
    assert found.result.verdict is Verdict.PASS
    assert found.targets[0]["measured"] == 1.0
    assert found.targets[0]["budget"] == {"allowed": 3, "spent": 0}
    assert found.result.numbers["gap_resolution_text"].startswith("At this rate a gap counts from")


@pytest.mark.parametrize("fate", [TIMEOUT, REFUSED, NOT_SENT], ids=["no answer", "refused", "not sent"])
def test_failures_outside_the_excused_time_fail(tmp_path: Path, fate: Fate) -> None:
    found = judged(tmp_path, spoiled(30.0, 30.5, fate))
    assert found.result.verdict is Verdict.FAIL
    assert found.result.reason == (
        "50 operations of 3,500 that were owed service failed outside the excused times; 3 were allowed to."
    ).replace("3,500", f"{found.result.numbers['steady']:,}")
    assert found.result.spans_s == ((30.0, 30.49),)


def test_the_same_failures_within_rto_of_the_injection_are_excused(tmp_path: Path) -> None:
    found = judged(tmp_path, spoiled(10.0, 14.5, REFUSED))
    assert found.result.verdict is Verdict.PASS
    assert found.result.numbers["owed_success_ratio"] < 0.9


def test_after_rto_the_steady_target_applies_although_the_fault_is_still_on(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.topology(-2, 0, 1, "n1", "n1", "n2", "n3")
    run.topology(10.5, 0, 2, "n2", "n2", "n3")
    run.fault("f1", 10.0, 25.0)
    run.steady_load(spoiled(10.0, 16.0, REFUSED))
    view = view_of(run)
    found = check_availability(view, owed_gaps(view))
    assert found.result.verdict is Verdict.FAIL
    assert found.result.numbers["steady_failed"] == 100


def test_an_operation_that_the_fault_caught_in_flight_is_the_faults(tmp_path: Path) -> None:
    """Sent 1 ms before the kill and never answered: it does not count against the time before the fault."""
    found = judged(tmp_path, spoiled(9.95, 10.0, TIMEOUT))
    assert found.result.verdict is Verdict.PASS


def test_what_fails_while_the_fault_is_being_injected_is_the_faults(tmp_path: Path) -> None:
    """`fault.injected` is written when the last link is cut; the first was cut when the plan said."""
    run = healthy(tmp_path / "run")
    next(event for event in run.events if event["kind"] == "fault.injected")["t_ns"] += 400_000_000
    run.steady_load(spoiled(10.1, 10.3, REFUSED))
    view = view_of(run)
    assert check_availability(view, owed_gaps(view)).result.verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("expect", "begin_s", "end_s", "verdict"),
    [
        ("available", 11.0, 12.0, Verdict.FAIL),
        ("recovers", 11.0, 12.0, Verdict.PASS),
        ("recovers", 17.0, 18.0, Verdict.FAIL),
        ("unavailable", 11.0, 19.9, Verdict.PASS),
        ("unavailable", 25.0, 26.0, Verdict.FAIL),
    ],
)
def test_what_the_scenario_expects(tmp_path: Path, expect: str, begin_s: float, end_s: float, verdict: Verdict) -> None:
    run = Run(tmp_path / "run")
    run.fault("f1", 10.0, 15.0, expect=expect, reaction=None)
    run.steady_load(spoiled(begin_s, end_s, REFUSED))
    view = view_of(run)
    assert check_availability(view, owed_gaps(view)).result.verdict is verdict


def test_the_control_fault_excuses_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", control=True)
    run.fault("f1", 10.0, 15.0, name="noop", reaction=None, targets=[])
    run.steady_load(spoiled(11.0, 12.0, REFUSED))
    view = view_of(run)
    assert check_availability(view, owed_gaps(view)).result.verdict is Verdict.FAIL


def test_cut_off_clients_are_owed_nothing_until_healing_and_rto(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.fault("f1", 10.0, 20.0, name="partition", fault_kind="network", reaction=None, cut_off={"clients-r1": None})
    run.steady_load()
    for row in run.operations:
        if row["client"] == "clients-r1" and 17.0 <= (row["intended_ns"] - 5e12) / 1e9 < 24.5:
            row |= {"outcome": "unknown", "end_ns": None, "result": "", "error": "timeout"}
    view = view_of(run)
    found = check_availability(view, owed_gaps(view))
    assert found.result.verdict is Verdict.PASS
    assert found.result.numbers["cut_off"] > 300
    rows = {(row["kind"], row["clients"]): row for row in window_rows(view, owed_gaps(view))}
    assert rows["during", "owed"]["success_ratio"] == 1.0
    assert rows["during", "cut-off"]["success_ratio"] < 0.9


def test_cut_off_from_some_shards_only(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.fault("f1", 10.0, 20.0, name="partition", reaction=None, cut_off={"clients-r1": [2], "clients-r2": []})
    run.steady_load()
    cut_off = view_of(run).load.filter(pl.col("cut_off"))
    assert cut_off["client"].unique().to_list() == ["clients-r1"]
    assert cut_off["shard"].unique().to_list() == [2]


def test_a_gap_on_one_shard_is_seen_though_the_others_answer(tmp_path: Path) -> None:
    found = judged(
        tmp_path, spoiled(30.0, 33.0, REFUSED, shard=1), targets={"success_ratio": 0.5, "longest_gap_s": 2.0}
    )
    assert found.result.verdict is Verdict.FAIL
    assert "nobody who waited was served" in found.result.reason
    assert found.result.numbers["longest_gap_s"] == pytest.approx(3.0, abs=0.1)
    assert found.result.numbers["longest_total_gap_s"] < 0.1
    assert {row["shard"]: row["unavailable_s"] > 0 for row in found.shards} == {0: False, 1: True, 2: False, 3: False}


def test_a_shard_that_reads_but_cannot_write_has_a_gap(tmp_path: Path) -> None:
    def fate(t_s: float, shard: int, f: str) -> Fate:
        return REFUSED if 30.0 <= t_s < 33.0 and f != "read" else OK

    run = healthy(tmp_path / "run", targets={"longest_gap_s": 2.0})
    run.steady_load(fate)
    view = view_of(run)
    gaps = owed_gaps(view)
    with_reads = {shard_of(key) for key in HOT_KEYS}
    found = {gap.stream for gap in gaps.counted}
    assert {f"updates of shard {shard}" for shard in with_reads} <= found
    assert not {f"shard {shard}" for shard in with_reads} & found
    row = next(row for row in check_availability(view, gaps).targets if row["name"] == "longest_gap_s")
    assert row["verdict"] == "fail"


def test_slow_answers_within_the_timeout_are_a_gap_and_no_failure(tmp_path: Path) -> None:
    """A failover that the client's retries ride out: everything is answered, nobody was served for 1.5 s."""

    def fate(t_s: float, shard: int, f: str) -> Fate:
        return ("ok", 30.0 + 1.5 - t_s, "") if 30.0 <= t_s < 31.5 else OK

    found = judged(tmp_path, fate)
    assert found.result.verdict is Verdict.PASS
    assert found.result.numbers["longest_gap_s"] == pytest.approx(1.5, abs=0.05)
    assert found.result.numbers["unavailable_s"] == pytest.approx(1.5, abs=0.05)


def test_an_answer_after_the_timeout_is_none(tmp_path: Path) -> None:
    found = judged(tmp_path, spoiled(30.0, 30.5, ("ok", 2.5, "")))
    assert found.result.verdict is Verdict.FAIL


def test_time_in_which_nobody_asks_is_no_gap(tmp_path: Path) -> None:
    run = healthy(tmp_path / "run")
    run.steady_load()
    run.operations = [row for row in run.operations if not 30.0 <= (row["intended_ns"] - 5e12) / 1e9 < 35.0]
    assert owed_gaps(view_of(run)).counted == ()


def test_service_that_never_comes_back_lasts_to_the_end(tmp_path: Path) -> None:
    run = healthy(tmp_path / "run")
    run.steady_load(spoiled(30.0, 40.0, REFUSED, shard=1))
    gap = owed_gaps(view_of(run)).counted[0]
    assert (gap.end_s, gap.until_s) == (None, 40.0)
    assert gap.length_s == pytest.approx(10.0, abs=0.1)


def test_a_target_that_the_rate_cannot_resolve_is_unknown(tmp_path: Path) -> None:
    run = healthy(
        tmp_path / "run", rate_per_s=5.0, duration_s=800.0, targets={"longest_gap_s": 1.0, "success_ratio": 0.9}
    )
    run.steady_load()
    view = view_of(run)
    found = check_availability(view, owed_gaps(view))
    assert found.result.verdict is Verdict.UNKNOWN
    assert "can be seen on one shard, the target is 1 s" in found.result.reason


def test_nothing_owed_is_unknown(tmp_path: Path) -> None:
    run = healthy(tmp_path / "run")
    view = view_of(run)
    found = check_availability(view, owed_gaps(view))
    assert found.result.verdict is Verdict.UNKNOWN
    assert found.result.reason == "No operation that was owed service was due outside the excused times."


def test_no_target_is_skipped(tmp_path: Path) -> None:
    found = judged(tmp_path, targets={"advisory": ["success_ratio"]})
    assert found.result.status == "skipped"
    assert found.targets[0]["required"] is False


def test_windows_hold_every_operation_once(tmp_path: Path) -> None:
    run = healthy(tmp_path / "run")
    run.steady_load(spoiled(9.5, 12.0, TIMEOUT))
    view = view_of(run)
    rows = window_rows(view, owed_gaps(view))
    parts = [row for row in rows if row["kind"] != "whole"]
    assert [row["kind"] for row in parts] == ["before", "during", "recovery", "after"]
    assert sum(row["operations"] for row in parts) == rows[0]["operations"] == 4000
    assert parts[0]["unknown"] == 0
    assert parts[1]["unknown"] == 250
    assert parts[1]["p99_ms"] == pytest.approx(2000.0, abs=0.1)
