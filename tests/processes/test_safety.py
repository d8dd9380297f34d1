"""Every condition that ends a run early: it heals first, keeps the record, says which one it was, never passes."""

from __future__ import annotations

import http.server
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aftershock.harness.identity import ProcessIdentity, send
from aftershock.harness.stop import STOP_REQUEST

from tests.processes.command import Command, wait_nothing_left, write_scenario

pytestmark = pytest.mark.processes

LOAD_S = 25.0
PARTITION = """
[[fault]]
name = "partition"
start_s = 1.5
duration_s = 20
rto_s = 4
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for one run; afterwards no process that names it may be left."""
    yield tmp_path
    wait_nothing_left(tmp_path)


def scenario(folder: Path, safety: str, *, fault: str = PARTITION, duration_s: float = LOAD_S) -> Path:
    path = write_scenario(folder, duration_s=duration_s, fault=fault)
    text = path.read_text().replace("rate_per_s = 100", "rate_per_s = 100\ntimeout_s = 0.5")
    # "warn" lets an unknown through; what safety has ended it must not let through.
    path.write_text(f'{text}\n[on_unknown]\nretry = 1\nthen = "warn"\n[safety]\n{safety}\n')
    return path


def end(command: Command, *arguments: str) -> int:
    other = Command(command.folder, *arguments)
    return other.wait()


def wait_event(command: Command, kind: str, *, deadline_s: float = 60) -> None:
    command.wait_for("Load and faults", deadline_s=deadline_s)
    until = time.monotonic() + deadline_s
    while not any(event["kind"] == kind for event in command.events()):
        assert time.monotonic() < until, f"no {kind}: {command.output}"
        assert command.process.poll() is None, command.output
        time.sleep(0.02)


def check_ended_early(command: Command, condition: str) -> dict[str, Any]:
    """What holds for every run that a condition ended in its load; returns what run.json says of it."""
    assert command.wait() == 3, command.output
    assert "Traceback" not in command.output
    assert "UNKNOWN  Undecided: the run was ended early: " in command.output
    facts = json.loads((command.run_folder / "run.json").read_text())
    assert facts["state"] == "interrupted"
    aborted: dict[str, Any] = facts["aborted"]
    assert aborted["condition"] == condition
    [event] = [e for e in command.events() if e["kind"] == "abort"]
    assert {name: event[name] for name in aborted} == aborted
    verdict = command.verdict()
    assert verdict["run"]["aborted"] == aborted
    assert verdict["exit_code"] == 3
    assert verdict["run"]["operations"] > 0, "what was recorded until then is kept and judged"
    assert aborted["text"] in verdict["headline"]
    assert "the run was ended early" in (command.run_folder / "summary.md").read_text()
    healed = [e for e in command.events() if e["kind"] == "fault.healed"]
    assert all(e["verified"] for e in healed)
    injected = [e["fault"] for e in command.events() if e["kind"] == "fault.injected"]
    assert injected == [e["fault"] for e in healed], "every fault that was on was healed"
    wait_nothing_left(command.folder)
    assert list((command.folder / "state" / "aftershock" / "runs").iterdir()) == []
    assert len(list((command.folder / "runs").iterdir())) == 1, "what was ended early is not tried again"
    return aborted


def member(command: Command, name: str) -> ProcessIdentity:
    """The process of a member, as the run's own journal has it."""
    lines = (json.loads(line) for line in (command.run_folder / "journal.jsonl").read_text().splitlines())
    [process] = [
        entry["arguments"]["process"]
        for entry in lines
        if entry.get("inverse") == "end-process" and entry["arguments"]["what"] == name
    ]
    return ProcessIdentity.from_json(process)


def hold_routers(command: Command, number: signal.Signals) -> None:
    """An outage of everything that is none of the scenario's faults."""
    for name in ("r1", "r2"):
        assert send(member(command, name), number)


# ------------------------------------------------------------------------------------------------ conditions


def test_duration_ends_the_run_in_the_middle_of_a_fault(folder: Path) -> None:
    path = scenario(folder, "max_duration_s = 15.5", duration_s=15, fault=PARTITION.replace("20", "13"))
    command = Command(folder, "run", str(path))

    aborted = check_ended_early(command, "max-duration")

    assert aborted["value"] >= 15.5
    assert aborted["limit"] == 15.5


@pytest.mark.nightly
def test_duration_also_counts_while_deploying_and_nothing_is_judged_then(folder: Path) -> None:
    path = scenario(folder, "max_duration_s = 2.5", duration_s=2.4, fault="")
    path.write_text(path.read_text().replace("success_ratio = 0.9", "success_ratio = 0.8"))
    command = Command(folder, "run", str(path), plant="hold:deploy")

    assert command.wait() == 3, command.output
    assert "ended early: the run has taken 2." in command.output
    assert "Traceback" not in command.output
    assert json.loads((command.run_folder / "run.json").read_text())["aborted"]["condition"] == "max-duration"
    wait_nothing_left(folder)


def test_outage_ends_the_run(folder: Path) -> None:
    command = Command(folder, "run", str(scenario(folder, "unavailable_s = 2", fault="")))
    wait_event(command, "fault.healed")
    hold_routers(command, signal.SIGSTOP)

    aborted = check_ended_early(command, "unavailable")

    assert 2 <= aborted["value"] < 5
    assert aborted["limit"] == 2


@pytest.mark.nightly
def test_outage_that_the_scenario_expects_does_not_end_the_run(folder: Path) -> None:
    expected = '[[fault]]\nname = "noop"\nstart_s = 1.5\nduration_s = 4\nrto_s = 3\nexpect = "unavailable"\n'
    path = scenario(folder, "unavailable_s = 1", fault=expected, duration_s=10)
    path.write_text(path.read_text().replace("success_ratio = 0.9", "success_ratio = 0.5"))
    command = Command(folder, "run", str(path))
    command.wait_for("Load and faults")
    until = time.monotonic() + 30
    while not any(e["kind"] == "fault.injected" and e["fault"] == "f2" for e in command.events()):
        assert time.monotonic() < until, command.output
        time.sleep(0.02)
    hold_routers(command, signal.SIGSTOP)
    try:
        time.sleep(2.5)  # not a wait for something: the length of the outage, above unavailable_s
    finally:
        hold_routers(command, signal.SIGCONT)

    command.wait()
    assert not any(e["kind"] == "abort" for e in command.events()), command.output
    assert command.verdict()["run"]["state"] == "recorded"


def test_failures_beyond_the_budget_end_the_run(folder: Path) -> None:
    command = Command(folder, "run", str(scenario(folder, "error_budget = 0.02", fault="")))
    wait_event(command, "fault.healed")
    hold_routers(command, signal.SIGSTOP)

    aborted = check_ended_early(command, "error-budget")

    assert 0.02 < aborted["value"] < 0.5
    assert "of 2500 planned operations" in aborted["text"]


def test_stop_file_ends_the_run(folder: Path) -> None:
    command = Command(folder, "run", str(scenario(folder, 'stop_file = "no-chaos-now"')))
    wait_event(command, "fault.proven")
    (folder / "no-chaos-now").touch()

    aborted = check_ended_early(command, "stop-file")

    assert str(folder / "no-chaos-now") in aborted["text"]


def test_probe_that_fails_ends_the_run(folder: Path) -> None:
    well = folder / "well"
    well.touch()
    probe = f'probe = {{ command = ["cat", "{well}"], every_s = 0.2, failures = 3 }}'
    command = Command(folder, "run", str(scenario(folder, probe)))
    wait_event(command, "fault.proven")
    well.unlink()

    aborted = check_ended_early(command, "probe")

    assert aborted["value"] == aborted["limit"] == 3
    assert "ended with status 1: cat: " in aborted["text"]


class Page:
    """A page beside the system under test, on loopback."""

    def __init__(self) -> None:
        page = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(page.status)
                self.end_headers()

            def log_message(self, format: str, *arguments: object) -> None: ...  # noqa: A002, the base class names it so

        self.status = 200
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/pay"


@pytest.fixture
def page() -> Iterator[Page]:
    made = Page()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.mark.nightly
def test_page_that_stops_answering_well_ends_the_run(folder: Path, page: Page) -> None:
    probe = f'probe = {{ url = "{page.url}", every_s = 0.2, failures = 2 }}'
    command = Command(folder, "run", str(scenario(folder, probe)))
    wait_event(command, "fault.proven")
    page.status = 503

    aborted = check_ended_early(command, "probe")

    assert aborted["text"].endswith("answered 503")


def broken_probe(folder: Path) -> str:
    return 'probe = { command = ["false"] }'


def stop_file_there(folder: Path) -> str:
    (folder / "no-chaos-now").touch()
    return 'stop_file = "no-chaos-now"'


@pytest.mark.parametrize("safety", [broken_probe, stop_file_there])
def test_nothing_is_started_when_it_would_have_to_end_at_once(folder: Path, safety: Callable[[Path], str]) -> None:
    command = Command(folder, "run", str(scenario(folder, safety(folder))))

    assert command.wait() == 4, command.output
    assert "Deploying" not in command.output
    assert "Traceback" not in command.output
    assert "started" in command.output


@pytest.mark.nightly
def test_what_follows_on_the_command_line_is_not_run(folder: Path) -> None:
    first = scenario(folder, 'stop_file = "no-chaos-now"')
    second = folder / "second.toml"
    second.write_text(first.read_text().replace('name = "small"', 'name = "second"'))
    command = Command(folder, "run", str(first), str(second))
    wait_event(command, "fault.proven")
    (folder / "no-chaos-now").touch()

    check_ended_early(command, "stop-file")

    assert f"not run after that: {second}" in command.output


# ------------------------------------------------------------------------------------------------ aftershock stop


@pytest.mark.parametrize(
    "how", ["id", *(pytest.param(how, marks=pytest.mark.nightly) for how in ("folder", "alone", "all"))]
)
def test_stop_ends_a_run_and_waits_until_it_has_healed(folder: Path, how: str) -> None:
    command = Command(folder, "run", str(scenario(folder, "")))
    wait_event(command, "fault.proven")
    run_id = json.loads((command.run_folder / "run.json").read_text())["run_id"]
    named = {"folder": [f"runs/{command.run_folder.name}"], "id": [run_id], "alone": [], "all": ["--all"]}[how]

    stop = Command(folder, "stop", *named)

    assert stop.wait() == 0, stop.output
    # Told to be healed, so it has to be: nothing of the run is registered or broken any more.
    assert list((folder / "state" / "aftershock" / "runs").iterdir()) == []
    assert (
        stop.output == f"{run_id}: stopped; everything is undone, and its record is in runs/{command.run_folder.name}"
    )
    check_ended_early(command, "stop-command")


@pytest.mark.parametrize(
    "phase",
    ["Deploying the system", pytest.param("Waiting until the system is whole again", marks=pytest.mark.nightly)],
)
def test_stop_in_the_other_phases(folder: Path, phase: str) -> None:
    command = Command(folder, "run", str(scenario(folder, "", fault="", duration_s=3)))
    command.wait_for(phase)
    until = time.monotonic() + 30
    while not list((folder / "state" / "aftershock" / "runs").glob("*.json")):
        assert time.monotonic() < until, command.output
        time.sleep(0.01)

    assert end(command, "stop") == 0
    # A stop that comes when all is recorded ends nothing any more; before that the run is no pass.
    facts_aborted = "aborted" in json.loads((command.run_folder / "run.json").read_text())
    status = command.wait()
    assert status in ((3,) if facts_aborted or phase.startswith("Deploying") else (0, 3)), command.output
    assert "Traceback" not in command.output


def test_stop_of_no_run(folder: Path) -> None:
    commands = [Command(folder, "stop", *arguments) for arguments in (["nothing"], [], ["--all"], ["x", "--all"])]

    assert [command.wait() for command in commands] == [2, 2, 0, 2], "\n".join(c.output for c in commands)
    assert commands[0].output == "aftershock: no run 'nothing' is under way"
    assert commands[2].output == "No run is under way."


@pytest.mark.nightly
def test_stop_without_a_name_wants_one_where_two_runs_go_on_and_ends_the_named_one_only(folder: Path) -> None:
    path = scenario(folder, "", duration_s=LOAD_S)
    commands = [Command(folder, "run", str(path), "--seed", "5", "--runs", f"runs{n}") for n in range(2)]
    for command in commands:
        command.wait_for("Load and faults")
    stop = Command(folder, "stop")
    assert stop.wait() == 2, stop.output
    [first] = (folder / "runs0").iterdir()
    assert str(first) in stop.output

    assert end(commands[0], "stop", str(first)) == 0
    assert commands[0].wait() == 3, commands[0].output
    assert commands[1].process.poll() is None, "the other run goes on"
    assert end(commands[1], "stop", "--all") == 0
    assert commands[1].wait() == 3, commands[1].output


@pytest.mark.nightly
def test_stop_of_a_tool_that_hangs_says_so_and_what_to_do(folder: Path) -> None:
    command = Command(folder, "run", str(scenario(folder, "")))
    wait_event(command, "fault.proven")
    pid = command.process.pid
    command.send(signal.SIGSTOP)
    try:
        stop = Command(folder, "stop", "--wait-s", "1")
        assert stop.wait() == 5, stop.output
        assert f"`kill -KILL {pid}` lets its watchdog undo what is left" in stop.output
    finally:
        command.send(signal.SIGCONT)
    check_ended_early(command, "stop-command")


def test_stop_touches_nothing_but_a_file_in_the_run_folder(folder: Path) -> None:
    """A registration whose process is dead, or another by now, is no run that goes on."""
    registrations = folder / "state" / "aftershock" / "runs"
    registrations.mkdir(parents=True)
    other = ProcessIdentity.of(os.getpid())
    assert other is not None
    run_folder = folder / "runs" / "r"
    run_folder.mkdir(parents=True)
    value = {"schema": 1, "run_id": "r", "journal": str(run_folder / "journal.jsonl"), "token": "t"}
    owner = {**other.to_json(), "start_ticks": other.start_ticks - 1}
    (registrations / "r.json").write_text(json.dumps({**value, "owner": owner}))

    command = Command(folder, "stop", "r")

    assert command.wait() == 2, command.output
    assert not (run_folder / STOP_REQUEST).exists()
