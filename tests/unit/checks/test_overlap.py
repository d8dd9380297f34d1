"""Windows that overlap: what they share is judged once, by what they excuse together; each rule in both colours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aftershock.harness.checks.assumptions import assumptions
from aftershock.harness.checks.availability import check_availability
from aftershock.harness.checks.recovery import Recovery, check_recovery
from aftershock.harness.checks.windows import window_rows
from aftershock.harness.judge import judge
from aftershock.harness.verdict import Verdict

from tests.checkers import agreeable
from tests.runs import OK, REFUSED, Run, bootstrap
from tests.unit.checks.support import owed_gaps, view_of
from tests.unit.checks.test_availability import LoadFate, spoiled


def overlapping(folder: Path, *windows: tuple[float, float], **fields: Any) -> Run:
    """A run with windows f1, f2, … that may overlap, each of rto_s = 5 and without an expected reaction."""
    run = Run(folder, **fields)
    bootstrap(run)
    for number, (start_s, end_s) in enumerate(windows, start=1):
        run.fault(f"f{number}", start_s, end_s, reaction=None)
        run.faults[-1]["overlap"] = True
    return run


def recovery_of(run: Run, fate: LoadFate) -> Recovery:
    run.steady_load(fate)
    view = view_of(run)
    return check_recovery(view, owed_gaps(view))


def measured(found: Recovery) -> list[float | None]:
    return [found.by_fault[fault]["rto_measured_s"] for fault in found.by_fault]


# ------------------------------------------------------------------------------------------------ recovery


@pytest.mark.parametrize(
    ("until_s", "verdict", "times"),
    [
        (14.0, Verdict.PASS, [4.0, 1.0]),  # within both
        (17.0, Verdict.PASS, [None, 4.0]),  # beyond f1's own 15 s, within f2's 18 s: not separable
        (20.0, Verdict.FAIL, [10.0, 7.0]),  # beyond all that they excuse together
    ],
)
def test_one_gap_under_two_windows(tmp_path: Path, until_s: float, verdict: Verdict, times: list[float | None]) -> None:
    run = overlapping(tmp_path / "run", (10.0, 16.0), (13.0, 22.0))

    found = recovery_of(run, spoiled(10.0, until_s, REFUSED, shard=1))

    assert found.result.verdict is verdict, found.result.reason
    assert measured(found) == [None if t is None else pytest.approx(t, abs=0.3) for t in times]


def test_what_is_not_separable_says_so_and_counts_in_no_mean(tmp_path: Path) -> None:
    run = overlapping(tmp_path / "run", (10.0, 16.0), (13.0, 22.0))

    found = recovery_of(run, spoiled(10.0, 17.0, REFUSED, shard=1))

    assert found.targets[0]["verdict"] == "pass"
    assert found.targets[0]["measured"] is None
    assert "is not separable from that" in found.targets[0]["detail"]
    assert "f2" in found.targets[0]["detail"]
    assert found.result.numbers["mttr_s"] == pytest.approx(4.0, abs=0.3)


def test_the_first_of_two_is_red_when_the_second_came_after_its_deadline(tmp_path: Path) -> None:
    """f2's excuse begins at 16 s, f1 was to be back at 15 s: nothing covers the second between."""
    run = overlapping(tmp_path / "run", (10.0, 20.0), (16.0, 22.0))

    found = recovery_of(run, spoiled(10.0, 18.0, REFUSED, shard=1))

    assert found.result.verdict is Verdict.FAIL
    assert [row["verdict"] for row in found.targets] == ["fail", "pass"]


def test_excuses_are_chained(tmp_path: Path) -> None:
    windows = [(10.0, 30.0), (14.0, 30.0), (18.0, 30.0)]
    for until_s, verdict in ((22.5, Verdict.PASS), (24.0, Verdict.FAIL)):
        run = overlapping(tmp_path / f"run-{until_s:g}", *windows)
        found = recovery_of(run, spoiled(10.0, until_s, REFUSED, shard=1))
        assert found.result.verdict is verdict
    assert "13.00 s together with f2 and f3" in found.targets[0]["detail"]


def test_a_longer_promise_beside_covers_a_shorter_one(tmp_path: Path) -> None:
    """f2 may take 2 s, but f1, which is on beside it, may take until 20 s."""
    run = overlapping(tmp_path / "run", (10.0, 30.0), (12.0, 30.0))
    run.faults[0]["rto_s"], run.faults[1]["rto_s"] = 10.0, 2.0

    found = recovery_of(run, spoiled(12.0, 17.0, REFUSED, shard=1))

    assert [row["verdict"] for row in found.targets] == ["pass", "pass"]
    assert found.by_fault["f2"]["rto_measured_s"] is None


def test_nothing_of_the_steps_is_guessed_while_another_fault_is_on(tmp_path: Path) -> None:
    run = overlapping(tmp_path / "run", (10.0, 16.0), (11.0, 17.0))
    run.event("suspected", 11.3, source="c1", member="n2", why="silent")
    run.event("primary.open", 11.6, source="n3", shard=2, epoch=2)

    found = recovery_of(run, lambda t_s, shard, f: OK)

    assert {found.by_fault[f][step] for f in ("f1", "f2") for step in ("detected_s", "promoted_s")} == {None}


# ------------------------------------------------------------------------------------------------ availability


@pytest.mark.parametrize(("until_s", "verdict"), [(17.5, Verdict.PASS), (19.0, Verdict.FAIL)])
def test_what_two_windows_excuse_unites(tmp_path: Path, until_s: float, verdict: Verdict) -> None:
    run = overlapping(tmp_path / "run", (10.0, 30.0), (13.0, 30.0))
    run.steady_load(spoiled(10.5, until_s, REFUSED))
    view = view_of(run)

    assert check_availability(view, owed_gaps(view)).result.verdict is verdict


TOGETHER = {"faults": ["f1", "f2"], "newest": "f2", "cut_off": {"clients-r1": [1], "clients-r2": [1]}}


@pytest.mark.parametrize(("told", "verdict"), [(True, Verdict.PASS), (False, Verdict.FAIL)])
def test_who_is_cut_off_by_two_windows_together_is_owed_nothing(tmp_path: Path, told: bool, verdict: Verdict) -> None:
    """Neither fault cuts anybody off by itself; together they leave shard 1 without a majority until 20 s."""
    run = overlapping(tmp_path / "run", (10.0, 20.0), (13.0, 30.0))
    if told:
        run.event("fault.together", 13.2, **TOGETHER)
    run.steady_load(spoiled(13.0, 22.0, REFUSED, shard=1))
    view = view_of(run)
    gaps = owed_gaps(view)

    assert check_availability(view, gaps).result.verdict is verdict
    assert check_recovery(view, gaps).result.verdict is verdict


def test_together_ends_with_the_first_of_them(tmp_path: Path) -> None:
    """f1 is healed at 20.05 s, and 5 s later shard 1 is owed again although f2 is still on."""
    run = overlapping(tmp_path / "run", (10.0, 20.0), (13.0, 34.0))
    run.event("fault.together", 13.2, **TOGETHER)
    run.steady_load(spoiled(28.0, 31.0, REFUSED, shard=1))
    view = view_of(run)

    assert check_availability(view, owed_gaps(view)).result.verdict is Verdict.FAIL


def test_what_was_told_when_another_window_ended_holds_from_then_on(tmp_path: Path) -> None:
    for told_s, verdict in ((18.0, Verdict.FAIL), (13.2, Verdict.PASS)):
        run = overlapping(tmp_path / f"run-{told_s:g}", (5.0, 20.0), (6.0, 30.0))
        run.event("fault.together", told_s, **{**TOGETHER, "newest": None})
        run.steady_load(spoiled(14.0, 17.0, REFUSED, shard=1))
        view = view_of(run)
        assert check_availability(view, owed_gaps(view)).result.verdict is verdict


# ------------------------------------------------------------------------------------------------ assumptions


def test_a_reaction_may_come_after_a_fault_that_began_beside(tmp_path: Path) -> None:
    for epoch_s, held in ((12.0, True), (25.0, False)):
        run = overlapping(tmp_path / f"run-{epoch_s:g}", (10.0, 16.0), (11.0, 30.0))
        run.events = [
            {**e, "reaction": {"kind": "new-epoch", "shards": [0]}}
            if e["kind"] == "fault.injected" and e["fault"] == "f1"
            else e
            for e in run.events
        ]
        run.topology(epoch_s, 0, 2, "n2", "n2", "n3")
        run.steady_load()
        (reacted,) = [a for a in assumptions(view_of(run)) if a.text == "The system reacted to f1 as expected"]
        assert reacted.held is held


def test_an_unproven_fault_taints_its_own_window_only(tmp_path: Path) -> None:
    run = overlapping(tmp_path / "run", (10.0, 16.0))
    run.fault("f2", 12.0, 18.0, reaction=None, skip=["fault.proven"])
    run.faults[-1]["overlap"] = True
    run.steady_load()
    run.final_reads()

    value = judge(run.write(), checker=agreeable)

    assert value["verdict"] == "unknown"
    assert {tuple(row["scope"]) for row in value["checks"] if row["verdict"] == "unknown" and row["scope"]} == {("f2",)}


def test_two_windows_that_cut_off_everybody_still_met_clients(tmp_path: Path) -> None:
    """f1 has cut off the clients of one router, f2 those of the other: f2 met the ones that f1 had cut off."""
    for other, held in (("clients-r1", True), (None, False)):
        run = Run(tmp_path / f"run-{other}")
        bootstrap(run)
        run.fault("f1", 10.0, 20.0, reaction=None, cut_off={} if other is None else {other: None})
        everybody = {"clients-r2": None} if other else {"clients-r1": None, "clients-r2": None}
        run.fault("f2", 12.0, 16.0, reaction=None, cut_off=everybody)
        for fault in run.faults:
            fault["overlap"] = True
        run.steady_load()
        (found,) = [a for a in assumptions(view_of(run)) if a.text == "Clients were at work during f2"]
        assert found.held is held


# ------------------------------------------------------------------------------------------------ rows


def test_rows_before_and_after_hold_no_time_of_another_window(tmp_path: Path) -> None:
    run = overlapping(tmp_path / "run", (10.0, 15.0), (12.0, 25.0))
    run.steady_load()
    view = view_of(run)
    spans = {(row["fault"], row["kind"]): row["span_s"] for row in window_rows(view, owed_gaps(view)) if row["fault"]}

    assert spans["f1", "before"] == [0.0, 10.0]
    assert spans["f1", "during"] == [10.0, 15.05]
    assert ("f1", "after") not in spans, "f2 is still on then"
    assert ("f2", "before") not in spans
    assert spans["f2", "during"] == [12.0, 25.05]
    assert spans["f2", "after"][1] == 40.0


def test_windows_in_any_order_in_the_file_are_shown_by_time(tmp_path: Path) -> None:
    run = overlapping(tmp_path / "run", (20.0, 25.0), (5.0, 8.0))
    run.steady_load()

    assert [fault.id for fault in view_of(run).faults] == ["f2", "f1"]
    assert [fault.beside for fault in view_of(run).faults] == [(), ()]
