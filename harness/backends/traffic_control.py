"""Bandwidth: an HTB queueing discipline on the host's end of a member's cable, by the tc program.

A packet goes into a class because an nftables rule gave it that class as its priority (`packet_rules`); all others pass
as if nothing were there. So the limit of one flow slows no other, and ends in the kernel when its rule does; the idle
discipline that stays then is taken away by its inverse.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from typing import Final

from ..errors import SetupError
from ..inverses.packets import HANDLE
from ..programs_here import ask

__all__ = ["limit", "limits"]

_MTU_BYTES: Final = 1500
# What may wait in front of a limit: half a second of it, as in a router, and one segment of TCP as it leaves a sender.
_WAITING_S: Final = 0.5
_WAITING_BYTES_MIN: Final = 65_536
_BURST_S: Final = 0.02
_CUTTER: Final = f"tbf rate 10gbit burst {2 * _MTU_BYTES}"
# tc gives classes as text only, whatever is asked for.
_CLASS: Final = re.compile(rf"^class htb {HANDLE}([0-9a-f]+) .*?\brate ([0-9.]+)([KMGT]?)bit\b", re.MULTILINE)
_UNITS: Final = {"": 0.001, "K": 1, "M": 1000, "G": 1_000_000, "T": 1_000_000_000}


def limit(device: str, classes: Mapping[int, int]) -> None:
    """Have these classes (minor number -> kbit/s) on a device, beside those that are there. Raises SetupError."""
    lines = [] if _ours(device) else [f"qdisc add dev {device} root handle {HANDLE} htb"]
    for minor, kbit_per_s in sorted(classes.items()):
        bytes_per_s = kbit_per_s * 125
        burst = max(2 * _MTU_BYTES, int(bytes_per_s * _BURST_S))
        waiting = max(_WAITING_BYTES_MIN, int(bytes_per_s * _WAITING_S))
        rate = f"rate {kbit_per_s}kbit burst {burst} cburst {burst} quantum {_MTU_BYTES}"
        lines += [
            f"class replace dev {device} parent {HANDLE} classid {HANDLE}{minor:x} htb {rate}",
            # A sender's kernel may put 64 KiB into one packet, which a class lets through whole: TBF, at a rate that it
            # never reaches, cuts it into those of a wire, and they wait here.
            f"qdisc replace dev {device} parent {HANDLE}{minor:x} {_CUTTER} limit {waiting}",
        ]
    done = _tc(["-batch", "-"], "\n".join(lines) + "\n")
    if done.returncode != 0:
        raise SetupError(
            f"tc could not limit {device}: {done.stderr.strip()}; a discipline of somebody else may be there "
            f"(tc qdisc show dev {device})"
        )


def limits(device: str) -> dict[int, int]:
    """Minor number -> kbit/s of the classes of ours on a device; empty when it has none, or is gone."""
    done = _tc(["class", "show", "dev", device], "")
    found = _CLASS.findall(done.stdout) if done.returncode == 0 else []
    return {int(minor, 16): round(float(rate) * _UNITS[unit]) for minor, rate, unit in found}


def _ours(device: str) -> bool:
    done = _tc(["-j", "qdisc", "show", "dev", device], "")
    return done.returncode == 0 and any(each.get("handle") == HANDLE for each in json.loads(done.stdout or "[]"))


def _tc(arguments: list[str], text: str) -> subprocess.CompletedProcess[str]:
    return ask("tc", *arguments, package="iproute2", problem=SetupError, text=text)
