"""The fault budget: what a random schedule may break at once, so that a system which keeps its promises can (DESIGN 6).

Any number of crashes, pauses and partitions, of at most `at_once` members at a time; and at most `min_in_sync` - 1
disks lost for good. Where replicas are is not known before the cluster runs, so lost disks are counted for the whole
system, which is never too many for one shard. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Away", "Cost", "FaultBudget", "cost_of", "disk_losses_allowed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one window takes of the budget. `members` is None where the file does not say how many: then it is alone."""

    members: int | None = 1
    for_good: bool = False  # what it broke stays broken when the window ends
    disks: int = 0  # that are lost for good


@dataclass(frozen=True, slots=True, kw_only=True)
class Away:
    """A window that was drawn, and until when its members are away."""

    start_s: float
    end_s: float
    cost: Cost

    @property
    def until_s(self) -> float:
        return math.inf if self.cost.for_good else self.end_s


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultBudget:
    """Limits for windows that are drawn. `at_once` members, `disks` lost for good in the whole run."""

    at_once: int
    disks: int

    def share(self, cost: Cost) -> int:
        return self.at_once if cost.members is None else cost.members

    def ever(self, cost: Cost) -> str | None:
        """None when such a window can be drawn at all, otherwise why not."""
        if self.share(cost) > self.at_once:
            return f"it breaks {cost.members} members at once, and at_once = {self.at_once}"
        if cost.disks > self.disks:
            return f"it loses {cost.disks} disk for good, and the fault budget of this system has room for {self.disks}"
        return None

    def room_s(self, drawn: Sequence[Away], cost: Cost, *, from_s: float) -> float | None:
        """The earliest moment from which there is room for such a window; None when there never will be.

        Windows are drawn in the order of their starts, and `from_s` is no earlier than the last of these; so what is on
        at the moment that is found only becomes less.
        """
        if self.ever(cost) is not None or sum(away.cost.disks for away in drawn) + cost.disks > self.disks:
            return None
        for moment_s in sorted({from_s, *(away.until_s for away in drawn if away.until_s > from_s)}):
            if math.isinf(moment_s):
                return None
            on = sum(self.share(away.cost) for away in drawn if away.until_s > moment_s)
            if on + self.share(cost) <= self.at_once:
                return moment_s
        return None

    def broken_by(self, windows: Iterable[Away]) -> str | None:
        """None when these windows keep the budget, otherwise when they do not. Looks at every moment anew."""
        windows = list(windows)
        disks = sum(away.cost.disks for away in windows)
        if disks > self.disks:
            return f"{disks} disks are lost for good, {self.disks} are allowed"
        for moment_s in sorted(away.start_s for away in windows):
            on = [away for away in windows if away.start_s <= moment_s < away.until_s]
            members = sum(self.share(away.cost) for away in on)
            if members > self.at_once:
                return f"{members} members are away at {moment_s:g} s, {self.at_once} are allowed"
        return None


def cost_of(settings: Mapping[str, Any], *, loses_disk: bool) -> Cost:
    """What a window with these settings takes, as far as it can be told before there is a cluster.

    A list of targets is as many members as it names; a share of a role (`every:node`, `half:node`, `40%:node`) is an
    unknown number. `restart = false` is what faults call leaving a member down.
    """
    target = settings.get("target")
    named = [target] if isinstance(target, str) else list(target) if isinstance(target, list | tuple) else [""]
    shares = any(str(each).startswith(("every:", "half:")) or "%:" in str(each) for each in named)
    lasting = settings.get("restart") is False or loses_disk
    return Cost(members=None if shares else len(named), for_good=lasting, disks=1 if loses_disk else 0)


def disk_losses_allowed(system_settings: Mapping[str, Any]) -> int:
    """`min_in_sync` - 1, and none for a system that says nothing of it."""
    least = system_settings.get("min_in_sync")
    return max(0, least - 1) if isinstance(least, int) and not isinstance(least, bool) else 0
