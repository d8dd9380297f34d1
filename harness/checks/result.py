"""What a check answers: a verdict with its reason in words that a stranger understands, and the numbers behind it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..verdict import Verdict

__all__ = ["Assumption", "CheckResult", "Span", "count", "join", "tainted"]

Span = tuple[float, float]  # seconds from the start of the load


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """Answer of one check. `value` and `context` are its line among the findings, `spans_s` its place in time.

    `scope` names the faults in whose windows it is undecided, when the verdict is unknown. `status` is `skipped` when
    nobody asked; its verdict then counts for nothing.
    """

    name: str
    title: str
    verdict: Verdict
    reason: str  # one sentence: why this verdict
    summary: str = ""  # what was judged, and how much of it
    value: str = ""
    context: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    scope: tuple[str, ...] = ()
    spans_s: tuple[Span, ...] = ()
    evidence: str = ""  # section of the report that shows it
    status: str = "judged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumption:
    """One thing that must hold for a judgement to mean something.

    When it does not, each check named in `taints` cannot pass; `scope` names the faults that are concerned, and is
    empty when the whole run is.
    """

    text: str
    held: bool
    detail: str = ""
    taints: tuple[str, ...] = ()
    scope: tuple[str, ...] = ()


def tainted(result: CheckResult, assumptions: Iterable[Assumption]) -> CheckResult:
    """Turn a pass into unknown when an assumption that it rests on did not hold. A fail stays: it was seen."""
    broken = [a for a in assumptions if not a.held and result.name in a.taints]
    if not broken or result.verdict is not Verdict.PASS or result.status != "judged":
        return result
    return replace(
        result,
        verdict=Verdict.UNKNOWN,
        reason="Nothing wrong was seen, but it cannot be relied on: " + "; ".join(a.detail for a in broken),
        scope=tuple(sorted({fault for a in broken for fault in a.scope})),
        value="not decided",
        context=broken[0].detail,
    )


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 write`, `12 writes`, `12,345 writes`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def join(parts: Iterable[str], *, most: int = 5) -> str:
    """`a, b and c`; beyond `most` it says how many more there are."""
    found = list(parts)
    if len(found) > most:
        found = [*found[:most], f"{len(found) - most:,} more"]
    return found[0] if len(found) == 1 else ", ".join(found[:-1]) + " and " + found[-1] if found else ""
