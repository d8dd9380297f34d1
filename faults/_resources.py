"""What faults of resources have in common: limits that they need, the hog, and members beside the one that is hit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from ..harness.errors import UsageError
from ..harness.identity import ProcessIdentity
from ..harness.interfaces import Confinement, Evidence, FaultContext, MemberState, Role, Stage
from ._process import bring_back, needs_processes, serves_again

__all__ = ["beside", "confinement_of", "hog", "needs_limit", "still_held", "unburdened", "was_ended"]

_HOG = Path(__file__).with_name("_hog.py")
_LIMITS = {"cpus": "CPU", "memory_mb": "memory"}


def needs_limit(stage: Stage, setting: Literal["cpus", "memory_mb"]) -> str | None:
    """Reason why nothing of this kind can be taken from a member alone on this stage, or None."""
    reason = needs_processes(stage)
    if reason is not None:
        return reason
    if stage.confinement is None:
        return (
            f"backend {stage.backend!r} gives members no limits of their own (no cgroup), so {_LIMITS[setting]} would "
            "be taken from the whole machine; use one that does, as docker"
        )
    for name, member in stage.members.items():
        if member.role is Role.CLIENT:
            continue
        limits = stage.confinement.limits(name)
        if (limits.cpus if setting == "cpus" else limits.memory_bytes) is None:
            what = _LIMITS[setting]
            where = "limit it in the Compose file" if stage.backend == "compose" else f"set {setting} in [backend]"
            return f"{what} of {name} is not limited, so it would be taken from all; {where}"
    return None


def confinement_of(stage: Stage) -> Confinement:
    if stage.confinement is None:
        raise UsageError(f"backend {stage.backend!r} gives members no limits of their own")
    return stage.confinement


def hog(*arguments: str) -> list[str]:
    """Command of the program that takes what a fault wants taken."""
    return [sys.executable, "-I", "-S", str(_HOG), *arguments]


def beside(target: str, context: FaultContext) -> str | None:
    """A member that is not hit, chosen by the seed: what befalls it too is the machine's doing, and proves nothing."""
    stage = context.cluster.stage
    names = sorted(
        name
        for name, member in stage.members.items()
        if name != target and member.role is not Role.CLIENT and stage.processes.state(name) is MemberState.RUNNING
    )
    return context.rng.choice(names) if names else None


def still_held(target: str, helper: ProcessIdentity, context: FaultContext) -> Evidence:
    """Whether the hog still runs inside the target's limits, at the end of the window."""
    if confinement_of(context.cluster.stage).holds(target, helper):
        return Evidence(proven=True, facts=())
    return Evidence(
        proven=False, facts=(f"at the end of the window nothing of ours was inside the limits of {target}",)
    )


def was_ended(target: str, context: FaultContext) -> None:
    """Start a member that has not survived what was done to it, and say so."""
    state = context.cluster.stage.processes.state(target)
    if state in (MemberState.EXITED, MemberState.ABSENT):
        context.events("warning", text=f"{target} had ended by itself by the end of the window, and is started again")
        bring_back(target, context)


def unburdened(target: str, helper: ProcessIdentity, context: FaultContext) -> Evidence:
    """The hog is gone, as the kernel says, and the member runs."""
    if confinement_of(context.cluster.stage).holds(target, helper):
        return Evidence(proven=False, facts=(f"our process {helper.pid} is still inside the limits of {target}",))
    serves = serves_again(target, context)
    return Evidence(proven=serves.proven, facts=(f"nothing of ours is inside the limits of {target}", *serves.facts))
