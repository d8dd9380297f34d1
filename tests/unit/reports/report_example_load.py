"""A small simulated load for the example verdicts: 60 s, 300 operations/s, five faults, five nodes, sixteen shards.

Bins, percentiles, heat and single operations come from the same operations, so they agree with each other.
"""

from __future__ import annotations

import base64
import copy
import functools
import math
import random
from typing import Any

Verdict = dict[str, Any]

LOAD_S = 60.0
RATE = 300
SHARDS = 16
NODES = ["n1", "n2", "n3", "n4", "n5"]
HEAT_ROWS = 26

# id, name, kind, title, targets, planned, how long until the service is back, shards that fail over
FAULTS = [
    ("f1", "noop", "none", "No-op", [], (3.0, 6.0), 0.0, []),
    (
        "f2",
        "partition",
        "network",
        "Partition n3 with r1, clients-r1",
        ["n3", "r1", "clients-r1"],
        (10.0, 18.0),
        1.02,
        [3, 7, 11],
    ),
    ("f3", "partition", "network", "One-way cut n1 to n2", ["n1", "n2"], (24.0, 30.0), 0.61, [0]),
    ("f4", "kill", "process", "Kill n5, restart", ["n5"], (36.0, 42.0), 1.21, [4, 9, 14]),
    ("f5", "pause", "process", "Pause n2 past its lease", ["n2"], (48.0, 52.0), 0.94, [1, 6]),
]


def _simulate(rng: random.Random, until: float) -> list[tuple[float, float, float, int]]:
    """Operations as (start, latency, latency from the schedule, outcome)."""
    operations = []
    for index in range(int(until * RATE)):
        start = index / RATE + rng.uniform(0, 0.002)
        latency, outcome = 0.0029 * rng.lognormvariate(0, 0.42), 0
        if rng.random() < 0.006:
            latency *= rng.uniform(2.5, 6)
        for _, _, _, _, _, (begin, _), gap, shards in FAULTS:
            if begin <= start < begin + gap and rng.random() < len(shards) / SHARDS * 1.6:
                wait = begin + gap - start
                outcome = 0 if wait < 0.45 else rng.choice([1, 2, 2])
                latency = min(wait, 0.5) + rng.expovariate(60)
        late = latency + (rng.uniform(0, 0.3) * latency if latency > 0.05 else 0.0)
        operations.append((start, latency, late, outcome))
    return operations


def timeline(until: float) -> Verdict:
    """A copy that may be changed, but for the single operations: copying those takes longer than all else."""
    made = _made_timeline(until)
    return {**copy.deepcopy({name: part for name, part in made.items() if name != "points"}), "points": made["points"]}


@functools.cache
def _made_timeline(until: float) -> Verdict:
    operations = _simulate(random.Random(7), until)
    bin_s, latency_bin_s = 0.25, 0.5
    bins = {name: [0] * math.ceil(until / bin_s) for name in ("ok", "fail", "unknown", "not_sent")}
    groups: list[list[tuple[float, float]]] = [[] for _ in range(math.ceil(until / latency_bin_s))]
    heat = bytearray(len(groups) * HEAT_ROWS)
    points = []
    for start, latency, late, outcome in operations:
        bins[("ok", "fail", "unknown")[outcome]][min(len(bins["ok"]) - 1, int(start / bin_s))] += 1
        slot = min(len(groups) - 1, int(start / latency_bin_s))
        groups[slot].append((latency, late))
        row = min(HEAT_ROWS - 1, max(0, int(math.log(max(late, 0.001) / 0.001) / math.log(4000) * HEAT_ROWS)))
        heat[slot * HEAT_ROWS + row] = min(255, heat[slot * HEAT_ROWS + row] + 1)
        points.append([int(start * 1000), int(late * 1e5), outcome])

    def percentile(which: int, share: float) -> list[int | None]:
        ordered = [sorted(pair[which] for pair in group) for group in groups]
        return [int(values[int(share * (len(values) - 1))] * 1e6) if values else None for values in ordered]

    return {
        "bin_s": bin_s,
        "until_s": until,
        "planned_until_s": LOAD_S,
        "recorded_until_s": until,
        "points_text": "every operation",
        "scheduled_per_s": RATE,
        "bins": bins,
        "latency": {
            "bin_s": latency_bin_s,
            "p50_us": percentile(1, 0.5),
            "p99_us": percentile(1, 0.99),
            "p99_raw_us": percentile(0, 0.99),
            "heat_rows": HEAT_ROWS,
            "heat_min_ms": 1,
            "heat_max_ms": 4000,
            "heat": base64.b64encode(bytes(heat)).decode(),
        },
        "points": points,
        "nodes": _nodes(until),
        "shards": _shards(until),
    }


def _nodes(until: float) -> list[Verdict]:
    states: dict[str, list[tuple[float, str]]] = {name: [(0.0, "up")] for name in NODES}
    states["n3"] += [(10.003, "cut-off"), (18.1, "catching-up"), (19.7, "up")]
    states["n5"] += [(36.004, "down"), (42.2, "catching-up"), (44.1, "up")]
    states["n2"] += [(48.002, "paused"), (52.0, "catching-up"), (52.9, "up")]
    return [{"name": name, "segments": _segments(states[name], until)} for name in NODES]


def _segments(changes: list[tuple[Any, ...]], until: float) -> list[list[Any]]:
    ends = [change[0] for change in changes[1:]] + [until]
    return [
        [change[0], min(end, until), *change[1:]]
        for change, end in zip(changes, ends, strict=True)
        if change[0] < until
    ]


def _shards(until: float) -> list[Verdict]:
    first = {3: "n3", 7: "n3", 11: "n3", 0: "n1", 4: "n5", 9: "n5", 14: "n5", 1: "n2", 6: "n2"}
    changes: dict[int, list[tuple[Any, ...]]] = {
        s: [(0.0, first.get(s, NODES[s % 5]), 2 + s % 4)] for s in range(SHARDS)
    }
    for _, _, _, _, _, (begin, _), gap, moved in FAULTS:
        for shard in moved:
            last = changes[shard][-1]
            heir = NODES[(NODES.index(last[1]) + 1) % 5]
            changes[shard] += [(begin + 0.004, "", 0), (begin + gap - 0.1, heir, last[2] + 1)]
    return [{"shard": shard, "segments": _segments(changes[shard], until)} for shard in range(SHARDS)]
