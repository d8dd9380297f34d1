"""The words at the top of the report: headline, cause, findings, how sure it is, and what was not checked.

Plain sentences for somebody who has never seen the project: what the user of the system lost, or that it held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..verdict import Verdict
from .linearizability import Linearizability
from .load_schedule import LOAD_KEPT_SCHEDULE
from .result import Assumption, CheckResult, Span, count, join
from .view import View

__all__ = ["cause", "certainty", "findings", "headline", "not_checked"]

# What hurts a user most comes first.
_ORDER: Final = (
    "data-loss",
    "linearizability",
    "sessions",
    "replica-agreement",
    "recovery",
    "availability",
    "latency",
    "load",
    "assumptions",
)


def _ranked(results: Sequence[CheckResult], verdict: Verdict) -> list[CheckResult]:
    found = [r for r in results if r.status == "judged" and r.verdict is verdict]
    return sorted(found, key=lambda r: _ORDER.index(r.name) if r.name in _ORDER else len(_ORDER))


def headline(view: View, verdict: Verdict, required: Sequence[CheckResult], loss: Mapping[str, Any] | None) -> str:
    """One line: what was lost, what is undecided, or that everything held."""
    if verdict is Verdict.FAIL:
        parts = [_broken(result, loss) for result in _ranked(required, Verdict.FAIL)]
        text = parts[0] + (f", and {parts[1]}" if len(parts) > 1 else "")
        return text[0].upper() + text[1:]
    if verdict is Verdict.UNKNOWN:
        return _undecided(view, required)
    injected = [fault for fault in view.faults if not fault.is_control]
    if not injected:
        return "Every promise held in the control run, in which nothing was broken"
    return f"Every promise held under {count(len(injected), 'fault')}"


def _broken(result: CheckResult, loss: Mapping[str, Any] | None) -> str:
    if result.name == "data-loss" and loss is not None:
        if loss["lost"]:
            return f"{count(loss['lost'], 'acknowledged write')} {_were(loss['lost'])} lost"
        if loss["stale"]:
            return f"{count(loss['stale'], 'acknowledged write')} {_were(loss['stale'])} replaced by other values"
        if loss["duplicated"]:
            return (
                f"{count(loss['duplicated'], 'write')} {_were(loss['duplicated'])} acknowledged twice for the same key"
            )
        return f"{count(loss['resurrected'], 'refused write')} came back"
    words = {
        "linearizability": f"answers on {result.value} contradict each other",
        "replica-agreement": f"the replicas of {result.value} differ after healing",
        "recovery": f"service was not back in time ({result.value}, {result.context})",
        "availability": f"too little was answered ({result.value}, {result.context})",
        "latency": f"answers were too slow ({result.value}, {result.context})",
    }
    if result.name == "availability" and result.value.endswith(" s"):
        return f"service was missing for too long ({result.value}, {result.context})"
    return words.get(result.name, f"{result.title} failed: {result.reason}")


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def _undecided(view: View, required: Sequence[CheckResult]) -> str:
    if view.incomplete is not None:
        return f"Undecided: {view.incomplete}"
    ranked = _ranked(required, Verdict.UNKNOWN)
    if not ranked:
        return "Undecided: no required check was judged"
    # The root is shown rather than what follows from it: a broken assumption, or a late generator.
    roots = [r for r in ranked if r.name in ("assumptions", "load")] or ranked
    root = roots[0]
    # The context of the load check stands beside its figure; alone it says nothing.
    reason = root.reason if root.name == "load" else root.context or root.reason
    return f"Undecided: {_in_sentence(reason).rstrip('.')}"


def _in_sentence(text: str) -> str:
    return text[0].lower() + text[1:] if text.startswith(("The ", "An ", "A ", "Nobody ")) else text


def cause(view: View, verdict: Verdict, required: Sequence[CheckResult]) -> tuple[str | None, Span | None]:
    """One more sentence with its place in time; on a fail, during which fault it happened."""
    if verdict is Verdict.FAIL:
        first = _ranked(required, Verdict.FAIL)[0]
        if not first.spans_s:
            return first.reason, None
        span = (first.spans_s[0][0], max(b for _, b in first.spans_s))
        near = [f for f in view.faults if f.injected_s is not None and _meets(span, (f.injected_s, f.ends_s + f.rto_s))]
        if not near:
            # What was confirmed shortly before a fault is what that fault can take away.
            later = next((f for f in view.faults if f.injected_s is not None and f.injected_s >= span[1]), None)
            if later is None:
                return f"{first.reason} No fault was on at that time.", span
            what = f"{later.id} ({(later.description or later.title).rstrip('.')})"
            after_s = max(0.0, (later.injected_s or 0.0) - span[1])
            return f"{first.reason} The next fault, {what}, came {after_s:.2f} s later.", span
        what = join(f"{f.id} ({(f.description or f.title).rstrip('.')})" for f in near)
        return f"{first.reason} It happened during or right after {what}.", span
    if verdict is Verdict.UNKNOWN:
        broken = [r for r in required if r.verdict is Verdict.FAIL]
        text = "Nothing was found broken in what was recorded, but that is not a pass." if not broken else None
        return text, None
    injected = [fault for fault in view.faults if not fault.is_control]
    if not injected:
        return None, None
    times = join(f"{fault.title} at {fault.injected_s or 0:.2f} s" for fault in injected)
    return f"{times} {'took' if len(injected) == 1 else 'all took'} effect.", None


def _meets(a: Span, b: Span) -> bool:
    return a[0] <= b[1] and a[1] >= b[0]


def findings(results: Sequence[CheckResult]) -> list[dict[str, Any]]:
    """Numbered: every check that failed, then every one that is undecided; what matters most first."""
    chosen = [*_ranked(results, Verdict.FAIL), *_ranked(results, Verdict.UNKNOWN)]
    return [
        {
            "number": number,
            "check": result.name,
            "title": result.title,
            "value": result.value or "not decided",
            "context": result.context or result.reason,
            "spans_s": [list(span) for span in result.spans_s],
            "evidence": result.evidence,
            "verdict": str(result.verdict),
        }
        for number, result in enumerate(chosen, start=1)
    ]


def certainty(
    view: View, results: Sequence[CheckResult], assumptions: Sequence[Assumption], linear: Linearizability | None
) -> list[dict[str, Any]]:
    """Why one may, or may not, rely on the verdict; each line has its evidence."""
    lines = [_faults_line(view), _healed_line(view)]
    load = next((r for r in results if r.name == "load"), None)
    if load is not None and load.status == "judged":
        state = str(load.verdict)
        text = "Load kept its schedule" if load.verdict is Verdict.PASS else "Load did not keep its schedule"
        lines.append({"state": state, "text": text, "detail": f"{load.value} {load.context}", "evidence": "load"})
    if linear is not None and linear.detail is not None:
        lines += _engine_lines(linear.detail)
    if view.incomplete is not None:
        detail = f"{view.judged_until_s:.1f} of {view.planned_s:.1f} s recorded; {view.incomplete}"
        lines.append(
            {"state": "unknown", "text": "The recording is incomplete", "detail": detail, "evidence": "timeline"}
        )
    # A late generator has its own line above.
    broken = [a for a in assumptions if not a.held and a.text != LOAD_KEPT_SCHEDULE]
    state = "unknown" if broken else "pass"
    text = f"{count(len(broken), 'assumption')} did not hold" if broken else "Every assumption held"
    detail = broken[0].detail if broken else f"{len(assumptions)} checked before anything was judged"
    lines.append({"state": state, "text": text, "detail": detail, "evidence": "not-checked"})
    return [line for line in lines if line is not None]


def _faults_line(view: View) -> dict[str, Any] | None:
    injected = [f for f in view.faults if not f.is_control]
    if not injected:
        return (
            {"state": "pass", "text": "Nothing was broken on purpose", "detail": "control run", "evidence": "faults"}
            if (view.record.scenario.control or view.faults)
            else {
                "state": "unknown",
                "text": "No fault was injected",
                "detail": "and the run is no control run",
                "evidence": "faults",
            }
        )
    without = [f for f in injected if not f.proven]
    if without:
        text = f"{len(injected) - len(without)} of {count(len(injected), 'fault')} took effect"
        detail = f"not proven: {join(f'{f.id} ({f.title})' for f in without)}"
        return {"state": "unknown", "text": text, "detail": detail, "evidence": "faults"}
    facts = [f.evidence[0] for f in injected if f.evidence]
    text = "The fault took effect" if len(injected) == 1 else f"All {len(injected)} faults took effect"
    return {"state": "pass", "text": text, "detail": join(facts, most=2), "evidence": "faults"}


def _healed_line(view: View) -> dict[str, Any] | None:
    injected = [f for f in view.faults if f.injected_s is not None and not f.is_control]
    if not injected:
        return None
    left = [f for f in injected if not f.heal_verified]
    if left:
        detail = join(f"{f.id} ({f.title})" for f in left)
        return {
            "state": "unknown",
            "text": "Not everything was seen to be undone",
            "detail": detail,
            "evidence": "faults",
        }
    detail = f"{len(injected)} of {len(injected)} verified by looking at the effect"
    return {"state": "pass", "text": "Everything injected was undone", "detail": detail, "evidence": "faults"}


def _engine_lines(detail: Mapping[str, Any]) -> list[dict[str, Any]]:
    open_keys, checked = detail["keys_unknown"], detail["keys_checked"]
    text = "Every key was decided exactly" if not open_keys else f"{count(open_keys, 'key')} of {checked:,} not decided"
    state = "unknown" if open_keys else "pass"
    lines = [{"state": state, "text": text, "detail": detail["cross_check"], "evidence": "linearizability"}]
    shown = detail["counterexamples"]
    if shown:
        again = all(example["rejudged"] for example in shown)
        lines.append(
            {
                "state": "pass" if again else "unknown",
                "text": "Counterexample judged again" if again else "Counterexample was not judged again",
                "detail": f"{count(len(shown), 'counterexample')}, each on its own few operations",
                "evidence": "linearizability",
            }
        )
    return lines


_NEVER: Final = (
    ("Session guarantees", "only linearizability is judged, which is stronger"),
    ("Transactions", "the workloads touch one key at a time"),
    ("Stability (flapping, leaks)", "this version does not judge it"),
)


def not_checked(view: View, results: Sequence[CheckResult]) -> list[dict[str, str]]:
    """Checks that nobody asked for or that this version lacks, and the parts of a judged check that are left open."""
    rows = [{"what": r.title, "reason": r.reason} for r in results if r.status == "skipped"]
    if view.load["cut_off"].any():
        number = int(view.load["cut_off"].sum())
        reason = f"{count(number, 'operation')} of clients that a fault had cut off: they are judged for safety only"
        rows.append({"what": "Availability of clients while cut off", "reason": reason})
    rows.append(
        {
            "what": "Each overwritten value on its own",
            "reason": "writes to keys that are overwritten are covered by linearizability with final reads; "
            "data loss counts the insert-only keys, where every single write can be looked up",
        }
    )
    judged = {r.title for r in results if r.status == "judged"}
    rows += [{"what": what, "reason": reason} for what, reason in _NEVER if what not in judged]
    return rows
