"""Verdicts and exit codes (DESIGN section 4): the worst wins, and unknown is never a pass."""

from __future__ import annotations

import enum
from collections.abc import Iterable

__all__ = ["ExitCode", "Verdict", "most_severe", "worst"]


class Verdict(enum.StrEnum):
    """What a check found: `pass`, `fail`, or `unknown` where the record does not allow a decision."""

    PASS = "pass"
    FAIL = "fail"
    UNKNOWN = "unknown"


_BADNESS = {Verdict.PASS: 0, Verdict.UNKNOWN: 1, Verdict.FAIL: 2}


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst of the verdicts (fail > unknown > pass); unknown when there are none.

    Nothing judged is not a pass: a run in which no required check ran has shown nothing.
    """
    return max(verdicts, key=_BADNESS.__getitem__, default=Verdict.UNKNOWN)


class ExitCode(enum.IntEnum):
    """Exit codes of every command; fixed by DESIGN section 4."""

    PASS = 0
    FAIL = 1
    USAGE = 2
    UNKNOWN = 3
    SETUP = 4
    HEAL_FAILED = 5
    INTERNAL = 70
    INTERRUPTED = 130


# Several scenarios in one call: the most severe of 5, 1, 70, 4, 3, 2, 0. An interrupt ends the call at once, so
# it outranks all but a failed heal.
_SEVERITY = [
    ExitCode.HEAL_FAILED,
    ExitCode.INTERRUPTED,
    ExitCode.FAIL,
    ExitCode.INTERNAL,
    ExitCode.SETUP,
    ExitCode.UNKNOWN,
    ExitCode.USAGE,
    ExitCode.PASS,
]


def most_severe(codes: Iterable[ExitCode]) -> ExitCode:
    """Return the exit code of a call that ran several scenarios; `PASS` for none."""
    return min(codes, key=_SEVERITY.index, default=ExitCode.PASS)
