"""The columns that reach the checker are the same whatever streams, slices and order of rows they come from."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from aftershock.harness.checks.linearizability import check_linearizability
from aftershock.harness.checks.register_columns import pick, registers
from aftershock.harness.history import History, load_history
from aftershock.harness.porcupine import ABSENT, OPEN_NS, F, Operations
from aftershock.harness.record import load_record
from aftershock.harness.verdict import Verdict

from tests.checkers import FakeChecker
from tests.runs import Run, control, write_stream

TEXT = """
p1 write  h-9 1      0.100 0.110 ok
p2 cas    h-1 1->2   0.200 0.210 ok
p3 write  h-3 7      0.300 0.310 fail
p4 insert h-2 3      0.400 0.410 mismatch:2
p5 delete h-9 -      0.500 -     unknown
p6 read   h-1 -      0.600 -     unknown
p7 read   h-2 -      0.700 0.710 ok
p8 write  h-1 4      0.800 0.900 ok
"""


def rows_of(operations: Operations, keys: tuple[str, ...]) -> list[tuple[object, ...]]:
    return [
        (keys[key], F(f).name, value, expected, process, unknown, end == OPEN_NS)
        for key, f, value, expected, process, unknown, end in zip(
            operations.key.tolist(),
            operations.f.tolist(),
            operations.value.tolist(),
            operations.expected.tolist(),
            operations.process.tolist(),
            operations.unknown.tolist(),
            operations.end_ns.tolist(),
            strict=True,
        )
    ]


EXPECTED = [
    ("h-9", "WRITE", 1, ABSENT, 1, False, False),
    ("h-1", "CAS", 2, 1, 2, False, False),
    ("h-2", "READ", 2, ABSENT, 4, False, False),
    ("h-9", "DELETE", ABSENT, ABSENT, 5, True, True),
    ("h-2", "READ", ABSENT, ABSENT, 7, False, False),
    ("h-1", "WRITE", 4, ABSENT, 8, False, False),
]


@pytest.fixture
def recorded(tmp_path: Path) -> Run:
    run = control(tmp_path / "run")
    run.text(TEXT)
    return run


def test_keys_are_numbered_by_name_and_those_of_failed_operations_are_not(recorded: Run) -> None:
    found = registers(load_history(recorded.write() / "history"))
    assert found.keys == ("h-1", "h-2", "h-9")
    assert found.operations is not None
    assert rows_of(found.operations, found.keys) == EXPECTED
    assert found.places.tolist() == [0, 1, 3, 4, 6, 7]


@pytest.mark.parametrize("rows", [1, 2, 3, 100])
def test_slices_of_any_size_give_the_same(recorded: Run, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    slices = History.slices
    monkeypatch.setattr(History, "slices", lambda self, *columns: slices(self, *columns, rows=rows))
    found = registers(load_history(recorded.write() / "history"))
    assert found.operations is not None
    assert rows_of(found.operations, found.keys) == EXPECTED


def test_several_streams_are_one_history(recorded: Run) -> None:
    folder = recorded.write() / "history"
    for number in range(3):
        write_stream(folder / f"load-{number}.arrow", recorded.operations[number::3], batch=2)
    history = load_history(folder)
    found = registers(history)
    assert found.operations is not None
    assert sorted(map(str, rows_of(found.operations, found.keys))) == sorted(map(str, EXPECTED))
    # Places lead back to the rows that the columns came from, also across streams.
    back = history.rows(found.places.tolist())
    assert back["process"].to_list() == found.operations.process.tolist()
    assert back["key"].to_list() == [found.keys[key] for key in found.operations.key.tolist()]
    assert history.rows([7, 0, 3])["process"].to_list() == history.frame["process"].gather([7, 0, 3]).to_list()


def test_the_order_of_rows_does_not_change_what_is_shown(recorded: Run) -> None:
    shown = []
    for seed in range(4):
        random.Random(seed).shuffle(recorded.operations)
        record = load_record(recorded.write())
        found = registers(record.recorded)
        assert found.operations is not None
        place = {int(p): row for row, p in enumerate(found.operations.process)}
        checker = FakeChecker({2: Verdict.FAIL}, rows={2: (place[1], place[5])})
        result = check_linearizability(record, checker=checker)
        assert result.detail is not None
        shown.append((result.result.reason, result.detail["counterexamples"]))
    assert all(one == shown[0] for one in shown)
    assert [o["f"] for o in shown[0][1][0]["operations"]] == ["write", "delete"]


def test_times_that_run_backwards_are_counted_and_no_columns_made(recorded: Run) -> None:
    recorded.text("p11 write h-1 9 5.0 4.0 ok\np12 write h-1 10 5.0 4.0 unknown\np13 write h-1 11 5.0 4.0 fail\n")
    found = registers(load_history(recorded.write() / "history"))
    assert found.backwards == 2  # what failed does not matter
    assert found.operations is None


def test_an_answer_that_contradicts_itself_is_found_in_any_slice(recorded: Run) -> None:
    recorded.text("p11 cas h-5 1->2 5.0 5.1 mismatch:1\np12 insert h-4 3 5.0 5.1 mismatch:-\n")
    record = load_record(recorded.write())
    assert registers(record.recorded).absurd == (8, 9)
    result = check_linearizability(record, checker=FakeChecker()).result
    assert result.verdict is Verdict.FAIL
    assert result.reason == (
        "2 answers say that a comparison did not match, and show the very value that it asked for ('h-4')."
    )


def test_an_empty_history_has_no_registers(tmp_path: Path) -> None:
    found = registers(load_history(tmp_path))
    assert found.keys == ()
    assert found.operations is not None
    assert len(found.operations) == 0


def test_picking_keeps_the_order(recorded: Run) -> None:
    found = registers(load_history(recorded.write() / "history"))
    assert found.operations is not None
    picked = pick(found.operations, np.array([True, False, True, False, False, True]))
    assert rows_of(picked, found.keys) == [EXPECTED[0], EXPECTED[2], EXPECTED[5]]


def test_the_second_opinion_is_asked_for_broken_keys_first_and_within_its_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aftershock.harness.checks.linearizability._CROSS_CHECKED_OPERATIONS", 7)
    run = control(tmp_path / "run")
    for key, count in (("a", 4), ("b", 1), ("c", 3)):
        run.text("".join(f"p{n} write {key} {n} {n} {n}.1 ok\n" for n in range(1, count + 1)))
    checker = FakeChecker({1: Verdict.FAIL})
    result = check_linearizability(load_record(run.write()), checker=checker)
    asked = [sorted(set(given.key.tolist())) for given, _ in checker.asked]
    assert asked == [[0, 1, 2], [0, 1]]
    assert result.detail is not None
    assert result.detail["cross_check"] == "Porcupine agreed on 2 of 3 keys, 1 beyond its budget"
