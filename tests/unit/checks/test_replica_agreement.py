"""Replicas after healing: equal, different, missing, still learning."""

from __future__ import annotations

from pathlib import Path

import pytest
from aftershock.harness.checks.replica_agreement import check_replica_agreement
from aftershock.harness.checks.result import CheckResult
from aftershock.harness.verdict import Verdict

from tests.runs import Run, healthy
from tests.unit.checks.support import view_of


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return healthy(tmp_path / "run")


def judged(run: Run) -> CheckResult:
    return check_replica_agreement(view_of(run))


def test_all_equal(run: Run) -> None:
    found = judged(run)
    assert found.verdict is Verdict.PASS
    assert found.reason == "All replicas of 4 shards hold the same log and the same content."


@pytest.mark.parametrize(("column", "what"), [("chain", "log"), ("digest", "content")])
def test_one_differs(run: Run, column: str, what: str) -> None:
    assert run.replicas is not None
    run.replicas[4] |= {column: "other"}
    found = judged(run)
    assert found.verdict is Verdict.FAIL
    assert f"shard 1: the {what} up to entry 100 differs, n1 and n3 against n2" in found.reason


def test_different_ends_cannot_be_compared(run: Run) -> None:
    assert run.replicas is not None
    run.replicas[4] |= {"commit_index": 99, "chain": "other", "digest": "other"}
    found = judged(run)
    assert found.verdict is Verdict.UNKNOWN
    assert "shard 1: n2 at entry 99, n1 and n3 at entry 100" in found.reason


def test_a_difference_outweighs_everything_undecided(run: Run) -> None:
    assert run.replicas is not None
    run.replicas[4] |= {"digest": "other"}
    run.replicas[7] |= {"commit_index": 99}
    del run.replicas[0]
    assert judged(run).verdict is Verdict.FAIL


def test_a_replica_that_did_not_report(run: Run) -> None:
    assert run.replicas is not None
    del run.replicas[0]
    found = judged(run)
    assert found.verdict is Verdict.UNKNOWN
    assert found.reason == "Not every replica could be compared; missing after healing: n1 of shard 0."


def test_a_shard_that_is_gone_altogether(run: Run) -> None:
    assert run.replicas is not None
    run.replicas = [replica for replica in run.replicas if replica["shard"] != 2]
    assert "n1, n2 and n3 of shard 2" in judged(run).reason


def test_a_replica_that_is_still_learning(run: Run) -> None:
    assert run.replicas is not None
    run.replicas[3] |= {"in_sync": False, "commit_index": 20}
    found = judged(run)
    assert found.verdict is Verdict.UNKNOWN
    assert "had caught up when the 20 s for settling were over: n1 of shard 1" in found.reason


def test_replicas_that_were_not_collected(run: Run) -> None:
    run.replicas = None
    found = judged(run)
    assert found.verdict is Verdict.UNKNOWN
    assert found.reason.startswith("The replicas were not collected")


def test_a_system_without_shards(run: Run) -> None:
    run.replicas = []
    run.events = [event for event in run.events if event["kind"] != "topology"]
    assert judged(run).reason == "The system has no shards, so there are no replicas to compare."
