"""What a check answers: a verdict with its reason in words that a stranger understands, and the numbers behind it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..verdict import Verdict

__all__ = ["Assumption", "CheckResult", "Span", "answer", "count", "join", "tainted"]

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


def answer(
    name: str,
    title: str,
    verdict: Verdict,
    reason: str,
    summary: str = "",
    numbers: Mapping[str, Any] | None = None,
    *,
    value: str = "not decided",
    context: str = "",
    spans: tuple[Span, ...] = (),
    status: str = "judged",
) -> CheckResult:
    """The answer of a check whose section of the report has the check's own name."""
    return CheckResult(
        name=name,
        title=title,
        verdict=verdict,
        reason=reason,
        summary=summary,
        value=value,
        context=context,
        numbers=numbers or {},
        spans_s=spans,
        evidence=name,
        status=status,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumption:
    """One thing that must hold for a judgement to mean something.

    When it does not, each check named in `taints` cannot pass, and a fail of one named in `breaks` may be the
    measurement's own doing. `scope` names the faults that are concerned, and is empty when the whole run is.
    """

    text: str
    held: bool
    detail: str = ""
    taints: tuple[str, ...] = ()
    breaks: tuple[str, ...] = ()
    scope: tuple[str, ...] = ()


def tainted(result: CheckResult, assumptions: Sequence[Assumption]) -> CheckResult:
    """Turn what an assumption that did not hold leaves open into unknown.

    A pass, where the check rests on it; a fail only where the measurement itself may have done what was seen.
    """
    if result.status != "judged" or result.verdict is Verdict.UNKNOWN:
        return result
    passed = result.verdict is Verdict.PASS
    broken = [a for a in assumptions if not a.held and result.name in (a.taints if passed else a.breaks)]
    if not broken:
        return result
    why = "; ".join(a.detail for a in broken)
    reason = (
        f"Nothing wrong was seen, but it cannot be relied on: {why}"
        if passed
        else f"What was seen may be our own doing: {why}. Seen: {result.reason}"
    )
    return replace(
        result,
        verdict=Verdict.UNKNOWN,
        reason=reason,
        scope=tuple(sorted({fault for a in broken for fault in a.scope})),
        spans_s=result.spans_s if passed else (),
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
