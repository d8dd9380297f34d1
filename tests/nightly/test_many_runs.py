"""Two runs at once do not touch each other, and twenty in a row leave nothing, not even a descriptor in the tool."""

from __future__ import annotations

import gc
import json
import random
import signal
import subprocess
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from aftershock.harness.identity import ProcessIdentity, find_by_token, run_token
from aftershock.harness.interfaces import FaultContext
from aftershock.harness.inverses.containers import TOKEN_LABEL

from tests.docker.stages import engine
from tests.fakes import FakeJournal, RecordedEvents
from tests.nightly.bites import BITES, IMPOSSIBLE, UNPROVABLE, settings_of
from tests.nightly.clusters import READY_S, deployed
from tests.nightly.machine_state import snapshot, wait_same
from tests.nightly.runs import proven, start, write
from tests.nightly.scene import HOT_KEY, Scene
from tests.processes.command import Command
from tests.unit.faults.support import fault

pytestmark = [pytest.mark.nightly, pytest.mark.processes]

RUNS = 20
# What hits a whole node, its packets, its processes, its limits and its disk; each must spare the run beside it.
HITS = {
    "process": ("kill", "partition"),
    "docker": ("partition", "loss", "bandwidth", "latency", "pause", "oom-kill", "disk-read-only"),
}


def has(command: Command) -> dict[str, object]:
    """Everything that a run has: its processes (a new one is another), containers, networks."""
    token = run_token(command.run_folder)
    found: dict[str, object] = {"processes": {one for one in find_by_token(token) if _member(one)}}
    if '"docker"' in (command.folder / "scenario.toml").read_text():
        with engine() as api:
            wanted = {"label": f"{TOKEN_LABEL}={token}"}
            found["containers"] = {
                (str(one["Id"]), api.inspect_container(one["Id"])["State"]["StartedAt"])
                for one in api.containers(all=True, filters=wanted)
            }
            found["networks"] = {str(one["Id"]) for one in api.networks(filters=wanted)}
    return found


def _member(identity: ProcessIdentity) -> bool:
    """Load processes come and go as their own run wants."""
    try:
        return b"locust" not in Path(f"/proc/{identity.pid}/cmdline").read_bytes().lower()
    except OSError:
        return False


def rules_of(command: Command) -> str:
    """Every rule and set element that is the run's own, by the comment that its tables carry."""
    tables = json.loads(
        subprocess.run(["nft", "--json", "list", "tables"], capture_output=True, check=True, text=True).stdout
    )["nftables"]
    said = []
    for table in (one["table"] for one in tables if "table" in one):
        name = ["nft", "--stateless", "list", "table", table["family"], table["name"]]
        text = subprocess.run(name, capture_output=True, check=False, text=True).stdout
        if command.run_folder.name in text:
            said.append(text)
    return "\n".join(said)


@pytest.mark.parametrize(
    ("backend", "hit"),
    [
        pytest.param(name, hit, id=f"{name}-{hit}", marks=[pytest.mark.docker] if name == "docker" else [])
        for name, hits in HITS.items()
        for hit in hits
    ],
)
def test_two_runs_at_once_do_not_touch_each_other(tmp_path: Path, backend: str, hit: str) -> None:
    before = snapshot(tmp_path)
    settings = next(bite.settings for bite in BITES if bite.fault == hit)
    folders = tmp_path / "spared", tmp_path / "broken"
    for folder in folders:
        folder.mkdir()
    spared = start(folders[0], write(folders[0], backend, "noop", {}))
    broken = start(folders[1], write(folders[1], backend, hit, settings))
    try:
        proven(spared)
        whole = has(spared)
        assert whole["processes"] if backend == "process" else whole["containers"]
        proven(broken)
        if hit in ("partition", "loss") and backend == "docker":
            assert "aftershock_" in rules_of(broken), "a look that sees no rule here would see none there"
        assert has(spared) == whole
        assert rules_of(spared) == ""
        # The end of the one, however rough, is none of the other.
        broken.send(signal.SIGKILL)
        broken.wait()
        token = run_token(broken.run_folder)
        _until_gone(token)
        assert has(spared) == whole
        exited = [event for event in spared.events() if event["kind"] == "member.exited"]
        assert exited == []
        assert Command(spared.folder, "stop").wait() == 0
        assert spared.wait() == 3, spared.output
        healed = [event for event in spared.events() if event["kind"] == "fault.healed"]
        assert [event["verified"] for event in healed] == [True]
    finally:
        for command in (spared, broken):
            command.process.kill()
            command.process.wait()
            Command(command.folder, "heal").wait()
    wait_same(before, tmp_path, deadline_s=30)


def _until_gone(token: str) -> None:
    until = time.monotonic() + 20
    while find_by_token(token):
        assert time.monotonic() < until, find_by_token(token)
        time.sleep(0.1)


@pytest.mark.timeout(3600)
def test_twenty_runs_in_a_row_leave_nothing(tmp_path: Path, backend: str) -> None:
    """In one process, as a long-lived tool would: another fault each time, and the machine compared after each."""
    possible = [bite for bite in BITES if bite.fault not in {*IMPOSSIBLE[backend], *UNPROVABLE.get(backend, {})}]
    before, held = snapshot(tmp_path), {}
    for number in range(RUNS):
        bite = possible[number % len(possible)]
        with deployed(backend, tmp_path, run_id=f"run-{number}") as cluster, ExitStack() as stack:
            assert cluster.wait_settled(deadline_s=READY_S) is None
            settings = settings_of(bite, backend, Scene(cluster, stack).target)
            context = FaultContext(
                cluster=cluster,
                rng=random.Random(number),
                journal=FakeJournal(),
                events=RecordedEvents(),
                fault_id="f1",
                duration_s=5.0,
                expires_ns=time.monotonic_ns() + 300 * 10**9,
                hot_key=HOT_KEY,
            )
            with fault(bite.fault, **settings).inject(context) as injection:
                injection.prove()  # what it says is test_every_fault_bites' matter; what it opens must be closed again
            healed = injection.verify_healed()
            assert healed.proven, healed.facts
        del cluster, injection, healed, context
        wait_same(before, tmp_path)
        gc.collect()
        held[f"{number} {bite.id}"] = (_descriptors(), threading.active_count())
    # The first runs load what is loaded once (the resolver, the C library's thread pool, logging).
    settled = list(held.values())[2:]
    assert {descriptors for descriptors, _ in settled} == {settled[0][0]}, held
    assert settled[-1][1] <= settled[0][1], held


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
