"""Session guarantees of a run: when they are judged, that they decide nothing, and what a hole takes away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aftershock.harness.checks.linearizability import check_linearizability
from aftershock.harness.checks.result import CheckResult
from aftershock.harness.checks.sessions import check_session_guarantees
from aftershock.harness.judge import judge
from aftershock.harness.record import load_record
from aftershock.harness.verdict import Verdict

from tests.checkers import FakeChecker
from tests.runs import Run, control, healthy

LOST_OWN = """
p1 write h-1 5   1.000 1.010 ok
p1 read  h-1 -   1.100 1.110 ok
"""
STALE_ELSEWHERE = """
p1 write h-1 5   1.000 1.010 ok
p2 read  h-1 -   1.100 1.110 ok
"""
OUT_OF_ORDER = """
p1 write h-1 5   1.000 1.010 ok
p1 write h-1 9   1.100 1.110 ok
p2 read  h-1 9   1.200 1.210 ok
p2 read  h-1 5   1.300 1.310 ok
"""


def judged(tmp_path: Path, text: str, verdict: Verdict = Verdict.FAIL, **fields: Any) -> CheckResult | None:
    run = control(tmp_path / "run", **{k: v for k, v in fields.items() if k != "load"})
    run.load = fields.get("load", run.load)
    run.text(text)
    record = load_record(run.write())
    linear = check_linearizability(record, checker=FakeChecker({0: verdict})).result
    return check_session_guarantees(record, linearizability=linear)


def test_nothing_is_added_where_linearizability_was_promised_and_holds(tmp_path: Path) -> None:
    assert judged(tmp_path, STALE_ELSEWHERE, Verdict.PASS) is None


def test_where_linearizability_was_not_promised_they_are_judged_even_if_it_holds(tmp_path: Path) -> None:
    found = judged(tmp_path, STALE_ELSEWHERE, Verdict.PASS, required=["data-loss"])
    assert found is not None
    assert found.verdict is Verdict.PASS


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.UNKNOWN])
def test_a_stale_read_of_somebody_else_breaks_none_of_them(tmp_path: Path, verdict: Verdict) -> None:
    found = judged(tmp_path, STALE_ELSEWHERE, verdict)
    assert found is not None
    assert (found.name, found.verdict) == ("sessions", Verdict.PASS)
    assert found.summary == "2 operations on 1 key"
    assert found.reason == (
        "Every process could rely on its own operations, on each of 1 key: read your writes, monotonic reads, "
        "monotonic writes and writes follow reads held."
    )


def test_a_broken_one_is_named_with_its_key_its_operations_and_its_time(tmp_path: Path) -> None:
    found = judged(tmp_path, LOST_OWN)
    assert found is not None
    assert found.verdict is Verdict.FAIL
    assert found.reason.startswith("On 1 key of 1, read your writes was broken. Process 1 wrote 5, then read nothing;")
    assert found.reason.endswith("(key 'h-1').")
    assert (found.value, found.context) == ("1 key", "of 1: read your writes was broken")
    assert found.spans_s == ((1.0, 1.11),)
    assert found.numbers["read_your_writes"] == "fail"
    assert found.numbers["monotonic_reads"] == "pass"


def test_where_one_of_two_is_broken_it_says_so(tmp_path: Path) -> None:
    found = judged(tmp_path, OUT_OF_ORDER)
    assert found is not None
    assert found.verdict is Verdict.FAIL
    assert found.context == "of 1: one of monotonic reads and monotonic writes was broken"
    assert [found.numbers[n] for n in ("monotonic_reads", "monotonic_writes")] == ["unknown", "unknown"]


def test_repeated_values_are_unknown(tmp_path: Path) -> None:
    found = judged(
        tmp_path, STALE_ELSEWHERE + "p3 write h-1 5 2.0 2.1 ok\np4 read h-1 5 3.0 3.1 ok\np4 read h-1 5 4.0 4.1 ok\n"
    )
    assert found is not None
    assert found.verdict is Verdict.UNKNOWN
    assert "more than one operation may have written (5)" in found.reason
    assert found.reason.endswith("(key 'h-1').")


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (LOST_OWN, Verdict.FAIL),
        (OUT_OF_ORDER + "p9 delete h-7 - 5.0 5.1 ok\n", Verdict.FAIL),
        (LOST_OWN + "p9 delete h-7 - 5.0 5.1 ok\n", Verdict.UNKNOWN),
    ],
    ids=["nobody deletes", "no absence in it", "a missing delete may explain it"],
)
def test_with_a_hole_only_what_is_certain_fails(tmp_path: Path, text: str, verdict: Verdict) -> None:
    found = judged(tmp_path, text, load={"holes": 1})
    assert found is not None
    assert found.verdict is verdict


def test_without_writes_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert judged(tmp_path, "p1 read h-1 - 1.0 1.1 ok\n") is None
    assert judged(tmp_path / "2", "p1 write h-1 5 1.0 1.1 fail\n") is None


# ------------------------------------------------------------------------------------------------ in the verdict


def whole(run: Run) -> dict[str, Any]:
    run.steady_load()
    run.final_reads()
    return judge(run.write(), checker=FakeChecker({0: Verdict.FAIL}))


def row(verdict: dict[str, Any]) -> dict[str, Any]:
    return next(check for check in verdict["checks"] if check["name"] == "sessions")


def test_it_stands_after_linearizability_and_decides_nothing(tmp_path: Path) -> None:
    run = healthy(tmp_path / "run", required=["data-loss"])
    run.text("p71 write i-000002-x 5 1.0 1.1 ok\np71 read i-000002-x - 1.2 1.3 ok\n")
    verdict = whole(run)
    names = [check["name"] for check in verdict["checks"]]
    assert names.index("sessions") == names.index("linearizability") + 1
    assert (row(verdict)["verdict"], row(verdict)["required"], row(verdict)["status"]) == ("fail", False, "judged")
    assert (verdict["verdict"], verdict["exit_code"]) == ("pass", 0)
    assert "sessions" in [finding["check"] for finding in verdict["findings"]]
    assert "Session guarantees" not in [line["what"] for line in verdict["not_checked"]]


def test_a_run_that_holds_is_as_it_was(tmp_path: Path) -> None:
    run = healthy(tmp_path / "run")
    run.steady_load()
    run.final_reads()
    verdict = judge(run.write(), checker=FakeChecker())
    assert "sessions" not in [check["name"] for check in verdict["checks"]]
    assert "Session guarantees" in [line["what"] for line in verdict["not_checked"]]


@pytest.mark.parametrize("spoil", ["hole", "killed"])
def test_an_incomplete_record_never_passes(tmp_path: Path, spoil: str) -> None:
    run = healthy(tmp_path / "run", required=["data-loss"])
    if spoil == "hole":
        run.load = {"holes": 1}
    else:
        run.run = {"state": "running"}
    found = row(whole(run))
    assert found["verdict"] == "unknown"
    assert found["reason"].startswith("Nothing wrong was seen, but it cannot be relied on")
