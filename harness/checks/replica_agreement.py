"""Replica agreement: after everything was healed, all replicas of a shard hold the same log and the same content.

Which replicas there should be is taken from the topology before the first fault: a replica that does not report, or
is still learning when the settling time is over, is not there to be compared.
"""

from __future__ import annotations

from functools import partial

from ..interfaces import ReplicaState
from ..verdict import Verdict
from .result import CheckResult, answer, count, join
from .view import View

__all__ = ["check_replica_agreement"]

_result = partial(answer, "replica-agreement", "Replica agreement")


def check_replica_agreement(view: View) -> CheckResult:
    """Fail when two in-sync replicas differ; unknown when one that should be compared could not be."""
    record = view.record
    expected = _expected(view)
    sharded = set(record.history["shard"].drop_nulls().unique().to_list())
    if sharded and not expected:
        reason = "The system reported no topology, so nobody knows which replicas there should be."
        return _result(Verdict.UNKNOWN, reason, numbers={"replicas": len(record.replicas or ())})
    if record.replicas is None or not record.replicas:
        if not expected and record.replicas is not None:
            reason = "The system has no shards, so there are no replicas to compare."
            return _result(Verdict.UNKNOWN, reason, status="skipped")
        reason = "The replicas were not collected after healing, so they could not be compared."
        return _result(Verdict.UNKNOWN, reason)
    by_shard: dict[int, list[ReplicaState]] = {}
    for replica in record.replicas:
        by_shard.setdefault(replica.shard, []).append(replica)
    differing, apart, missing, learning = [], [], [], []
    for shard in sorted(set(by_shard) | set(expected) | sharded):
        found = by_shard.get(shard, [])
        in_sync = [replica for replica in found if replica.in_sync]
        if text := _difference(in_sync):
            differing.append(f"shard {shard}: {text}")
        elif text := _different_ends(in_sync):
            apart.append(f"shard {shard}: {text}")
        absent = sorted(expected.get(shard, set()) - {replica.member for replica in found})
        if absent:
            missing.append(f"{join(absent)} of shard {shard}")
        learners = sorted(replica.member for replica in found if not replica.in_sync)
        if learners:
            learning.append(f"{join(learners)} of shard {shard}")
        if not in_sync and not absent and not learners:
            missing.append(f"every replica of shard {shard}")
    agreed = len(by_shard) - len(differing)
    summary = f"{count(len(record.replicas), 'replica')} of {count(len(by_shard), 'shard')} compared"
    numbers = {"shards": len(by_shard), "replicas": len(record.replicas), "differing": len(differing)}
    if differing:
        reason = f"Replicas that should be identical are not: {join(differing, most=3)}."
        return _result(
            Verdict.FAIL, reason, summary, numbers, value=count(len(differing), "shard"), context=differing[0]
        )
    if apart:
        # Taken while an entry was on its way, or stuck: there is no common end at which to compare.
        reason = f"Replicas were not at the same committed entry, so they could not be compared: {join(apart, most=3)}."
        return _result(Verdict.UNKNOWN, reason, summary, numbers, context=apart[0])
    if missing:
        reason = f"Not every replica could be compared; missing after healing: {join(missing, most=3)}."
        return _result(Verdict.UNKNOWN, reason, summary, numbers, context=reason)
    if learning:
        reason = (
            f"Not every replica had caught up when the {record.scenario.settle_s:g} s for settling were over: "
            f"{join(learning, most=3)}."
        )
        return _result(Verdict.UNKNOWN, reason, summary, numbers, context=reason)
    reason = f"All replicas of {count(agreed, 'shard')} hold the same log and the same content."
    return _result(
        Verdict.PASS, reason, summary, numbers, value=f"{agreed:,} of {len(by_shard):,} shards", context="identical"
    )


def _expected(view: View) -> dict[int, set[str]]:
    """Members that held each shard before the first fault."""
    first_fault_ns = min((e.t_ns for e in view.record.events if e.kind == "fault.injected"), default=None)
    found: dict[int, set[str]] = {}
    for event in view.record.events:
        if first_fault_ns is not None and event.t_ns > first_fault_ns:
            break
        if event.kind == "topology" and "shard" in event.fields:
            members = [*(event.fields.get("in_sync") or ()), *(event.fields.get("learners") or ())]
            found[int(event.fields["shard"])] = {str(member) for member in members}
    return found


def _difference(replicas: list[ReplicaState]) -> str | None:
    """How in-sync replicas of one shard differ: at the same commit index, chain and digest must be the same."""
    indexes: dict[int, list[ReplicaState]] = {}
    for replica in replicas:
        indexes.setdefault(replica.commit_index, []).append(replica)
    for commit_index, same in sorted(indexes.items()):
        for what in ("chain", "digest"):
            values: dict[str, list[str]] = {}
            for replica in same:
                values.setdefault(getattr(replica, what), []).append(replica.member)
            if len(values) > 1:
                sides = " against ".join(join(members) for members in values.values())
                words = "log" if what == "chain" else "content"
                return f"the {words} up to entry {commit_index:,} differs, {sides}"
    return None


def _different_ends(replicas: list[ReplicaState]) -> str | None:
    ends: dict[int, list[str]] = {}
    for replica in replicas:
        ends.setdefault(replica.commit_index, []).append(replica.member)
    if len(ends) < 2:
        return None
    return ", ".join(f"{join(members)} at entry {index:,}" for index, members in sorted(ends.items()))
