"""What reaches the checker, what is made of its answer, and the recorded twins through the real program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aftershock.harness import porcupine
from aftershock.harness.checks.linearizability import Linearizability, check_linearizability
from aftershock.harness.porcupine import ABSENT, OPEN_NS, Engine, F
from aftershock.harness.record import load_record
from aftershock.harness.verdict import Verdict

from tests.checkers import FakeChecker
from tests.runs import HISTORIES, Run, at, control


def judged(tmp_path: Path, text: str, checker: Any, **fields: Any) -> Linearizability:
    run = control(tmp_path / "run", **fields)
    run.text(text)
    return check_linearizability(load_record(run.write()), checker=checker)


TEXT = """
p1 write  h-1 1      0.100 0.110 ok
p2 cas    h-1 1->2   0.200 0.210 ok
p2 cas    h-1 7->8   0.300 0.310 mismatch:2
p3 insert h-1 9      0.400 0.410 mismatch:2
p4 delete h-1 -      0.500 0.510 ok
p5 insert h-1 3      0.600 0.610 ok
p6 write  h-1 4      0.700 -     unknown
p7 write  h-1 5      0.800 0.810 fail
p8 read   h-1 -      0.900 -     unknown
p9 read*  h-1 4      9.000 9.010 ok
"""


def test_what_the_checker_is_given(tmp_path: Path) -> None:
    """Failed operations and unanswered reads are left out; a mismatch is a read; an insert compares with absence."""
    checker = FakeChecker()
    judged(tmp_path, TEXT, checker)
    given, engine = checker.asked[0]
    assert engine is Engine.AUTO
    rows = list(zip(given.f, given.value, given.expected, given.unknown, given.process, strict=True))
    assert rows == [
        (F.WRITE, 1, ABSENT, False, 1),
        (F.CAS, 2, 1, False, 2),
        (F.READ, 2, 7, False, 2),
        (F.READ, 2, ABSENT, False, 3),
        (F.DELETE, ABSENT, ABSENT, False, 4),
        (F.CAS, 3, ABSENT, False, 5),
        (F.WRITE, 4, ABSENT, True, 6),
        (F.READ, 4, ABSENT, False, 9),
    ]
    assert given.start_ns[0] == at(0.1)
    assert given.end_ns[0] == at(0.11)
    assert given.end_ns[6] == OPEN_NS


def test_operations_that_were_never_sent_are_left_out(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", control=True)
    run.operation("write", "h-1", 1.0, 1.1, value=1)
    run.operation("write", "h-1", 2.0, None, value=2, outcome="fail", error="not-sent", start_ns=None)
    checker = FakeChecker()
    check_linearizability(load_record(run.write()), checker=checker)
    assert checker.asked[0][0].value.tolist() == [1]


def test_a_pass_says_how_much_was_judged_and_who_agreed(tmp_path: Path) -> None:
    found = judged(tmp_path, TEXT + "p20 write h-2 1 1.0 1.1 ok\n", FakeChecker())
    assert found.result.verdict is Verdict.PASS
    assert found.result.summary == "9 operations on 2 keys"
    assert found.detail is not None
    assert found.detail["cross_check"] == "Porcupine agreed on 2 of 2 keys"


def test_a_violation_fails_with_its_counterexample(tmp_path: Path) -> None:
    found = judged(tmp_path, TEXT, FakeChecker({0: Verdict.FAIL}))
    assert found.result.verdict is Verdict.FAIL
    assert found.result.reason.startswith("The answers on 1 key of 1 contradict each other: no order of the operations")
    assert found.result.spans_s == ((0.1, 0.31),)
    assert found.detail is not None
    (example,) = found.detail["counterexamples"]
    assert example["key"] == "h-1"
    assert [o["role"] for o in example["operations"]] == ["write", "write", "impossible"]
    assert example["operations"][2]["result"] == "mismatch"
    assert example["orders"] == [{"order": [0, 1, 2], "ruled_out_by": 2, "why": "the read saw an older value"}]


def test_a_key_that_was_not_decided_is_unknown_with_the_reason(tmp_path: Path) -> None:
    found = judged(tmp_path, TEXT, FakeChecker({0: Verdict.UNKNOWN}))
    assert found.result.verdict is Verdict.UNKNOWN
    assert found.result.reason == "1 key of 1 could not be decided ('h-1'): the deadline passed"


def test_one_violation_outweighs_undecided_keys(tmp_path: Path) -> None:
    text = TEXT + "p20 write h-2 1 1.0 1.1 ok\n"
    found = judged(tmp_path, text, FakeChecker({0: Verdict.UNKNOWN, 1: Verdict.FAIL}))
    assert found.result.verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("first", "second"), [(Verdict.PASS, Verdict.FAIL), (Verdict.FAIL, Verdict.PASS)], ids=["missed", "invented"]
)
def test_engines_that_disagree_are_our_bug_and_never_a_verdict(tmp_path: Path, first: Verdict, second: Verdict) -> None:
    found = judged(tmp_path, TEXT, FakeChecker({0: first}, second_opinion={0: second}))
    assert found.result.verdict is Verdict.UNKNOWN
    assert found.result.reason.startswith("Our two engines disagree on 1 key ('h-1'): this is a bug of aftershock")
    assert found.result.value == "internal error"


def test_a_second_opinion_that_was_not_reached_changes_nothing(tmp_path: Path) -> None:
    found = judged(tmp_path, TEXT, FakeChecker(second_opinion={0: Verdict.UNKNOWN}))
    assert found.result.verdict is Verdict.PASS
    assert found.detail is not None
    assert found.detail["cross_check"] == "Porcupine agreed on 0 of 1 keys, 1 beyond its budget"


def test_keys_that_are_dear_for_porcupine_are_not_given_to_it(tmp_path: Path) -> None:
    many = "".join(f"p{n} write h-2 {n} {n} {n}.1 ok\n" for n in range(1, 1100))
    checker = FakeChecker()
    found = judged(tmp_path, TEXT + many, checker, duration_s=1200.0)
    assert [len(set(given.key.tolist())) for given, _ in checker.asked] == [2, 1]
    assert found.detail is not None
    assert found.detail["cross_check"] == "Porcupine agreed on 1 of 2 keys, 1 beyond its budget"


def test_no_operation_is_unknown(tmp_path: Path) -> None:
    found = judged(tmp_path, "p1 write h-1 1 1.0 1.1 fail\n", FakeChecker())
    assert found.result.verdict is Verdict.UNKNOWN
    assert found.result.reason.startswith("Nothing was recorded that could be judged")


def test_times_that_cannot_be_are_not_judged(tmp_path: Path) -> None:
    found = judged(tmp_path, "p1 write h-1 1 1.0 0.9 ok\n", FakeChecker())
    assert found.result.verdict is Verdict.UNKNOWN
    assert "ended before they began" in found.result.reason


STALE = "p1 write h-1 1 0.1 0.2 ok\np2 write h-1 2 0.3 0.4 ok\np3 read h-1 {} 0.5 0.6 ok\n"


@pytest.mark.parametrize(
    ("read", "delete", "verdict"),
    [
        ("1", False, Verdict.FAIL),
        ("99", False, Verdict.UNKNOWN),
        ("-", False, Verdict.FAIL),
        ("-", True, Verdict.UNKNOWN),
    ],
    ids=["recorded value", "value of nobody", "absent", "absent in a load that deletes"],
)
def test_a_history_with_holes_fails_only_if_no_missing_operation_can_explain_it(
    tmp_path: Path, read: str, delete: bool, verdict: Verdict
) -> None:
    run = control(tmp_path / "run")
    run.load = {"holes": 1}
    run.text(STALE.format(read) + ("p8 delete h-7 - 1.0 1.1 ok\n" if delete else ""))
    checker = FakeChecker({0: Verdict.FAIL}, rows={0: (0, 1, 2)})
    found = check_linearizability(load_record(run.write()), checker=checker)
    assert found.result.verdict is verdict


@pytest.mark.processes
@pytest.mark.parametrize("path", sorted(HISTORIES.glob("linearizability-*.txt")), ids=lambda p: p.stem)
def test_recorded_twins_by_the_real_checker(tmp_path: Path, path: Path) -> None:
    found = judged(tmp_path, path.read_text(), porcupine.check)
    assert found.detail is not None
    if path.stem.endswith("-ok"):
        assert found.result.verdict is Verdict.PASS
        assert found.detail["cross_check"] == "Porcupine agreed on 1 of 1 keys"
    else:
        assert found.result.verdict is Verdict.FAIL
        (example,) = found.detail["counterexamples"]
        assert example["rejudged"]
        assert "impossible" in {o["role"] for o in example["operations"]}
        assert example["reason"]
