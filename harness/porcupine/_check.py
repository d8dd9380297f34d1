"""`check`: columns in, verdict and counterexamples out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from ..verdict import Verdict, worst
from ._answers import read_answer
from ._child import ask
from ._counterexamples import Found, as_operations, item
from ._specs import FUNCTIONS
from ._values import CheckOutcome, Engine, F, KeyResult, Model, Operations
from ._wire import Request, write_request
from ._words import default_words
from .programs import checker_path

__all__ = ["check", "item"]

_SECOND_OPINION_S = 2.0
_SECOND_OPINION_BYTES = 1 << 30


def check(
    operations: Operations,
    *,
    model: Model,
    engine: Engine = Engine.AUTO,
    deadline_s: float = 60.0,
    memory_limit_bytes: int = 2 << 30,
    workers: int | None = None,
    initial: Mapping[int, int] | None = None,
    words: Callable[[int], str] | None = None,
) -> CheckOutcome:
    """Decide, key by key, whether a history is linearizable.

    Runs in a child process that is ended at `deadline_s` or when it holds more than `memory_limit_bytes`. What was
    decided by then stays decided; the rest is unknown, with the reason, and so is everything that a crash of the child
    leaves open. `workers` is the number of keys judged at a time (default: one per core). `initial` is the balance of
    every account, for the bank only. `words` shows in sentences what was written, added, put in or read (default: the
    number, and `nothing` for `ABSENT`).

    Raises ValueError when the operations do not fit the model, SetupError when the native program is not installed.
    """
    started_s = time.monotonic()
    if deadline_s <= 0 or memory_limit_bytes <= 0 or (workers is not None and workers <= 0):
        raise ValueError("deadline_s, memory_limit_bytes and workers must be positive")
    _refuse_other_functions(operations, model)
    if model is Model.BANK:
        _refuse_unknown_accounts(operations, initial or {})
    if len(operations) == 0:
        return _outcome({}, engine=engine, seconds=0.0, problem="the history holds no operations")
    program = checker_path()
    until_s = started_s + deadline_s
    # The child stops by itself a little earlier, in order, so that ending it is for when it does not.
    margin_s = min(0.5, 0.1 * deadline_s)

    def write_input(target: IO[bytes]) -> None:
        left_s = max(0.0, until_s - margin_s - time.monotonic())
        request = Request(
            model=model, engine=engine, deadline_ms=int(left_s * 1000), workers=workers or 0, initial=initial or {}
        )
        write_request(target, operations, request)

    answer = ask(program, write_input=write_input, until_s=until_s, memory_limit_bytes=memory_limit_bytes)
    second = partial(_second_opinion, program=program, model=model, until_s=until_s)
    results = read_answer(
        answer, operations, model=model, initial=initial or {}, words=words or default_words, second=second
    )
    outcome = _outcome(results, engine=engine, seconds=time.monotonic() - started_s, problem=answer.problem)
    return replace(outcome, decide_s=answer.summary.get("decide_seconds"))


def _refuse_other_functions(operations: Operations, model: Model) -> None:
    wrong = ~np.isin(operations.f, [int(f) for f in FUNCTIONS[model]])
    if not wrong.any():
        return
    row = int(wrong.argmax())
    f = F(int(operations.f[row]))
    if model is Model.REGISTER and f in FUNCTIONS[Model.CAS_REGISTER]:
        raise ValueError("the register has no compare-and-set; use Model.CAS_REGISTER")
    known = ", ".join(sorted(one.name for one in FUNCTIONS[model]))
    raise ValueError(f"row {row} calls {f.name}, which the model {model} has not; it has {known}")


def _refuse_unknown_accounts(operations: Operations, initial: Mapping[int, int]) -> None:
    """A transfer with an account that holds nothing at all would look like a violation."""
    transfers = operations.f == F.TRANSFER
    accounts = np.fromiter(initial, dtype=np.int64, count=len(initial))
    for column in (operations.expected, operations.version):
        wrong = transfers & ~np.isin(column, accounts)
        if wrong.any():
            row = int(wrong.argmax())
            raise ValueError(f"row {row} transfers with account {column[row]}, which `initial` gives no balance")


def _second_opinion(found: Found, first: Engine, *, program: Path, model: Model, until_s: float) -> bool | None:
    """Whether another engine finds a counterexample illegal that is too large for brute force; None: no answer."""
    engine = Engine.AUTO if first is Engine.PORCUPINE else Engine.PORCUPINE
    until_s = min(until_s, time.monotonic() + _SECOND_OPINION_S)
    request = Request(
        model=model,
        engine=engine,
        deadline_ms=int(1000 * max(0.0, until_s - time.monotonic())),
        workers=1,
        initial=found.reduced.initial or {},
    )
    alone = as_operations(found.reduced.judged)
    answer = ask(
        program,
        write_input=lambda target: write_request(target, alone, request),
        until_s=until_s,
        memory_limit_bytes=_SECOND_OPINION_BYTES,
    )
    said = {line.get("verdict") for line in answer.lines} & {str(Verdict.PASS), str(Verdict.FAIL)}
    return said == {str(Verdict.FAIL)} if said else None


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
