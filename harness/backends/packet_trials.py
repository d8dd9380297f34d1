"""Whether this machine can impair packets: it is tried, in a network namespace of its own that ends with the trial."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from typing import Final

from .. import nft
from ..errors import SetupError
from ..impairment import Bandwidth, Block, Delay, Duplicate, Impairment, Loss, Reorder, Reset
from ..network_namespace import apart
from . import traffic_control
from .nfqueue import PacketQueue, add_queue_rule
from .packet_rules import Device, Pair, Timed, bridge_text, device_text, input_text

__all__ = ["reason_against"]

_TABLE: Final = "aftershock_trial"
_PACKAGES: Final = {"nft": "nftables", "tc": "iproute2", "ip": "iproute2", "ss": "iproute2"}
_PAIR: Final = Pair("192.0.2.1", "192.0.2.2")  # of a range for documentation; nothing is ever sent there


def reason_against(kind: type[Impairment]) -> str | None:
    """None when packets can be impaired in this way here; otherwise why not, and what would mend it."""
    programs, options, trial = _TRIALS[kind]
    if os.geteuid() != 0:
        return f"{kind.kind} changes the network of other processes, which takes root: run as root"
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        packages = " ".join(sorted({_PACKAGES[program] for program in missing}))
        return f"{kind.kind} needs {' and '.join(missing)}: apt-get install {packages}"
    try:
        apart(trial)
    except (OSError, RuntimeError, SetupError) as problem:
        return f"{kind.kind} was tried, and failed ({problem}); it needs a kernel with {options}"
    return None


def _bridge(changed: str) -> Callable[[], None]:
    def trial() -> None:
        now_ns = time.monotonic_ns()
        rules = {_PAIR: Timed(1, now_ns + int(1e9))}
        kinds = {name: rules if key == changed else {} for name, key in _ARGUMENTS.items()}
        nft.apply(bridge_text(_TABLE, "trial", **kinds, older_losses=(), changed=changed, now_ns=now_ns))

    return trial


def _bandwidth() -> None:
    _bridge("bandwidth")()
    traffic_control.limit("lo", {1: 1000})


def _duplicate() -> None:
    now_ns = time.monotonic_ns()
    doubled = {Device("lo", 1): {_PAIR: Timed(1, now_ns + int(1e9))}}
    nft.apply(device_text(_TABLE, "trial", doubled=doubled, now_ns=now_ns))


def _queue() -> None:
    now_ns = time.monotonic_ns()
    sources = {_PAIR.source: now_ns + int(1e9)}
    nft.apply(input_text(_TABLE, "trial", sources=sources, now_ns=now_ns, make=True))
    with closing(PacketQueue(random.Random(os.urandom(8)))) as queue:
        add_queue_rule(table=_TABLE, chain="input", sources="held", queue=queue.number)


_ARGUMENTS: Final = {"blocked": "block", "lossy": "loss", "limited": "bandwidth"}
_QUEUE_OPTIONS: Final = "CONFIG_NETFILTER_NETLINK_QUEUE, CONFIG_NETFILTER_XT_TARGET_NFQUEUE and CONFIG_NFT_COMPAT"
_TRIALS: Final[dict[type[Impairment], tuple[tuple[str, ...], str, Callable[[], None]]]] = {
    Block: (("nft",), "CONFIG_NF_TABLES_BRIDGE", _bridge("block")),
    Loss: (("nft",), "CONFIG_NF_TABLES_BRIDGE and CONFIG_NFT_NUMGEN", _bridge("loss")),
    Bandwidth: (("nft", "tc", "ip"), "CONFIG_NF_TABLES_BRIDGE, CONFIG_NET_SCH_HTB and _TBF", _bandwidth),
    Duplicate: (("nft", "ip"), "CONFIG_NETFILTER_EGRESS (5.16 and newer) and CONFIG_NFT_DUP_NETDEV", _duplicate),
    Delay: (("nft",), _QUEUE_OPTIONS, _queue),
    Reorder: (("nft",), _QUEUE_OPTIONS, _queue),
    Reset: (("nft", "ss"), f"{_QUEUE_OPTIONS}, and CONFIG_INET_DIAG_DESTROY", _queue),
}
