"""reset: connections of one member are reset, open ones at once and new ones when they send."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import ClassVar, Final

from ..harness import impairment
from ..harness.interfaces import Evidence, FaultContext, Injection, Settings, Stage
from ..harness.relation import Direction
from ._impairing import WAYS, Around, impairing, lacks
from ._links import WHOLE, expected
from ._proof import Observation, OldConnections, at_once, observe, observe_new
from ._round_trips import Connection
from ._selectors import Selector, words

__all__ = ["Reset", "ResetSettings"]

LINKS_MAX: Final = 12
# A connection that ends does so at once; one that is merely slow is given this long to show it.
TIMEOUT_S: Final = 2.0


class ResetSettings(Settings):
    """Whose connections, and by bytes of which direction."""

    target: Selector = "primary"
    direction: Direction = "both"


class Reset:
    """A network, or a firewall in it, that resets the connections of one member."""

    name: ClassVar[str] = "reset"
    kind: ClassVar[str] = "network"
    settings: ClassVar[type[Settings]] = ResetSettings

    def __init__(self, settings: ResetSettings) -> None:
        self._settings = settings

    def describe(self) -> str:
        chosen = self._settings
        return (
            f"Resets connections by bytes {WAYS[chosen.direction]} {words(chosen.target)}: open ones now, new ones as "
            "soon as they send. Undone by removing the rule that does; what was reset stays closed."
        )

    def available(self, stage: Stage) -> str | None:
        return lacks(stage, impairment.Reset)

    @contextlib.contextmanager
    def inject(self, context: FaultContext) -> Iterator[Injection]:
        chosen = self._settings
        with impairing(
            context,
            impairment.Reset(),
            selector=chosen.target,
            direction=chosen.direction,
            links_max=LINKS_MAX,
            look=lambda _around, _old: None,
            prove=lambda around, old, _before: _prove(around, old),
            # That new connections answer again is all there is to see, and has been seen.
            healed=lambda _around, _before: Evidence(proven=True, facts=()),
        ) as injection:
            yield injection


def _prove(around: Around, old: OldConnections) -> Evidence:
    """Every connection ends instead of answering, old or new; new ones open before they do; links beside go on."""

    def look(connection: Connection) -> Observation:
        if connection.old:
            return observe(old.probes[connection.link], timeout_s=TIMEOUT_S)
        return observe_new(around.context.cluster, connection.link, timeout_s=TIMEOUT_S)

    links = [*around.links, *around.beside]
    seen = at_once(
        look, [Connection(link, old=is_old) for link in links for is_old in (True, False) if link in old.probes]
    )
    wrong = [*old.broken]
    for connection, it in seen.items():
        if connection.link in around.beside:
            if it.outcome != WHOLE:
                wrong.append(f"{connection.words()}: expected request delivered and answered, saw {it.words()}")
        elif not _is_reset(connection, it, around):
            wrong.append(f"{connection.words()}: expected it to open and to be reset, saw {it.words()}")
    count = sum(connection.link not in around.beside for connection in seen)
    fact = (
        f"{count} connections of {around.target}, old and new, ended instead of answering; "
        f"{len(seen) - count} on links that avoid it answered"
    )
    return Evidence(proven=not wrong and count > 0, facts=(*(() if wrong else (fact,)), *wrong[:6]))


def _is_reset(connection: Connection, it: Observation, around: Around) -> bool:
    """It ended early, and no byte passed that the reset was to stop. A refused connection is no reset."""
    ended = it.early and not it.outcome.answered and "Refused" not in it.error and not it.unopened
    most = expected(connection.link, around.flows)
    return ended and (most.delivered or not it.outcome.delivered)
