"""The tool hangs, dies, dies with its watchdog, or the machine is restarted: what becomes of a real run's faults.

DESIGN section 4: healed within 10 s of the tool's death or of the planned end; `aftershock heal` does the same at once.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aftershock.harness.heal import heal
from aftershock.harness.identity import ProcessIdentity, boot_id, os_state, send
from aftershock.harness.journal import JournalReader, registrations
from aftershock.harness.timeline import EXPIRY_MARGIN_S

from tests.processes.command import Command, left_behind, wait_nothing_left, write_scenario

pytestmark = pytest.mark.processes

FAULT = '\n[[fault]]\nname = "{name}"\nstart_s = 1.5\nduration_s = {duration_s}\nrto_s = 4\n'
# What the watchdog needs on top of a deadline on a machine that is busy with other things.
SLACK_S = 5.0


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    wait_nothing_left(tmp_path)


def wait_until(condition: Callable[[], object], what: str, *, deadline_s: float) -> float:
    """Seconds until the condition held."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < deadline_s, f"not within {deadline_s} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - begun


def started(folder: Path, name: str, *, duration_s: float = 30, load_s: float = 60) -> Command:
    """A run in which fault f2 is on and proven."""
    path = write_scenario(folder, duration_s=load_s, fault=FAULT.format(name=name, duration_s=duration_s))
    command = Command(folder, "run", str(path))
    command.wait_for("Load and faults")

    def proven() -> bool:
        assert command.process.poll() is None, command.output
        return any(e["kind"] == "fault.proven" and e["fault"] == "f2" for e in command.events())

    wait_until(proven, "f2 is proven", deadline_s=60)
    return command


def journal(command: Command) -> JournalReader:
    return JournalReader(command.run_folder / "journal.jsonl")


def expiring(command: Command) -> list[str]:
    """Inverses of the fault that is on."""
    return [entry.inverse for entry in journal(command).open_entries() if entry.expires_ns is not None]


def watchdogs(registration: Path) -> list[ProcessIdentity]:
    """Those of this run, by the registration that they were started with."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            identity = ProcessIdentity.of(int(entry.name))
            if "aftershock.harness.watchdog" in arguments and str(registration) in arguments and identity is not None:
                found.append(identity)
    return found


def watchdog_of(command: Command) -> ProcessIdentity:
    """That of the only run of this folder."""
    [registration] = registrations(command.folder / "state")
    [watchdog] = watchdogs(registration)
    return watchdog


def kill_both(command: Command) -> None:
    """The watchdog first: killed after the tool it might have begun to heal."""
    watchdog = watchdog_of(command)
    send(watchdog, signal.SIGSTOP)
    command.send(signal.SIGKILL)
    command.wait()
    send(watchdog, signal.SIGKILL)
    wait_until(lambda: not watchdog.alive(), "the watchdog is dead", deadline_s=10)


def run_heal(folder: Path) -> tuple[int, str]:
    command = Command(folder, "heal")
    return command.wait(), command.output


# ------------------------------------------------------------------------------------------------ the tool hangs


@pytest.mark.parametrize("name", [pytest.param("pause", marks=pytest.mark.nightly), "partition"])
def test_fault_of_a_hung_tool_is_undone_after_its_planned_end(folder: Path, name: str) -> None:
    command = started(folder, name, duration_s=6, load_s=24)
    command.send(signal.SIGSTOP)
    try:
        origin_ns = json.loads((command.run_folder / "run.json").read_text())["origin_ns"]
        assert time.monotonic_ns() < origin_ns + 7.5e9, "hung in the window, not after it"
        assert expiring(command)
        wait_until(lambda: not expiring(command), "the fault is undone", deadline_s=6 + EXPIRY_MARGIN_S + SLACK_S)
        after_s = (time.monotonic_ns() - origin_ns) / 1e9 - 7.5
        print(f"{name}: undone {after_s:.2f} s after the planned end")
        assert 0 < after_s < 10 + SLACK_S
        assert left_behind(folder), "the run itself goes on: its tool lives"
        assert next(e for e in command.events() if e["kind"] == "heal")["text"].startswith("watchdog: ")
    finally:
        command.send(signal.SIGCONT)

    # What the watchdog undid, the tool must neither trip over nor take for proven until the end.
    assert command.wait() in (0, 1, 3), command.output
    assert "Traceback" not in command.output


# ------------------------------------------------------------------------------------------------ the tool dies


@pytest.mark.parametrize("name", ["pause", "partition"])
def test_watchdog_heals_a_killed_tool_in_time(folder: Path, name: str) -> None:
    command = started(folder, name)
    command.send(signal.SIGKILL)
    command.wait()

    took_s = wait_until(
        lambda: not registrations(folder / "state") and not left_behind(folder), "healed", deadline_s=10 + SLACK_S
    )

    print(f"{name}: healed {took_s:.2f} s after SIGKILL")
    assert journal(command).open_entries() == []
    assert run_heal(folder) == (0, "Nothing to undo.")


@pytest.mark.parametrize("name", ["pause", "partition"])
def test_heal_does_it_when_both_are_killed(folder: Path, name: str) -> None:
    command = started(folder, name)
    kill_both(command)
    assert left_behind(folder), "nobody is there to end the nodes"
    assert expiring(command), "nobody is there to undo the fault"

    status, said = run_heal(folder)

    assert status == 0, said
    assert ("resumed process" if name == "pause" else "removed") in said
    wait_nothing_left(folder, deadline_s=1)
    assert run_heal(folder) == (0, "Nothing to undo.")


@pytest.mark.nightly
def test_run_whose_watchdog_dies_ends_early_and_heals_itself(folder: Path) -> None:
    command = started(folder, "partition")
    send(watchdog_of(command), signal.SIGKILL)

    assert command.wait() == 3, command.output
    assert json.loads((command.run_folder / "run.json").read_text())["aborted"]["condition"] == "watchdog"
    healed = [e for e in command.events() if e["kind"] == "fault.healed" and e["fault"] == "f2"]
    assert [e["verified"] for e in healed] == [True]
    wait_nothing_left(folder)


@pytest.mark.nightly
def test_heal_of_a_dead_run_does_not_touch_the_one_beside_it(folder: Path) -> None:
    living = folder / "living"
    living.mkdir()
    path = write_scenario(living, duration_s=30)
    other = Command(folder, "run", str(path), "--runs", "living/runs")
    other.wait_for("Load and faults")
    [registration] = registrations(folder / "state")
    dead = started(folder, "pause")
    everybody = set(registrations(folder / "state"))
    [dead_registration] = everybody - {registration}
    [dead_watchdog] = watchdogs(dead_registration)
    send(dead_watchdog, signal.SIGKILL)
    dead.send(signal.SIGKILL)
    dead.wait()

    status, said = run_heal(folder)

    assert status == 0, said
    assert f"{registration.stem}: its tool still runs (process {other.process.pid})" in said
    assert registrations(folder / "state") == [registration]
    assert other.wait() == 0, other.output


# ------------------------------------------------------------------------------------------------ a restart


def test_after_a_restart_of_the_machine_heal_touches_no_stranger(tmp_path: Path) -> None:
    """Pids, start times and ports of before a restart are somebody else's now, or nobody's."""
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as stranger:
        try:
            now = ProcessIdentity.of(stranger.pid)
            assert now is not None
            assert send(now, signal.SIGSTOP)
            before = {**now.to_json(), "boot_id": "00000000-1111-2222-3333-444444444444"}
            run_folder = tmp_path / "runs" / "r"
            run_folder.mkdir(parents=True)
            entries = [
                ("end-process", {"process": before, "what": "n1"}),
                ("resume", {"process": before}),
                ("remove-toxics", {"address": ["127.0.0.1", 9], "toxics": [["a", "b"]], "server": before}),
            ]
            lines = [
                {"entry": f"e{n}", "inverse": inverse, "expires_ns": None, "arguments": arguments}
                for n, (inverse, arguments) in enumerate(entries)
            ]
            path = run_folder / "journal.jsonl"
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
            state = tmp_path / "state" / "aftershock" / "runs"
            state.mkdir(parents=True)
            value = {"schema": 1, "run_id": "r", "journal": str(path), "token": str(run_folder), "owner": before}
            (state / "r.json").write_text(json.dumps(value))

            report = heal(state_folder=tmp_path / "state")

            assert report.clean, report
            assert report.undone == report.skipped == ()
            assert registrations(tmp_path / "state") == []
            assert now.alive()
            assert os_state(now) == "T", "a stranger that was stopped by somebody else stays so"
            assert boot_id() == now.boot_id
        finally:
            stranger.kill()
