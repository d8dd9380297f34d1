"""What kill and pause have in common: links to a process, whom its absence excuses, and what healing it means.

Everything here takes one target, or several that are away at the same time.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..harness.interfaces import (
    Evidence,
    FaultContext,
    Flow,
    Hosting,
    Link,
    MemberState,
    ProbeOutcome,
    Role,
    Stage,
    Topology,
)
from ..harness.relation import cut_off, deposed, flows_of, with_down
from ._links import SILENT, WHOLE, live_links, whole_links
from ._proof import OldConnections, at_once, observe

__all__ = [
    "excused",
    "led_shards",
    "needs_processes",
    "new_epoch",
    "process_links",
    "replaceable",
    "resume_all",
    "serves_again",
    "still",
]

# A member that has its process back must serve again within this; it reads its log first.
SERVE_DEADLINE_S = 15.0
LINKS_TO_TARGET_MAX = 6
# An old connection to a process that is no more has this long to show that it still works.
OLD_CONNECTION_TIMEOUT_S = 0.8


def needs_processes(stage: Stage) -> str | None:
    """Reason why members' processes cannot be signalled on this stage, or None."""
    if isinstance(stage, Hosting) and not stage.services():
        return (
            f"backend {stage.backend!r} is attached to no container, so there is no process to act on; name some in "
            "the scenario: [backend] containers = [...]"
        )
    if any(member.role is not Role.CLIENT for member in stage.members.values()):
        return None
    return f"backend {stage.backend!r} runs no member of this system itself; use one that starts the nodes, as process"


def process_links(target: str | Sequence[str], context: FaultContext) -> dict[Link, ProbeOutcome]:
    """Links to probe, and what must be seen: nothing answers at the target, and links that avoid it are whole."""
    stage, targets = context.cluster.stage, _each(target)
    links = live_links(stage)
    most = max(1, LINKS_TO_TARGET_MAX // len(targets))
    chosen: list[Link] = []
    for one in targets:
        to_one = [link for link in links if link.target == one]
        chosen += context.rng.sample(to_one, min(len(to_one), most))
    avoiding = whole_links(links, _flows_of_all(targets, stage), near=(), rng=context.rng)
    return dict.fromkeys(sorted(chosen), SILENT) | dict.fromkeys(avoiding, WHOLE)


def _each(target: str | Sequence[str]) -> Sequence[str]:
    return (target,) if isinstance(target, str) else target


def _flows_of_all(targets: Sequence[str], stage: Stage) -> frozenset[Flow]:
    members = list(stage.members.values())
    return frozenset[Flow]().union(*(flows_of(target, members) for target in targets))


def excused(target: str | Sequence[str], topology: Topology, stage: Stage) -> Mapping[str, tuple[int, ...] | None]:
    """Client groups that are owed nothing while processes are away: those pinned to one, or left without a majority.

    Controllers are not counted: reads and writes must go on without one (replication.md section 9), so a scenario that
    kills a controller must be able to promise that the system stays available.
    """
    members = list(stage.members.values())
    return cut_off(_flows_of_all(_each(target), stage), replace(topology, controllers=()), members)


def still(target: str | Sequence[str], expected: MemberState, context: FaultContext) -> Evidence:
    """Whether processes are still as the fault left them, at the end of the window."""
    states = {one: context.cluster.stage.processes.state(one) for one in _each(target)}
    wrong = [
        f"at the end of the window {one} was {state}, expected {expected}"
        for one, state in states.items()
        if state is not expected
    ]
    return Evidence(proven=not wrong, facts=tuple(wrong))


def led_shards(target: str, topology: Topology) -> list[int]:
    return topology.primaries().get(target, [])


def replaceable(targets: Sequence[str], topology: Topology, stage: Stage) -> list[int]:
    """Shards that one target leads; of several, those for which enough replicas are left to elect another primary."""
    led = sorted(shard for target in targets for shard in led_shards(target, topology))
    if len(targets) == 1:
        return led
    left = replace(with_down(topology, targets), controllers=())
    able = deposed(_flows_of_all(targets, stage), left)
    return [shard for shard in led if shard in able]


def new_epoch(shards: Sequence[int]) -> Mapping[str, Any] | None:
    """The reaction expected of the system: a new epoch of these shards; None when there are none."""
    return {"kind": "new-epoch", "shards": sorted(shards)} if shards else None


def resume_all(targets: Sequence[str], context: FaultContext) -> None:
    """Continue every target; one that cannot be continued does not keep the others stopped.

    Also one that is not stopped (yet): a SIGSTOP that is still under way must not outlive us. Not one that died
    meanwhile: there is nothing to continue, and the verification says that it is down.
    """
    processes = context.cluster.stage.processes
    with contextlib.ExitStack() as stack:
        for target in targets:
            if processes.state(target) in (MemberState.PAUSED, MemberState.RUNNING):
                stack.callback(processes.resume, target)


def serves_again(target: str | Sequence[str], context: FaultContext) -> Evidence:
    """Verified when the operating system says that every process runs.

    Whether it also *serves* is the system's own achievement: if it does not within the deadline, that is told and
    judged as a failure to recover, not as a heal of ours that failed.
    """
    each = [_serves_again(one, context) for one in _each(target)]
    return Evidence(proven=all(it.proven for it in each), facts=tuple(fact for it in each for fact in it.facts))


def _serves_again(target: str, context: FaultContext) -> Evidence:
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


def bring_back(target: str, context: FaultContext) -> None:
    """Start the target unless it runs: what should have ended it may not have come to pass."""
    processes = context.cluster.stage.processes
    if processes.state(target) in (MemberState.EXITED, MemberState.ABSENT):
        processes.start(target)


def connections_ended(old: OldConnections, target: str) -> Evidence:
    """Connections to the target's process of before the fault carry nothing any more: that process is no more."""
    probes = {link: probe for link, probe in old.probes.items() if link.target == target}
    seen = at_once(lambda link: observe(probes[link], timeout_s=OLD_CONNECTION_TIMEOUT_S), probes)
    alive = [f"old connection {link.source} -> {link.target}" for link, it in seen.items() if it.outcome.answered]
    fact = f"{len(seen) - len(alive)} of {len(seen)} connections to {target} of before do not answer, as it must be"
    wrong = [f"{which}: expected no answer, saw request delivered and answered" for which in alive[:6]]
    return Evidence(proven=bool(seen) and not alive and not old.broken, facts=(fact, *old.broken, *wrong))
