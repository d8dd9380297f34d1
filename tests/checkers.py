"""Stand-ins for the native checker, with its signature: they answer at once and start no process."""

from __future__ import annotations

from typing import Any

import numpy as np
from aftershock.harness.porcupine import (
    CheckOutcome,
    Counterexample,
    Edge,
    Engine,
    KeyResult,
    Operations,
    Order,
)
from aftershock.harness.verdict import Verdict, worst

__all__ = ["FakeChecker", "agreeable"]


class FakeChecker:
    """Answers what it was told for each key number, pass for the rest, and remembers what it was asked.

    `verdicts` is for every engine but Porcupine, `second_opinion` for Porcupine.
    """

    def __init__(
        self,
        verdicts: dict[int, Verdict] | None = None,
        *,
        second_opinion: dict[int, Verdict] | None = None,
        rows: dict[int, tuple[int, ...]] | None = None,
    ) -> None:
        self.verdicts = verdicts or {}
        self.second_opinion = self.verdicts if second_opinion is None else second_opinion
        self.rows = rows or {}
        self.asked: list[tuple[Operations, Engine]] = []

    def __call__(self, operations: Operations, *, engine: Engine, **_: Any) -> CheckOutcome:
        self.asked.append((operations, engine))
        told = self.second_opinion if engine is Engine.PORCUPINE else self.verdicts
        used = Engine.PORCUPINE if engine is Engine.PORCUPINE else Engine.UNIQUE
        results = []
        for key in np.unique(operations.key).tolist():
            verdict = told.get(key, Verdict.PASS)
            rows = self.rows.get(key) or tuple(np.flatnonzero(operations.key == key)[:3].tolist())
            results.append(
                KeyResult(
                    key=key,
                    verdict=verdict,
                    engine=None if verdict is Verdict.UNKNOWN else used,
                    reason="the deadline passed" if verdict is Verdict.UNKNOWN else "",
                    counterexample=_counterexample(rows) if verdict is Verdict.FAIL else None,
                )
            )
        decided = [r for r in results if r.verdict is not Verdict.UNKNOWN]
        return CheckOutcome(
            verdict=worst(r.verdict for r in results),
            reason="" if len(decided) == len(results) else "the deadline passed",
            engine=used,
            seconds=0.01,
            keys_checked=len(decided),
            keys_violated=sum(r.verdict is Verdict.FAIL for r in results),
            keys_unknown=len(results) - len(decided),
            results=tuple(results),
        )


def _counterexample(rows: tuple[int, ...]) -> Counterexample:
    last = len(rows) - 1
    return Counterexample(
        rows=rows,
        roles=(*("write" for _ in rows[1:]), "impossible"),
        notes=tuple("" for _ in rows),
        reason="it was gone when it was read",
        reasons=("it was written", "it was read"),
        edges=(Edge(source=0, target=last, kind="contradicts"),),
        orders=(Order(order=tuple(range(len(rows))), ruled_out_by=last, why="the read saw an older value"),),
        precedences=(),
        rejudged=True,
        minimal=True,
    )


def agreeable(operations: Operations, **options: Any) -> CheckOutcome:
    """Every key is linearizable, says every engine."""
    return FakeChecker()(operations, **options)
