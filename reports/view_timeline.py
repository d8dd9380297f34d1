"""The timeline: what its canvas draws (as data) and the same figures as a table."""

from __future__ import annotations

import statistics
from typing import Any

from .links import evidence_link, jump
from .text import DASH, Values, goal, is_number, milliseconds, numbers, percent, shorten, time_text
from .view_summary import state_of

__all__ = ["fault_kind", "short_name", "timeline"]

KINDS = ("network", "process", "disk", "clock", "resource")
_NODE_STATES = ("up", "cut-off", "down", "paused", "catching-up")
_POINTS_MAX = 30_000
_SHARD_ROWS_MAX = 24
_TABLE_STEPS_S = (1, 2, 5, 10, 30, 60, 300, 900, 3600)
_CHANGES_MAX = 400
_PRESET_BUTTONS_MAX = 6


def fault_kind(fault: Values) -> str:
    """The colour family of a fault; `none` for the no-op and for kinds that this version does not know."""
    kind = fault.get("kind")
    return str(kind) if kind in KINDS else "none"


def short_name(fault: Values) -> str:
    """A fault in two or three words: its kind of fault and the first target."""
    targets = [str(target) for target in fault.get("targets") or []]
    return shorten(" ".join([str(fault.get("name") or fault.get("id") or "fault"), *targets[:1]]), 24)


def timeline(verdict: Values) -> Values:
    """View values of the timeline section; `data` is embedded in the page for the canvas."""
    line = verdict.get("timeline") or {}
    faults = [_fault(entry) for entry in verdict.get("faults") or []]
    marks = _marks(verdict)
    ends = [line.get(name) for name in ("recorded_until_s", "until_s", "planned_until_s")]
    until = next((end for end in ends if is_number(end)), 0.0)
    planned = max([until, *filter(is_number, ends)])
    bins = {name: (line.get("bins") or {}).get(name) or [] for name in ("ok", "fail", "unknown", "not_sent")}
    latency = line.get("latency") or {}
    points, share = _points(line, bins)
    shards, hidden = _shards(line)
    nodes = [{"name": entry.get("name", ""), "segments": _segments(entry)} for entry in line.get("nodes") or []]
    data = {
        "until": until,
        "planned": planned,
        "rate": line.get("scheduled_per_s"),
        "bin": line.get("bin_s") or 0.25,
        "bins": bins,
        "latency": latency if any(map(is_number, latency.get("p99_us") or [])) else None,
        "latencyTarget": _latency_target(verdict),
        "points": points,
        "pointsShare": share,
        "pointsText": line.get("points_text") or "",
        "faults": faults,
        "marks": marks,
        "nodes": nodes,
        "shards": shards,
        "rings": _rings(verdict),
    }
    lanes = _lanes(data, hidden)
    return {
        "present": planned > 0 and (any(bins["ok"]) or any(bins["fail"]) or bool(nodes) or bool(faults)),
        "data": data,
        "lanes": lanes,
        "no_faults": not faults,
        "presets": _presets(faults, planned),
        "presets_as_list": len(faults) > _PRESET_BUTTONS_MAX,
        "aria": _aria(faults, planned),
        "kinds": [kind for kind in (*KINDS, "none") if any(fault["kind"] == kind for fault in faults)],
        "rows": _table(line, bins, faults, until),
        "changes": _changes(line),
    }


def _fault(fault: Values) -> Values:
    planned = numbers(fault.get("planned_s"))
    return {
        "id": fault.get("id", ""),
        "name": shorten(str(fault.get("title") or fault.get("name") or ""), 60),
        "short": short_name(fault),
        "kind": fault_kind(fault),
        "planned": planned if len(planned) == 2 else None,
        "injected": fault.get("injected_s"),
        "proven": fault.get("proven_s"),
        "healed": fault.get("healed_s"),
        "inSync": fault.get("in_sync_s"),
        "isProven": bool(fault.get("proven")),
        "failed": bool(fault.get("error")),
    }


def _marks(verdict: Values) -> list[Values]:
    marks = []
    for finding in verdict.get("findings") or []:
        link = evidence_link(finding.get("evidence") or finding.get("check"))
        for start, end in _merged(finding.get("spans_s") or []):
            marks.append(
                {
                    "from": start,
                    "to": end,
                    "number": finding.get("number"),
                    "label": shorten(str(finding.get("title") or "").lower(), 32),
                    "href": link["href"] if link else "#checks",
                    "state": state_of(finding.get("verdict")),
                }
            )
    return marks


def _merged(spans: list[Any]) -> list[list[float]]:
    """Spans by time, those that overlap as one: a finding on many keys is one bracket, not a heap of them."""
    merged: list[list[float]] = []
    for start, end in sorted(sorted(pair) for pair in map(numbers, spans) if len(pair) == 2):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return merged


def _points(line: Values, bins: Values) -> tuple[list[int], float]:
    """Single operations as a flat list (milliseconds since the one before, latency x 3 + outcome), and their share.

    Beyond `_POINTS_MAX` the page would grow without telling more: every failure stays, then the slowest, and the rest
    is thinned evenly. The share of all operations that is kept stands on the page.
    """
    points = [point for point in line.get("points") or [] if len(numbers(point)) == 3]
    total = sum(sum(filter(is_number, series)) for name, series in bins.items() if name != "not_sent")
    if len(points) > _POINTS_MAX:
        points.sort(key=lambda point: (point[2] == 0, -point[1]))
        head, tail = points[: _POINTS_MAX // 2], points[_POINTS_MAX // 2 :]
        points = head + tail[:: -(-len(tail) // (_POINTS_MAX - len(head)))]
    points.sort(key=lambda point: point[0])
    flat: list[int] = []
    before = 0
    for time_ms, latency, outcome in points:
        flat += [int(time_ms) - before, max(0, int(latency)) * 3 + (int(outcome) if outcome in (1, 2) else 0)]
        before = int(time_ms)
    return flat, min(1.0, len(points) / total) if total else 0.0


def _segments(entry: Values) -> list[list[Any]]:
    return [
        [segment[0], segment[1], segment[2] if segment[2] in _NODE_STATES else "down"]
        for segment in entry.get("segments") or []
        if len(segment) >= 3 and len(numbers(segment[:2])) == 2
    ]


def _shards(line: Values) -> tuple[list[Values], int]:
    """Rows of the primary lane: all shards, or those whose primary changed first when there are too many."""
    shards = [
        {
            "shard": entry.get("shard"),
            "segments": [
                [*segment[:2], str(segment[2] or ""), segment[3] if len(segment) > 3 else None]
                for segment in entry.get("segments") or []
                if len(segment) >= 3 and len(numbers(segment[:2])) == 2
            ],
        }
        for entry in line.get("shards") or []
    ]
    if len(shards) <= _SHARD_ROWS_MAX:
        return shards, 0
    kept = sorted(range(len(shards)), key=lambda index: (len(shards[index]["segments"]) < 2, index))[:_SHARD_ROWS_MAX]
    return [shards[index] for index in sorted(kept)], len(shards) - _SHARD_ROWS_MAX


def _latency_target(verdict: Values) -> Values | None:
    for target in verdict.get("targets") or []:
        if target.get("unit") == "ms" and is_number(target.get("target")):
            return {"ms": target["target"], "label": f"target {goal(target['target'], 'ms')}"}
    return None


def _rings(verdict: Values) -> list[Values]:
    """The operations of the counterexamples, which the chart rings and names among the single operations."""
    rings = []
    for example in ((verdict.get("linearizability") or {}).get("counterexamples") or [])[:1]:
        for operation in (example.get("operations") or [])[:12]:
            start, end = operation.get("start_s"), operation.get("end_s")
            if is_number(start) and is_number(end):
                label = f"p{operation.get('process')} {operation.get('f')} {operation.get('value')}"
                bad = operation.get("role") == "impossible"
                rings.append({"start": start, "end": end, "label": shorten(label, 28), "bad": bad})
    return rings


def _lanes(data: Values, hidden_shards: int) -> list[Values]:
    """Lanes that have something to show, top to bottom, cause before effect."""
    some_load = any(any(series) for series in data["bins"].values())
    states = {segment[2] for node in data["nodes"] for segment in node["segments"]}
    gaps = any(not segment[2] for shard in data["shards"] for segment in shard["segments"])
    bin_ms = f"{data['bin'] * 1000:g} ms"
    outcomes = ["ok", "fail", "unknown"] + (["not-sent"] if any(data["bins"]["not_sent"]) else [])
    lanes = [
        ("faults", "Faults", "", [], True),
        ("marks", "Findings", "", [], bool(data["marks"])),
        ("availability", "Availability", f"share not ok, per {bin_ms}", [], some_load),
        (
            "throughput",
            "Throughput",
            "",
            [(name, name.replace("-", " ")) for name in [*outcomes, "scheduled"]],
            some_load,
        ),
        (
            "latency",
            "Latency",
            "",
            [("p99", "p99 from schedule"), ("raw", "p99 raw"), ("p50", "p50"), ("hidden", "hidden wait")],
            data["latency"] is not None,
        ),
        (
            "nodes",
            "Nodes",
            "",
            [(name, name.replace("-", " ")) for name in _NODE_STATES if name in states],
            bool(data["nodes"]),
        ),
        (
            "shards",
            "Primary per shard",
            "node, epoch" + (f"; {hidden_shards} more shards in the table" if hidden_shards else ""),
            [("no-primary", "no primary")] if gaps else [],
            bool(data["shards"]),
        ),
    ]
    return [
        {"id": lane, "title": title, "note": note, "keys": keys} for lane, title, note, keys, shown in lanes if shown
    ]


def _presets(faults: list[Values], planned: float) -> list[Values]:
    presets = []
    for fault in faults:
        span = [value for value in (fault["injected"], fault["inSync"] or fault["healed"]) if is_number(value)]
        if len(span) < 2:
            span = fault["planned"] or []
        if len(span) == 2:
            around = max(0.5, 0.12 * (span[1] - span[0]))
            start, end = max(0.0, span[0] - around), min(planned, span[1] + around)
            presets.append(
                {"from": round(start, 2), "to": round(end, 2), "text": fault["short"], "title": fault["name"]}
            )
    return presets


def _aria(faults: list[Values], planned: float) -> str:
    windows = "; ".join(
        f"{fault['name']} from {time_text(fault['injected'])} to {time_text(fault['healed'])} s"
        for fault in faults[:20]
    )
    return (
        f"Timeline of {planned:g} seconds. Faults: {windows or 'none'}. The table below holds the same figures. "
        "Keys: left and right move the cursor, with shift the window; plus and minus zoom; 0 shows the whole run; "
        "n and p go to the next and previous finding, Enter opens it."
    )


def _table(line: Values, bins: Values, faults: list[Values], until: float) -> list[list[str]]:
    """The lanes as rows of at most about 25 equal steps."""
    bin_s = line.get("bin_s") or 0.25
    if not until or not bins["ok"]:
        return []
    step = next((size for size in _TABLE_STEPS_S if until / size <= 25), _TABLE_STEPS_S[-1])
    latency = line.get("latency") or {}
    rows = []
    for index in range(int(-(-until // step))):
        start, end = index * step, min(until, (index + 1) * step)
        low, high = round(start / bin_s), round((index + 1) * step / bin_s)
        sums = {name: sum(filter(is_number, series[low:high])) for name, series in bins.items()}
        total = sum(sums.values())
        active = [
            fault["short"]
            for fault in faults
            if is_number(fault["injected"]) and fault["injected"] < end and (fault["healed"] or until) > start
        ]
        rows.append(
            [
                f"{start:g}\u2013{end:g} s",
                percent(sums["ok"] / total) if total else DASH,
                f"{total / (end - start):,.0f}/s" if end > start else DASH,
                *(f"{sums[name]:,}" for name in ("fail", "unknown", "not_sent")),
                _latency_cell(latency, "p50_us", start, end, statistics.median),
                _latency_cell(latency, "p99_us", start, end, max),
                ", ".join(active) or "none",
            ]
        )
    return rows


def _latency_cell(latency: Values, name: str, start: float, end: float, combine: Any) -> str:
    size = latency.get("bin_s") or 0.5
    values = [value for value in (latency.get(name) or [])[round(start / size) : round(end / size)] if is_number(value)]
    return milliseconds(combine(values) / 1000) if values else DASH


def _changes(line: Values) -> list[Values]:
    """Every change of a node's state and of a shard's primary, by time: the two lowest lanes as text."""
    changes: list[tuple[float, str, str]] = []
    for node in line.get("nodes") or []:
        for segment in _segments(node)[1:]:
            changes.append((segment[0], str(node.get("name")), str(segment[2]).replace("-", " ")))
    for shard in line.get("shards") or []:
        for segment in (shard.get("segments") or [])[1:]:
            if len(segment) >= 3 and is_number(segment[0]):
                epoch = f", epoch {segment[3]}" if len(segment) > 3 and segment[3] is not None else ""
                text = f"primary {segment[2]}{epoch}" if segment[2] else "no primary"
                changes.append((segment[0], f"shard {shard.get('shard')}", text))
    changes.sort(key=lambda change: change[0])
    return [
        {"jump": jump([moment, moment], label=time_text(moment, places=3)), "what": what, "text": text}
        for moment, what, text in changes[:_CHANGES_MAX]
    ]
