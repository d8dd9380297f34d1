"""Which device of this host is the other end of a member's cable."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import SetupError
from ..identity import ProcessIdentity
from ..network_namespace import inside
from ..programs_here import ask
from .packet_rules import Device

__all__ = ["devices_of"]


def devices_of(bridge: str, members: Mapping[str, ProcessIdentity], address: Callable[[str], str]) -> dict[str, Device]:
    """Member -> the port of `bridge` that leads to it; without those that are gone.

    Raises SetupError when the bridge is not there.
    """
    ports = {port["ifindex"]: port["ifname"] for port in _ip(["link", "show", "master", bridge])}
    found = {}
    for name, process in members.items():
        try:
            listed = inside(process, lambda: _ip(["-4", "addr", "show"]))
        except ProcessLookupError:
            continue
        for interface in listed:
            its = {each["local"] for each in interface.get("addr_info", ())}
            index = int(interface.get("link_index", 0))
            if address(name) in its and index in ports:
                found[name] = Device(ports[index], index)
    return found


def _ip(arguments: list[str]) -> list[dict[str, Any]]:
    done = ask("ip", "-j", *arguments, package="iproute2", problem=SetupError)
    if done.returncode != 0:
        raise SetupError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    listed: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    return [each for each in listed if each]
