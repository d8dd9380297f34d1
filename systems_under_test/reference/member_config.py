"""A member's JSON configuration file: read, checked, and turned into values. Every mistake is one clear sentence."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from .settings import ClusterSettings

Address = tuple[str, int]

ROLES: Final = ("node", "router", "controller")
_KEYS: Final = ("name", "data", "listen", "peers", "controllers", "nodes", "expected_nodes", "settings")
_PORTS: Final = {"node": ("peer", "http"), "router": ("http",), "controller": ("peer", "http")}
_CHOICES: Final = {"ack": ("all", "primary"), "read_from": ("primary", "any")}


class ConfigError(ValueError):
    """The configuration file is wrong. The message is one sentence: where, what, and what was expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberConfig:
    """What one member is told. Addresses are where *this* member reaches the others (possibly through proxies)."""

    role: str
    name: str
    data: Path
    listen: Mapping[str, Address]
    peers: Mapping[str, Address] = field(default_factory=dict)
    controllers: Mapping[str, Address] = field(default_factory=dict)
    nodes: Mapping[str, Address] = field(default_factory=dict)
    expected_nodes: tuple[str, ...] = ()
    settings: ClusterSettings = field(default_factory=ClusterSettings)


def load(path: Path, *, role: str) -> MemberConfig:
    """Read a configuration file. Raises ConfigError."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON: {error}") from error
    try:
        return parse(content, role=role)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def parse(content: Any, *, role: str) -> MemberConfig:
    """Check a configuration that was read. Raises ConfigError."""
    if not isinstance(content, dict):
        raise ConfigError("expected an object at the top")
    _only_known(content, _KEYS, "")
    name = _text(content, "name")
    if ":" in name:
        raise ConfigError(f'name: "{name}" holds a colon, which separates node and disk in store ids')
    listen = _addresses(content, "listen")
    _only_known(listen, _PORTS[role], "listen.")
    for port in _PORTS[role]:
        if port not in listen:
            raise ConfigError(f'listen.{port}: missing; expected ["127.0.0.1", PORT]')
    expected = content.get("expected_nodes", [])
    if not isinstance(expected, list) or not all(isinstance(node, str) for node in expected):
        raise ConfigError("expected_nodes: expected a list of node names")
    config = MemberConfig(
        role=role,
        name=name,
        data=Path(_text(content, "data")),
        listen=listen,
        peers=_addresses(content, "peers"),
        controllers=_addresses(content, "controllers"),
        nodes=_addresses(content, "nodes"),
        expected_nodes=tuple(expected),
        settings=_settings(content.get("settings", {})),
    )
    _check_role(config)
    return config


def _check_role(config: MemberConfig) -> None:
    if config.role == "controller":
        if len(config.expected_nodes) < config.settings.replicas:
            raise ConfigError(
                f"expected_nodes: {len(config.expected_nodes)} nodes cannot hold "
                f"{config.settings.replicas} replicas of a shard; name more nodes or set settings.replicas lower"
            )
        missing = [node for node in config.expected_nodes if node not in config.nodes]
        if missing:
            raise ConfigError(f"nodes.{missing[0]}: missing; expected_nodes names it, so its address is needed")
    elif not config.controllers:
        raise ConfigError(f"controllers: missing; a {config.role} needs at least one")
    if config.role == "router" and not config.nodes:
        raise ConfigError("nodes: missing; a router needs the addresses of all nodes")
    if config.name in config.peers:
        raise ConfigError(f"peers.{config.name}: a node is not its own peer; remove it")


def _text(content: Mapping[str, Any], key: str) -> str:
    value = content.get(key)
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{key}: {'missing' if value is None else 'wrong'}; expected a text")
    return value


def _addresses(content: Mapping[str, Any], key: str) -> dict[str, Address]:
    table = content.get(key, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{key}: expected an object of addresses")
    found: dict[str, Address] = {}
    for name, address in table.items():
        match address:
            case [str(host), int(port)] if 0 < port < 65536 and not isinstance(port, bool):
                found[name] = (host, port)
            case _:
                raise ConfigError(f'{key}.{name}: {address!r} is not an address; expected ["127.0.0.1", PORT]')
    return found


def _only_known(content: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in content:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {where}{near[0]}?" if near else f"; known are {', '.join(known)}"
            raise ConfigError(f"{where}{key}: unknown{hint}")


def _settings(content: Any) -> ClusterSettings:
    if not isinstance(content, dict):
        raise ConfigError("settings: expected an object")
    _only_known(content, tuple(item.name for item in fields(ClusterSettings)), "settings.")
    defaults = ClusterSettings()
    values: dict[str, Any] = {}
    for key, value in content.items():
        wanted = type(getattr(defaults, key))
        if wanted is float and type(value) is int:
            value = float(value)
        if type(value) is not wanted:
            raise ConfigError(f"settings.{key}: {value!r} is wrong; expected {_noun(wanted)}")
        if key in _CHOICES and value not in _CHOICES[key]:
            raise ConfigError(f'settings.{key}: "{value}" is unknown; expected one of {", ".join(_CHOICES[key])}')
        if wanted in (int, float) and not value > 0 and key != "drift":
            raise ConfigError(f"settings.{key}: {value} is wrong; expected a number above 0")
        values[key] = value
    settings = ClusterSettings(**values)
    if settings.min_in_sync > settings.replicas:
        raise ConfigError(
            f"settings.min_in_sync: {settings.min_in_sync} is above settings.replicas, which is {settings.replicas}"
        )
    if not 0 <= settings.drift < 0.5:
        raise ConfigError(f"settings.drift: {settings.drift} is wrong; expected a number from 0 to below 0.5")
    return settings


def _noun(kind: type[Any]) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[kind]
