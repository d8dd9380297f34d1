"""Several networks as one: each link is on exactly one of them. Keeps interfaces.Network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from ..errors import AftershockError, InternalError, SetupError
from ..impairment import Impairment
from ..interfaces import Flow, Link, Network

__all__ = ["JoinedNetwork", "WatchedLinks"]


class JoinedNetwork:
    """A flow belongs to the network that carries a link of its pair."""

    def __init__(self, networks: Callable[[], Sequence[Network]]) -> None:
        """`networks`: those there are by now."""
        self._networks = networks

    @property
    def links(self) -> Sequence[Link]:
        return tuple(link for network in self._networks() for link in network.links)

    def why_not(self, kind: type[Impairment]) -> str | None:
        """See interfaces.Network: None when it can be done on one of them at least."""
        reasons = [network.why_not(kind) for network in self._networks()]
        return None if None in reasons else next(iter(reasons), "there is no network")

    def impair(self, flows: Iterable[Flow], impairment: Impairment, *, expires_ns: int) -> None:
        flows = list(flows)
        shares = self._shares(flows)
        if not shares:
            named = ", ".join(f"{a} -> {b}" for a, b in flows) or "no flow at all"
            raise InternalError(f"cannot {impairment.kind} {named}: no link carries it")
        for network, its in shares:
            reason = network.why_not(type(impairment))
            if reason is not None:
                named = ", ".join(f"{a} -> {b}" for a, b in its[:4])
                raise SetupError(f"{named} cannot be {impairment.words()}: {reason}")
        done: list[tuple[Network, list[Flow]]] = []
        try:
            for network, its in shares:
                done.append((network, its))
                network.impair(its, impairment, expires_ns=expires_ns)
        except BaseException:
            # All or none. What cannot be taken back stays in the journal.
            for network, its in done:
                with suppress(OSError, AftershockError):
                    network.mend(its, type(impairment))
            raise

    def mend(self, flows: Iterable[Flow], kind: type[Impairment]) -> None:
        problems: list[BaseException] = []
        for network, its in self._shares(list(flows)):
            try:
                network.mend(its, kind)
            except (OSError, AftershockError) as problem:
                problems.append(problem)
        if problems:
            raise problems[0]

    def impaired(self) -> Mapping[Flow, str]:
        return {flow: words for network in self._networks() for flow, words in network.impaired().items()}

    def counters(self, flows: Iterable[Flow], kind: type[Impairment]) -> Mapping[Flow, int]:
        shares = self._shares(list(flows))
        return {flow: n for network, its in shares for flow, n in network.counters(its, kind).items()}

    def _shares(self, flows: Sequence[Flow]) -> list[tuple[Network, list[Flow]]]:
        found = []
        for network in self._networks():
            pairs = {frozenset(link) for link in network.links}
            its = [flow for flow in flows if frozenset(flow) in pairs]
            if its:
                found.append((network, its))
        return found


class WatchedLinks:
    """Links from this host itself, over which members are looked at and nothing can be done to the bytes."""

    def __init__(self) -> None:
        self._links: list[Link] = []

    def link(self, source: str, target: str) -> None:
        if Link(source, target) not in self._links:
            self._links.append(Link(source, target))

    @property
    def links(self) -> Sequence[Link]:
        return tuple(self._links)

    def why_not(self, kind: type[Impairment]) -> str | None:
        return (
            "bytes from this host itself are on no link that faults act on; attach the containers that it speaks with"
        )

    def impair(self, flows: Iterable[Flow], impairment: Impairment, *, expires_ns: int) -> None:
        raise SetupError(f"{impairment.words()}: {self.why_not(type(impairment))}")

    def mend(self, flows: Iterable[Flow], kind: type[Impairment]) -> None:
        """Nothing is ever on."""

    def impaired(self) -> Mapping[Flow, str]:
        return {}

    def counters(self, flows: Iterable[Flow], kind: type[Impairment]) -> Mapping[Flow, int]:
        return {}
