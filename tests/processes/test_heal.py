"""Whatever ends the tool, nothing of its run stays: its watchdog heals when it cannot, `heal` when neither did."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aftershock.harness.errors import HealError, SetupError
from aftershock.harness.heal import heal
from aftershock.harness.identity import ProcessIdentity, end, find_by_token, os_state, run_token, send
from aftershock.harness.journal import JournalReader, RunJournal, registrations
from aftershock.harness.watchdog import start_watchdog

from tests.processes.stages import SCRIPTS, wait_until

pytestmark = pytest.mark.processes

# DESIGN section 4: within 10 s of the tool's death.
HEAL_DEADLINE_S = 10.0


class Tool:
    """scripts/tool.py as a process, once it has said `ready`."""

    def __init__(self, folder: Path, mode: str) -> None:
        self.run_folder = folder / "run-1"
        self.run_folder.mkdir()
        self.state_folder = folder / "state"
        self.token = run_token(self.run_folder)
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPTS / "tool.py"), str(self.run_folder), str(self.state_folder), mode],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.said: list[str] = []
        for line in self.process.stdout:
            self.said.append(line)
            if line.startswith("ready"):
                watchdog, member, forked = (ProcessIdentity.of(int(pid)) for pid in line.split()[1:])
                assert watchdog is not None
                assert member is not None
                assert forked is not None
                self.watchdog, self.member, self.forked = watchdog, member, forked
                return
        raise AssertionError(f"the tool ended early: {self.process.communicate()}")

    def left(self) -> list[ProcessIdentity]:
        return find_by_token(self.token)

    def close(self) -> None:
        self.process.kill()
        end(self.forked, deadline_s=5)
        self.process.communicate()
        for identity in [self.watchdog, *self.left()]:
            end(identity, deadline_s=5)


@pytest.fixture
def tools(tmp_path: Path) -> Iterator[list[Tool]]:
    started: list[Tool] = []
    yield started
    for tool in started:
        tool.close()


@pytest.fixture
def start(tmp_path: Path, tools: list[Tool]):  # type: ignore[no-untyped-def]
    def start(mode: str) -> Tool:
        tools.append(Tool(tmp_path, mode))
        return tools[-1]

    return start


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("mode", ["idle", "pause", "partition"])
def test_an_interrupted_tool_ends_its_run_itself(start, mode: str, number: signal.Signals) -> None:  # type: ignore[no-untyped-def]
    tool = start(mode)
    assert len(tool.left()) == 3
    tool.process.send_signal(number)
    tool.process.communicate(timeout=20)
    assert tool.left() == []
    assert not tool.watchdog.alive()
    assert registrations(tool.state_folder) == []
    assert JournalReader(tool.run_folder / "journal.jsonl").open_entries() == []


def test_an_exception_in_the_run_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "run-1").mkdir()
    command = [sys.executable, str(SCRIPTS / "tool.py"), str(tmp_path / "run-1"), str(tmp_path / "state"), "raise"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert "ValueError: planted" in done.stderr
    assert find_by_token(run_token(tmp_path / "run-1")) == []
    assert registrations(tmp_path / "state") == []


@pytest.mark.parametrize("mode", ["idle", "pause", "partition", "grandchild", "fork"])
def test_the_watchdog_heals_when_the_tool_is_killed(start, mode: str) -> None:  # type: ignore[no-untyped-def]
    tool = start(mode)
    assert len(tool.left()) >= 3
    tool.process.kill()
    killed = time.monotonic()
    wait_until(lambda: not tool.left(), "every process of the run has ended", deadline_s=HEAL_DEADLINE_S)
    print(f"{mode}: healed {time.monotonic() - killed:.2f} s after SIGKILL")
    wait_until(lambda: not tool.watchdog.alive(), "the watchdog has ended", deadline_s=HEAL_DEADLINE_S)
    assert registrations(tool.state_folder) == []
    assert JournalReader(tool.run_folder / "journal.jsonl").open_entries() == []
    report = heal(state_folder=tool.state_folder)
    assert report.clean
    assert report.undone == report.skipped == ()
    told = [json.loads(line) for line in (tool.run_folder / "events.jsonl").read_text().splitlines()]
    assert {event["kind"] for event in told} == {"heal"}
    assert any("watchdog: ended toxiproxy" in event["text"] for event in told)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_tool_that_is_ended_at_any_instant_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """From before the journal is open to the middle of the end; a second signal interrupts the healing itself."""
    rng = random.Random(7)
    for attempt in range(8):
        folder, state_folder = tmp_path / f"run-{attempt}", tmp_path / "state"
        folder.mkdir()
        command = [sys.executable, str(SCRIPTS / "tool.py"), str(folder), str(state_folder), "partition"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(rng.uniform(0.1, 0.9))
            process.send_signal(number)
            time.sleep(rng.uniform(0, 0.2))
            process.send_signal(number)
            process.wait(30)
        token = run_token(folder)
        wait_until(lambda token=token: not find_by_token(token), "nothing runs", deadline_s=HEAL_DEADLINE_S)  # type: ignore[misc]
        # Killed before its watchdog stood, a run has started nothing, but is registered.
        assert heal(state_folder=state_folder).clean
        assert registrations(state_folder) == []


@pytest.mark.parametrize("mode", ["idle", "pause", "partition", "grandchild"])
def test_heal_does_it_when_the_watchdog_is_dead_too(start, mode: str) -> None:  # type: ignore[no-untyped-def]
    tool = start(mode)
    send(tool.watchdog, signal.SIGKILL)
    tool.process.kill()
    tool.process.wait()
    wait_until(lambda: not tool.watchdog.alive(), "the watchdog is dead")
    assert len(tool.left()) >= 3
    report = heal(state_folder=tool.state_folder)
    assert report.clean, report
    text = "\n".join(report.undone)
    assert "run-1: ended toxiproxy (process " in text
    assert ("resumed process" in text) == (mode == "pause")
    assert ("removed 2 toxics from 1 links" in text) == (mode == "partition")
    assert tool.left() == []
    assert registrations(tool.state_folder) == []
    assert heal(state_folder=tool.state_folder).undone == ()


def test_heal_skips_a_run_whose_tool_lives(start) -> None:  # type: ignore[no-untyped-def]
    tool = start("pause")
    report = heal(state_folder=tool.state_folder)
    assert report.skipped == (f"run-1: its tool still runs (process {tool.process.pid})",)
    assert len(tool.left()) == 3
    assert os_state(tool.member) == "T"


def test_heal_knows_the_processes_of_a_run_whose_folder_was_deleted(start) -> None:  # type: ignore[no-untyped-def]
    tool = start("idle")
    send(tool.watchdog, signal.SIGKILL)
    tool.process.kill()
    tool.process.wait()
    (tool.run_folder / "journal.jsonl").unlink()
    assert heal(state_folder=tool.state_folder).clean
    assert tool.left() == []


def test_the_watchdog_undoes_what_a_hung_tool_does_not(start) -> None:  # type: ignore[no-untyped-def]
    tool = start("expire")
    os.kill(tool.process.pid, signal.SIGSTOP)
    wait_until(lambda: os_state(tool.member) != "T", "the paused member was resumed")
    entries = JournalReader(tool.run_folder / "journal.jsonl")
    wait_until(
        lambda: {entry.inverse for entry in entries.open_entries()} == {"end-process"}, "pause and toxics are undone"
    )
    # The run itself goes on: the tool lives.
    assert len(tool.left()) == 3
    assert tool.watchdog.alive()


def test_heal_says_what_it_could_not_undo_and_how(start, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    tool = start("pause")
    send(tool.watchdog, signal.SIGKILL)
    tool.process.kill()
    tool.process.wait()

    def refuse(identity: ProcessIdentity, number: int) -> bool:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr("aftershock.harness.inverses.processes.send", refuse)
        patch.setattr("aftershock.harness.identity.send", refuse)
        report = heal(state_folder=tool.state_folder)
    assert not report.clean
    pid = tool.member.pid
    assert f"run-1: [Errno 1] Operation not permitted; by hand: kill -CONT {pid}" in report.left
    assert f"run-1: [Errno 1] Operation not permitted; by hand: kill -KILL {pid}" in report.left
    assert len(registrations(tool.state_folder)) == 1
    assert heal(state_folder=tool.state_folder).clean


def test_a_process_that_took_over_the_pid_is_not_touched() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"]) as process:
        try:
            identity = ProcessIdentity.of(process.pid)
            assert identity is not None
            earlier = ProcessIdentity(identity.pid, identity.start_ticks - 1, identity.boot_id)
            other_boot = ProcessIdentity(identity.pid, identity.start_ticks, "00000000-0000")
            for stranger in (earlier, other_boot):
                assert not stranger.alive()
                assert not send(stranger, signal.SIGKILL)
                assert end(stranger, deadline_s=1)
            assert identity.alive()
            assert process.poll() is None
        finally:
            process.kill()


def test_a_clean_run_with_something_left_is_a_heal_error(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"]) as process:
        try:
            identity = ProcessIdentity.of(process.pid)
            assert identity is not None
            with (
                pytest.raises(HealError, match="not undone"),
                RunJournal.open(tmp_path / "run", "r1", tmp_path / "state") as journal,
            ):
                journal.record("end-process", expires_ns=None, process=identity.to_json(), what="n1")
            assert len(registrations(tmp_path / "state")) == 1
        finally:
            process.kill()


def test_the_watchdog_imports_no_third_party_package() -> None:
    code = (
        "import sys; import aftershock.harness.watchdog; "
        "print([name for name in ('pydantic', 'polars', 'requests', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_watchdog_that_does_not_start_is_a_setup_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    with RunJournal.open(tmp_path / "run", "r1", tmp_path / "state") as journal:
        monkeypatch.setattr(journal, "registration", tmp_path / "not-there")
        with pytest.raises(SetupError, match="the watchdog did not start"), start_watchdog(journal):
            pass
