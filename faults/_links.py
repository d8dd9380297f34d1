"""Which links there are to break and to probe, and what a probe must see on each."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable
from typing import Final

from ..harness.interfaces import Evidence, Flow, Link, MemberState, ProbeOutcome, Role, Stage
from ..harness.open_windows import SharedNetwork

__all__ = [
    "SILENT",
    "WHOLE",
    "carried",
    "cut_links",
    "expected",
    "live_links",
    "needs_links",
    "still_impaired",
    "whole_links",
]

PAIRS_MAX = 24
WHOLE_LINKS_MAX = 8
SILENT: Final = ProbeOutcome(delivered=False, answered=False)
WHOLE: Final = ProbeOutcome(delivered=True, answered=True)


def needs_links(stage: Stage) -> str | None:
    """Reason why no flow can be impaired on this stage, or None."""
    if stage.network.links:
        return None
    return f"backend {stage.backend!r} carries no link of this system, so no bytes can be held back; use one that does"


def still_impaired(flows: Collection[Flow], stage: Stage) -> Evidence:
    """Whether the network itself says that all of these flows are impaired, at the end of the window."""
    impaired = stage.network.impaired()
    gone = [f"{flow.source} -> {flow.target}" for flow in sorted(flows) if flow not in impaired]
    if not gone:
        return Evidence(proven=True, facts=())
    which = ", ".join(gone[:6])
    fact = f"at the end of the window {len(gone)} of {len(flows)} flows were no longer impaired: {which}"
    return Evidence(proven=False, facts=(fact,))


def carried(flows: Iterable[Flow], links: Iterable[Link]) -> frozenset[Flow]:
    """The flows that some link carries, as requests or as replies; clients have no link to nodes, for instance."""
    pairs = {frozenset(link) for link in links}
    return frozenset(flow for flow in flows if frozenset(flow) in pairs)


def live_links(stage: Stage) -> list[Link]:
    """Links between members that run now, in a fixed order. Client groups have no process, and count as running.

    Links that another open window impairs are left out: what is seen on them says nothing about this window.
    """

    def runs(name: str) -> bool:
        is_client = stage.members[name].role is Role.CLIENT
        return is_client or stage.processes.state(name) is MemberState.RUNNING

    running = {name for name in stage.members if runs(name)}
    network = stage.network
    others = frozenset(network.of_others()) if isinstance(network, SharedNetwork) else frozenset()
    links = [link for link in network.links if link.source in running and link.target in running]
    return sorted(link for link in links if expected(link, others) == WHOLE)


def cut_links(links: Iterable[Link], flows: Collection[Flow], *, always: str, rng: random.Random) -> list[Link]:
    """Links of the cut pairs, both ways: all of them up to 24 pairs, then a sample that has all pairs of `always`."""
    pairs: dict[tuple[str, str], list[Link]] = {}
    for link in links:
        if expected(link, flows) != WHOLE:
            pairs.setdefault((min(link), max(link)), []).append(link)
    kept = [pair for pair in pairs if always in pair]
    rest = [pair for pair in pairs if always not in pair]
    kept += rng.sample(rest, min(len(rest), max(0, PAIRS_MAX - len(kept))))
    return sorted(link for pair in kept for link in pairs[pair])


def whole_links(
    links: Iterable[Link], flows: Collection[Flow], *, near: Collection[str], rng: random.Random
) -> list[Link]:
    """A few links that must go on answering; half of them touch `near`, where a cut that is too wide would show."""
    whole = [link for link in links if expected(link, flows) == WHOLE]
    rng.shuffle(whole)
    beside = [link for link in whole if link.source in near or link.target in near][: WHOLE_LINKS_MAX // 2]
    apart = [link for link in whole if link not in beside]
    return sorted([*beside, *apart[: WHOLE_LINKS_MAX - len(beside)]])


def expected(link: Link, flows: Collection[Flow]) -> ProbeOutcome:
    """What a probe on a link must see when exactly these flows are cut."""
    delivered = Flow(link.source, link.target) not in flows
    return ProbeOutcome(delivered=delivered, answered=delivered and Flow(link.target, link.source) not in flows)
