"""Reads what the native program said, line by line, into a result for every key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..verdict import Verdict
from ._child import Answer
from ._counterexamples import Found, read_counterexample
from ._values import Engine, KeyResult, Model, Operations

__all__ = ["SecondOpinion", "read_answer"]

SecondOpinion: TypeAlias = Callable[[Found, Engine], bool | None]
"""Whether another engine than the one that found them judges the operations of a counterexample illegal, too."""

_FEW = 8  # violated keys for which going through the whole column is cheaper than sorting it
_FITS = "every answer fits one order"
_NO_TIME = "no order explains its answers; there was no time left to find out which ones"
_MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    operations: Operations
    model: Model
    initial: Mapping[int, int]
    words: Callable[[int], str]
    second: SecondOpinion

    def explained(self, result: KeyResult, given: Mapping[str, Any], of_key: npt.NDArray[np.int64]) -> KeyResult:
        """With the counterexample, if the second judge confirms it; unknown, if not."""
        assert result.engine is not None
        found = read_counterexample(
            given,
            self.operations,
            of_key,
            model=self.model,
            initial=self.initial,
            words=self.words,
        )
        shown, judge = found.counterexample, "a brute-force search"
        confirmed: bool | None = shown.rejudged
        if not found.small:
            confirmed, judge = self.second(found, result.engine), "another engine"
            shown = replace(shown, rejudged=confirmed is True)
        if confirmed is not False:
            return replace(result, counterexample=shown, reason=shown.reason)
        reason = (
            f"the engine {result.engine} saw a violation that {judge}, judging the same {len(shown.rows)} operations, "
            "does not confirm: a bug in Aftershock, please report it"
        )
        return replace(result, verdict=Verdict.UNKNOWN, counterexample=shown, reason=reason)


def read_answer(
    answer: Answer,
    operations: Operations,
    *,
    model: Model,
    initial: Mapping[int, int],
    words: Callable[[int], str],
    second: SecondOpinion,
) -> dict[int, KeyResult]:
    """Every key's result. A line that makes no sense is a problem of the answer, and so never leads to a pass."""
    keys = set(np.unique(operations.key).tolist())
    reader = _Reader(operations=operations, model=model, initial=initial, words=words, second=second)
    results: dict[int, KeyResult] = {}
    found: dict[int, Mapping[str, Any]] = {}
    try:
        for line in answer.lines:
            result = _result(line, keys)
            results[result.key] = result
            if line.get("counterexample") is not None:
                found[result.key] = line["counterexample"]
    except _MALFORMED as error:
        _senseless(answer, error)
    rows_of = _rows_of(operations, many=len(found) > _FEW)
    for key, given in found.items():
        try:
            if results[key].verdict is Verdict.FAIL:
                results[key] = reader.explained(results[key], given, rows_of(key))
        except _MALFORMED as error:
            _senseless(answer, error)
    why = answer.problem or "the deadline passed before it was reached"
    for key in keys - results.keys():
        results[key] = KeyResult(key=key, verdict=Verdict.UNKNOWN, engine=None, reason=why)
    for key, result in results.items():
        if not result.reason:
            results[key] = replace(result, reason=why if result.verdict is Verdict.UNKNOWN else _NO_TIME)
    return results


def _rows_of(operations: Operations, *, many: bool) -> Callable[[int], npt.NDArray[np.int64]]:
    """Looks up the rows of a key; for many keys the column is sorted once."""
    if not many:
        return lambda key: np.flatnonzero(operations.key == key)
    by_key = np.argsort(operations.key, kind="stable")
    keys = operations.key[by_key]
    return lambda key: by_key[np.searchsorted(keys, key, "left") : np.searchsorted(keys, key, "right")]


def _result(line: Mapping[str, Any], keys: Set[int]) -> KeyResult:
    verdict, prefix, key = Verdict(line["verdict"]), line.get("prefix") or {}, line["key"]
    if key not in keys:
        raise ValueError(f"there is no key {key}")
    if verdict is not Verdict.FAIL and (prefix or line.get("counterexample") is not None):
        raise ValueError(f"a key that is {verdict} has a counterexample")
    return KeyResult(
        key=key,
        verdict=verdict,
        engine=Engine(line["engine"]),
        reason=_FITS if verdict is Verdict.PASS else line.get("reason", ""),
        prefix_operations=None if not prefix else int(prefix["operations"]),
        prefix_end_ns=None if not prefix else int(prefix["end_ns"]),
    )


def _senseless(answer: Answer, error: Exception) -> None:
    answer.problem = answer.problem or f"the checker's answer makes no sense ({type(error).__name__}: {error})"
