"""Data loss by key, and linearizability with its counterexamples."""

from __future__ import annotations

from typing import Any

from .counterexample import counterexample
from .links import jump
from .text import DASH, Values, count, duration, is_number, numbers, percent, plural, time_text
from .view_summary import state_of

__all__ = ["data_loss", "linearizability"]

_KEYS_SHOWN = 200
_EXAMPLES_SHOWN = 5
_KIND_WORDS = {
    "lost": "lost",
    "stale": "read an older value",
    "resurrected": "came back",
    "duplicated": "applied twice",
}


def _check(verdict: Values, name: str) -> Values:
    return next((check for check in verdict.get("checks") or [] if check.get("name") == name), {})


def data_loss(verdict: Values) -> Values:
    """View values of the data loss section: one sentence, or facts and a table by key."""
    loss, check = verdict.get("data_loss"), _check(verdict, "data-loss")
    if not loss or check.get("status") == "skipped":
        return _not_judged(check, "Data loss was not judged in this run.")
    bad = sum(loss.get(name) or 0 for name in ("lost", "stale", "resurrected", "duplicated"))
    state = state_of(check.get("verdict", "fail" if bad else "unknown" if loss.get("undecided") else "pass"))
    acknowledged = plural(loss.get("acknowledged"), "acknowledged write")
    coverage = f"{count(loss.get('checked'))} of {acknowledged} could be checked"
    if not bad:
        words = {"pass": "None", "unknown": "Not decided", "fail": "Fail"}
        undecided = f" {plural(loss.get('undecided'), 'write')} could not be decided." if loss.get("undecided") else ""
        reason = f" {check['reason']}" if state != "pass" and check.get("reason") else ""
        found = "No acknowledged write is missing. " if state == "pass" else ""
        return {
            "state": state,
            "word": words[state],
            "sentence": f"{found}{coverage} ({percent(loss.get('coverage'))}).{undecided}{reason}",
            "keys": [],
        }
    keys = loss.get("keys") or []
    more = (loss.get("keys_more") or 0) + max(0, len(keys) - _KEYS_SHOWN)
    return {
        "state": state,
        "word": "",
        "sentence": "",
        "facts": _loss_facts(loss, coverage),
        "jump": jump(loss.get("window_s")),
        "keys": [_loss_row(key) for key in keys[:_KEYS_SHOWN]],
        "more": more,
    }


def _not_judged(check: Values, sentence: str) -> Values:
    return {"state": "unknown", "word": "Not judged", "sentence": check.get("reason") or sentence, "keys": []}


def _loss_facts(loss: Values, coverage: str) -> list[Values]:
    facts = [
        {"value": count(loss.get("lost")), "text": "acknowledged writes lost", "bad": bool(loss.get("lost"))},
        {
            "value": count(loss.get("rpo_writes")),
            "text": "RPO in writes: acknowledged, and gone after recovery",
            "bad": False,
        },
        {
            "value": duration(loss.get("rpo_s")),
            "text": "RPO in seconds: from the oldest lost write to the end of the loss",
            "bad": False,
        },
    ]
    others = {
        "stale": "an older value was read",
        "resurrected": "came back after they were replaced",
        "duplicated": "applied twice",
    }
    facts += [
        {"value": count(loss[name]), "text": text, "bad": True} for name, text in others.items() if loss.get(name)
    ]
    if not any(map(loss.get, others)):
        facts.append({"value": "0", "text": "stale, resurrected or duplicated", "bad": False})
    if loss.get("undecided"):
        facts.append({"value": count(loss.get("undecided")), "text": "not decided", "bad": False})
    facts.append({"value": percent(loss.get("coverage")), "text": coverage, "bad": False})
    return facts


def _loss_row(key: Values) -> Values:
    acknowledged, read = key.get("acknowledged_s"), key.get("read_s")
    return {
        "key": key.get("key", ""),
        "shard": DASH if key.get("shard") is None else key["shard"],
        "kind": _KIND_WORDS.get(key.get("kind", ""), key.get("kind") or DASH),
        "value": DASH if key.get("value") is None else key["value"],
        "who": f"p{key.get('process')} through {key.get('client') or DASH}",
        "acknowledged": jump([acknowledged, acknowledged], label=f"{time_text(acknowledged, places=3)} s"),
        "read": jump([read, read], label=f"{time_text(read, places=3)} s") if is_number(read) else None,
        "read_value": "nothing" if key.get("read_value") is None else key["read_value"],
    }


def linearizability(verdict: Values) -> Values:
    """View values of the linearizability section: one sentence, or the counterexamples."""
    found, check = verdict.get("linearizability"), _check(verdict, "linearizability")
    if not found or check.get("status") == "skipped":
        return {**_not_judged(check, "Linearizability was not judged in this run."), "examples": [], "facts": ""}
    state = state_of(check.get("verdict", "fail" if found.get("keys_violated") else "pass"))
    checked, violated, undecided = (found.get(name) or 0 for name in ("keys_checked", "keys_violated", "keys_unknown"))
    figures = (
        f"{count(checked - violated - undecided)} of {plural(checked, 'key')} linearizable"
        f" ({plural(found.get('operations'), 'operation')}, engine {found.get('engine') or DASH},"
        f" {duration(found.get('seconds'))})."
    )
    cross = f" {found['cross_check']}." if found.get("cross_check") else ""
    reason = f" {check['reason']}" if state != "pass" and check.get("reason") else ""
    examples = found.get("counterexamples") or []
    faults, shards = verdict.get("faults") or [], (verdict.get("timeline") or {}).get("shards") or []
    return {
        "state": state,
        "word": {"pass": "Holds", "unknown": "Not decided", "fail": "Violated"}[state],
        "sentence": f"{figures}{cross}{reason}".replace("..", "."),
        "facts": f"{figures}{cross}".replace("..", "."),
        "examples": [
            counterexample(example, faults=faults, shards=shards, uid=f"ce{index}")
            for index, example in enumerate(examples[:_EXAMPLES_SHOWN])
        ],
        "more": max(0, violated - min(len(examples), _EXAMPLES_SHOWN)) if examples else violated,
        "log": _log_at(verdict, numbers(examples[0].get("span_s")) if examples else []),
    }


def _log_at(verdict: Values, span: list[float]) -> Any:
    """Id of the incident whose logs cover the counterexample, if there is one."""
    for entry in verdict.get("logs") or []:
        covered = numbers(entry.get("span_s"))
        if len(span) == 2 and len(covered) == 2 and covered[0] <= span[1] and covered[1] >= span[0]:
            return entry.get("incident")
    return None
