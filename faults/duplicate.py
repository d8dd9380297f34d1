"""duplicate: some packets around one member arrive twice."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import ClassVar, Final

from pydantic import Field

from ..harness import impairment
from ..harness.interfaces import Evidence, FaultContext, Injection, Settings, Stage
from ..harness.relation import Direction
from ._counted import counted, quiet
from ._impairing import WAYS, Around, impairing, lacks
from ._proof import OldConnections
from ._selectors import Selector, words

__all__ = ["Duplicate", "DuplicateSettings"]

LINKS_MAX: Final = 8


class DuplicateSettings(Settings):
    """Whose packets, and how many of them."""

    target: Selector = "primary"
    direction: Direction = "both"
    percent: float = Field(default=10.0, ge=1, le=90, description="of packets, each way")


class Duplicate:
    """A network that delivers some packets of one member twice."""

    name: ClassVar[str] = "duplicate"
    kind: ClassVar[str] = "network"
    settings: ClassVar[type[Settings]] = DuplicateSettings

    def __init__(self, settings: DuplicateSettings) -> None:
        self._settings = settings

    def describe(self) -> str:
        chosen = self._settings
        return (
            f"Sends {chosen.percent:g} % of packets {WAYS[chosen.direction]} {words(chosen.target)} twice. "
            "Undone by removing the rule that does; connections stay open."
        )

    def available(self, stage: Stage) -> str | None:
        return lacks(stage, impairment.Duplicate)

    @contextlib.contextmanager
    def inject(self, context: FaultContext) -> Iterator[Injection]:
        chosen = self._settings
        with impairing(
            context,
            impairment.Duplicate(percent=chosen.percent),
            selector=chosen.target,
            direction=chosen.direction,
            links_max=LINKS_MAX,
            look=lambda _around, _old: None,
            prove=lambda around, old, _before: self._prove(around, old),
            healed=lambda around, _before: quiet(around, impairment.Duplicate, percent=chosen.percent),
        ) as injection:
            yield injection

    def _prove(self, around: Around, old: OldConnections) -> Evidence:
        """The kernel counts doubled packets on every flow and on no other, and every exchange is answered once."""
        evidence, looks = counted(around, old, impairment.Duplicate, percent=self._settings.percent, what="doubled")
        wrong = [
            f"{connection.words()}: expected every exchange to be answered, saw {seen[-1].words()}"
            for connection, seen in looks.seen.items()
            if not seen[-1].outcome.answered
        ]
        return Evidence(proven=evidence.proven and not wrong, facts=(*evidence.facts, *wrong[:6]))
