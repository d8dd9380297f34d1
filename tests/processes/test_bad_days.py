"""Bad input and bad days: the right exit code, a clear message, and nothing left behind; no traceback for a user."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes.command import Command, wait_nothing_left, write_scenario

pytestmark = pytest.mark.processes

PARTITION = """
[[fault]]
name = "partition"
start_s = 1.5
duration_s = 6
rto_s = 4
"""
PAUSE = PARTITION.replace("partition", "pause")
KILL = PARTITION.replace("partition", "kill")
LATENCY = PARTITION.replace("partition", "latency")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for one run; afterwards no process that names it may be left."""
    yield tmp_path
    wait_nothing_left(tmp_path)


def run_to_end(folder: Path, *arguments: str, plant: str | None = None) -> tuple[int, Command]:
    command = Command(folder, *arguments, plant=plant)
    return command.wait(), command


# ------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('name = "reference"', 'name = "oracle"'), "system.name: unknown system 'oracle'; known: compose, etcd, "),
        (('name = "reference"', 'name = "redis"'), "unknown system 'redis'; did you mean 'redis-sentinel'?"),
        (('name = "noop"', 'name = "nop"'), "unknown fault 'nop'; did you mean 'noop'?"),
        (("duration_s = 0.5", "duration_s = -1"), "fault.0.duration_s: input should be greater than 0"),
        (("success_ratio = 0.9", "success_ratio = 0.99999"), "needs 100000 operations"),
        (("[load]", "[load"), "not valid TOML"),
    ],
)
def test_bad_scenario_exits_2_before_anything_starts(folder: Path, change: tuple[str, str], message: str) -> None:
    path = write_scenario(folder)
    path.write_text(path.read_text().replace(*change, 1))

    status, command = run_to_end(folder, "run", str(path))

    assert (status, "Traceback" in command.output) == (2, False), command.output
    assert message in command.output
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "no scenario was named"),
        (["run", "absent.toml"], "cannot be read: No such file or directory"),
        (["run", "small.toml", "--set", "load.rate"], "expected KEY=VALUE"),
        (["run", "small.toml", "--seed", "x"], "--seed"),
        (["run", "--replay", "."], "not a run folder"),
        (["check", "nowhere"], "nowhere"),
        (["report", "nowhere"], "nowhere"),
        (["frobnicate"], "No such command"),
        (["init", "small.toml"], "exists already"),
    ],
)
def test_wrong_command_line_exits_2_with_a_sentence(folder: Path, arguments: list[str], message: str) -> None:
    write_scenario(folder)

    status, command = run_to_end(folder, *arguments)

    assert (status, "Traceback" in command.output) == (2, False), command.output
    assert message in command.output


def test_one_bad_scenario_of_two_starts_none(folder: Path) -> None:
    path = write_scenario(folder)

    status, _ = run_to_end(folder, "run", str(path), "absent.toml")

    assert status == 2
    assert not (folder / "runs").exists()


def test_dry_run_starts_nothing_and_says_how_it_is_undone(folder: Path) -> None:
    path = write_scenario(folder, duration_s=9, fault=PARTITION)

    status, command = run_to_end(folder, "run", str(path), "--dry-run", "--seed", "7")

    assert status == 0
    assert "f2 partition" in command.output
    assert "seed 7" in command.output
    assert not (folder / "runs").exists()


def test_doctor_list_and_version_speak_to_people_and_to_programs(folder: Path) -> None:
    status, doctor = run_to_end(folder, "doctor", "--json")
    assert status == 0, doctor.output
    found = json.loads(doctor.output)
    assert found["usable"] is True
    assert found["faults"]["partition"]["process"] == {"available": True, "reason": None}
    text = run_to_end(folder, "doctor")[1].output
    assert any(line.split()[:1] == ["partition"] and "yes" in line for line in text.splitlines())
    assert max(map(len, text.splitlines())) <= 100
    listed = json.loads(run_to_end(folder, "list", "--json")[1].output)
    assert {"kill", "latency", "noop", "partition", "pause"} <= set(listed["fault"])
    assert run_to_end(folder, "version")[1].output.startswith("aftershock 0")


def test_starter_scenario_is_valid(folder: Path) -> None:
    assert run_to_end(folder, "init", "mine.toml")[0] == 0
    assert run_to_end(folder, "validate", "mine.toml")[0] == 0


# ------------------------------------------------------------------------------------------------ a good day


def test_run_check_report_and_replay_agree(folder: Path) -> None:
    path = write_scenario(folder)

    status, command = run_to_end(folder, "run", str(path), "--seed", "11")

    assert status == 0, command.output
    verdict = command.verdict()
    assert verdict["run"]["seed"] == 11
    first = command.run_folder
    for name in ("report.html", "junit.xml", "summary.md"):
        (first / name).unlink()
    (first / "verdict.json").unlink()
    assert run_to_end(folder, "check", str(first))[0] == 0
    assert run_to_end(folder, "report", str(first))[0] == 0
    assert (first / "report.html").is_file()
    again = Command(folder, "run", "--replay", str(first), "--runs", "replayed")
    assert again.wait() == 0, again.output
    [second] = (folder / "replayed").iterdir()
    assert (second / "scenario.toml").read_text() == (first / "scenario.toml").read_text()


def test_two_runs_at_once_do_not_clash(folder: Path) -> None:
    path = write_scenario(folder)
    commands = [Command(folder, "run", str(path), "--seed", "5", "--runs", f"runs{n}") for n in range(2)]

    assert [command.wait() for command in commands] == [0, 0], "\n".join(c.output for c in commands)


# ------------------------------------------------------------------------------------------------ bad days


def test_node_that_never_becomes_ready_exits_4_and_is_named(folder: Path) -> None:
    status, command = run_to_end(folder, "run", str(write_scenario(folder)), plant="never-ready")

    assert (status, "Traceback" in command.output) == (4, False), command.output
    assert "n2" in command.output


def test_node_that_dies_at_once_exits_4_with_its_last_words(folder: Path) -> None:
    status, command = run_to_end(folder, "run", str(write_scenario(folder)), plant="start-fails")

    assert (status, "Traceback" in command.output) == (4, False), command.output
    assert "n2 has no idea" in command.output


def find_process(run_folder: Path, argument: str) -> int:
    """The one process that was started with this path of the run as an argument."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if str(run_folder / argument) in arguments:
                found.append(int(entry.name))
    [pid] = found
    return pid


def test_node_that_dies_by_itself_is_never_a_pass(folder: Path) -> None:
    command = Command(folder, "run", str(write_scenario(folder, duration_s=5)))
    command.wait_for("Load and faults")
    os.kill(find_process(command.run_folder, "data/n2.json"), signal.SIGKILL)

    assert command.wait() in (1, 3), command.output
    died = [e for e in command.events() if e["kind"] == "member.exited" and e["member"] == "n2" and not e["expected"]]
    assert died
    assert any(
        "n2" in assumption["detail"] for assumption in command.verdict()["assumptions"] if not assumption["held"]
    )


def test_links_that_die_end_the_run_as_unknown(folder: Path) -> None:
    """Without the proxies nobody reaches anybody, and none of the scenario's faults is to blame."""
    command = Command(folder, "run", str(write_scenario(folder, duration_s=20)))
    command.wait_for("Load and faults")
    begun_s = time.monotonic()
    entries = (json.loads(line) for line in (command.run_folder / "journal.jsonl").read_text().splitlines())
    [toxiproxy] = [
        e["arguments"]["process"]["pid"] for e in entries if e.get("arguments", {}).get("what") == "toxiproxy"
    ]
    os.kill(toxiproxy, signal.SIGKILL)

    assert command.wait() == 3, command.output
    assert time.monotonic() - begun_s < 20, "it must not go on with a load that nobody can answer"
    assert "toxiproxy" in command.verdict()["run"]["incomplete"]["reason"]


def test_killed_load_process_makes_the_run_unknown(folder: Path) -> None:
    command = Command(folder, "run", str(write_scenario(folder, duration_s=8)))
    command.wait_for("Load and faults")
    time.sleep(1.0)  # some operations are on record by then; which is what this is about
    os.kill(find_process(command.run_folder, "history/slots"), signal.SIGKILL)

    assert command.wait() == 3, command.output
    verdict = command.verdict()
    assert verdict["run"]["incomplete"] is not None
    assert verdict["run"]["operations"] > 0


def test_checker_out_of_memory_is_unknown(folder: Path) -> None:
    status, command = run_to_end(folder, "run", str(write_scenario(folder)), plant="checker-memory")

    assert status == 3, command.output
    checks = {check["name"]: check for check in command.verdict()["checks"]}
    assert checks["linearizability"]["verdict"] == "unknown"
    assert "its limit is 1 MiB" in checks["linearizability"]["reason"]


def test_unknown_is_tried_again_as_often_as_the_scenario_says_and_all_attempts_are_kept(folder: Path) -> None:
    path = write_scenario(folder, duration_s=2)
    path.write_text(path.read_text() + '\n[on_unknown]\nretry = 1\nthen = "warn"\n')

    status, command = run_to_end(folder, "run", str(path), plant="checker-memory")

    assert status == 0, command.output
    assert command.output.count("UNKNOWN  ") == 2, "both attempts are shown"
    assert len(list((folder / "runs").iterdir())) == 2


PHASES = ["deploy", "load", "settle", "final", "collect", "check", "report"]
SAID = {
    "deploy": "Deploying the system",
    "load": "Load and faults",
    "settle": "Waiting until the system is whole again",
    "final": "Reading everything back",
    "collect": "Collecting what was recorded",
    "check": "Checking",
    "report": "Writing the report",
}


@pytest.mark.parametrize("phase", PHASES)
def test_bug_of_ours_exits_70_and_keeps_the_record(folder: Path, phase: str) -> None:
    status, command = run_to_end(folder, "run", str(write_scenario(folder, duration_s=2)), plant=f"crash:{phase}")

    assert status == 70, command.output
    assert f"planted in {phase}" in command.output
    assert "This is a bug in Aftershock" in command.output
    assert (command.run_folder / "run.json").is_file()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
@pytest.mark.parametrize("phase", PHASES[:5])
def test_signal_in_each_phase_exits_130_and_heals(folder: Path, phase: str, number: signal.Signals) -> None:
    command = Command(folder, "run", str(write_scenario(folder, duration_s=3)))
    command.wait_for(SAID[phase])
    command.send(number)

    assert command.wait() == 130, command.output
    assert "Traceback" not in command.output
    wait_nothing_left(folder)
    assert run_to_end(folder, "heal")[1].output == "Nothing to undo."


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
@pytest.mark.parametrize("phase", PHASES[5:])
def test_signal_while_judging_exits_130_and_the_record_can_be_judged_later(
    folder: Path, phase: str, number: signal.Signals
) -> None:
    command = Command(folder, "run", str(write_scenario(folder, duration_s=2)), plant=f"hold:{phase}")
    command.wait_for(SAID[phase])
    command.send(number)

    assert command.wait() == 130, command.output
    assert "Traceback" not in command.output
    assert run_to_end(folder, "check", str(command.run_folder))[0] == 0


@pytest.mark.parametrize("fault", [PARTITION, PAUSE, KILL, LATENCY], ids=["partition", "pause", "kill", "latency"])
def test_signal_during_a_fault_heals_it(folder: Path, fault: str) -> None:
    command = Command(folder, "run", str(write_scenario(folder, duration_s=9, fault=fault)))
    wait_event(command, "fault.injected", "f2")
    command.send(signal.SIGINT)

    assert command.wait() == 130, command.output
    healed = [e for e in command.events() if e["kind"] == "fault.healed" and e["fault"] == "f2"]
    assert [e["verified"] for e in healed] == [True]


@pytest.mark.parametrize("fault", [PARTITION, PAUSE, KILL, LATENCY], ids=["partition", "pause", "kill", "latency"])
def test_sigkill_of_the_tool_during_a_fault_leaves_nothing(folder: Path, fault: str) -> None:
    command = Command(folder, "run", str(write_scenario(folder, duration_s=9, fault=fault)))
    wait_event(command, "fault.injected", "f2")
    command.send(signal.SIGKILL)
    command.wait()

    wait_nothing_left(folder, deadline_s=10)
    status, healing = run_to_end(folder, "heal")
    assert status == 0, healing.output
    assert run_to_end(folder, "heal")[1].output == "Nothing to undo."


def wait_event(command: Command, kind: str, fault: str) -> None:
    command.wait_for("Load and faults")
    deadline = time.monotonic() + 30
    while not any(e["kind"] == kind and e.get("fault") == fault for e in command.events()):
        assert time.monotonic() < deadline, f"no {kind} of {fault}: {command.output}"
        time.sleep(0.02)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB, mounted for this test alone."""
    path = tmp_path / "disk"
    path.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system needs root")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(path)], check=False).returncode != 0:
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


def test_full_disk_under_the_run_folder_is_told_and_healed(folder: Path, small_disk: Path) -> None:
    command = Command(folder, "run", str(write_scenario(folder, duration_s=9, fault=PARTITION)), "--runs", "disk")
    command.wait_for("Load and faults")
    with (small_disk / "filler").open("wb") as file:
        try:
            while True:
                file.write(b"\0" * 65536)
                file.flush()
        except OSError:
            pass

    status = command.wait()

    assert status in (3, 4), command.output
    assert "Traceback" not in command.output
    assert "space" in command.output or "disk" in command.output
    wait_nothing_left(folder)
