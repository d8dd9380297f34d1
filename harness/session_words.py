"""Puts a circle of writes into a sentence for somebody who has to find the mistake."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from .porcupine import ABSENT, F, Operations
from .session_chains import Kind
from .session_cycles import GUARANTEES, Step

__all__ = ["sentence", "value_name"]

_NAMES: Final = {
    Kind.READ_YOUR_WRITES: "read your writes",
    Kind.MONOTONIC_READS: "monotonic reads",
    Kind.MONOTONIC_WRITES: "monotonic writes",
    Kind.WRITES_FOLLOW_READS: "writes follow reads",
}


def value_name(value: int) -> str:
    """A value as it is said where nobody says otherwise."""
    return "nothing" if value == ABSENT else str(value)


def sentence(
    operations: Operations,
    steps: Sequence[Step],
    rows: Sequence[int],
    *,
    value_of: Callable[[int], int],
    say: Callable[[int], str],
) -> str:
    """Why the steps cannot all hold. `rows` are their operations by start; `value_of` a node, and how to `say` it."""
    promised = [step for step in steps if step.kind in _NAMES]
    facts = [step for step in steps if step.kind not in _NAMES]
    processes = {int(operations.process[row]) for step in promised for row in (step.source_row, step.target_row)}
    if len(processes) == 1 and all(step.kind is Kind.INITIAL for step in facts):
        told = f"process {processes.pop()} {_then(operations, rows, say)}"
    else:
        told = ", but ".join(_clause(operations, step, say) for step in promised)
    for step in facts:
        source, target = say(value_of(step.source)), say(value_of(step.target))
        if step.kind is Kind.REPLACED:
            told += f"; {target} took the place of {source}"
        elif step.kind is Kind.VERSIONS:
            told += (
                f"; {source} has version {int(operations.version[step.source_row])}, "
                f"{target} the later version {int(operations.version[step.target_row])}"
            )
        else:
            told += f"; the key held {source} only before the first write, as nobody deleted it"
    kept = " and ".join(_NAMES[kind] for kind in GUARANTEES if any(step.kind is kind for step in promised))
    return f"{told[:1].upper()}{told[1:]}: no order of these writes keeps {kept}."


def _did(operations: Operations, row: int, say: Callable[[int], str]) -> str:
    f, value, expected = (int(column[row]) for column in (operations.f, operations.value, operations.expected))
    if f == F.READ:
        return f"read {say(value)}"
    if f == F.DELETE:
        return "deleted the key"
    if f != F.CAS:
        return f"wrote {say(value)}"
    if value == expected:
        return f"found {say(value)}"
    return f"inserted {say(value)}" if expected == ABSENT else f"replaced {say(expected)} by {say(value)}"


def _then(operations: Operations, rows: Sequence[int], say: Callable[[int], str]) -> str:
    return ", then ".join(_did(operations, row, say) for row in rows)


def _clause(operations: Operations, step: Step, say: Callable[[int], str]) -> str:
    process = int(operations.process[step.source_row])
    return f"process {process} {_then(operations, (step.source_row, step.target_row), say)}"
