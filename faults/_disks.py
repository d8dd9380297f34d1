"""What faults of disks have in common: what they need, tries at a member's disk, and what healing one means."""

from __future__ import annotations

from typing import Final

from ..harness.errors import UsageError
from ..harness.interfaces import Disks, DiskTrial, Evidence, FaultContext, Stage
from ._process import needs_processes, serves_again
from ._resources import beside

__all__ = ["TRIAL_BYTES", "disks_of", "insist_whole", "needs_disks", "refused", "still_so", "whole_again"]

TRIAL_BYTES: Final = 65_536
TRIAL_TIMEOUT_S: Final = 30.0


def needs_disks(stage: Stage, kind: str) -> str | None:
    """Reason why a member's disk cannot be full, slow or read-only on this stage, or None."""
    reason = needs_processes(stage)
    if reason is not None:
        return reason
    if stage.disks is None:
        return (
            f"backend {stage.backend!r} gives members' data no file system of its own, and the host's own is never "
            "touched; use one that does: docker, with disk_mb set in [backend]"
        )
    return stage.disks.why_not(kind)


def disks_of(stage: Stage) -> Disks:
    if stage.disks is None:
        raise UsageError(f"backend {stage.backend!r} gives members' data no file system of its own")
    return stage.disks


def insist_whole(target: str, context: FaultContext) -> None:
    """Raise UsageError unless the target's disk can be written: breaking what is broken would prove nothing."""
    trial = _attempt(target, context)
    if trial.error or trial.written == 0:
        raise UsageError(f"the disk of {target} refuses writes before the fault was injected ({trial.error})")


def refused(target: str, error: str, context: FaultContext, *, size_bytes: int = TRIAL_BYTES) -> Evidence:
    """A write to the target's disk is refused with this error, and one to the disk of a member beside it is not."""
    trial = _attempt(target, context, size_bytes=size_bytes)
    free = f"{trial.free_bytes // 1024} KiB are free on it"
    facts = [f"a write of {size_bytes} bytes to the disk of {target}: {_words(trial)}, expected {error}; {free}"]
    proven = trial.error == error
    other = beside(target, context)
    if other is not None:
        control = _attempt(other, context)
        proven = proven and not control.error
        facts.append(f"the same on the disk of {other}, which was not hit: {_words(control)}")
    return Evidence(proven=proven, facts=tuple(facts))


def still_so(target: str, kind: str, context: FaultContext) -> Evidence:
    """Whether the target's disk is still as the fault left it, at the end of the window."""
    if kind in disks_of(context.cluster.stage).condition(target):
        return Evidence(proven=True, facts=())
    return Evidence(proven=False, facts=(f"at the end of the window the disk of {target} was no longer {kind}",))


def whole_again(target: str, kind: str, context: FaultContext) -> Evidence:
    """The disk takes a write again, nothing is wrong with it any more, and the member runs."""
    left = disks_of(context.cluster.stage).condition(target).get(kind)
    if left is not None:
        return Evidence(proven=False, facts=(f"the disk of {target} is still {kind}: {left}",))
    trial = _attempt(target, context)
    fact = f"a write of {TRIAL_BYTES} bytes to the disk of {target}: {_words(trial)}"
    if trial.error:
        return Evidence(proven=False, facts=(f"{fact}, expected none",))
    serves = serves_again(target, context)
    return Evidence(proven=serves.proven, facts=(fact, *serves.facts))


def _attempt(member: str, context: FaultContext, *, size_bytes: int = TRIAL_BYTES) -> DiskTrial:
    disks = disks_of(context.cluster.stage)
    return disks.attempt(member, writes=1, size_bytes=size_bytes, timeout_s=TRIAL_TIMEOUT_S)


def _words(trial: DiskTrial) -> str:
    return f"error {trial.error}" if trial.error else f"no error, {trial.seconds * 1e3:.1f} ms with fsync"
