"""A user's Compose project as a project of one run. Pure: a resolved file in, another one out.

Ours is a whole file and no override beside the user's: an override can add ports and networks to a service, and take
none away. What is changed, and why:

| of the user's | becomes | because |
|---|---|---|
| networks | the run's own, internal, with a fixed address for each service | nothing gets out, nobody else gets in |
| published ports | none | nothing listens beyond the run's network |
| fixed names of containers and volumes | the project's | two runs at once must not meet |
| restart policies | none | a member that was killed stays down until its window ends |
| labels, environment | and the run's besides | what a killed run leaves is found by them |
| logging | none | output goes to the run folder |

What would reach beyond the run is refused: `privileged`, namespaces of the host, external networks and volumes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .. import images
from ..errors import UsageError

__all__ = ["Project", "parse_project"]

_OURS: Final = "aftershock"
_NAMESPACES: Final = ("network_mode", "pid", "ipc", "userns_mode", "uts", "cgroup")
_DROPPED: Final = ("ports", "container_name", "restart", "networks", "logging", "deploy", "profiles", "scale", "name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """What a resolved Compose file says, as far as it matters here."""

    services: Mapping[str, Mapping[str, Any]]
    volumes: Mapping[str, Mapping[str, Any]]
    others: Mapping[str, Any]  # secrets and configs, passed on as they are
    version: str | None

    def labels(self, service: str) -> dict[str, str]:
        return _pairs(self.services[service].get("labels"))

    def conditions(self, service: str) -> dict[str, str]:
        """What a service waits for before it starts: other service -> condition."""
        told = self.services[service].get("depends_on") or {}
        if isinstance(told, Mapping):
            return {name: (each or {}).get("condition", "service_started") for name, each in told.items()}
        return dict.fromkeys(told, "service_started")

    def order(self) -> list[str]:
        """Services so that each comes after those it depends on. The tool has refused circles."""
        found: list[str] = []

        def add(name: str) -> None:
            if name in found or name not in self.services:
                return
            for other in sorted(self.conditions(name)):
                add(other)
            if name not in found:
                found.append(name)

        for name in sorted(self.services):
            add(name)
        return found

    @property
    def builds(self) -> bool:
        return any("build" in service for service in self.services.values())

    def for_run(
        self,
        *,
        network: str,
        address: Callable[[str], str],
        labels: Mapping[str, str],
        environment: Mapping[str, str],
        folder: Path,
    ) -> str:
        """The project of a run, as JSON (which is YAML)."""
        services = {}
        for name, given in self.services.items():
            service = {key: value for key, value in given.items() if key not in _DROPPED}
            if "build" in service and "image" not in service:
                # As the tool itself would name it for this folder, so that it is built once and not once a run.
                service["image"] = f"{_plain(folder.name)}_{name}"
            if "image" in service:
                service["image"] = _image(service["image"])
            service |= {
                "labels": {**self.labels(name), **labels, "aftershock.member": name},
                "environment": {**_pairs(given.get("environment")), **environment},
                "networks": {_OURS: {"ipv4_address": address(name), "aliases": _aliases(name, given)}},
                "logging": {"driver": "none"},
                "restart": "no",
            }
            # Conditions are waited for by us: containers are made now and started one after the other.
            service["depends_on"] = sorted(self.conditions(name))
            services[name] = service
        volumes = {
            name: {**_without(each, "name"), "labels": {**_pairs(each.get("labels")), **labels}}
            for name, each in self.volumes.items()
        }
        networks = {_OURS: {"external": True, "name": network}}
        found: dict[str, Any] = {**self.others, "services": services, "networks": networks, "volumes": volumes}
        if self.version is not None:
            found["version"] = self.version
        return json.dumps(found)


def parse_project(resolved: Mapping[str, Any], *, join_networks: bool) -> Project:
    """Take a file as a Compose tool resolved it. Raises UsageError for what a run must not do, by service.

    `join_networks`: services of several networks are all put on one.
    """
    services: Mapping[str, Mapping[str, Any]] = resolved["services"]
    problems = [problem for name, service in services.items() for problem in _problems(name, service)]
    for kind in ("networks", "volumes"):
        for name, each in (resolved.get(kind) or {}).items():
            if (each or {}).get("external"):
                problems.append(f"{kind[:-1]} {name} is external: a run touches nothing that it did not make itself")
    used = sorted({network for service in services.values() for network in _networks(service)})
    if len(used) > 1 and not join_networks:
        problems.append(
            f"services are on several networks ({', '.join(used)}), and all members of a run are on one; if they may "
            "all reach each other, say [backend] join_networks = true"
        )
    if problems:
        raise UsageError("this Compose file cannot be a run's project:\n" + "\n".join(f"  {each}" for each in problems))
    known = {"services", "networks", "volumes", "version", "name"}
    others = {key: value for key, value in resolved.items() if key not in known and not key.startswith("x-") and value}
    version = resolved.get("version")
    return Project(
        services=services,
        volumes={name: each or {} for name, each in (resolved.get("volumes") or {}).items()},
        others=others,
        version=None if version is None else str(version),
    )


def _problems(name: str, service: Mapping[str, Any]) -> list[str]:
    found = []
    if service.get("privileged"):
        found.append(
            f"service {name} is privileged: it could do anything to this machine; name what it needs in cap_add"
        )
    for key in _NAMESPACES:
        value = service.get(key)
        if value and not (key == "network_mode" and value in ("default", "bridge")) and value != "private":
            found.append(f"service {name} has {key}: {value}; members of a run have namespaces of their own")
    for network in (_networks_told(service)).values():
        if (network or {}).get("ipv4_address") or (network or {}).get("ipv6_address"):
            found.append(
                f"service {name} has a fixed address; a run chooses a range that is free: use its name instead"
            )
    scale = service.get("scale") or (service.get("deploy") or {}).get("replicas") or 1
    if scale != 1:
        found.append(
            f"service {name} is to run {scale} times; write one service for each, so that faults can name them"
        )
    return found


def _networks_told(service: Mapping[str, Any]) -> Mapping[str, Any]:
    told = service.get("networks") or {}
    return told if isinstance(told, Mapping) else dict.fromkeys(told)


def _networks(service: Mapping[str, Any]) -> Sequence[str]:
    return tuple(_networks_told(service)) or ("default",)


def _aliases(name: str, service: Mapping[str, Any]) -> list[str]:
    told = [alias for each in _networks_told(service).values() for alias in ((each or {}).get("aliases") or ())]
    own = [service["container_name"]] if service.get("container_name") else []
    return sorted({name, *told, *own})


def _image(name: str) -> str:
    """An image of ours by its bare name, `aftershock-nginx`, has the tag that this version builds."""
    short = name.removeprefix(f"{_OURS}-")
    if short == name or short not in images.names():
        return name
    try:
        return images.tag(short)
    except UsageError:
        return name


def _pairs(told: Any) -> dict[str, Any]:
    """Labels and environments come as a mapping, or as a list of KEY=VALUE."""
    if isinstance(told, Mapping):
        return dict(told)
    pairs = (str(each).partition("=") for each in told or ())
    return {key: value if equals else None for key, equals, value in pairs}


def _without(each: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in each.items() if k != key}


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum() or c in "-_") or "project"
