"""Inverses and their callers in bad moments: nothing is called undone that was not seen to be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aftershock.harness import heal as heal_module
from aftershock.harness import nft, watchdog
from aftershock.harness.backends.confinement import CgroupConfinement
from aftershock.harness.backends.inside import start_inside
from aftershock.harness.backends.packet_network import PacketNetwork
from aftershock.harness.backends.packet_rules import Pair, Timed, bridge_text
from aftershock.harness.errors import HealError, SetupError
from aftershock.harness.identity import ProcessIdentity, end, os_state
from aftershock.harness.impairment import Delay
from aftershock.harness.interfaces import Flow, Limits
from aftershock.harness.inverses import containers, packets, undo
from aftershock.harness.journal import JournalWriter, Registration

from tests.fakes import FakeJournal, RecordedEvents

FLOW = Flow("n1", "n2")
GONE = ProcessIdentity(1, 1, "00000000-0000-0000-0000-000000000000")


def test_a_stop_that_is_still_under_way_is_taken_back(tmp_path: Path) -> None:
    """A process that waits for its vfork child takes no SIGSTOP until the child has exec'd."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    script = (
        "import os, sys, time\n"
        "action = (os.POSIX_SPAWN_OPEN, 0, sys.argv[1], os.O_RDONLY, 0)\n"
        "child = os.posix_spawn('/bin/true', ['true'], {}, file_actions=[action])\n"
        "os.waitpid(child, 0)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-S", "-c", script, str(fifo)]) as process:
        identity = ProcessIdentity.of(process.pid)
        assert identity is not None
        try:
            until = time.monotonic() + 10
            while os_state(identity) != "D":
                assert time.monotonic() < until
                time.sleep(0.01)
            os.kill(process.pid, signal.SIGSTOP)
            assert os_state(identity) == "D"
            assert undo("resume", {"process": identity.to_json()}) == ""
            os.close(os.open(fifo, os.O_WRONLY))
            until = time.monotonic() + 10
            while os_state(identity) != "S":
                assert os_state(identity) != "T", "the stop came after its undoing"
                assert time.monotonic() < until
                time.sleep(0.01)
        finally:
            end(identity, deadline_s=5)


def test_a_device_that_tc_says_nothing_about_is_not_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess(["tc"], 1, "", "Cannot talk to rtnetlink")
    monkeypatch.setattr(packets, "_tc", lambda *_arguments: failed)
    with pytest.raises(RuntimeError, match="Cannot talk to rtnetlink"):
        undo("delete-qdisc", {"device": "lo", "index": 1})
    assert undo("delete-qdisc", {"device": "lo", "index": 999}) == "", "another device's name by now"


def test_a_container_that_its_own_policy_started_first_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    class Connection:
        """Of an engine whose container comes up between the look and the start."""

        running = False

        def __init__(self, *_: Any, **__: Any) -> None:
            self.status, self.body = 200, b""

        def request(self, method: str, path: str) -> None:
            if method == "POST":
                Connection.running, self.status = True, 304
            else:
                self.body = json.dumps({"State": {"Running": Connection.running, "Status": "exited"}}).encode()

        def getresponse(self) -> Connection:
            return self

        def read(self) -> bytes:
            return self.body

        def close(self) -> None: ...

    monkeypatch.setattr(containers, "UnixConnection", Connection)
    arguments = {"endpoint": "unix:///nowhere", "container": "abc", "what": "db"}
    assert undo("start-container", arguments) == "started db again"


def test_the_alarm_of_a_helper_rings_also_where_it_was_ignored() -> None:
    before = signal.signal(signal.SIGALRM, signal.SIG_IGN)
    try:
        process = start_inside([], ["/bin/sleep", "30"], left_s=0.4, environment={})
    finally:
        signal.signal(signal.SIGALRM, before)
    try:
        assert process.wait(10) == -signal.SIGALRM
    finally:
        process.kill()
        process.wait()


def test_one_helper_that_does_not_end_keeps_no_score_up(monkeypatch: pytest.MonkeyPatch) -> None:
    made = CgroupConfinement(
        pid=lambda _name: None,
        limits=lambda _name: Limits(cpus=None, memory_bytes=None),
        journal=FakeJournal(),
        token="t",
    )
    tried: list[str] = []

    def refuse(_self: CgroupConfinement, helper: Any) -> None:
        tried.append("end")
        raise HealError(f"helper {helper.pid} does not end")

    class Helper:
        identity = GONE

    monkeypatch.setattr(CgroupConfinement, "end", refuse)
    monkeypatch.setattr(CgroupConfinement, "spare", lambda _self, member: tried.append(member))
    made._helpers[1] = Helper()  # type: ignore[assignment]
    made._doomed["n1"] = (GONE, 0, "e1")
    with pytest.raises(HealError, match="does not end"):
        made.close()
    assert tried == ["end", "n1"]


# ------------------------------------------------------------------------------------------------ networks of packets


def network(journal: FakeJournal) -> PacketNetwork:
    made = PacketNetwork(
        run_id="r1",
        bridge="as-none",
        address=lambda name: f"192.0.2.{name[1:]}",
        pid=lambda _name: None,
        journal=journal,
        events=RecordedEvents(),
    )
    made.link("n1", "n2")
    return made


def test_losses_that_are_over_leave_no_set_behind() -> None:
    lossy = {Pair("192.0.2.1", "192.0.2.2"): Timed(3000, 2_000_000_000)}
    said = bridge_text(
        "t", "c", blocked={}, lossy=lossy, limited={}, changed="loss", now_ns=1_000_000_000, older_losses={1000, 3000}
    )
    assert "delete set bridge t loss_1000" in said
    assert "delete set bridge t loss_3000" not in said


def test_a_network_that_cannot_be_looked_at_is_mended_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: Any) -> None:
        raise nft.NftError("nft did not answer")

    made = network(FakeJournal())
    made._on["delay"] = {FLOW: None}  # type: ignore[dict-item]
    monkeypatch.setattr(PacketNetwork, "_conditions", silent)
    made.mend([FLOW], Delay)
    assert made._on["delay"] == {}


def test_what_a_lost_helper_leaves_is_a_heal_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: Any) -> None:
        raise SetupError("the packet queue does not answer")

    made = network(FakeJournal())
    made._on["delay"] = {FLOW: None}  # type: ignore[dict-item]
    monkeypatch.setattr(PacketNetwork, "_conditions", lambda *_: {FLOW: ""})
    monkeypatch.setattr(PacketNetwork, "_bring", lost)
    with pytest.raises(HealError, match="does not answer"):
        made.mend([FLOW], Delay)


# ------------------------------------------------------------------------------------------------ the watchdog


def test_what_takes_effect_after_the_tool_died_is_undone_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `nft -f -`, which outlives the tool that started it: the first look finds nothing of it."""
    looks, there = 0, False

    def undo_late(inverse: str, _arguments: Mapping[str, Any]) -> str:
        nonlocal looks, there
        if inverse == "end-processes":
            return ""
        looks += 1
        did, there = ("deleted it" if there else ""), looks == 1
        return did

    monkeypatch.setattr(heal_module, "undo", undo_late)
    monkeypatch.setattr(watchdog, "_SETTLE_S", 0.01)
    path = tmp_path / "journal.jsonl"
    writer = JournalWriter(path)
    writer.append({"entry": "e1", "inverse": "delete-tables", "expires_ns": None, "arguments": {}}, sync=False)
    registration = Registration(run_id="r1", journal=path, owner=GONE, token="t", path=tmp_path / "r1.json")
    registration.path.touch()
    assert watchdog._Watchdog(registration).heal()
    writer.close()
    assert looks > 1
    assert not there
    assert not registration.path.exists()
