"""`check`: columns in, verdict and counterexamples out."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..verdict import Verdict, worst
from ._brute import Item
from ._child import Answer, ask
from ._explain import REJUDGED_AT_MOST, explain
from ._values import ABSENT, CheckOutcome, Counterexample, Engine, F, KeyResult, Model, Operations
from .programs import checker_path

__all__ = ["check"]

_SCHEMA = 1
_COLUMNS = ("key", "f", "value", "expected", "version", "start_ns", "end_ns", "unknown")


class _RowsOfKey(NamedTuple):
    key: int
    rows: npt.NDArray[np.int64]


def check(
    operations: Operations,
    *,
    model: Model,
    engine: Engine = Engine.AUTO,
    deadline_s: float = 60.0,
    memory_limit_bytes: int = 2 << 30,
    workers: int | None = None,
) -> CheckOutcome:
    """Decide, key by key, whether a history is linearizable.

    Runs in a child process that is ended at `deadline_s` or when it holds more than `memory_limit_bytes`. What was
    decided by then stays decided; the rest is unknown, with the reason, and so is everything that a crash of the child
    leaves open. `workers` is the number of keys judged at a time (default: one per core).

    Raises ValueError when the operations do not fit the model, SetupError when the native program is not installed.
    """
    started_s = time.monotonic()
    if deadline_s <= 0 or memory_limit_bytes <= 0 or (workers is not None and workers <= 0):
        raise ValueError("deadline_s, memory_limit_bytes and workers must be positive")
    if model is Model.REGISTER and (operations.f == F.CAS).any():
        raise ValueError("the register has no compare-and-set; use Model.CAS_REGISTER")
    if len(operations) == 0:
        return _outcome({}, engine=engine, seconds=0.0, problem="the history holds no operations")
    program = checker_path()
    until_s = started_s + deadline_s
    # The child stops by itself a little earlier, in order, so that ending it is for when it does not.
    margin_s = min(0.5, 0.1 * deadline_s)

    def write_input(target: IO[bytes]) -> None:
        left_s = max(0.0, until_s - margin_s - time.monotonic())
        header = {
            "schema": _SCHEMA,
            "operations": len(operations),
            "columns": _COLUMNS,
            "model": str(model),
            "engine": str(engine),
            "deadline_ms": int(left_s * 1000),
            "workers": workers or 0,
        }
        target.write(json.dumps(header).encode() + b"\n")
        for name in _COLUMNS:
            target.write(np.ascontiguousarray(getattr(operations, name), dtype="<i8").data)

    answer = ask(program, write_input=write_input, until_s=until_s, memory_limit_bytes=memory_limit_bytes)
    results = {
        int(key): KeyResult(
            key=int(key),
            verdict=Verdict.UNKNOWN,
            engine=None,
            reason=answer.problem or "the deadline passed before it was reached",
        )
        for key in np.unique(operations.key)
    }
    _read(answer, results, operations, model)
    return _outcome(results, engine=engine, seconds=time.monotonic() - started_s, problem=answer.problem)


def _read(answer: Answer, results: dict[int, KeyResult], operations: Operations, model: Model) -> None:
    """Fill in what the child said. A line that makes no sense is a problem, and so never leads to a pass."""
    by_key = np.argsort(operations.key, kind="stable")
    keys = operations.key[by_key]

    def of_key(key: int) -> _RowsOfKey:
        first, last = np.searchsorted(keys, key, "left"), np.searchsorted(keys, key, "right")
        return _RowsOfKey(key, by_key[first:last])

    try:
        for line in answer.lines:
            known = results[line["key"]]
            verdict = Verdict(line["verdict"])
            given = line.get("counterexample")
            results[known.key] = KeyResult(
                key=known.key,
                verdict=verdict,
                engine=Engine(line["engine"]),
                reason=line.get("reason", ""),
                counterexample=None if given is None else _counterexample(given, operations, of_key(known.key), model),
            )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        answer.problem = answer.problem or f"the checker's answer makes no sense ({type(error).__name__}: {error})"
    for key, result in results.items():
        results[key] = _with_reason(result, answer.problem)


def _with_reason(result: KeyResult, problem: str | None) -> KeyResult:
    found = result.counterexample
    if found is not None and len(found.rows) <= REJUDGED_AT_MOST and not found.rejudged:
        reason = (
            f"the engine {result.engine} saw a violation that a brute-force search of the same {len(found.rows)} "
            "operations does not confirm: a bug in Aftershock, please report it"
        )
        return replace(result, verdict=Verdict.UNKNOWN, reason=reason)
    if result.verdict is Verdict.PASS:
        return replace(result, reason="every answer fits one order")
    if result.verdict is Verdict.UNKNOWN:
        return replace(result, reason=result.reason or problem or "the deadline passed before it was reached")
    if found is None:
        found_out = "no order explains its answers; there was no time left to find out which ones"
        return replace(result, reason=found_out)
    return replace(result, reason=found.reason)


def _counterexample(given: dict[str, Any], operations: Operations, of_key: _RowsOfKey, model: Model) -> Counterexample:
    rows = [int(row) for row in given["rows"]]
    of_this_key = set(of_key.rows.tolist())
    if not rows or not of_this_key.issuperset(rows):
        raise ValueError(f"counterexample of key {of_key.key} has rows {rows[:8]}")
    weakened = set(given["weakened"])
    items = [item(operations, row, weakened=row in weakened) for row in rows]
    needed = [one.needed for one in items if one.needed is not None]
    written = np.where(operations.f[of_key.rows] == F.DELETE, ABSENT, operations.value[of_key.rows])
    writers = of_key.rows[(operations.f[of_key.rows] != F.READ) & np.isin(written, needed)]
    # A compare-and-set of a value with itself is a read and so writes nothing; `item` knows.
    missing = [row for row in writers.tolist() if row not in rows and item(operations, row).written is not None]
    return explain(items, rows=rows, model=model, minimal=bool(given["minimal"]), complete=not missing)


def item(operations: Operations, row: int, *, weakened: bool = False) -> Item:
    """One row as an object, the way the brute-force search wants it."""
    f = F(int(operations.f[row]))
    value, expected = int(operations.value[row]), int(operations.expected[row])
    if f is F.CAS and value == expected:
        f = F.READ  # it replaced a value by itself: an observation
    return Item(
        f=f,
        process=int(operations.process[row]),
        value=ABSENT if f is F.DELETE else value,
        expected=expected,
        version=int(operations.version[row]),
        start_ns=int(operations.start_ns[row]),
        end_ns=int(operations.end_ns[row]),
        unknown=bool(operations.unknown[row]),
        weakened=weakened,
    )


def _outcome(results: dict[int, KeyResult], *, engine: Engine, seconds: float, problem: str | None) -> CheckOutcome:
    verdicts = [result.verdict for result in results.values()]
    unknown = verdicts.count(Verdict.UNKNOWN)
    violated = verdicts.count(Verdict.FAIL)
    verdict = worst([*verdicts, Verdict.UNKNOWN] if problem else verdicts)
    keys = "1 key" if len(results) == 1 else f"{len(results)} keys"
    if verdict is Verdict.PASS:
        reason = f"every answer on {keys} fits one order"
    elif verdict is Verdict.FAIL:
        reason = f"{violated} of {keys} cannot be linearized"
        if unknown:
            reason += f"; {unknown} more were not decided"
    else:
        why = problem or next((r.reason for r in results.values() if r.verdict is Verdict.UNKNOWN), "")
        reason = f"{unknown} of {keys} were not decided: {why}" if results else why
    return CheckOutcome(
        verdict=verdict,
        reason=reason,
        engine=engine,
        seconds=seconds,
        keys_checked=len(verdicts) - unknown,
        keys_violated=violated,
        keys_unknown=unknown,
        results=tuple(results[key] for key in sorted(results)),
    )
