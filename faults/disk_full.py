"""disk-full: no room is left on the member's own disk; writes fail with ENOSPC."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from ..harness.interfaces import FaultContext, Injection, Settings, Stage
from ._disks import TRIAL_BYTES, disks_of, insist_whole, needs_disks, refused, still_so, whole_again
from ._process import excused
from ._resources import was_ended
from ._selectors import Selector, insist_running, select, words

__all__ = ["DiskFull", "DiskFullSettings"]

KIND = "full"


class DiskFullSettings(Settings):
    """Whose disk to fill, and how much room to leave."""

    target: Selector = "primary"
    leave_kb: int = Field(default=0, ge=0, description="KiB that stay free")


class DiskFull:
    """A file system without room, under one member's data."""

    name: ClassVar[str] = "disk-full"
    kind: ClassVar[str] = "disk"
    settings: ClassVar[type[Settings]] = DiskFullSettings

    def __init__(self, settings: DiskFullSettings) -> None:
        self._settings = settings

    def describe(self) -> str:
        return (
            f"Fills the size-limited disk of {words(self._settings.target)} but for {self._settings.leave_kb} KiB; the "
            "host's disk is not touched. Undone by removing what fills it; a member that ended of it is started again."
        )

    def available(self, stage: Stage) -> str | None:
        return needs_disks(stage, KIND)

    @contextlib.contextmanager
    def inject(self, context: FaultContext) -> Iterator[Injection]:
        cluster = context.cluster
        disks, leave_bytes = disks_of(cluster.stage), self._settings.leave_kb * 1024
        target = select(self._settings.target, context)
        insist_running(target, context)
        insist_whole(target, context)
        topology = cluster.topology()
        with contextlib.ExitStack() as healing:
            begun_ns = time.monotonic_ns()
            healing.callback(was_ended, target, context)
            healing.callback(disks.mend, target, KIND)
            disks.fill(target, leave_bytes=leave_bytes, expires_ns=context.expires_ns)
            yield Injection(
                targets=(target,),
                description=f"the disk of {target} was filled but for {self._settings.leave_kb} KiB",
                cut_off=excused(target, topology, cluster.stage),
                prove=lambda: refused(target, "ENOSPC", context, size_bytes=leave_bytes + TRIAL_BYTES),
                verify_healed=lambda: whole_again(target, KIND, context),
                began_ns=begun_ns,
                still_on=lambda: still_so(target, KIND, context),
            )
