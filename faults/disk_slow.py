"""disk-slow: only so many writes a second reach the member's own disk; fsync waits for them."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from ..harness.errors import SetupError, UsageError
from ..harness.interfaces import Disks, Evidence, FaultContext, Injection, Settings, Stage
from ._disks import disks_of, insist_whole, needs_disks, still_so, whole_again
from ._resources import beside, was_ended
from ._selectors import Selector, insist_running, select, words

__all__ = ["DiskSlow", "DiskSlowSettings"]

KIND = "slow"
WRITE_BYTES = 4096
# What the member itself writes stands in the same queue, so that ours may have to wait for long.
TIMEOUT_S = 60.0
HEAL_DEADLINE_S = 20.0
MEASUREMENTS = 2


class DiskSlowSettings(Settings):
    """Whose disk, and how slow."""

    target: Selector = "primary"
    writes_per_s: int = Field(default=20, ge=1, le=1000)

    @property
    def trials(self) -> int:
        """Writes to measure by: about a second's worth, of which the first few may go at once."""
        return max(4, min(self.writes_per_s, 50))

    @property
    def least_s(self) -> float:
        """How long those must take for a proof: half of what the limit says."""
        return 0.5 * self.trials / self.writes_per_s


class DiskSlow:
    """A disk that takes few writes, under one member's data."""

    name: ClassVar[str] = "disk-slow"
    kind: ClassVar[str] = "disk"
    settings: ClassVar[type[Settings]] = DiskSlowSettings

    def __init__(self, settings: DiskSlowSettings) -> None:
        self._settings = settings

    def describe(self) -> str:
        return (
            f"Lets {self._settings.writes_per_s} writes a second reach the disk of {words(self._settings.target)}; "
            "fsync waits for them. Undone by removing the limit."
        )

    def available(self, stage: Stage) -> str | None:
        return needs_disks(stage, KIND)

    @contextlib.contextmanager
    def inject(self, context: FaultContext) -> Iterator[Injection]:
        chosen = self._settings
        disks = disks_of(context.cluster.stage)
        target = select(chosen.target, context)
        insist_running(target, context)
        insist_whole(target, context)
        other = beside(target, context)
        before_s = _quickest_s(disks, target, chosen.trials)
        before_beside_s = _quickest_s(disks, other, chosen.trials) if other is not None else 0.0
        if before_s >= chosen.least_s:
            raise UsageError(
                f"{chosen.trials} writes with fsync to the disk of {target} take {before_s:.2f} s by themselves, so "
                f"writes_per_s = {chosen.writes_per_s} would not show; use a smaller one"
            )
        with contextlib.ExitStack() as healing:
            begun_ns = time.monotonic_ns()
            healing.callback(was_ended, target, context)
            healing.callback(disks.mend, target, KIND)
            disks.slow(target, writes_per_s=chosen.writes_per_s, expires_ns=context.expires_ns)

            def prove() -> Evidence:
                now_s = _quickest_s(disks, target, chosen.trials)
                least_s = before_s + chosen.least_s
                writes = f"{chosen.trials} writes with fsync to the disk of {target} took {now_s:.2f} s"
                facts = [f"{writes}, {before_s:.2f} s before, expected {least_s:.2f} s at least"]
                grown_beside_s = 0.0
                if other is not None:
                    now_beside_s = _quickest_s(disks, other, chosen.trials)
                    grown_beside_s = now_beside_s - before_beside_s
                    beside_it = f"on the disk of {other}, which was not hit: {now_beside_s:.2f} s"
                    facts.append(f"{beside_it}, {before_beside_s:.2f} s before")
                proven = now_s >= least_s and grown_beside_s <= min((now_s - before_s) / 2, TIMEOUT_S)
                return Evidence(proven=proven, facts=tuple(facts))

            yield Injection(
                targets=(target,),
                description=f"{chosen.writes_per_s} writes a second reach the disk of {target}",
                cut_off={},
                prove=prove,
                verify_healed=lambda: _healed(disks, target, before_s, chosen, context),
                began_ns=begun_ns,
                still_on=lambda: still_so(target, KIND, context),
            )


def _quickest_s(disks: Disks, member: str, writes: int) -> float:
    """The least of a few measurements: a busy machine only ever adds to one, and a limit holds for all of them."""
    return min(_took_s(disks, member, writes) for _ in range(MEASUREMENTS))


def _took_s(disks: Disks, member: str, writes: int) -> float:
    """Seconds that so many writes with fsync take, one after another; infinite when they came to no end."""
    try:
        trial = disks.attempt(member, writes=writes, size_bytes=WRITE_BYTES, timeout_s=TIMEOUT_S)
    except SetupError:
        return math.inf
    if trial.error:
        raise SetupError(f"the disk of {member} refused a write ({trial.error}), so how slow it is cannot be measured")
    return trial.seconds


def _healed(disks: Disks, target: str, before_s: float, chosen: DiskSlowSettings, context: FaultContext) -> Evidence:
    """No limit is there, and the same writes take less time than the limit would let them."""
    whole = whole_again(target, KIND, context)
    if not whole.proven:
        return whole
    until_s = time.monotonic() + HEAL_DEADLINE_S
    while (now_s := _took_s(disks, target, chosen.trials)) >= before_s + chosen.least_s:
        if time.monotonic() > until_s:
            slow = f"{chosen.trials} writes with fsync to the disk of {target} still take {now_s:.2f} s"
            return Evidence(proven=False, facts=(f"{slow}, {before_s:.2f} s before the fault",))
    fact = f"{chosen.trials} writes with fsync take {now_s:.2f} s, {before_s:.2f} s before the fault"
    return Evidence(proven=True, facts=(fact, *whole.facts))
