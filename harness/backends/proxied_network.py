"""Links as Toxiproxy proxies, and the faults on them. Keeps interfaces.Network (DESIGN section 5).

Every (source, target, port) is one proxy. The flow a -> b travels on the `upstream` of the proxies of link (a, b) and
on the `downstream` of those of link (b, a). A blackhole is a `timeout = 0` toxic, which drops what comes and closes
nothing; a proxy is never disabled, for that answers "refused", and turns an unknown outcome into a certain one.
Removing a `timeout` toxic closes the connections that it was on. The closing of a connection passes a blackhole:
what a partition stops is application bytes.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..errors import InternalError, SetupError
from ..identity import ProcessIdentity
from ..impairment import Bandwidth, Block, Delay, Impairment, Reset
from ..interfaces import Address, EventSink, Flow, Journal, Link
from ..toxiproxy import Proxy, Stream, Toxic, Toxiproxy, ToxiproxyError
from .ports import PortReserver

__all__ = ["ProxiedNetwork"]


@dataclass(slots=True)
class _Held:
    """Toxics for whose removal one journal entry stands."""

    toxics: set[tuple[str, str]]
    expires_ns: int


class ProxiedNetwork:
    """The links of one stage."""

    def __init__(
        self,
        *,
        api: Toxiproxy,
        ports: PortReserver,
        journal: Journal,
        events: EventSink,
        server: Callable[[], ProcessIdentity | None] = lambda: None,
    ) -> None:
        """`server` says which process the links' server is, where that is known: once it is gone, so are its toxics."""
        self._api = api
        self._server = server
        self._ports = ports
        self._journal = journal
        self._events = events
        self._lock = threading.RLock()
        self._addresses: dict[tuple[str, str, str], Address] = {}
        self._proxies: dict[Link, list[str]] = {}
        self._pending: list[Proxy] = []
        self._populated = False
        self._held: dict[str, _Held] = {}
        # Toxics of another run, on a server that got our port after us, must not look like ours.
        self._mark = secrets.token_hex(4)

    @property
    def links(self) -> Sequence[Link]:
        with self._lock:
            return tuple(self._proxies)

    def link(self, source: str, target: str, port: str, upstream: Address) -> Address:
        """Address at which `source` reaches `port` of `target`.

        Links that are asked for before the first `populate` are made by it in one call, later ones at once.
        """
        with self._lock:
            key = (source, target, port)
            if key not in self._addresses:
                listen = self._ports.reserve()
                proxy = Proxy(name=f"{source}>{target}:{port}", listen=listen, upstream=upstream)
                self._addresses[key] = listen
                self._proxies.setdefault(Link(source, target), []).append(proxy.name)
                self._pending.append(proxy)
                if self._populated:
                    self.populate()
            return self._addresses[key]

    def populate(self) -> None:
        """Make the links that were asked for until now."""
        with self._lock:
            self._populated = True
            if self._pending:
                self._api.populate(self._pending)
                self._pending = []

    def why_not(self, kind: type[Impairment]) -> str | None:
        if kind in (Block, Delay, Bandwidth, Reset):
            return None
        return "links of this backend carry byte streams, not packets; use a backend with packets, such as docker"

    def impair(self, flows: Iterable[Flow], impairment: Impairment, *, expires_ns: int) -> None:
        match impairment:
            case Block():
                self._put(flows, impairment.kind, "timeout", {"timeout": 0}, expires_ns)
            case Delay(latency_ms=latency_ms, jitter_ms=jitter_ms):
                attributes = {"latency": latency_ms, "jitter": jitter_ms}
                self._put(flows, impairment.kind, "latency", attributes, expires_ns)
            case Bandwidth(kbit_per_s=kbit_per_s):
                # Toxiproxy counts thousands of bytes a second, and takes 0 for no limit.
                self._put(flows, impairment.kind, "bandwidth", {"rate": max(1, kbit_per_s // 8)}, expires_ns)
            case Reset():
                self._put(flows, impairment.kind, "reset_peer", {"timeout": 0}, expires_ns)
            case _:
                raise SetupError(f"{impairment.words()}: {self.why_not(type(impairment))}")

    def mend(self, flows: Iterable[Flow], kind: type[Impairment]) -> None:
        self._take_off(flows, kind.kind)

    def impaired(self) -> Mapping[Flow, str]:
        there = self._api.proxies()
        found = {}
        for flow in sorted({Flow(*link) for link in self.links} | {Flow(b, a) for a, b in self.links}):
            streams = [_condition(there.get(proxy), stream) for proxy, stream in self._streams(flow)]
            affected = [each for each in streams if each]
            if affected:
                part = "" if len(affected) == len(streams) else f" ({len(affected)} of {len(streams)} streams)"
                found[flow] = "; ".join(dict.fromkeys(affected)) + part
        return found

    def counters(self, flows: Iterable[Flow], kind: type[Impairment]) -> Mapping[Flow, int]:
        """Nothing: a proxy counts no packets."""
        return {}

    def heal(self) -> None:
        """Undo everything that is still on. Raises ToxiproxyError."""
        with self._lock:
            self._remove({pair for held in self._held.values() for pair in held.toxics})

    def server_ended(self) -> None:
        """The links' server has ended, and every toxic with it."""
        with self._lock:
            for entry in self._held:
                self._journal.done(entry)
            self._held.clear()

    def _put(
        self, flows: Iterable[Flow], kind: str, toxic_type: str, attributes: Mapping[str, int], expires_ns: int
    ) -> None:
        flows = list(flows)
        with self._lock:
            self.populate()  # a fault may come before the first member runs
            toxics = [
                (proxy, Toxic(name=self._name(kind, stream), type=toxic_type, stream=stream, attributes=attributes))
                for proxy, stream in self._all_streams(flows)
            ]
            if not toxics:
                named = ", ".join(f"{a} -> {b}" for a, b in flows) or "no flow at all"
                raise InternalError(f"cannot {kind} {named}: no link carries it")
            names = {(proxy, toxic.name) for proxy, toxic in toxics}
            self._hold(names, expires_ns)
            try:
                self._api.add(toxics)
            except BaseException:
                # Half a partition is no fault that anybody asked for. What cannot be taken back stays in the journal.
                with suppress(ToxiproxyError):
                    self._remove(names)
                raise

    def _take_off(self, flows: Iterable[Flow], kind: str) -> None:
        with self._lock:
            held = {pair for each in self._held.values() for pair in each.toxics}
            names = {(proxy, self._name(kind, stream)) for proxy, stream in self._all_streams(flows)}
            gone = self._remove(names & held)
            if gone:
                self._events(
                    "warning",
                    text=f"{len(gone)} of {len(names & held)} changes to links had been undone before this run did it, "
                    "as the watchdog does when their time is up",
                )

    def _remove(self, names: set[tuple[str, str]]) -> list[tuple[str, str]]:
        gone = self._api.remove(sorted(names)) if names else []
        for entry, held in list(self._held.items()):
            held.toxics -= names
            if not held.toxics:
                del self._held[entry]
                self._journal.done(entry)
        return gone

    def _hold(self, names: set[tuple[str, str]], expires_ns: int) -> None:
        """Journal the removal of these toxics, taking over from older entries, which would remove them earlier."""
        superseded = [entry for entry, held in self._held.items() if held.toxics & names]
        names = names.union(*(self._held[entry].toxics for entry in superseded))
        expires_ns = max([expires_ns, *(self._held[entry].expires_ns for entry in superseded)])
        arguments: dict[str, Any] = {"address": list(self._api.address), "toxics": sorted(names)}
        server = self._server()
        if server is not None:
            arguments["server"] = server.to_json()
        entry = self._journal.record("remove-toxics", expires_ns=expires_ns, **arguments)
        self._held[entry] = _Held(toxics=names, expires_ns=expires_ns)
        for older in superseded:
            del self._held[older]
            self._journal.done(older)

    def _name(self, kind: str, stream: Stream) -> str:
        return f"{kind}-{stream}-{self._mark}"

    def _streams(self, flow: Flow) -> list[tuple[str, Stream]]:
        there: list[tuple[str, Stream]] = [(p, "upstream") for p in self._proxies.get(Link(*flow), ())]
        back: list[tuple[str, Stream]] = [
            (p, "downstream") for p in self._proxies.get(Link(flow.target, flow.source), ())
        ]
        return there + back

    def _all_streams(self, flows: Iterable[Flow]) -> list[tuple[str, Stream]]:
        return list(dict.fromkeys(pair for flow in flows for pair in self._streams(flow)))


def _condition(proxy: Proxy | None, stream: Stream) -> str:
    """What is wrong with one stream of a proxy, in words; empty when nothing is."""
    if proxy is None or not proxy.enabled:
        return "refused"
    words = []
    for toxic in proxy.toxics:
        if toxic.stream != stream:
            continue
        if toxic.type == "timeout":
            words.append("blocked")
        elif toxic.type == "latency":
            words.append(f"delayed by {toxic.attributes['latency']} ± {toxic.attributes['jitter']} ms")
        elif toxic.type == "bandwidth":
            words.append(Bandwidth(kbit_per_s=toxic.attributes["rate"] * 8).words())
        elif toxic.type == "reset_peer":
            words.append(Reset().words())
        else:
            words.append(toxic.type)
    return ", ".join(words)
