"""memory-pressure: something holds most of the member's own memory limit, so that it has little left."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from ..harness.errors import UsageError
from ..harness.identity import ProcessIdentity
from ..harness.interfaces import Evidence, FaultContext, Injection, Settings, Stage
from ._resources import beside, confinement_of, hog, needs_limit, still_held, unburdened, was_ended
from ._selectors import Selector, insist_running, select, words

__all__ = ["MemoryPressure", "MemoryPressureSettings"]

PROOF_DEADLINE_S = 20.0
POLL_S = 0.05
# What is held may be this much less than was asked for: members give memory back, and steps have a size.
TOLERANCE = 0.05


class MemoryPressureSettings(Settings):
    """Whose memory to take, and how much is to be in use with it."""

    target: Selector = "primary"
    percent: int = Field(default=90, ge=10, le=95, description="in use altogether, of the member's memory limit")


class MemoryPressure:
    """A neighbour that holds memory, inside the limits of one member."""

    name: ClassVar[str] = "memory-pressure"
    kind: ClassVar[str] = "resource"
    settings: ClassVar[type[Settings]] = MemoryPressureSettings

    def __init__(self, settings: MemoryPressureSettings) -> None:
        self._settings = settings

    def describe(self) -> str:
        return (
            f"Holds memory inside the limit of {words(self._settings.target)} until {self._settings.percent} % of it "
            "are in use. Undone by giving it back; a member that ended for want of memory is started again."
        )

    def available(self, stage: Stage) -> str | None:
        return needs_limit(stage, "memory_mb")

    @contextlib.contextmanager
    def inject(self, context: FaultContext) -> Iterator[Injection]:
        confinement = confinement_of(context.cluster.stage)
        target = select(self._settings.target, context)
        insist_running(target, context)
        limit = confinement.limits(target).memory_bytes
        if limit is None:
            raise UsageError(f"memory of {target} is not limited; set memory_mb in [backend]")
        wanted, before = limit * self._settings.percent // 100, confinement.usage(target).memory_bytes
        if before >= wanted * (1 - TOLERANCE):
            raise UsageError(
                f"{target} uses {before >> 20} MB of {limit >> 20} MB by itself, so percent = {self._settings.percent} "
                "takes nothing from it; ask for more, or give members more memory"
            )
        other = beside(target, context)
        before_beside = confinement.usage(other).memory_bytes if other is not None else 0

        def prove(helper: ProcessIdentity) -> Evidence:
            least = round(wanted * (1 - TOLERANCE))
            until_s = time.monotonic() + PROOF_DEADLINE_S
            while (now := confinement.usage(target).memory_bytes) < least and time.monotonic() < until_s:
                if not confinement.holds(target, helper):
                    break
                time.sleep(POLL_S)
            inside = confinement.holds(target, helper)
            used = f"{now / 2**20:.1f} MB are in use inside the {limit >> 20} MB of {target}"
            facts = [f"{used}, {before / 2**20:.1f} before, expected {least / 2**20:.1f} at least"]
            if not inside:
                facts.append(f"what should hold them (process {helper.pid}) is not inside the limits of {target}")
            grown_beside = 0
            if other is not None:
                now_beside = confinement.usage(other).memory_bytes
                grown_beside = now_beside - before_beside
                facts.append(
                    f"{other}, which was not hit: {now_beside / 2**20:.1f} MB, {before_beside / 2**20:.1f} before"
                )
            proven = now >= least and inside and grown_beside <= (now - before) / 2
            return Evidence(proven=proven, facts=tuple(facts))

        with contextlib.ExitStack() as healing:
            begun_ns = time.monotonic_ns()
            healing.callback(was_ended, target, context)
            command = hog("memory", str(wanted), str(wanted * 9 // 10))
            helper = confinement.start(target, command, expires_ns=context.expires_ns)
            healing.callback(confinement.end, helper)
            yield Injection(
                targets=(target,),
                description=f"memory is held inside the limit of {target} until {self._settings.percent} % are in use",
                cut_off={},
                prove=lambda: prove(helper),
                verify_healed=lambda: unburdened(target, helper, context),
                began_ns=begun_ns,
                still_on=lambda: still_held(target, helper, context),
            )
