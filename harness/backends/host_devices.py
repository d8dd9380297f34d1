"""Which device of this host is the other end of a member's cable."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from typing import Any, Final

from ..errors import SetupError
from ..identity import ProcessIdentity
from ..network_namespace import inside
from .packet_rules import Device

__all__ = ["devices_of"]

_TIMEOUT_S: Final = 5.0


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
    try:
        done = subprocess.run(["ip", "-j", *arguments], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except FileNotFoundError:
        raise SetupError("there is no `ip` program; apt-get install iproute2") from None
    except subprocess.TimeoutExpired:
        raise SetupError(f"ip did not answer within {_TIMEOUT_S:g} s") from None
    if done.returncode != 0:
        raise SetupError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    listed: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    return [each for each in listed if each]
