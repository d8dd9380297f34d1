"""A user's own model, written in Python: what it must have, and the check of a history against it.

docs/user-models.md explains it with an example.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ..errors import UsageError
from ..verdict import Verdict
from ._user_process import Heard, run_worker
from ._user_values import Call, OptionalMethods, UserModel, UserOperation
from ._values import CheckOutcome, Counterexample, Engine, KeyResult, Order
from .programs import checker_path

__all__ = ["Call", "OptionalMethods", "UserModel", "UserOperation", "check_user_model"]


def check_user_model(
    operations: Sequence[UserOperation],
    *,
    model: UserModel,
    deadline_s: float = 60.0,
    memory_limit_bytes: int = 2 << 30,
) -> CheckOutcome:
    """Decide, part by part, whether a history is linearizable under a user's model.

    The model runs in a process of its own, a fork of this one, and the search in another; both are ended at
    `deadline_s` or when they hold more than `memory_limit_bytes` beyond what this process holds, also when a step never
    returns. What was decided by then stays decided, the rest is unknown with the reason.

    `key` of a result is the number of the part in order of first appearance, 0 without `partition`; rows of a
    counterexample are indices into `operations`. Raises UsageError when the model raises, or returns what cannot be a
    state, with the operation and the state; SetupError when the native program is not installed.
    """
    started_s = time.monotonic()
    if deadline_s <= 0 or memory_limit_bytes <= 0:
        raise ValueError("deadline_s and memory_limit_bytes must be positive")
    program = checker_path()
    if not operations:
        return _outcome({}, parts=[], seconds=0.0, problem="the history holds no operations")
    heard = run_worker(
        program,
        model,
        operations,
        until_s=started_s + deadline_s,
        memory_limit_bytes=memory_limit_bytes,
    )
    if heard.error is not None:
        raise UsageError(heard.error)
    results: dict[int, KeyResult] = {}
    for line in heard.verdicts:
        results[line["key"]] = _result(line, heard)
    return _outcome(results, parts=heard.parts, seconds=time.monotonic() - started_s, problem=heard.problem)


def _result(line: dict[str, Any], heard: Heard) -> KeyResult:
    key: int = line["key"]
    verdict = Verdict(line["verdict"])
    if verdict is Verdict.PASS:
        reason = "every answer fits one order"
    elif verdict is Verdict.UNKNOWN:
        reason = "the search did not end within its time"
    else:
        reason = "no order explains its answers; there was no time left to find out which ones"
    given = line.get("counterexample")
    found = None if given is None else _counterexample(given)
    if found is not None:
        reason = found.reason
    if given is not None and given["rejudged"] is False:
        verdict = Verdict.UNKNOWN
        reason = (
            "the search saw a violation that trying every order of the same operations does not confirm: either the "
            "model's step does not always answer the same, or this is a bug in Aftershock, please report it"
        )
    return KeyResult(
        key=key,
        verdict=verdict,
        engine=Engine.PORCUPINE,
        reason=reason,
        counterexample=found,
        prefix_operations=None if given is None else given["prefix_operations"],
        prefix_end_ns=None if given is None else given["prefix_end_ns"],
    )


def _counterexample(given: dict[str, Any]) -> Counterexample:
    return Counterexample(
        rows=tuple(given["rows"]),
        roles=tuple(given["roles"]),
        notes=tuple("" for _ in given["rows"]),
        reason=given["reason"],
        reasons=tuple(given["reasons"]),
        edges=(),
        orders=tuple(Order(order=tuple(order), ruled_out_by=i, why=f"{why}.") for order, i, why in given["orders"]),
        precedences=tuple(given["precedences"]),
        rejudged=given["rejudged"] is True,
        minimal=given["minimal"],
    )


def _outcome(
    results: dict[int, KeyResult], *, parts: Sequence[str], seconds: float, problem: str | None
) -> CheckOutcome:
    for key in range(len(parts)):
        reason = problem or "the deadline passed before it was reached"
        results.setdefault(key, KeyResult(key=key, verdict=Verdict.UNKNOWN, engine=None, reason=reason))
    verdicts = [result.verdict for result in results.values()]
    violated, unknown = verdicts.count(Verdict.FAIL), verdicts.count(Verdict.UNKNOWN)
    of_all = "the one part" if len(results) == 1 else f"{len(results)} parts"
    if violated:
        verdict = Verdict.FAIL
        reason = f"{violated} of {of_all} cannot be linearized" + (f"; {unknown} were not decided" if unknown else "")
        if len(results) == 1:
            reason = next(iter(results.values())).reason
    elif unknown or problem or not results:
        verdict = Verdict.UNKNOWN
        why = problem or next((r.reason for r in results.values() if r.verdict is Verdict.UNKNOWN), "")
        reason = f"{unknown} of {of_all} were not decided: {why}" if len(results) > 1 else why
    else:
        verdict = Verdict.PASS
        reason = "every answer fits one order" if len(results) == 1 else f"every answer in {of_all} fits one order"
    return CheckOutcome(
        verdict=verdict,
        reason=reason,
        engine=Engine.PORCUPINE,
        seconds=seconds,
        keys_checked=len(verdicts) - unknown,
        keys_violated=violated,
        keys_unknown=unknown,
        results=tuple(results[key] for key in sorted(results)),
    )
