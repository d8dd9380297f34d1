"""The nftables rules of a run: what they say, and what they say back.

Three tables, all of the run's own name. Every set element has a kernel timeout, so an impairment ends at its time with
everything of ours dead, and a counter of the packets that it was for.

| table | where | does |
|---|---|---|
| `bridge` | host, forward hook | drops what is blocked or lost; marks with an HTB class what has little bandwidth |
| `netdev` | host, egress of a member's device | sends what is to be doubled once more |
| `ip` | a member's namespace, input hook | hands packets to the packet queue |

Only forwarded packets are touched: what the host itself sends to a member, as the harness does, never is. Rules match
IPv4 addresses, so ARP passes, as it does in a network that is cut above the link layer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple

__all__ = [
    "Device",
    "Pair",
    "RuleState",
    "Rules",
    "Timed",
    "bridge_text",
    "device_indexes",
    "device_text",
    "input_text",
    "read",
    "table_name",
]

# Of a doubled packet: keeps it from being doubled again. It does not leave the host: a namespace's border clears it.
_DOUBLED_MARK: Final = "0xaf5d0b"
_PAIRS: Final = "type ipv4_addr . ipv4_addr"
_MANGLE_PRIORITY: Final = -150
_PARTS: Final = 10_000  # chances are given in hundredths of a percent


class Pair(NamedTuple):
    """IPv4 addresses of a flow."""

    source: str
    target: str


class Device(NamedTuple):
    """A network interface of this host."""

    name: str
    number: int  # its index


class Timed(NamedTuple):
    """An amount (hundredths of a percent, or the minor number of a class; 0 where there is none) and its end."""

    amount: int
    expires_ns: int


Rules = Mapping[Pair, Timed]


class RuleState(NamedTuple):
    """What the kernel has: by set's kind and pair, the amount and the packets counted."""

    amount: int
    packets: int


def table_name(run_id: str) -> str:
    """The same for every table of a run, and for no other run's."""
    return f"aftershock_{hashlib.sha256(run_id.encode()).hexdigest()[:12]}"


def bridge_text(
    table: str,
    comment: str,
    *,
    blocked: Rules,
    lossy: Rules,
    limited: Rules,
    changed: str,
    now_ns: int,
    older_losses: Collection[int] = (),
) -> str:
    """A transaction that brings the run's bridge table to exactly these; `changed` is the kind whose sets are new.

    Sets of other kinds keep their elements, and so their counters. `older_losses` are amounts whose sets may be there:
    those of no rule any more are deleted, or what is read back would say that their flows still lose packets.
    """
    name = f"bridge {table}"
    lines = [
        f'add table {name} {{ comment "{comment}"; }}',
        f"add set {name} block {{ {_PAIRS}; flags timeout; counter; }}",
        f"add map {name} bandwidth {{ {_PAIRS} : classid; flags timeout; counter; }}",
        f"add chain {name} forward {{ type filter hook forward priority 0; policy accept; }}",
        f"flush chain {name} forward",
        f"add rule {name} forward ip saddr . ip daddr @block drop",
    ]
    for amount in _amounts(lossy):
        chance = f"numgen random mod {_PARTS} < {amount}"
        lines += [
            f"add set {name} loss_{amount} {{ {_PAIRS}; flags timeout; counter; }}",
            f"add rule {name} forward {chance} ip saddr . ip daddr @loss_{amount} drop",
        ]
    for amount in sorted(set(older_losses) - set(_amounts(lossy))):
        # Added first, for a set that is not there cannot be deleted.
        told = f"set {name} loss_{amount}"
        lines += [f"add {told} {{ {_PAIRS}; flags timeout; counter; }}", f"delete {told}"]
    lines.append(f"add rule {name} forward meta priority set ip saddr . ip daddr map @bandwidth")
    if changed == "block":
        lines += _filled(name, "block", blocked, now_ns)
    elif changed == "loss":
        for amount in _amounts(lossy):
            lines += _filled(name, f"loss_{amount}", _of_amount(lossy, amount), now_ns)
    elif changed == "bandwidth":
        lines += _filled(name, "bandwidth", limited, now_ns, data=lambda timed: f" : af5:{timed.amount:x}")
    return "\n".join(lines) + "\n"


def device_text(table: str, comment: str, *, doubled: Mapping[Device, Rules], now_ns: int) -> str:
    """A transaction that brings the run's netdev table to exactly these, by device of the receiver."""
    name, rules = f"netdev {table}", {pair: timed for each in doubled.values() for pair, timed in each.items()}
    lines = [f'add table {name} {{ comment "{comment}"; }}', f"delete table {name}"]
    lines.append(f'add table {name} {{ comment "{comment}"; }}')
    for amount in _amounts(rules):
        lines.append(f"add set {name} duplicate_{amount} {{ {_PAIRS}; flags timeout; counter; }}")
        lines += _filled(name, f"duplicate_{amount}", _of_amount(rules, amount), now_ns)
    for device, of_device in sorted(doubled.items()):
        # Named after its index, for not every name of a device is one of a chain. It goes when the device does.
        chain = f"{name} to_{device.number}"
        hook = f'hook egress device "{device.name}" priority 0'
        lines.append(f"add chain {chain} {{ type filter {hook}; policy accept; }}")
        for amount in _amounts(of_device):
            chance = f"meta mark != {_DOUBLED_MARK} numgen random mod {_PARTS} < {amount}"
            twice = f'meta mark set {_DOUBLED_MARK} dup to "{device.name}"'
            lines.append(f"add rule {chain} {chance} ip saddr . ip daddr @duplicate_{amount} {twice}")
    return "\n".join(lines) + "\n"


def input_text(table: str, comment: str, *, sources: Mapping[str, int], now_ns: int, make: bool) -> str:
    """A transaction in a member's namespace: packets of these sources are for the queue, until their time.

    With `make` the table is made first; its one rule is added by `nfqueue.add_queue_rule`.
    """
    name, lines = f"ip {table}", []
    if make:
        lines = [
            f'add table {name} {{ comment "{comment}"; }}',
            f"delete table {name}",
            f'add table {name} {{ comment "{comment}"; }}',
            f"add set {name} held {{ type ipv4_addr; flags timeout; counter; }}",
            f"add chain {name} input {{ type filter hook input priority {_MANGLE_PRIORITY}; policy accept; }}",
        ]
    lines.append(f"flush set {name} held")
    elements = [f"{source} timeout {_timeout(until, now_ns)}" for source, until in sources.items() if until > now_ns]
    if elements:
        lines.append(f"add element {name} held {{ {', '.join(elements)} }}")
    return "\n".join(lines) + "\n"


def read(objects: Iterable[Mapping[str, Any]]) -> dict[str, dict[tuple[str, ...], RuleState]]:
    """Kind -> addresses -> what is on now, from what nft lists. An element whose time has passed is not listed."""
    found: dict[str, dict[tuple[str, ...], RuleState]] = {}
    for each in objects:
        body = each.get("set") or each.get("map")
        if body is None:
            continue
        kind, _, amount = body["name"].partition("_")
        for element in body.get("elem", ()):
            key, data = element if isinstance(element, list) else (element, "")
            inner = key["elem"]
            addresses = inner["val"]["concat"] if isinstance(inner["val"], dict) else [inner["val"]]
            number = int(data.partition(":")[2], 16) if data else int(amount or 0)
            state = RuleState(amount=number, packets=int(inner["counter"]["packets"]))
            found.setdefault(kind, {})[tuple(addresses)] = state
    return found


def device_indexes(objects: Iterable[Mapping[str, Any]]) -> set[int]:
    """Indexes of the devices that have a chain of `device_text` on them."""
    chains = [each["chain"]["name"] for each in objects if "chain" in each]
    return {int(name.removeprefix("to_")) for name in chains if name.startswith("to_")}


def _amounts(rules: Rules) -> list[int]:
    return sorted({timed.amount for timed in rules.values()})


def _of_amount(rules: Rules, amount: int) -> Rules:
    return {pair: timed for pair, timed in rules.items() if timed.amount == amount}


def _filled(name: str, set_name: str, rules: Rules, now_ns: int, *, data: Any = lambda _timed: "") -> list[str]:
    elements = [
        f"{pair.source} . {pair.target} timeout {_timeout(timed.expires_ns, now_ns)}{data(timed)}"
        for pair, timed in sorted(rules.items())
        if timed.expires_ns > now_ns
    ]
    lines = [f"flush {'map' if set_name == 'bandwidth' else 'set'} {name} {set_name}"]
    return [*lines, f"add element {name} {set_name} {{ {', '.join(elements)} }}"] if elements else lines


def _timeout(expires_ns: int, now_ns: int) -> str:
    milliseconds = max(1, (expires_ns - now_ns) // 1_000_000)
    return f"{milliseconds // 1000}s{milliseconds % 1000}ms"
