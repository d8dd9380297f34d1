"""loss: packets around one member are dropped by chance, one by one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import ClassVar, Final

from pydantic import Field

from ..harness import impairment
from ..harness.interfaces import Evidence, FaultContext, Injection, Settings, Stage
from ..harness.relation import Direction
from ._counted import Looks, counted, quiet
from ._impairing import WAYS, Around, impairing, lacks
from ._proof import Observation, OldConnections
from ._selectors import Selector, words

__all__ = ["Loss", "LossSettings"]

LINKS_MAX: Final = 8
# TCP sends again after 200 ms at the earliest (Linux's TCP_RTO_MIN) when no later packet tells it sooner.
RETRANSMISSION_S: Final = 0.19


class LossSettings(Settings):
    """Whose packets, and how many of them."""

    target: Selector = "primary"
    direction: Direction = "both"
    percent: float = Field(
        default=10.0, ge=1, le=50, description="of packets, each way; with more, TCP hardly moves: use a partition"
    )


class Loss:
    """A network that loses some packets of one member."""

    name: ClassVar[str] = "loss"
    kind: ClassVar[str] = "network"
    settings: ClassVar[type[Settings]] = LossSettings

    def __init__(self, settings: LossSettings) -> None:
        self._settings = settings

    def describe(self) -> str:
        chosen = self._settings
        return (
            f"Drops {chosen.percent:g} % of packets {WAYS[chosen.direction]} {words(chosen.target)}. "
            "Undone by removing the rule that drops; connections stay open."
        )

    def available(self, stage: Stage) -> str | None:
        return lacks(stage, impairment.Loss)

    @contextlib.contextmanager
    def inject(self, context: FaultContext) -> Iterator[Injection]:
        chosen = self._settings
        with impairing(
            context,
            impairment.Loss(percent=chosen.percent),
            selector=chosen.target,
            direction=chosen.direction,
            links_max=LINKS_MAX,
            look=lambda _around, _old: None,
            prove=lambda around, old, _before: self._prove(around, old),
            healed=lambda around, _before: quiet(around, impairment.Loss, percent=chosen.percent),
        ) as injection:
            yield injection

    def _prove(self, around: Around, old: OldConnections) -> Evidence:
        """The kernel counts drops on every flow, and on every connection an exchange waits for a retransmission.

        Some exchanges come through, or it would be a cut; on links beside, nearly none waits, or it is the machine.
        """
        percent = self._settings.percent
        evidence, looks = counted(around, old, impairment.Loss, percent=percent, enough=_one_waited, what="dropped")
        ours, control = looks.of(around.links), _waits(looks, around)
        wrong = [
            f"{connection.words()}: expected an exchange to wait for a retransmission, "
            f"saw none in {len(seen)} exchanges"
            for connection, seen in ours.items()
            if not _one_waited(seen)
        ]
        if not any(it.outcome.answered for seen in ours.values() for it in seen):
            wrong.append("expected some exchanges to be answered, saw none: that is a cut, not a loss")
        waited, exchanges = control
        if waited > exchanges * percent / 200:
            wrong.append(f"links that lose nothing: expected no exchange to wait, saw {waited} of {exchanges}")
        beside = (
            f"{waited} of {exchanges} exchanges waited on {len(around.beside)} links that avoid {around.target}"
            if around.beside
            else "every link touches the target, so nothing shows what the machine does by itself"
        )
        fact = f"an exchange waited {RETRANSMISSION_S * 1e3:.0f} ms or more on {len(ours)} connections, old and new"
        facts = (*evidence.facts, *(() if wrong else (fact,)), beside, *wrong[:6])
        return Evidence(proven=evidence.proven and not wrong, facts=facts)


def _waited(it: Observation) -> bool:
    return not it.outcome.answered or it.seconds >= RETRANSMISSION_S


def _one_waited(seen: list[Observation]) -> bool:
    return any(_waited(it) for it in seen)


def _waits(looks: Looks, around: Around) -> tuple[int, int]:
    """Exchanges on control links: how many waited, and of how many."""
    seen = [it for each in looks.of(around.beside).values() for it in each]
    return sum(_waited(it) for it in seen), len(seen)
