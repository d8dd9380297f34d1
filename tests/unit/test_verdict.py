"""The worst wins, and unknown is never a pass."""

from __future__ import annotations

import pytest
from aftershock.harness.verdict import ExitCode, Verdict, most_severe, worst


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([], Verdict.UNKNOWN),
        ([Verdict.PASS], Verdict.PASS),
        ([Verdict.PASS, Verdict.UNKNOWN], Verdict.UNKNOWN),
        ([Verdict.UNKNOWN, Verdict.FAIL, Verdict.PASS], Verdict.FAIL),
    ],
)
def test_worst_wins(verdicts: list[Verdict], expected: Verdict) -> None:
    assert worst(verdicts) is expected


@pytest.mark.parametrize(
    ("codes", "expected"),
    [([0, 3, 1], 1), ([1, 5], 5), ([70, 4], 70), ([4, 3], 4), ([3, 2], 3), ([2, 0], 2), ([], 0), ([1, 130], 130)],
)
def test_most_severe_code_of_several_scenarios(codes: list[int], expected: int) -> None:
    assert most_severe(ExitCode(code) for code in codes) == expected
