"""Our own run folders as histories: judged, converted, and never a pass when operations are missing."""

from __future__ import annotations

import pytest
from aftershock.harness.errors import UsageError
from aftershock.harness.histories import read_history
from aftershock.harness.histories.judged import Asked, judge_history
from aftershock.harness.histories.written import write_history

from tests.runs import Run

BAD = """
p1 write h-1 8812        0.100 0.110 ok
p2 cas   h-1 8812->8813  0.200 0.210 ok
p2 cas   h-1 5->6        0.300 0.310 mismatch:8813
p3 read  h-1 8812        60.0  60.1  ok
p4 insert i-1 7          0.400 -     unknown
"""
GOOD = BAD.replace("read  h-1 8812 ", "read  h-1 8813 ")


def folder(tmp_path, text: str):
    run = Run(tmp_path / "run")
    run.text(text)
    return run.write()


@pytest.mark.parametrize(("text", "verdict"), [(GOOD, "pass"), (BAD, "fail")])
def test_verdicts_survive_conversion(tmp_path, text: str, verdict: str) -> None:
    history = read_history(folder(tmp_path, text))
    for name in ("out.jsonl", "out.csv"):
        write_history(history, tmp_path / name)
        again = read_history(tmp_path / name)

        assert again.frame.drop("line", "end_line").equals(history.frame.drop("line", "end_line"))
        assert judge_history(again, Asked(model="key-value"))["verdict"] == verdict
    assert judge_history(history, Asked(model="cas-register"))["verdict"] == verdict
    assert history.format == "run-folder"


@pytest.mark.parametrize("text", [GOOD, BAD])
def test_a_history_with_a_hole_is_unknown(tmp_path, text: str) -> None:
    run = folder(tmp_path, text)
    (stream,) = sorted((run / "history").glob("*.arrow"))
    stream.write_bytes(stream.read_bytes()[:-8])  # its writer was killed

    judged = judge_history(read_history(run), Asked(model="cas-register"))
    assert judged["verdict"] == "unknown"
    assert "operations are missing" in judged["reason"]


def test_a_model_that_has_not_its_functions_is_refused(tmp_path) -> None:
    with pytest.raises(UsageError, match="the model queue has no"):
        judge_history(read_history(folder(tmp_path, GOOD)), Asked(model="queue"))
