"""reorder: some packets around one member are held back, so that later ones overtake them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import ClassVar, Final

from pydantic import Field

from ..harness import impairment
from ..harness.interfaces import Evidence, FaultContext, Injection, Settings, Stage
from ..harness.relation import Direction
from ._counted import bulk_view, counted, no_bulk, quiet
from ._impairing import WAYS, Around, impairing, lacks
from ._proof import OldConnections
from ._selectors import Selector, words

__all__ = ["Reorder", "ReorderSettings"]

LINKS_MAX: Final = 4
# Only packets that are under way together can change their order: some dozens of them in one exchange.
BULK_BYTES: Final = 32_768
# TCP counts what it gets out of order per segment that overtook; of a burst, nearly every held one is overtaken.
BURST_CHANCE: Final = 5


class ReorderSettings(Settings):
    """Whose packets, how many of them, and for how long they are held."""

    target: Selector = "primary"
    direction: Direction = "both"
    percent: float = Field(default=10.0, ge=1, le=50, description="of packets, each way")
    hold_ms: int = Field(default=20, ge=5, le=1000)


class Reorder:
    """A network that delivers packets of one member out of order."""

    name: ClassVar[str] = "reorder"
    kind: ClassVar[str] = "network"
    settings: ClassVar[type[Settings]] = ReorderSettings

    def __init__(self, settings: ReorderSettings) -> None:
        self._settings = settings

    def describe(self) -> str:
        chosen = self._settings
        return (
            f"Holds {chosen.percent:g} % of packets {WAYS[chosen.direction]} {words(chosen.target)} back for "
            f"{chosen.hold_ms} ms, so that later ones overtake them. Undone by removing the rule that has them held; "
            "connections stay open."
        )

    def available(self, stage: Stage) -> str | None:
        return lacks(stage, impairment.Reorder)

    @contextlib.contextmanager
    def inject(self, context: FaultContext) -> Iterator[Injection]:
        chosen = self._settings
        with impairing(
            context,
            impairment.Reorder(percent=chosen.percent, hold_ms=chosen.hold_ms),
            selector=chosen.target,
            direction=chosen.direction,
            links_max=LINKS_MAX,
            look=lambda _around, old: no_bulk(old),
            prove=self._prove,
            healed=lambda around, missing: self._healed(around, missing),
        ) as injection:
            yield injection

    def _prove(self, around: Around, old: OldConnections, missing: str | None) -> Evidence:
        """The receiver's TCP counts segments out of order on every flow, and every exchange is still answered."""
        if missing is not None:
            return Evidence(proven=False, facts=(missing,))
        view, bulk = bulk_view(around.context.cluster, old, BULK_BYTES)
        evidence, looks = counted(
            around, bulk, impairment.Reorder, percent=self._percent_of_bursts, what="out of order", cluster=view
        )
        wrong = [
            f"{connection.words()}: expected every exchange to be answered, saw {seen[-1].words()}"
            for connection, seen in looks.seen.items()
            if not seen[-1].outcome.answered
        ]
        return Evidence(proven=evidence.proven and not wrong, facts=(*evidence.facts, *wrong[:6]))

    def _healed(self, around: Around, missing: str | None) -> Evidence:
        if missing is not None:
            return Evidence(proven=True, facts=())
        view, _ = bulk_view(around.context.cluster, None, BULK_BYTES)
        return quiet(around, impairment.Reorder, percent=self._percent_of_bursts, cluster=view)

    @property
    def _percent_of_bursts(self) -> float:
        return min(90.0, self._settings.percent * BURST_CHANCE)
