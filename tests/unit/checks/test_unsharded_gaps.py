"""A system without shards that serves reads and no writes (or the other way round) is not in service."""

from __future__ import annotations

from pathlib import Path

import pytest
from aftershock.harness.checks.gaps import Gaps
from aftershock.harness.operation import REQUEST

from tests.runs import OK, Fate, Run

from .support import owed_gaps, view_of


def gaps_of(folder: Path, failing: str) -> Gaps:
    """Gaps of a run without shards in which one function fails from 10 to 13 s."""

    def fate(t_s: float, shard: int, f: str) -> Fate:
        return ("fail", 0.003, "refused") if f in failing and 10 <= t_s < 13 else OK

    run = Run(folder, control=True)
    run.steady_load(fate)
    for row in run.operations:
        row["shard"] = None
    run.final_reads()
    return owed_gaps(view_of(run))


@pytest.mark.parametrize(("failing", "stream"), [("write insert", "updates"), ("read", "reads")])
def test_one_kind_that_is_missing_is_a_gap(tmp_path: Path, failing: str, stream: str) -> None:
    gaps = gaps_of(tmp_path / "run", failing)

    assert [gap.stream for gap in gaps.counted] == [f"the system's {stream}"]
    assert gaps.counted[0].start_s == pytest.approx(10, abs=0.1)
    assert gaps.longest_s() == pytest.approx(3, abs=0.1)
    assert gaps.longest_total_s < 0.1, "all operations together show nothing"


def test_without_failures_there_is_none(tmp_path: Path) -> None:
    assert gaps_of(tmp_path / "run", "").counted == ()


@pytest.mark.parametrize("failing", ["insert", REQUEST])
def test_answers_to_one_kind_do_not_hide_that_the_only_other_kind_is_missing(tmp_path: Path, failing: str) -> None:
    """Inserts alone beside one request alone: each has no twin of its own sort, and both are seen."""

    run = Run(tmp_path / "run", control=True)
    for number in range(4000):
        t_s, f = number / 100, ("insert", REQUEST)[number % 2]
        key = f"i-{number}" if f == "insert" else "GET /health"
        lost = f == failing and 10 <= t_s < 13
        run.operation(
            f, key, t_s, t_s + 0.003, space=f, shard=None, value=number, process=number,
            outcome="unknown" if lost else "ok", error="http-5xx" if lost else "", result="" if lost else "done",
        )  # fmt: skip
    gaps = owed_gaps(view_of(run))

    assert gaps.longest_s() == pytest.approx(3, abs=0.1)
    assert [gap.stream for gap in gaps.counted] == ["the system's updates" if failing == "insert" else "GET /health"]
