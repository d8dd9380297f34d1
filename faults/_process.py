"""What kill and pause have in common: links to a process, whom its absence excuses, and what healing it means."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..harness.interfaces import Evidence, FaultContext, Link, MemberState, ProbeOutcome, Role, Stage, Topology
from ..harness.relation import cut_off, flows_of
from ._links import SILENT, WHOLE, live_links, whole_links

__all__ = ["excused", "led_shards", "needs_processes", "new_epoch", "process_links", "serves_again", "still"]

# A member that has its process back must serve again within this; it reads its log first.
SERVE_DEADLINE_S = 15.0
LINKS_TO_TARGET_MAX = 6


def needs_processes(stage: Stage) -> str | None:
    """Reason why members' processes cannot be signalled on this stage, or None."""
    if any(member.role is not Role.CLIENT for member in stage.members.values()):
        return None
    return f"backend {stage.backend!r} runs no member of this system itself; use one that starts the nodes, as process"


def process_links(target: str, context: FaultContext) -> dict[Link, ProbeOutcome]:
    """Links to probe, and what must be seen: nothing answers at the target, and links that avoid it are whole."""
    stage = context.cluster.stage
    links = live_links(stage)
    to_target = [link for link in links if link.target == target]
    chosen = context.rng.sample(to_target, min(len(to_target), LINKS_TO_TARGET_MAX))
    avoiding = whole_links(links, flows_of(target, stage.members.values()), near=(), rng=context.rng)
    return dict.fromkeys(sorted(chosen), SILENT) | dict.fromkeys(avoiding, WHOLE)


def excused(target: str, topology: Topology, stage: Stage) -> Mapping[str, tuple[int, ...] | None]:
    """Client groups that are owed nothing while one process is away: those pinned to it, or left without a majority.

    Controllers are not counted: reads and writes must go on without one (replication.md section 9), so a scenario that
    kills a controller must be able to promise that the system stays available.
    """
    members = list(stage.members.values())
    return cut_off(flows_of(target, members), replace(topology, controllers=()), members)


def still(target: str, expected: MemberState, context: FaultContext) -> Evidence:
    """Whether a process is still as the fault left it, at the end of the window."""
    state = context.cluster.stage.processes.state(target)
    if state is expected:
        return Evidence(proven=True, facts=())
    return Evidence(proven=False, facts=(f"at the end of the window {target} was {state}, expected {expected}",))


def led_shards(target: str, topology: Topology) -> list[int]:
    return topology.primaries().get(target, [])


def new_epoch(shards: Sequence[int]) -> Mapping[str, Any] | None:
    """The reaction expected of the system: a new epoch of these shards; None when there are none."""
    return {"kind": "new-epoch", "shards": sorted(shards)} if shards else None


def serves_again(target: str, context: FaultContext) -> Evidence:
    """Verified when the operating system says that the process runs.

    Whether it also *serves* is the system's own achievement: if it does not within the deadline, that is told and
    judged as a failure to recover, not as a heal of ours that failed.
    """
    state, begun_ns = context.cluster.stage.processes.state(target), time.monotonic_ns()
    if state is not MemberState.RUNNING:
        return Evidence(proven=False, facts=(f"{target} is {state}, expected running; see its log",))
    pid = context.cluster.stage.processes.pid(target)
    missing = context.cluster.wait_member(target, deadline_s=SERVE_DEADLINE_S)
    took_s = (time.monotonic_ns() - begun_ns) / 1e9
    if missing is None:
        return Evidence(proven=True, facts=(f"{target} runs (pid {pid}) and serves again, {took_s:.2f} s after",))
    context.events("warning", text=f"{target} runs but did not serve within {took_s:.1f} s of healing: {missing}")
    return Evidence(
        proven=True, facts=(f"{target} runs (pid {pid}) but did not serve within {took_s:.1f} s: {missing}",)
    )
