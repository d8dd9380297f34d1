"""Data loss on recorded twins and small histories: lost, stale, resurrected, duplicated, undecided."""

from __future__ import annotations

from pathlib import Path

import pytest
from aftershock.harness.checks.data_loss import DataLoss, check_data_loss
from aftershock.harness.record import load_record
from aftershock.harness.verdict import Verdict

from tests.runs import HISTORIES, control, healthy

OK = """
p1 insert i-1 11  1.0 1.1 ok
p2 insert i-2 22  2.0 2.1 ok
p3 insert i-3 33  3.0 3.1 ok
p4 insert i-4 44  4.0 -   unknown
p5 insert i-5 55  5.0 5.1 fail
p9 read* i-1 11  50.0 50.1 ok
p9 read* i-2 22  50.2 50.3 ok
p9 read* i-3 33  50.4 50.5 ok
p9 read* i-4 44  50.6 50.7 ok
p9 read* i-5 -   50.8 50.9 ok
"""


def judged(tmp_path: Path, text: str) -> DataLoss:
    run = control(tmp_path / "run")
    run.text(text)
    return check_data_loss(load_record(run.write()))


def test_everything_acknowledged_is_there(tmp_path: Path) -> None:
    found = judged(tmp_path, OK)
    assert found.result.verdict is Verdict.PASS
    assert found.result.reason == "Every one of 3 acknowledged writes was found with its value in the final reads."
    assert found.detail is not None
    assert (found.detail["acknowledged"], found.detail["checked"], found.detail["coverage"]) == (3, 3, 1.0)


def test_a_lost_write(tmp_path: Path) -> None:
    found = judged(tmp_path, OK.replace("read* i-2 22", "read* i-2 -"))
    assert found.result.verdict is Verdict.FAIL
    assert found.result.reason == "Of 3 acknowledged writes, 1 was lost. (1 key)"
    assert found.detail is not None
    assert (found.detail["lost"], found.detail["rpo_writes"], found.detail["rpo_s"]) == (1, 1, 0.0)
    assert found.detail["keys"] == [
        {
            "key": "i-2",
            "shard": 0,
            "kind": "lost",
            "value": 22,
            "process": 2,
            "client": "clients-r1",
            "acknowledged_s": 2.1,
            "read_s": 50.3,
            "read_value": None,
        }
    ]


def test_rpo_is_the_time_between_the_first_and_the_last_lost_acknowledgement(tmp_path: Path) -> None:
    text = OK.replace("read* i-1 11", "read* i-1 -").replace("read* i-3 33", "read* i-3 -")
    found = judged(tmp_path, text)
    assert found.detail is not None
    assert (found.detail["rpo_writes"], found.detail["rpo_s"], found.detail["window_s"]) == (2, 2.0, [1.1, 3.1])
    assert found.result.spans_s == ((1.1, 3.1),)


def test_another_value_in_its_place(tmp_path: Path) -> None:
    found = judged(tmp_path, OK.replace("read* i-2 22", "read* i-2 99"))
    assert found.result.verdict is Verdict.FAIL
    assert found.result.reason == "Of 3 acknowledged writes, 1 was replaced by another value. (1 key)"


def test_two_inserts_of_one_key_acknowledged(tmp_path: Path) -> None:
    found = judged(tmp_path, OK + "p6 insert i-2 23 6.0 6.1 ok\n")
    assert found.result.verdict is Verdict.FAIL
    assert "2 were acknowledged although the key was taken" in found.result.reason


@pytest.mark.parametrize("insert", ["p5 insert i-5 55  5.0 5.1 fail", "p5 insert i-5 55  5.0 5.1 mismatch:7"])
def test_a_refused_write_that_is_there(tmp_path: Path, insert: str) -> None:
    text = OK.replace("p5 insert i-5 55  5.0 5.1 fail", insert).replace("read* i-5 - ", "read* i-5 55")
    found = judged(tmp_path, text)
    assert found.result.verdict is Verdict.FAIL
    assert "1 value that was refused or never sent is there all the same" in found.result.reason
    assert found.detail is not None
    assert [k["process"] for k in found.detail["keys"]] == [5]


def test_a_value_that_nobody_sent(tmp_path: Path) -> None:
    found = judged(tmp_path, OK.replace("read* i-5 - ", "read* i-5 77"))
    assert found.detail is not None
    assert found.detail["resurrected"] == 1


def test_a_final_read_without_an_answer_leaves_its_key_undecided(tmp_path: Path) -> None:
    found = judged(tmp_path, OK.replace("read* i-2 22  50.2 50.3 ok", "read* i-2 -  50.2 - unknown"))
    assert found.result.verdict is Verdict.UNKNOWN
    assert found.result.reason.startswith("No final read was answered for 1 acknowledged write")
    assert found.detail is not None
    assert (found.detail["undecided"], found.detail["coverage"]) == (1, pytest.approx(2 / 3, abs=1e-6))


def test_undecided_keys_do_not_hide_a_lost_one(tmp_path: Path) -> None:
    text = OK.replace("read* i-2 22  50.2 50.3 ok", "read* i-2 -  50.2 - unknown").replace("i-1 11  50", "i-1 -  50")
    assert judged(tmp_path, text).result.verdict is Verdict.FAIL


def test_a_second_final_read_decides_what_the_first_did_not(tmp_path: Path) -> None:
    text = OK.replace("read* i-2 22  50.2 50.3 ok", "read* i-2 -  50.2 - unknown")
    assert judged(tmp_path, text + "p10 read* i-2 22 51.0 51.1 ok\n").result.verdict is Verdict.PASS


def test_one_final_read_that_misses_it_is_enough(tmp_path: Path) -> None:
    assert judged(tmp_path, OK + "p10 read* i-2 - 51.0 51.1 ok\n").result.verdict is Verdict.FAIL


def test_a_final_read_from_before_the_acknowledgement_proves_nothing(tmp_path: Path) -> None:
    found = judged(tmp_path, OK.replace("read* i-2 22  50.2 50.3 ok", "read* i-2 -  2.05 2.08 ok"))
    assert found.result.verdict is Verdict.UNKNOWN


def test_no_final_reads_at_all(tmp_path: Path) -> None:
    found = judged(tmp_path, OK.partition("p9")[0])
    assert found.result.verdict is Verdict.UNKNOWN
    assert found.result.reason.startswith("There are no final reads")


def test_no_acknowledged_write(tmp_path: Path) -> None:
    found = judged(tmp_path, "p4 insert i-4 44  4.0 -  unknown\np9 read* i-4 44  50.6 50.7 ok")
    assert found.result.verdict is Verdict.UNKNOWN
    assert found.result.reason == "No insert was acknowledged, so there was nothing that could have been lost."
    assert found.detail is None


def test_keys_that_are_overwritten_are_not_counted(tmp_path: Path) -> None:
    """Linearizability judges them: what an insert left there may rightly be gone."""
    text = OK + "p7 insert h-1 1 1.0 1.1 ok\np7 write h-1 2 1.2 1.3 ok\np9 read* h-1 2 50 50.01 ok\n"
    found = judged(tmp_path, text)
    assert found.result.verdict is Verdict.PASS
    assert found.detail is not None
    assert found.detail["acknowledged"] == 3


def test_a_big_loss_is_counted_in_full_and_listed_in_part(tmp_path: Path) -> None:
    run = healthy(tmp_path / "run")
    run.steady_load()
    run.final_reads(**{row["key"].replace("-", "_"): None for row in run.operations if row["f"] == "insert"})
    found = check_data_loss(load_record(run.write()))
    assert found.detail is not None
    assert (found.detail["lost"], len(found.detail["keys"]), found.detail["keys_more"]) == (1333, 200, 1133)


@pytest.mark.parametrize("path", sorted(HISTORIES.glob("data-loss-*.txt")), ids=lambda p: p.stem)
def test_recorded_twins(tmp_path: Path, path: Path) -> None:
    verdict = path.stem.rpartition("-")[2]
    assert str(judged(tmp_path, path.read_text()).result.verdict) == {"ok": "pass", "bad": "fail"}[verdict]
