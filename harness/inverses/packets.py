"""Inverses of what is done to packets: tables of nftables, and queueing disciplines.

| inverse | arguments | undone when |
|---|---|---|
| `delete-tables` | `table`, `families` | nft lists no such table on this host |
| `delete-member-table` | `table`, `process` (identity), `what` | nft lists none in its namespace, or it is gone |
| `delete-qdisc` | `device`, `index` | the device has no discipline with our handle, or is gone |

They delete what has the run's own name or our handle, and never flush anything. Packets that our program holds go on
when it ends (`end-process`). All of them ended in the kernel before, if their time was up.
"""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Mapping
from typing import Any, Final

from ..identity import ProcessIdentity
from ..network_namespace import inside
from ..nft import delete_table
from ..programs_here import ask
from ._inverse import Inverse

__all__ = ["HANDLE", "INVERSES"]

HANDLE: Final = "af5:"


def _delete_tables(arguments: Mapping[str, Any]) -> str:
    name = arguments["table"]
    deleted = [family for family in arguments["families"] if delete_table(family, name)]
    return f"deleted nft tables {name} ({', '.join(deleted)})" if deleted else ""


def _delete_member_table(arguments: Mapping[str, Any]) -> str:
    process = ProcessIdentity.from_json(arguments["process"])
    try:
        deleted = inside(process, lambda: delete_table("ip", arguments["table"]))
    except ProcessLookupError:
        return ""  # the rules went with its namespace
    return f"deleted nft table {arguments['table']} in the namespace of {arguments['what']}" if deleted else ""


def _delete_qdisc(arguments: Mapping[str, Any]) -> str:
    device, index = arguments["device"], int(arguments["index"])
    if not _has_qdisc(device, index):
        return ""
    done = _tc("qdisc", "del", "dev", device, "root", "handle", HANDLE)
    if _has_qdisc(device, index):
        raise RuntimeError(f"{device} still has queueing discipline {HANDLE}: {done.stderr.strip()}")
    return f"deleted the bandwidth limits of {device}"


def _is_there(device: str, index: int) -> bool:
    try:
        return socket.if_nametoindex(device) == index  # otherwise the name is another device's by now
    except OSError:
        return False


def _has_qdisc(device: str, index: int) -> bool:
    if not _is_there(device, index):
        return False
    done = _tc("-j", "qdisc", "show", "dev", device)
    if done.returncode == 0:
        return any(each.get("handle") == HANDLE for each in json.loads(done.stdout or "[]"))
    if _is_there(device, index):
        raise RuntimeError(f"tc does not say what queueing disciplines {device} has: {done.stderr.strip()}")
    return False  # it went meanwhile


def _tc(*arguments: str) -> subprocess.CompletedProcess[str]:
    return ask("tc", *arguments, package="iproute2", problem=RuntimeError)


INVERSES: Final[dict[str, Inverse]] = {
    "delete-tables": Inverse(
        undo=_delete_tables,
        by_hand=lambda a: "; ".join(f"nft delete table {family} {a['table']}" for family in a["families"]),
        rank=10,
    ),
    "delete-member-table": Inverse(
        undo=_delete_member_table,
        by_hand=lambda a: f"nsenter -t {int(a['process']['pid'])} -n nft delete table ip {a['table']}",
        rank=10,
    ),
    "delete-qdisc": Inverse(
        undo=_delete_qdisc, by_hand=lambda a: f"tc qdisc del dev {a['device']} root handle {HANDLE}", rank=10
    ),
}
