"""Client groups as containers: each is a Toxiproxy server with the group's own address, which passes bytes on.

The load runs on this host and connects to its group's container, a way that no fault touches. What leaves the
container comes from the group's address, so faults act on a group as on any other member.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

from ..errors import SetupError
from ..interfaces import Address
from ..toxiproxy import Proxy, Toxiproxy, ToxiproxyError
from .docker_containers import Containers

__all__ = ["ClientGroups", "helper_of"]

_API_PORT: Final = 8474  # Toxiproxy's own default
_FIRST_PORT: Final = 7001
_DEADLINE_S: Final = 15.0
_POLL_S: Final = 0.01


def helper_of(group: str) -> str:
    """Name of a group's container. A group has no process of its own, so that none of the members' faults hits it."""
    return f"toxiproxy-{group}"


@dataclass(slots=True)
class _Group:
    host: str
    proxies: dict[tuple[str, str], Proxy] = field(default_factory=dict)
    there: set[str] = field(default_factory=set)  # proxies that the server has
    first: Future[None] | None = None  # makes those that were asked for before the first member ran
    lock: threading.Lock = field(default_factory=threading.Lock)


class ClientGroups:
    """The client groups of one stage. `make` makes the container of a helper at an address, and returns its id."""

    def __init__(self, *, containers: Containers, make: Callable[[str, str, tuple[str, ...]], str]) -> None:
        self._containers = containers
        self._make = make
        self._groups: dict[str, _Group] = {}
        self._begun = False

    def add(self, group: str, host: str) -> None:
        """Announce a group; its container starts in the background."""
        self._groups[group] = _Group(host=host)
        helper = helper_of(group)
        # It listens on all its addresses: its network is the run's own, without a way out.
        argv = ("/toxiproxy-server", "-host", "0.0.0.0", "-port", str(_API_PORT))
        self._containers.launch(helper, lambda: self._make(helper, host, argv))

    def link(self, group: str, target: str, port: str, upstream: Address) -> Address:
        """Address on the group's container that leads on to `upstream`.

        Before `begin` it is only noted down; after, it is there. Raises SetupError when it cannot be.
        """
        known = self._groups[group]
        with known.lock:
            key = (target, port)
            if key not in known.proxies:
                listen = Address(known.host, _FIRST_PORT + len(known.proxies))
                known.proxies[key] = Proxy(name=f"{group}>{target}:{port}", listen=listen, upstream=upstream)
        if self._begun:
            if known.first is not None:
                known.first.result()
            self._populate(group)
        return known.proxies[key].listen

    def begin(self) -> None:
        """Make what was asked for until now, in the background."""
        if not self._begun:
            self._begun = True
            for group, known in self._groups.items():
                known.first = self._containers.in_background(lambda group=group: self._populate(group))  # type: ignore[misc]

    def _populate(self, group: str) -> None:
        known = self._groups[group]
        helper = helper_of(group)
        with known.lock:
            wanted = [proxy for proxy in known.proxies.values() if proxy.name not in known.there]
            if not wanted:
                return
            self._containers.container(helper)  # raises when it could not be started
            with closing(Toxiproxy(Address(known.host, _API_PORT))) as api:
                self._wait_answers(api, helper)
                api.populate(wanted)
            known.there.update(proxy.name for proxy in wanted)

    def _wait_answers(self, api: Toxiproxy, helper: str) -> None:
        until = time.monotonic() + _DEADLINE_S
        while True:
            try:
                api.version()
                return
            except ToxiproxyError as error:
                ended = self._containers.pid(helper) is None
                if ended or time.monotonic() > until:
                    what = "ended at once" if ended else f"did not answer within {_DEADLINE_S:g} s ({error})"
                    raise SetupError(
                        f"{helper}, which carries the bytes of these clients, {what}; "
                        f"its log is {self._containers.log(helper)}"
                    ) from None
            time.sleep(_POLL_S)
