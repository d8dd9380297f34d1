"""cpu-pressure: something burns the member's own CPU budget, so that it runs late, and nothing else does."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from ..harness.errors import UsageError
from ..harness.identity import ProcessIdentity
from ..harness.interfaces import Confinement, Evidence, FaultContext, Injection, Settings, Stage
from ._resources import beside, confinement_of, hog, needs_limit, still_held, unburdened, was_ended
from ._selectors import Selector, insist_running, select, words

__all__ = ["CpuPressure", "CpuPressureSettings"]

BASELINE_S = 0.5
# A proof looks until the member was held back for this part of the time, which a busy machine may delay.
LEAST_THROTTLED = 0.1
LEAST_LOOK_S = 0.5
PROOF_DEADLINE_S = 15.0
POLL_S = 0.1


class CpuPressureSettings(Settings):
    """Whose CPU to burn, and how much of it."""

    target: Selector = "primary"
    percent: int = Field(
        default=200, ge=100, le=1000, description="what is burnt, of the member's CPU limit; the kernel divides it"
    )


class CpuPressure:
    """A neighbour that wants all the CPU there is, inside the limits of one member."""

    name: ClassVar[str] = "cpu-pressure"
    kind: ClassVar[str] = "resource"
    settings: ClassVar[type[Settings]] = CpuPressureSettings

    def __init__(self, settings: CpuPressureSettings) -> None:
        self._settings = settings

    def describe(self) -> str:
        return (
            f"Burns {self._settings.percent} % of the CPU limit of {words(self._settings.target)} inside that limit. "
            "Undone by ending what burns; nothing outside of the member's cgroup is touched."
        )

    def available(self, stage: Stage) -> str | None:
        return needs_limit(stage, "cpus")

    @contextlib.contextmanager
    def inject(self, context: FaultContext) -> Iterator[Injection]:
        stage = context.cluster.stage
        confinement = confinement_of(stage)
        target = select(self._settings.target, context)
        insist_running(target, context)
        cpus = confinement.limits(target).cpus
        if cpus is None:
            raise UsageError(f"CPU of {target} is not limited; set cpus in [backend]")
        other = beside(target, context)
        before = _Throttled(confinement, target, other)
        time.sleep(BASELINE_S)
        usual, usual_beside = before.shares()
        cores = cpus * self._settings.percent / 100
        with contextlib.ExitStack() as healing:
            begun_ns = time.monotonic_ns()
            healing.callback(was_ended, target, context)
            helper = confinement.start(target, hog("cpu", f"{cores:.3f}"), expires_ns=context.expires_ns)
            healing.callback(confinement.end, helper)
            since = _Throttled(confinement, target, other)
            yield Injection(
                targets=(target,),
                description=f"{cores:g} CPUs' worth of work was started inside the {cpus:g} CPUs of {target}",
                cut_off={},
                prove=lambda: _prove(since, usual, usual_beside, helper, confinement),
                verify_healed=lambda: unburdened(target, helper, context),
                began_ns=begun_ns,
                still_on=lambda: still_held(target, helper, context),
            )


class _Throttled:
    """For which part of the time since then the kernel has kept members from running, although they wanted to."""

    def __init__(self, confinement: Confinement, target: str, other: str | None) -> None:
        self._confinement = confinement
        self.target, self.other = target, other
        self._begun_ns = time.monotonic_ns()
        self._before = {name: confinement.usage(name) for name in (target, other) if name is not None}

    @property
    def elapsed_s(self) -> float:
        return (time.monotonic_ns() - self._begun_ns) / 1e9

    def shares(self) -> tuple[float, float]:
        """Of the target, and of the member beside it. Of several cores each counts, so it may be more than 1."""
        elapsed_ns = max(time.monotonic_ns() - self._begun_ns, 1)
        held = {
            name: (self._confinement.usage(name).throttled_ns - then.throttled_ns) / elapsed_ns
            for name, then in self._before.items()
        }
        return held[self.target], held.get(self.other or "", 0.0)

    def cpus(self) -> float:
        """How many CPUs' worth was used inside the target's limits."""
        used_ns = self._confinement.usage(self.target).cpu_ns - self._before[self.target].cpu_ns
        return used_ns / max(time.monotonic_ns() - self._begun_ns, 1)


def _prove(
    since: _Throttled, usual: float, usual_beside: float, helper: ProcessIdentity, confinement: Confinement
) -> Evidence:
    """The target is held back more than before, by more than the member beside it is."""
    target, other = since.target, since.other
    until_s = time.monotonic() + PROOF_DEADLINE_S
    while True:
        now, now_beside = since.shares()
        grown, grown_beside = now - usual, max(now_beside - usual_beside, 0.0)
        bites = grown >= LEAST_THROTTLED and grown_beside <= grown / 2
        inside = confinement.holds(target, helper)
        if (bites and since.elapsed_s >= LEAST_LOOK_S) or not inside or time.monotonic() > until_s:
            break
        time.sleep(POLL_S)
    held = f"{target} was kept from running for {now:.0%} of {since.elapsed_s:.1f} s, {usual:.0%} before"
    used = f"{since.cpus():.2f} CPUs were used inside its limit"
    facts = [f"{held}, expected {LEAST_THROTTLED:.0%} more at least; {used}"]
    if other is not None:
        facts.append(f"{other}, which was not hit: {now_beside:.0%}, {usual_beside:.0%} before")
    if not inside:
        facts.append(f"what burns (process {helper.pid}) is not inside the limits of {target}, expected it there")
    return Evidence(proven=bites and inside, facts=tuple(facts))
