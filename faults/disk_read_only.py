"""disk-read-only: the member's disk has reported an error, and its file system takes no more writes (EROFS)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import ClassVar

from ..harness.interfaces import FaultContext, Injection, MemberState, Settings, Stage
from ._disks import disks_of, insist_whole, needs_disks, refused, still_so, whole_again
from ._process import bring_back, excused
from ._selectors import Selector, insist_running, select, words

__all__ = ["DiskReadOnly", "DiskReadOnlySettings"]

KIND = "read-only"


class DiskReadOnlySettings(Settings):
    """Whose disk."""

    target: Selector = "primary"


class DiskReadOnly:
    """A file system that protects itself after an error, under one member's data; open files fail too."""

    name: ClassVar[str] = "disk-read-only"
    kind: ClassVar[str] = "disk"
    settings: ClassVar[type[Settings]] = DiskReadOnlySettings

    def __init__(self, settings: DiskReadOnlySettings) -> None:
        self._settings = settings

    def describe(self) -> str:
        return (
            f"Has the file system of {words(self._settings.target)} refuse all writes (EROFS), also to files that are "
            "open, as after an error of the disk. Undone as an administrator would: the member is ended with SIGKILL, "
            "its disk is checked and mounted anew, and the member is started again."
        )

    def available(self, stage: Stage) -> str | None:
        return needs_disks(stage, KIND)

    @contextlib.contextmanager
    def inject(self, context: FaultContext) -> Iterator[Injection]:
        cluster = context.cluster
        disks = disks_of(cluster.stage)
        target = select(self._settings.target, context)
        insist_running(target, context)
        insist_whole(target, context)
        topology = cluster.topology()
        with contextlib.ExitStack() as healing:
            begun_ns = time.monotonic_ns()
            healing.callback(_mend, target, context)
            disks.make_read_only(target, expires_ns=context.expires_ns)
            yield Injection(
                targets=(target,),
                description=f"the disk of {target} refuses all writes",
                cut_off=excused(target, topology, cluster.stage),
                prove=lambda: refused(target, "EROFS", context),
                verify_healed=lambda: whole_again(target, KIND, context),
                began_ns=begun_ns,
                still_on=lambda: still_so(target, KIND, context),
            )


def _mend(target: str, context: FaultContext) -> None:
    """What a file system needs that has seen an error: nobody may have it open while it is mounted anew."""
    processes, disks = context.cluster.stage.processes, disks_of(context.cluster.stage)
    try:
        if KIND in disks.condition(target) and processes.state(target) in (MemberState.RUNNING, MemberState.PAUSED):
            processes.kill(target)
        disks.mend(target, KIND)
    finally:
        bring_back(target, context)
