"""What the packet network says to nft and tc, reads of them, and makes of a TCP segment. No packet is needed for it."""

from __future__ import annotations

import socket
import struct
import subprocess
from typing import Any

import pytest
from aftershock.harness.backends import member_sockets, traffic_control
from aftershock.harness.backends.member_sockets import OutOfOrder
from aftershock.harness.backends.packet_rules import (
    Device,
    Pair,
    RuleState,
    Timed,
    bridge_text,
    device_indexes,
    device_text,
    input_text,
    read,
    table_name,
)
from aftershock.harness.backends.segments import Segment
from aftershock.harness.identity import ProcessIdentity
from aftershock.harness.inverses import by_hand
from aftershock.harness.network_namespace import enter

A_B, C_B = Pair("10.0.0.1", "10.0.0.2"), Pair("10.0.0.3", "10.0.0.2")
NOW_NS = 1_000_000_000


def timed(amount: int = 0, *, after_ms: int = 2500) -> Timed:
    return Timed(amount, NOW_NS + after_ms * 1_000_000)


def text(**changes: Any) -> str:
    rules: dict[str, Any] = {"blocked": {}, "lossy": {}, "limited": {}, "changed": "block", **changes}
    return bridge_text("t", "of a run", **rules, now_ns=NOW_NS)


def test_only_the_sets_of_the_kind_that_changed_are_filled_anew() -> None:
    said = text(blocked={A_B: timed()}, lossy={C_B: timed(1050)}, changed="loss")
    assert "flush set bridge t loss_1050" in said
    assert "add element bridge t loss_1050 { 10.0.0.3 . 10.0.0.2 timeout 2s500ms }" in said
    assert "numgen random mod 10000 < 1050 ip saddr . ip daddr @loss_1050 drop" in said
    assert "flush set bridge t block" not in said


def test_what_has_expired_is_not_put_on_again() -> None:
    said = text(blocked={A_B: timed(after_ms=0), C_B: timed()}, changed="block")
    assert "10.0.0.3 . 10.0.0.2 timeout" in said
    assert "10.0.0.1" not in said
    assert "add element" not in input_text("t", "c", sources={"10.0.0.1": NOW_NS}, now_ns=NOW_NS, make=False)


def test_a_limit_is_a_class_and_a_doubled_packet_is_not_doubled_again() -> None:
    assert "10.0.0.1 . 10.0.0.2 timeout 2s500ms : af5:1f" in text(limited={A_B: timed(31)}, changed="bandwidth")
    said = device_text("t", "c", doubled={Device("veth-x", 7): {A_B: timed(3000)}}, now_ns=NOW_NS)
    rule = next(line for line in said.splitlines() if line.startswith("add rule"))
    assert rule.startswith("add rule netdev t to_7 meta mark != 0xaf5d0b numgen random mod 10000 < 3000 ")
    assert rule.endswith('@duplicate_3000 meta mark set 0xaf5d0b dup to "veth-x"')


def test_reading_what_nft_lists() -> None:
    def element(source: str, packets: int) -> dict[str, Any]:
        counter = {"packets": packets, "bytes": 9}
        return {"elem": {"val": {"concat": [source, "10.0.0.2"]}, "timeout": 9, "expires": 1, "counter": counter}}

    listed: list[dict[str, Any]] = [
        {"metainfo": {}},
        {"set": {"name": "block"}},
        {"set": {"name": "loss_1050", "elem": [element("10.0.0.1", 4)]}},
        {"map": {"name": "bandwidth", "elem": [[element("10.0.0.3", 5), "af5:1f"]]}},
        {"chain": {"name": "to_7"}},
    ]
    assert read(listed) == {
        "loss": {("10.0.0.1", "10.0.0.2"): RuleState(amount=1050, packets=4)},
        "bandwidth": {("10.0.0.3", "10.0.0.2"): RuleState(amount=31, packets=5)},
    }
    assert device_indexes(listed) == {7}
    held = {"elem": {"val": "10.0.0.1", "counter": {"packets": 2, "bytes": 9}}}
    assert read([{"set": {"name": "held", "elem": [held]}}]) == {"held": {("10.0.0.1",): RuleState(0, 2)}}


def test_runs_have_tables_of_their_own() -> None:
    assert table_name("a") != table_name("b")
    assert table_name("2026-11-22T10:00 x/y").replace("_", "").isalnum()


def test_limits_are_read_from_what_tc_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = (
        "class htb af5:1 root leaf 8001: prio 0 rate 4Mbit ceil 4Mbit burst 16Kb cburst 1600b \n"
        "class htb af5:a root leaf 8002: prio 0 rate 1600Kbit ceil 1600Kbit burst 16Kb cburst 1600b \n"
        "class htb 1:7 root prio 0 rate 9Mbit ceil 9Mbit burst 16Kb cburst 1600b \n"
    )
    done = subprocess.CompletedProcess([], 0, stdout=printed, stderr="")
    monkeypatch.setattr(traffic_control, "_tc", lambda *_: done)
    assert traffic_control.limits("veth-x") == {1: 4000, 10: 1600}


def test_counts_of_connections_add_up_and_stay_when_one_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    says = [
        "ESTAB 0 0 10.0.0.2:5 10.0.0.1:9 bbr rto:204 rcv_ooopack:3 x\nESTAB 0 0 10.0.0.2:5 10.0.0.1:8 bbr x\n",
        "ESTAB 0 0 10.0.0.2:5 10.0.0.1:9 bbr rcv_ooopack:5\n",
        "ESTAB 0 0 [::ffff:10.0.0.2]:5 [::ffff:10.0.0.1]:9 bbr rcv_ooopack:2\n",
        "",
    ]
    monkeypatch.setattr(member_sockets, "_ss", lambda *_: says.pop(0))
    counts, process = OutOfOrder(), ProcessIdentity(7, 8, "boot")
    assert [counts.count(process, ["10.0.0.1"])["10.0.0.1"] for _ in range(4)] == [3, 5, 7, 7]


def segment(*, flags: int = 24, data: bytes = b"hello") -> bytes:
    tcp = struct.pack(">HHIIBBHHH", 1111, 2222, 1000, 5000, 5 << 4, flags, 512, 0, 0) + data
    addresses = socket.inet_aton("10.0.0.1") + socket.inet_aton("10.0.0.2")
    return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0, 64, socket.IPPROTO_TCP, 0) + addresses + tcp


def test_a_reset_is_in_the_window_of_either_end() -> None:
    parsed = Segment.parse(segment())
    assert parsed is not None
    assert parsed.carries_data
    to_receiver, to_sender = parsed.reset_for_receiver(), parsed.reset_for_sender()
    assert struct.unpack(">HHIIBB", to_receiver[20:34]) == (1111, 2222, 1000, 5000, 5 << 4, 20)
    assert struct.unpack(">HHIIBB", to_sender[20:34]) == (2222, 1111, 5000, 1005, 5 << 4, 20)
    for packet in (to_receiver, to_sender):
        pseudo = packet[12:20] + struct.pack(">BBH", 0, socket.IPPROTO_TCP, 20)
        assert _sums_up(packet[:20])
        assert _sums_up(pseudo + packet[20:])


def _sums_up(data: bytes) -> bool:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total == 0xFFFF


def test_only_segments_with_data_are_answered() -> None:
    bare = Segment.parse(segment(data=b""))
    assert bare is not None
    assert not bare.carries_data
    assert Segment.parse(segment()[:30]) is None
    fragment = bytearray(segment())
    fragment[7] = 9
    assert Segment.parse(bytes(fragment)) is None


def test_no_pid_ever_means_the_hosts_own_namespace() -> None:
    for pid in (0, -1):
        with pytest.raises(ProcessLookupError):
            enter(ProcessIdentity(pid, 0, "boot"))


def test_a_person_is_told_exactly_what_to_type() -> None:
    process = {"pid": 71, "start_ticks": 1, "boot_id": "b"}
    assert by_hand("delete-tables", {"table": "aftershock_1", "families": ["bridge"]}) == (
        "nft delete table bridge aftershock_1"
    )
    assert by_hand("delete-member-table", {"table": "aftershock_1", "process": process, "what": "n2"}) == (
        "nsenter -t 71 -n nft delete table ip aftershock_1"
    )
    assert by_hand("delete-qdisc", {"device": "veth7", "index": 3}) == "tc qdisc del dev veth7 root handle af5:"
