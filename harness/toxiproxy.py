"""A typed layer over the `toxiproxy-python` package.

The package (0.1.1, 2019) has its server's address in class attributes, so that one process reaches one server; it
waits for ever; it takes HTTP 500 for success, so that a fault is silently not injected; and it cannot update a toxic,
populate in one call, or say the version as text. Here the package's API consumer is subclassed once per server, with
a kept-alive session, a timeout on every request, and an error for every answer that is not 2xx; what a change did is
read back by `GET` and compared. Toxic types and attributes are those of the Toxiproxy server, 2.12.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NoReturn, Self
from urllib.parse import quote

import requests
from requests.adapters import HTTPAdapter
from toxiproxy.api import APIConsumer, validate_response
from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists

from .errors import InternalError
from .interfaces import Address

__all__ = ["NotThereError", "Proxy", "Stream", "Toxic", "Toxiproxy", "ToxiproxyError"]

Stream = Literal["upstream", "downstream"]

_TIMEOUT_S: Final = 5.0
# Requests at once: the server answers in less time than a request takes to write here, so few threads suffice.
_THREADS: Final = 4


class ToxiproxyError(InternalError):
    """The Toxiproxy server refused a change, did not carry it out, or does not answer."""


class NotThereError(ToxiproxyError):
    """There is no proxy or toxic of this name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Toxic:
    """One toxic. `stream`: upstream is what the connecting side sends, downstream what it receives."""

    name: str
    type: str
    stream: Stream
    attributes: Mapping[str, int] = field(default_factory=dict, hash=False)
    toxicity: float = 1.0

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(
            name=value["name"],
            type=value["type"],
            stream=value["stream"],
            attributes=dict(value["attributes"]),
            toxicity=value["toxicity"],
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "type": self.type,
            "stream": self.stream,
            "toxicity": self.toxicity,
            "attributes": dict(self.attributes),
        }

    def same_as(self, other: Toxic) -> bool:
        """Equal as far as asked for: the server adds attributes that were left at their defaults."""
        return (
            (self.name, self.type, self.stream) == (other.name, other.type, other.stream)
            # The server keeps the toxicity in 32 bits.
            and math.isclose(self.toxicity, other.toxicity, rel_tol=1e-6)
            and all(other.attributes.get(key) == value for key, value in self.attributes.items())
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """One proxy as the server has it."""

    name: str
    listen: Address
    upstream: Address
    enabled: bool = True
    toxics: tuple[Toxic, ...] = ()

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(
            name=value["name"],
            listen=_address(value["listen"]),
            upstream=_address(value["upstream"]),
            enabled=value["enabled"],
            toxics=tuple(Toxic.from_json(toxic) for toxic in value["toxics"]),
        )


class Toxiproxy:
    """One Toxiproxy server. Every method raises ToxiproxyError with the server's own words. Threads may share it."""

    def __init__(self, address: Address) -> None:
        self.address = address
        session = requests.Session()
        session.trust_env = False  # no proxy from the environment may stand between us and loopback
        self._adapter = HTTPAdapter(pool_maxsize=_THREADS)
        session.mount("http://", self._adapter)
        self._session = session
        self._api = _consumer(address, session)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="toxiproxy")

    def close(self) -> None:
        self._threads.shutdown()
        pools = self._adapter.poolmanager.pools
        for pool in [pools[key] for key in pools.keys()]:  # noqa: SIM118  # it refuses to be iterated
            pool.close()  # the session would only forget it, and leave its connections to the garbage collector
        self._session.close()

    def version(self) -> str:
        """The server's version, such as `2.12.0`."""
        return str(self._api.get("/version").json()["version"])

    def proxies(self) -> dict[str, Proxy]:
        """All proxies with their toxics, in one request."""
        found: dict[str, Any] = self._api.get("/proxies").json()
        return {name: Proxy.from_json(value) for name, value in found.items()}

    def populate(self, proxies: Sequence[Proxy]) -> None:
        """Make these proxies, all in one call, and see that each listens where it was to."""
        for proxy in proxies:
            if "/" in proxy.name:  # the server would make it, and then find it under no address
                raise ToxiproxyError(f"a proxy's name cannot hold a slash: {proxy.name!r}")
        wanted = [
            {"name": proxy.name, "listen": str(proxy.listen), "upstream": str(proxy.upstream), "enabled": proxy.enabled}
            for proxy in proxies
        ]
        self._api.post("/populate", json=wanted)
        there = self.proxies()
        for proxy in proxies:
            found = there.get(proxy.name)
            if found is None or (found.listen, found.upstream, found.enabled) != (
                proxy.listen,
                proxy.upstream,
                proxy.enabled,
            ):
                raise ToxiproxyError(f"toxiproxy {self.address}: asked for {proxy}, found {found}")

    def remove_proxy(self, name: str) -> None:
        self._api.delete(f"/proxies/{_quoted(name)}")
        if name in self.proxies():
            raise ToxiproxyError(f"toxiproxy {self.address}: proxy {name!r} is still there after its removal")

    def add(self, toxics: Iterable[tuple[str, Toxic]]) -> None:
        """Add toxics, as (proxy, toxic), and verify them all. One of the same name is brought to the same values."""
        pairs = list(toxics)
        list(self._threads.map(lambda pair: self._add_one(*pair), pairs))
        there = self.proxies()
        for proxy, toxic in pairs:
            found = _find(there, proxy, toxic.name)
            if found is None or not toxic.same_as(found):
                raise ToxiproxyError(f"toxiproxy {self.address}: asked for {toxic} on {proxy!r}, found {found}")

    def update(self, proxy: str, toxic: Toxic) -> None:
        """Change attributes and toxicity of a toxic that is there; open connections keep open. Verified."""
        self._patch(proxy, toxic)
        found = _find(self.proxies(), proxy, toxic.name)
        if found is None or not toxic.same_as(found):
            raise ToxiproxyError(f"toxiproxy {self.address}: asked for {toxic} on {proxy!r}, found {found}")

    def remove(self, toxics: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Remove toxics, as (proxy, toxic's name), and verify. Returns those that were not there any more."""
        pairs = list(toxics)
        gone = list(self._threads.map(lambda pair: self._remove_one(*pair), pairs))
        there = self.proxies()
        left = [pair for pair in pairs if _find(there, *pair) is not None]
        if left:
            raise ToxiproxyError(f"toxiproxy {self.address}: toxics are still there after their removal: {left}")
        return [pair for pair, was_gone in zip(pairs, gone, strict=True) if was_gone]

    def _add_one(self, proxy: str, toxic: Toxic) -> None:
        try:
            self._api.post(f"/proxies/{_quoted(proxy)}/toxics", json=toxic.to_json())
        except _ConflictError:
            self._patch(proxy, toxic)

    def _patch(self, proxy: str, toxic: Toxic) -> None:
        changed = {"attributes": dict(toxic.attributes), "toxicity": toxic.toxicity}
        self._api.patch(f"/proxies/{_quoted(proxy)}/toxics/{_quoted(toxic.name)}", json=changed)

    def _remove_one(self, proxy: str, toxic: str) -> bool:
        try:
            self._api.delete(f"/proxies/{_quoted(proxy)}/toxics/{_quoted(toxic)}")
        except NotThereError:
            return True
        return False


class _ConflictError(ToxiproxyError):
    """Something of this name is there already."""


def _consumer(address: Address, session: requests.Session) -> Any:
    """A subclass of the package's API consumer for one server: its class attributes are this server's alone."""

    class Consumer(APIConsumer):  # type: ignore[misc]
        host, port = address

        @classmethod
        def get(cls, url: str, params: Any = None, **kwargs: Any) -> requests.Response:
            return cls.request("GET", url, params=params, **kwargs)

        @classmethod
        def delete(cls, url: str, **kwargs: Any) -> requests.Response:
            return cls.request("DELETE", url, **kwargs)

        @classmethod
        def post(cls, url: str, data: Any = None, json: Any = None, **kwargs: Any) -> requests.Response:
            return cls.request("POST", url, data=data, json=json, **kwargs)

        @classmethod
        def patch(cls, url: str, **kwargs: Any) -> requests.Response:
            return cls.request("PATCH", url, **kwargs)

        @classmethod
        def request(cls, method: str, url: str, **kwargs: Any) -> requests.Response:
            endpoint = f"http://{cls.host}:{cls.port}{url}"
            try:
                response = session.request(method, endpoint, timeout=_TIMEOUT_S, **kwargs)
                checked: requests.Response = validate_response(response)
            except requests.RequestException as error:
                raise ToxiproxyError(f"{method} {endpoint}: {error}") from error
            except NotFound as error:
                _raise(NotThereError, method, endpoint, error)
            except ProxyExists as error:
                _raise(_ConflictError, method, endpoint, error)
            except InvalidToxic as error:
                _raise(ToxiproxyError, method, endpoint, error)
            if not checked.ok:
                raise ToxiproxyError(f"{method} {endpoint}: HTTP {checked.status_code}: {checked.text[:500]}")
            return checked

    return Consumer


def _raise(kind: type[ToxiproxyError], method: str, endpoint: str, error: Exception) -> NoReturn:
    said = error.args[0].decode(errors="replace") if error.args and isinstance(error.args[0], bytes) else str(error)
    raise kind(f"{method} {endpoint}: {said.strip()}") from None


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return Address(host, int(port))


def _quoted(name: str) -> str:
    return quote(name, safe="")


def _find(proxies: Mapping[str, Proxy], proxy: str, toxic: str) -> Toxic | None:
    found = proxies.get(proxy)
    return next((each for each in found.toxics if each.name == toxic), None) if found is not None else None
