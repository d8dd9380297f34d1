"""Example verdicts for the tests of the reports, in the form of docs/verdict.md: 60 s, 300 operations/s, 5 nodes.

To look at the pages: `PYTHONPATH=.ns python tests/unit/reports/report_examples.py /tmp/pages`.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

from report_example_load import FAULTS, LOAD_S, RATE, SHARDS, Verdict, timeline


def _faults(until: float, *, unproven: str | None = None) -> list[Verdict]:
    rows = []
    for fault, name, kind, title, targets, (begin, end), gap, shards in FAULTS:
        started, done = begin + 0.004 < until, end + 0.1 <= until
        proven = started and fault != unproven
        recovered = bool(shards) and proven and begin + gap < until
        rows.append(
            {
                "id": fault,
                "name": name,
                "kind": kind,
                "title": title,
                "targets": targets,
                "description": f"{title}: injected through the proxies of the process backend.",
                "planned_s": [begin, end],
                "injected_s": begin + 0.004 if started else None,
                "proven_s": begin + 0.21 if proven else None,
                "healing_s": end if done else None,
                "healed_s": end + 0.1 if done else None,
                "in_sync_s": end + 1.7 if done and shards else None,
                "proven": proven,
                "evidence": [
                    "12 of 12 probes n3 to n1 unanswered, on an old and a new connection",
                    "bytes still arrive from n1",
                ]
                if proven
                else ["0 of 12 probes were affected"],
                "heal_verified": done or not started,
                "heal_evidence": ["round trip in 1.2 ms"] if done else [],
                "expect": "recovers" if shards else "available",
                "rto_s": 5.0,
                "cut_off": {"clients-r1": None} if fault == "f2" else {},
                "error": None,
                "reaction": {
                    "expected": f"a new epoch of shards {', '.join(map(str, shards))}",
                    "seen": proven,
                    "detail": f"{len(shards)} of {len(shards)} shards",
                }
                if shards
                else None,
                "recovery": {
                    "shard": shards[0],
                    "detected_s": begin + gap * 0.5,
                    "decided_s": begin + gap * 0.72,
                    "promoted_s": begin + gap * 0.85,
                    "first_success_s": begin + gap,
                    "rto_measured_s": gap,
                }
                if recovered
                else None,
            }
        )
    return rows


def _windows() -> list[Verdict]:
    rows = []
    for fault, _, _, _, _, (begin, end), gap, shards in FAULTS:
        spans = {
            "before": (begin - 3.0, begin),
            "during": (begin, end),
            "recovery": (end, end + 1.7),
            "after": (end + 1.7, end + 4.0),
        }
        for kind, span in spans.items():
            for clients in ("owed", "cut-off") if fault == "f2" and kind == "during" else ("owed",):
                count = round(RATE * (span[1] - span[0]) * (0.5 if fault == "f2" and kind == "during" else 1.0))
                bad = (
                    0
                    if kind != "during"
                    else 38
                    if clients == "owed" and shards
                    else count
                    if clients == "cut-off"
                    else 0
                )
                rows.append(
                    {
                        "fault": fault,
                        "kind": kind,
                        "span_s": list(span),
                        "clients": clients,
                        "operations": count,
                        "ok": count - bad,
                        "fail": bad // 3,
                        "unknown": bad - bad // 3,
                        "not_sent": 0,
                        "success_ratio": 1 - bad / count,
                        "longest_gap_s": gap if bad else 0.0,
                        "unavailable_s": gap if bad else 0.0,
                        "p50_ms": 3.1,
                        "p99_ms": 512.0 if bad else 9.4,
                        "p999_ms": 570.0 if bad else 17.3,
                        "p99_raw_ms": 500.0 if bad else 9.1,
                    }
                )
    return rows


def _events(until: float) -> list[Verdict]:
    rows: list[tuple[str, float, str, str, str | None]] = [
        ("harness", 0.0, "phase", "load: 300 operations/s, 64 processes, two key spaces", None)
    ]
    for fault, _, _, title, targets, (begin, end), gap, shards in FAULTS:
        rows += [
            ("harness", begin, "fault.planned", f"{title}, {end - begin:g} s", fault),
            ("harness", begin + 0.004, "fault.injected", f"{title}: {', '.join(targets) or 'nothing touched'}", fault),
            (
                "harness",
                begin + 0.21,
                "fault.proven",
                "12 of 12 probes unanswered, on an old and a new connection",
                fault,
            ),
        ]
        for shard in shards:
            rows += [
                ("c1", begin + gap * 0.5, "suspected", f"{targets[0]}: no heartbeat for 590 ms", fault),
                ("c1", begin + gap * 0.72, "decided", f"promote, shard {shard}", fault),
                (targets[0], begin + gap * 0.85, "primary.open", f"shard {shard} serves again in a new epoch", fault),
            ]
        rows.append(("harness", end + 0.1, "fault.healed", "round trip in 1.2 ms; journal entry closed", fault))
    rows.append(("harness", 60.0, "warning", "r1 answered the last request after 412 ms", None))
    return [
        {
            "t_s": t,
            "source": source,
            "kind": kind,
            "text": text,
            "fault": fault,
            "level": "warning" if kind in ("warning", "suspected") else "info",
        }
        for source, t, kind, text, fault in sorted(rows, key=lambda row: row[1])
        if t <= until
    ]


def _logs() -> list[Verdict]:
    return [
        {
            "incident": "f4",
            "member": "n5",
            "span_s": [35.0, 44.0],
            "lines_more": 0,
            "lines": [
                {"t_s": 35.88, "text": 'insert key="i-002071" entry=5205 ack=primary'},
                {"t_s": 36.003, "text": "(log ends; process killed)"},
                {"t_s": 42.31, "text": "rejoin shard=4 epoch=6 truncate from=5205 to=5216 (12 entries)"},
            ],
        },
        {
            "incident": "f4",
            "member": "n1",
            "span_s": [35.0, 44.0],
            "lines_more": 0,
            "lines": [
                {"t_s": 37.03, "text": "promoted shard=4 epoch=6 log_end=5204"},
                {"t_s": 37.2, "text": 'rejected key="<b>h-3</b>": \x1b[31mforbidden characters'},
            ],
        },
    ]


def _check(
    name: str, title: str, verdict: str, value: str, context: str = "", *, required: bool = True, **numbers: Any
) -> Verdict:
    summary = f"{value}, {context}" if context else value
    return {
        "name": name,
        "title": title,
        "verdict": verdict,
        "required": required,
        "status": "judged",
        "reason": summary,
        "summary": summary,
        "value": value,
        "context": context,
        "numbers": numbers,
        "scope": [],
        "evidence": name,
    }


def _checks() -> list[Verdict]:
    return [
        _check("assumptions", "Assumptions", "pass", "4 of 4 held"),
        _check("linearizability", "Linearizability", "pass", "7,220 keys", "all linearizable", keys=7220, seconds=0.21),
        _check(
            "data-loss", "Data loss", "pass", "0 writes", "of 7,200 acknowledged are missing", acknowledged=7200, lost=0
        ),
        _check("availability", "Availability", "pass", "99.96 %", "target 99.9 %", steady_ratio=0.99961),
        _check("recovery", "Recovery", "pass", "1.21 s", "limit 5 s", slowest_s=1.21),
        _check("latency", "Latency", "pass", "9.4 ms", "p99, target 50 ms", p99_ms=9.4, required=False),
        _check("load", "Load", "pass", "99.98 % of starts on time", on_time_ratio=0.9998),
        _check("replica-agreement", "Replica agreement", "pass", "16 of 16 shards", shards=16),
        {
            "name": "session",
            "title": "Session guarantees",
            "verdict": "unknown",
            "required": False,
            "status": "skipped",
            "reason": "not asked for",
            "summary": "",
            "value": "",
            "context": "",
            "numbers": {},
            "scope": [],
            "evidence": "not-checked",
        },
    ]


def _targets() -> list[Verdict]:
    base = {"required": True, "verdict": "pass", "budget": None, "detail": ""}
    return [
        {
            **base,
            "name": "availability",
            "title": "Success ratio outside fault windows",
            "scope": "owed operations, steady",
            "measured": 0.99961,
            "target": 0.999,
            "unit": "ratio",
            "better": "higher",
            "budget": {"allowed": 18, "spent": 7},
            "detail": "11,213 operations judged",
        },
        {
            **base,
            "name": "rto",
            "title": "Recovery time",
            "scope": "each failover",
            "measured": 1.21,
            "target": 5.0,
            "unit": "s",
            "better": "lower",
        },
        {
            **base,
            "name": "longest_gap",
            "title": "Longest gap",
            "scope": "owed operations, steady",
            "measured": 0.0,
            "target": 0.5,
            "unit": "s",
            "better": "lower",
        },
        {
            **base,
            "name": "latency_p99",
            "title": "Latency p99, from schedule",
            "scope": "steady",
            "measured": 9.4,
            "target": 50.0,
            "unit": "ms",
            "better": "lower",
            "required": False,
        },
    ]


def passing() -> Verdict:
    """The safe cluster: five faults, everything held."""
    return {
        "schema": 1,
        "tool": {"name": "aftershock", "version": "0.1.0"},
        "run": {
            "id": "20261121T140211Z-demo-7",
            "scenario": "demo",
            "description": "five faults on a safe cluster",
            "state": "recorded",
            "seed": 7,
            "started_utc": "2026-11-21T14:02:11Z",
            "duration_s": LOAD_S,
            "backend": "process",
            "system": "reference",
            "system_text": "reference, 5 nodes, 16 shards",
            "operations": round(LOAD_S * RATE),
            "control": False,
            "incomplete": None,
        },
        "verdict": "pass",
        "exit_code": 0,
        "headline": "Every promise held under 5 faults",
        "cause": "All 5 faults took effect. All 7,200 acknowledged writes were found; slowest failover 1.21 s.",
        "cause_span_s": None,
        "findings": [],
        "certainty": [
            {
                "state": "pass",
                "text": "All 5 faults took effect",
                "detail": "probes unanswered, exit by signal 9 seen",
                "evidence": "faults",
            },
            {
                "state": "pass",
                "text": "Load kept its schedule",
                "detail": "99.98 % of starts on time",
                "evidence": "environment",
            },
            {
                "state": "pass",
                "text": "Every key was decided exactly",
                "detail": "7,220 of 7,220",
                "evidence": "linearizability",
            },
            {
                "state": "pass",
                "text": "Every acknowledged write was checked",
                "detail": "7,200 of 7,200",
                "evidence": "data-loss",
            },
            {
                "state": "pass",
                "text": "Everything injected was healed",
                "detail": "5 of 5 verified",
                "evidence": "faults",
            },
        ],
        "checks": _checks(),
        "reproduce": {
            "run": "aftershock run demo.toml --seed 7",
            "check": "aftershock check runs/20261121T140211Z-demo-7",
        },
        "faults": _faults(LOAD_S),
        "targets": _targets(),
        "windows": _windows(),
        "shards": [
            {
                "shard": shard,
                "operations": 1125,
                "success_ratio": 0.991 if shard in (3, 4) else 1.0,
                "longest_gap_s": 1.21 if shard == 4 else 0.0,
                "unavailable_s": 1.21 if shard == 4 else 0.0,
            }
            for shard in range(SHARDS)
        ],
        "data_loss": {
            "acknowledged": 7200,
            "checked": 7200,
            "coverage": 1.0,
            "lost": 0,
            "stale": 0,
            "resurrected": 0,
            "duplicated": 0,
            "undecided": 0,
            "rpo_writes": 0,
            "rpo_s": 0.0,
            "window_s": None,
            "keys": [],
            "keys_more": 0,
        },
        "linearizability": {
            "engine": "unique",
            "cross_check": "porcupine agreed on 7220 of 7220 keys",
            "operations": 18000,
            "keys_checked": 7220,
            "keys_violated": 0,
            "keys_unknown": 0,
            "seconds": 0.21,
            "counterexamples": [],
        },
        "timeline": timeline(LOAD_S),
        "events": _events(LOAD_S + 1),
        "logs": _logs(),
        "assumptions": [
            {"text": text, "held": True, "detail": ""}
            for text in (
                "The system started empty",
                "No process overlaps itself",
                "Values written are unique",
                "Enough operations around each fault",
            )
        ],
        "not_checked": [
            {"what": "Session guarantees", "reason": "not asked for"},
            {"what": "Power loss", "reason": "no fault of this scenario drops unsynced data"},
        ],
        "environment": {
            "python": "3.11.7",
            "kernel": "6.1.0",
            "cpus": 2,
            "memory_gib": 23,
            "packages": {"locust": "2.47.0", "polars": "2.1.0"},
        },
        "load": {
            "planned": 18000,
            "sent": 18000,
            "not_sent": 0,
            "missing": 0,
            "rate_per_s": RATE,
            "on_time_ratio": 0.9998,
            "late_p99_ms": 1.2,
            "generator_cpu": 0.21,
            "holes": 0,
            "processes": 1,
        },
        "warnings": [],
    }


def _counterexample() -> Verdict:
    def operation(
        process: int, f: str, value: int | None, start: float, end: float | None, role: str, note: str
    ) -> Verdict:
        return {
            "process": process,
            "client": f"clients-r{1 + process % 2}",
            "f": f,
            "value": value,
            "expected": None,
            "observed": None,
            "result": "done",
            "outcome": "ok",
            "start_s": start,
            "end_s": end,
            "role": role,
            "final": False,
            "note": note,
        }

    return {
        "key": "h-3",
        "shard": 4,
        "reason": "p7 read 8812. Later p11 read 8790, although nobody wrote in between.",
        "reasons": [
            "Both writes had ended at 35.884 s, before either read began.",
            "p7 read 8812, so 8812 was the last write.",
            "p11 read 8790 1.40 s later, so 8790 was the last write.",
            "Both cannot be true.",
        ],
        "rejudged": True,
        "span_s": [35.861, 37.322],
        "operations": [
            operation(2, "write", 8790, 35.861, 35.884, "write", "acknowledged by n5"),
            operation(5, "write", 8812, 35.868, 35.879, "lost", "acknowledged by n5, lost"),
            operation(7, "read", 8812, 35.912, 35.916, "read", "n5, epoch 5"),
            operation(11, "read", 8790, 37.318, 37.322, "impossible", "n1, epoch 6"),
        ],
        "edges": [{"from": 1, "to": 2, "kind": "seen"}, {"from": 0, "to": 3, "kind": "contradicts"}],
        "orders": [
            {"order": [0, 1, 2], "ruled_out_by": 3, "why": "p11 must read 8812, and read 8790"},
            {"order": [1, 0, 3], "ruled_out_by": 2, "why": "p7 must read 8790, and read 8812"},
        ],
        "precedences": [],
    }


def failing() -> Verdict:
    """`ack = "primary"`: the kill loses acknowledged writes, and reads go back in time."""
    verdict = passing()
    keys = [
        {
            "key": f"i-{2071 + index:06d}",
            "shard": (4, 9, 14)[index % 3],
            "kind": "lost",
            "value": 8800 + index,
            "process": 5 + index,
            "client": "clients-r1",
            "acknowledged_s": 35.871 + index * 0.0113,
            "read_s": 60.1 + index * 0.01,
            "read_value": None,
        }
        for index in range(12)
    ]
    verdict.update(
        verdict="fail",
        exit_code=1,
        headline="12 acknowledged writes were lost, and reads went back in time",
        cause='n5 confirmed writes before any backup had them (ack = "primary"). When it died, an older log took over.',
        cause_span_s=[35.87, 36.01],
        findings=[
            {
                "number": 1,
                "check": "data-loss",
                "title": "Data loss",
                "value": "12 writes",
                "context": "of 7,200 acknowledged, on 12 keys; target is none",
                "spans_s": [[35.871, 36.0]],
                "evidence": "data-loss",
                "verdict": "fail",
            },
            {
                "number": 2,
                "check": "linearizability",
                "title": "Linearizability",
                "value": "1 key",
                "context": "of 7,220 broken; shown with 4 operations on h-3",
                "spans_s": [[35.861, 37.322]],
                "evidence": "linearizability",
                "verdict": "fail",
            },
            {
                "number": 3,
                "check": "availability",
                "title": "Availability",
                "value": "99.41\u2009%",
                "context": "target 99.9\u2009%; error budget spent 5.9 times",
                "spans_s": [[10.0, 11.02], [36.0, 37.21]],
                "evidence": "targets",
                "verdict": "fail",
            },
        ],
    )
    verdict["certainty"][2] = {
        "state": "pass",
        "text": "Counterexample judged again",
        "detail": "both engines agree",
        "evidence": "linearizability",
    }
    verdict["reproduce"]["run"] = "aftershock run demo.toml \\\n  --seed 7 --set system.ack=primary"
    for check, reason in (
        ("data-loss", "12 acknowledged writes are gone"),
        ("linearizability", "1 key is not linearizable"),
        ("availability", "99.41 % is below 99.9 %"),
    ):
        next(entry for entry in verdict["checks"] if entry["name"] == check).update(
            verdict="fail", reason=reason, summary=reason
        )
    verdict["targets"][0].update(verdict="fail", measured=0.9941, budget={"allowed": 18, "spent": 106})
    verdict["data_loss"].update(lost=12, rpo_writes=12, rpo_s=0.152, window_s=[35.871, 36.0], keys=keys)
    verdict["linearizability"].update(keys_violated=1, counterexamples=[_counterexample()])
    return verdict


def unknown() -> Verdict:
    """A fault without effect and a generator that fell behind: nothing found broken, and no pass."""
    verdict = passing()
    verdict.update(
        verdict="unknown",
        exit_code=3,
        headline="Undecided: the pause had no effect and the load fell behind",
        cause="Nothing was found broken in what was recorded, but that is not a pass.",
        cause_span_s=None,
        findings=[
            {
                "number": 1,
                "check": "faults",
                "title": "Faults",
                "value": "4 of 5 proven",
                "context": "pause of n2: 0 of 12 probes affected",
                "spans_s": [[48.0, 52.0]],
                "evidence": "faults",
                "verdict": "unknown",
            },
            {
                "number": 2,
                "check": "load",
                "title": "Load",
                "value": "212/s kept",
                "context": "of 300; behind schedule from 40.6 s",
                "spans_s": [[40.6, 60.0]],
                "evidence": "environment",
                "verdict": "unknown",
            },
        ],
        faults=_faults(LOAD_S, unproven="f5"),
        warnings=["The generator used 98 % of its CPU"],
    )
    verdict["certainty"][:2] = [
        {
            "state": "unknown",
            "text": "4 of 5 faults took effect",
            "detail": "pause was not seen by n2",
            "evidence": "faults",
        },
        {
            "state": "unknown",
            "text": "Load did not keep its schedule",
            "detail": "this machine keeps 212/s",
            "evidence": "environment",
        },
    ]
    for name in ("availability", "load"):
        next(entry for entry in verdict["checks"] if entry["name"] == name).update(
            verdict="unknown", reason="the generator fell behind", scope=["f5"]
        )
    verdict["targets"][0].update(
        verdict="unknown", measured=None, budget=None, detail="not judged: the generator fell behind"
    )
    for index in range(int(40.6 / 0.25), len(verdict["timeline"]["bins"]["ok"])):
        moved = round(verdict["timeline"]["bins"]["ok"][index] * 0.29)
        verdict["timeline"]["bins"]["ok"][index] -= moved
        verdict["timeline"]["bins"]["not_sent"][index] += moved
    return verdict


def incomplete() -> Verdict:
    """The load process was killed at 31.2 s: no final reads, so data loss is undecided."""
    verdict = passing()
    until = 31.2
    verdict["run"].update(
        incomplete={"reason": "The load process was killed (signal 9).", "recorded_until_s": until},
        duration_s=until,
        operations=9360,
    )
    verdict.update(
        verdict="unknown",
        exit_code=3,
        headline="Undecided: the recording is incomplete",
        cause="Recording stopped before the final reads.",
        cause_span_s=[31.0, 31.2],
        findings=[
            {
                "number": 1,
                "check": "data-loss",
                "title": "Data loss",
                "value": "not decided",
                "context": "final reads are missing; run again to the end",
                "spans_s": [[31.2, 60.0]],
                "evidence": "data-loss",
                "verdict": "unknown",
            }
        ],
        faults=_faults(until),
        data_loss=None,
        windows=_windows()[:9],
        events=_events(until),
        timeline=timeline(until),
    )
    next(entry for entry in verdict["checks"] if entry["name"] == "data-loss").update(
        verdict="unknown", reason="the final reads are missing", summary="not decided"
    )
    return verdict


def control() -> Verdict:
    """The control arm: no faults, everything else as usual."""
    verdict = passing()
    verdict["run"]["control"] = True
    verdict.update(headline="The control arm held without faults", cause=None, faults=[], windows=[], logs=[])
    for entry in verdict["timeline"]["shards"]:
        entry["segments"] = [[0, LOAD_S, entry["segments"][0][2], 1]]
    for entry in verdict["timeline"]["nodes"]:
        entry["segments"] = [[0, LOAD_S, "up"]]
    return verdict


def heal_failed() -> Verdict:
    """Exit code 5: the verdict is known, but something is still changed."""
    verdict = failing()
    verdict["exit_code"] = 5
    verdict["faults"][3].update(
        heal_verified=False,
        healed_s=None,
        heal_evidence=["proxy n5-n1 still holds toxic f4; the proxy API refused 3 times"],
    )
    verdict["warnings"] = ["A proxy is still blocked: run `aftershock heal`"]
    return verdict


def not_started() -> Verdict:
    """The least that a verdict may hold: the system never became ready."""
    verdict = passing()
    nothing: Verdict = {
        "findings": [],
        "certainty": [],
        "faults": [],
        "targets": [],
        "windows": [],
        "events": [],
        "logs": [],
        "assumptions": [],
    }
    verdict.update(
        nothing,
        verdict="unknown",
        exit_code=4,
        headline="The system did not start: n3 never became ready",
        cause=None,
        data_loss=None,
        linearizability=None,
        checks=[_check("assumptions", "Assumptions", "unknown", "nothing was recorded")],
    )
    verdict["run"].update(operations=0, duration_s=0.0)
    verdict["timeline"].update(
        until_s=0.0,
        points=[],
        nodes=[],
        shards=[],
        bins={"ok": [], "fail": [], "unknown": [], "not_sent": []},
        latency={
            "bin_s": 0.5,
            "p50_us": [],
            "p99_us": [],
            "p99_raw_us": [],
            "heat_rows": 26,
            "heat_min_ms": 1,
            "heat_max_ms": 4000,
            "heat": "",
        },
    )
    return verdict


HOSTILE = (
    "</script><script>document.title='owned'</script><!--<img src=x onerror=alert(1)>"
    "\"'`|\u202eevil\x00\x1b[31m\ud800 {{7*7}} @everyone"
)


def hostile(base: Verdict | None = None, text: str = HOSTILE) -> Verdict:
    """A failing verdict in which every free text and name carries an attack."""
    fixed = {
        "verdict",
        "kind",
        "status",
        "state",
        "unit",
        "better",
        "role",
        "outcome",
        "clients",
        "f",
        "evidence",
        "name",
        "level",
        "expect",
        "started_utc",
        "incident",
        "heat",
        "id",
        "fault",
        "check",
        "result",
        "engine",
    }

    def poison(value: Any, key: str = "") -> Any:
        if isinstance(value, str):
            return value if key in fixed else f"{value}{text}"
        if isinstance(value, list):
            return [poison(entry, key) for entry in value]
        if isinstance(value, dict):
            return {name: poison(entry, name) for name, entry in value.items()}
        return value

    verdict: Verdict = poison(copy.deepcopy(base or failing()))
    verdict["timeline"]["nodes"][0]["name"] = text
    verdict["run"]["id"] += text
    verdict["environment"]["packages"][text] = text
    verdict["data_loss"]["keys"][0]["key"] = text + "x" * 20_000
    return verdict


EXAMPLES = {
    "pass": passing,
    "fail": failing,
    "unknown": unknown,
    "incomplete": incomplete,
    "control": control,
    "heal-failed": heal_failed,
    "not-started": not_started,
}

if __name__ == "__main__":
    from aftershock.reports import write_reports

    target = Path(sys.argv[1])
    for name, make in {**EXAMPLES, "hostile": hostile}.items():
        (target / name).mkdir(parents=True, exist_ok=True)
        print(*write_reports(make(), target / name), sep="\n")
