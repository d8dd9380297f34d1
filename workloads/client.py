"""The seam between the load and a system's own protocol: what a client is. Values and one Protocol.

A client class is named in `interfaces.ClientSpec.client` as `module:Class`, and made in the load process, one per
worker. It is sequential, keeps its own connections, and uses bare `socket` calls (gevent has patched them there; the
final reads use it in the harness's own process, in threads). It never retries an operation that may have taken effect,
and never raises for what the service or the network does: that is what a `Completion` is for, by the one table in
`outcomes`. An exception is a bug of the client's, and ends the load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol

from ..harness.interfaces import Address
from .outcomes import Completion
from .requests import Request

__all__ = ["Answer", "Client", "ClientSetup"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSetup:
    """What a client is made from. `addresses` are its group's, by name; `settings` are the system's for all clients."""

    addresses: Mapping[str, Address]
    settings: Mapping[str, Any] = field(default_factory=dict)


class Answer(NamedTuple):
    """How an operation ended.

    `end_ns` is when the answer had come (CLOCK_MONOTONIC), taken before it is judged, so that judging adds nothing to
    a latency; None when `execute` returns is soon enough. Earlier than the answer would be a lie that makes a sound
    system look broken. `note` says what came, in words, when the completion's error is one of `outcomes.DEFECTS`.
    """

    # A named tuple for its speed, as in `requests`.
    completion: Completion
    end_ns: int | None = None
    bytes_read: int = 0
    note: str = ""


class Client(Protocol):
    """One sequential client of one group."""

    functions: ClassVar[frozenset[str]]  # which of slots.FUNCTIONS it can carry out; asked before the load starts

    def __init__(self, setup: ClientSetup) -> None:
        """Open nothing yet: some clients are never used."""

    def connect(self, *, deadline_ns: int) -> None:
        """Open the connection ahead of the first operation. Never raises: the operation will tell."""
        ...

    def execute(self, request: Request, *, key: str, request_id: str, deadline_ns: int) -> Answer:
        """Carry out one operation by the deadline (CLOCK_MONOTONIC). `fail` only when it certainly did not happen."""
        ...

    def read_many(self, keys: Sequence[str], *, request_id: str, deadline_ns: int) -> Sequence[Completion]:
        """Read keys as strongly as the system can (linearizably), for the final reads; one completion per key.

        Only asked for when a workload wrote something.
        """
        ...

    def close(self) -> None: ...
