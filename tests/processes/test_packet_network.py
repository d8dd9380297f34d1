"""The packet network on real packets: what each impairment does to which flow, and that nothing of it stays."""

from __future__ import annotations

import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aftershock.harness.backends.packet_network import PacketNetwork
from aftershock.harness.errors import InternalError, SetupError
from aftershock.harness.heal import heal
from aftershock.harness.identity import ProcessIdentity, find_by_token, run_token
from aftershock.harness.impairment import (
    IMPAIRMENTS,
    Bandwidth,
    Block,
    Delay,
    Duplicate,
    Impairment,
    Loss,
    Reorder,
    Reset,
)
from aftershock.harness.interfaces import Flow
from aftershock.harness.journal import JournalReader, RunJournal, registrations

from tests.processes.namespace_bed import BRIDGE, Bed, Ends, bed, tcp_info, transit_s
from tests.processes.stages import SCRIPTS, Events, wait_until

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces of the host take root"),
]

FLOW = Flow("n1", "n2")
BURST = b"x" * 200_000
RETRANSMISSION_S = 0.19
DSACK_DUPS, OUT_OF_ORDER = 216, 224
EVERY = [
    Block(),
    Loss(percent=40),
    Delay(latency_ms=80),
    Delay(latency_ms=60, jitter_ms=20),
    Duplicate(percent=40),
    Reorder(percent=20, hold_ms=10),
    Bandwidth(kbit_per_s=800),
    Reset(),
]


@pytest.fixture
def host() -> Iterator[Bed]:
    with bed(3) as made:
        yield made


class Run:
    def __init__(self, host: Bed, folder: Path) -> None:
        self.host, self.folder, self.events = host, folder, Events()

    @contextmanager
    def network(self) -> Iterator[PacketNetwork]:
        run_folder = self.folder / "run"
        run_folder.mkdir()
        with RunJournal.open(run_folder, "packets-1", self.folder / "state") as journal:
            self.journal = journal
            network = PacketNetwork(
                run_id="packets-1",
                bridge=BRIDGE,
                address=self.host.address,
                pid=self.host.pid,
                journal=journal,
                events=self.events,
            )
            for source in self.host.members:
                for target in self.host.members:
                    if source != target:
                        network.link(source, target)
            try:
                yield network
            finally:
                network.close()
            assert journal.open_entries() == []


@pytest.fixture
def begun(host: Bed, tmp_path: Path) -> Run:
    return Run(host, tmp_path)


def soon(seconds: float = 60.0) -> int:
    return time.monotonic_ns() + int(seconds * 1e9)


# ------------------------------------------------------------------------------------------------ effects


def blocked(ends: Ends) -> bool:
    return transit_s(ends, timeout_s=0.5) is None


def loses(ends: Ends) -> bool:
    """Of forty messages one has to be sent again: at 40 % that none has is a chance of 1 in 10^8."""
    return any((transit_s(ends, timeout_s=10) or 10) >= RETRANSMISSION_S for _ in range(40))


def delays(ends: Ends) -> bool:
    return statistics.median(transit_s(ends) or 9 for _ in range(9)) >= 0.04


def doubles(ends: Ends) -> bool:
    before = tcp_info(ends.here, DSACK_DUPS)
    for _ in range(40):
        assert transit_s(ends) is not None
    # Of the last ones their sender may not have been told yet.
    assert transit_s(ends.back()) is not None
    return tcp_info(ends.here, DSACK_DUPS) > before


def reorders(ends: Ends) -> bool:
    before = tcp_info(ends.there, OUT_OF_ORDER)
    assert transit_s(ends, BURST, timeout_s=20) is not None
    return tcp_info(ends.there, OUT_OF_ORDER) > before


def is_narrow(ends: Ends) -> bool:
    """40 kB take 0.4 s at 800 kbit/s, of which the bucket gives 20 ms."""
    return (transit_s(ends, BURST[:40_000]) or 9) >= 0.3


def is_reset(ends: Ends) -> bool:
    """Both ends see their connection end, and nothing arrives."""
    seen = []
    for act in (lambda: ends.here.sendall(b"x"), lambda: ends.there.recv(1), lambda: ends.here.recv(1)):
        try:
            act()
        except TimeoutError:
            return False
        except ConnectionError as error:
            seen.append(error)
        else:
            if act.__code__.co_names == ("there", "recv"):
                return False
    return len(seen) >= 2


SHOWS: dict[type[Impairment], Callable[[Ends], bool]] = {
    Block: blocked,
    Loss: loses,
    Delay: delays,
    Duplicate: doubles,
    Reorder: reorders,
    Bandwidth: is_narrow,
    Reset: is_reset,
}


# ------------------------------------------------------------------------------------------------ tests


@pytest.mark.parametrize("impairment", EVERY, ids=lambda each: each.words())
def test_it_bites_on_old_and_new_connections_in_its_direction_and_nowhere_else(
    begun: Run, impairment: Impairment
) -> None:
    host, kind = begun.host, type(impairment)
    shows, before = SHOWS[kind], host.state()
    with begun.network() as network:
        assert network.why_not(kind) is None
        old, beside = host.connect("n1", "n2"), host.connect("n3", "n2")
        assert transit_s(old) is not None
        network.impair([FLOW], impairment, expires_ns=soon())

        assert network.impaired() == {FLOW: impairment.words()}
        assert shows(old)
        if kind is Block:
            with pytest.raises(TimeoutError):
                host.connect("n1", "n2")
        else:
            assert shows(host.connect("n1", "n2", timeout_s=20))
            # A packet of the handshake that is lost and the answers to what flows back are packets of the flow as well.
            assert not shows(host.connect("n1", "n2", timeout_s=20).back()) or kind is Reset
        assert not shows(beside), "n3 -> n2"
        assert not shows(host.connect("n1", "n3")), "n1 -> n3"
        assert not shows(host.connect("n3", "n1")), "n3 -> n1"
        assert network.counters([FLOW], kind)[FLOW] > 0
        assert not any(network.counters([Flow("n3", "n2"), Flow("n2", "n1")], kind).values())

        network.mend([FLOW], kind)
        assert network.impaired() == {}
        assert host.state() == before
        assert begun.journal.open_entries() == []
        assert not shows(host.connect("n1", "n2"))
        if kind is not Reset:
            old.there.settimeout(10)
            wait_until(lambda: transit_s(old, timeout_s=5) is not None, "the old connection lives")
    assert host.state() == before


def test_a_reset_is_one_of_the_direction_that_was_asked_for(begun: Run) -> None:
    """Bytes of the other direction pass on a new connection; the first that goes in this one resets both ends."""
    with begun.network() as network:
        network.impair([FLOW], Reset(), expires_ns=soon())
        ends = begun.host.connect("n1", "n2")
        assert transit_s(ends.back()) is not None
        ends.here.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            ends.there.recv(1)
        with pytest.raises(ConnectionResetError):
            ends.here.recv(1)
        opened_by_the_receiver = begun.host.connect("n2", "n1")
        assert transit_s(opened_by_the_receiver) is not None
        opened_by_the_receiver.there.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            opened_by_the_receiver.here.recv(1)


def test_kinds_live_side_by_side_and_go_one_by_one(begun: Run) -> None:
    with begun.network() as network:
        before = begun.host.state()
        on: list[Impairment] = [
            Loss(percent=1.5),
            Delay(latency_ms=80),
            Duplicate(percent=30),
            Reorder(percent=10, hold_ms=5),
            Bandwidth(kbit_per_s=5000),
        ]
        for impairment in on:
            network.impair([FLOW, Flow("n3", "n2")], impairment, expires_ns=soon())
        words = [each.words() for each in sorted(on, key=lambda each: IMPAIRMENTS.index(type(each)))]
        assert network.impaired() == dict.fromkeys((FLOW, Flow("n3", "n2")), ", ".join(words))
        assert delays(begun.host.connect("n1", "n2"))
        network.mend([FLOW], Delay)
        assert not delays(begun.host.connect("n1", "n2"))
        assert delays(begun.host.connect("n3", "n2"))
        for kind in IMPAIRMENTS:
            network.mend([FLOW, Flow("n3", "n2")], kind)
        assert network.impaired() == {}
        assert begun.host.state() == before
    assert begun.events.of("warning") == []


def test_a_second_of_a_kind_takes_the_place_of_the_first(begun: Run) -> None:
    with begun.network() as network:
        network.impair([FLOW, Flow("n3", "n2")], Loss(percent=10), expires_ns=soon())
        network.impair([FLOW], Loss(percent=30), expires_ns=soon())
        network.impair([FLOW], Bandwidth(kbit_per_s=800), expires_ns=soon())
        network.impair([FLOW], Bandwidth(kbit_per_s=1600), expires_ns=soon())
        assert network.impaired() == {
            FLOW: "losing 30 % of packets, limited to 1600 kbit/s",
            Flow("n3", "n2"): "losing 10 % of packets",
        }


def test_a_loss_is_gone_although_another_kind_stays(begun: Run) -> None:
    """The run's table stays for the other kind, and must say nothing of a loss that is over."""
    with begun.network() as network:
        network.impair([Flow("n3", "n2")], Block(), expires_ns=soon())
        network.impair([FLOW], Loss(percent=10), expires_ns=soon())
        network.impair([FLOW], Loss(percent=30), expires_ns=soon())
        network.mend([FLOW], Loss)
        assert network.impaired() == {Flow("n3", "n2"): "blocked"}
        network.impair([FLOW], Loss(percent=10), expires_ns=soon())
        assert network.impaired()[FLOW] == "losing 10 % of packets"


def test_the_kernel_ends_each_at_its_time(begun: Run) -> None:
    """Though the tool lives and does nothing about it; what is left then does nothing, and mending says so."""
    with begun.network() as network:
        for impairment in EVERY:
            network.impair([FLOW], impairment, expires_ns=soon(1.5))
        network.impair([Flow("n3", "n2")], Block(), expires_ns=soon())
        wait_until(lambda: network.impaired() == {Flow("n3", "n2"): "blocked"}, "all but one have expired")
        ends = begun.host.connect("n1", "n2")
        assert not any(shows(ends) for shows in (delays, doubles, reorders, is_narrow))
        for impairment in EVERY:
            network.mend([FLOW], type(impairment))
    assert len(begun.events.of("warning")) == len({type(each) for each in EVERY})


def test_order_is_kept_by_a_delay_without_jitter(begun: Run) -> None:
    with begun.network() as network:
        network.impair([FLOW], Delay(latency_ms=30), expires_ns=soon())
        assert not reorders(begun.host.connect("n1", "n2"))


def test_a_member_that_was_started_anew_is_whole_and_said_to_be(begun: Run) -> None:
    flows = [FLOW, Flow("n1", "n3")]
    with begun.network() as network:
        on = [Loss(percent=20), Delay(latency_ms=80), Duplicate(percent=30), Bandwidth(kbit_per_s=800)]
        for impairment in on:
            network.impair(flows, impairment, expires_ns=soon())
        begun.host.kill("n2")
        wait_until(lambda: network.impaired()[FLOW] == on[0].words(), "what was at n2 is gone")
        assert network.impaired()[Flow("n1", "n3")].count(",") == 3
        begun.host.start("n2")
        assert network.impaired()[FLOW] == on[0].words()
        network.mend(flows, Loss)
        assert not delays(begun.host.connect("n1", "n2"))
        network.impair(flows, Delay(latency_ms=80), expires_ns=soon())
        assert delays(begun.host.connect("n1", "n2"))


def test_packets_pass_when_the_queue_dies_and_it_is_seen(begun: Run) -> None:
    with begun.network() as network:
        network.impair([FLOW], Delay(latency_ms=80), expires_ns=soon())
        ends = begun.host.connect("n1", "n2")
        (queue,) = [e for e in begun.journal.open_entries() if e.inverse == "end-process"]
        os.kill(queue.arguments["process"]["pid"], signal.SIGKILL)
        wait_until(lambda: network.impaired() == {}, "the network sees it")
        assert not delays(ends)
        network.impair([FLOW], Delay(latency_ms=80), expires_ns=soon())
        assert delays(ends)


def test_half_a_change_is_taken_back(begun: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("planted")

    with begun.network() as network:
        network.impair([Flow("n3", "n2")], Delay(latency_ms=50), expires_ns=soon())
        before = begun.host.state()["n2"]
        with monkeypatch.context() as patched:
            patched.setattr("aftershock.harness.backends.held_packets.add_queue_rule", fail)
            with pytest.raises(SetupError, match="planted"):
                network.impair([FLOW, Flow("n1", "n3")], Delay(latency_ms=80), expires_ns=soon())
        assert network.impaired() == {Flow("n3", "n2"): "delayed by 50 ± 0 ms"}
        assert _without_times(begun.host.state()["n2"]) == _without_times(before)
        with pytest.raises(InternalError, match="no link carries it"):
            network.impair([Flow("n1", "n9")], Block(), expires_ns=soon())


def _without_times(rules: str) -> str:
    return re.sub(r"counter packets.*", "", rules)


# ------------------------------------------------------------------------------------------------ killed tools


class Tool:
    """scripts/packet_tool.py, which puts every impairment on n1 -> n2 and then waits to be ended."""

    def __init__(self, host: Bed, folder: Path, *, seconds: float, watched: bool) -> None:
        self.run_folder, self.state_folder = folder / "run", folder / "state"
        self.run_folder.mkdir()
        members = [f"{name}={host.pid(name)}={host.address(name)}" for name in host.members]
        self.process = subprocess.Popen(
            [
                *(sys.executable, str(SCRIPTS / "packet_tool.py"), str(self.run_folder), str(self.state_folder)),
                *(BRIDGE, str(seconds), "watched" if watched else "alone", *members),
            ],
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def kill(self) -> None:
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def tool(host: Bed, tmp_path: Path) -> Iterator[Callable[..., Tool]]:
    made: list[Tool] = []

    def start(**options: Any) -> Tool:
        made.append(Tool(host, tmp_path, **options))
        return made[-1]

    yield start
    for each in made:
        each.kill()


def test_a_killed_tool_is_healed_after_by_its_watchdog(host: Bed, tool: Callable[..., Tool]) -> None:
    before = host.state()
    killed = tool(seconds=600, watched=True)
    assert host.state() != before
    killed.kill()
    wait_until(lambda: not registrations(killed.state_folder), "the watchdog has healed", deadline_s=10)
    assert host.state() == before
    assert find_by_token(run_token(killed.run_folder)) == []


def test_heal_finds_what_a_killed_tool_without_watchdog_left(host: Bed, tool: Callable[..., Tool]) -> None:
    before = host.state()
    killed = tool(seconds=600, watched=False)
    queues = _queue_programs(killed)
    killed.kill()
    assert host.state() != before
    report = heal(state_folder=killed.state_folder)
    assert report.left == ()
    assert any("deleted nft tables" in text for text in report.undone), report
    assert host.state() == before
    assert not any(queue.alive() for queue in queues)
    again = heal(state_folder=killed.state_folder)
    assert (again.undone, again.left) == ((), ())


def test_the_kernel_alone_ends_what_a_killed_tool_left(host: Bed, tool: Callable[..., Tool]) -> None:
    """No watchdog and no heal: flows are whole when their time is up, by set elements that the kernel times out."""
    killed = tool(seconds=3, watched=False)
    killed.kill()
    with pytest.raises(TimeoutError):
        host.connect("n1", "n2")

    def opens() -> bool:
        try:
            host.connect("n1", "n2")
        except TimeoutError:
            return False
        return True

    wait_until(opens, "n1 reaches n2 again")
    ends = host.connect("n1", "n2")
    assert not any(shows(ends) for shows in (delays, doubles, reorders, is_narrow))


def _queue_programs(killed: Tool) -> list[ProcessIdentity]:
    entries = JournalReader(killed.run_folder / "journal.jsonl").open_entries()
    found = [ProcessIdentity.from_json(e.arguments["process"]) for e in entries if e.inverse == "end-process"]
    assert len(found) == 1
    assert found[0].alive()
    return found
