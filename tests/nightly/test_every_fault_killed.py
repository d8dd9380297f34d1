"""The tool is killed in the middle of every fault, on every backend: everything is back as it was before the run."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from aftershock.harness.inverses import undo
from aftershock.harness.inverses.containers import TOKEN_LABEL
from aftershock.harness.journal import registrations

from tests.docker.stages import engine
from tests.nightly.bites import BITES, IMPOSSIBLE, UNPROVABLE, settings_of
from tests.nightly.conftest import on
from tests.nightly.machine_state import MachineState, compare, snapshot, wait_same
from tests.nightly.own_services import SERVICES, Theirs, theirs
from tests.nightly.runs import NotProvenError, confirmed, kill_both, proven, start, wait_until, watchdog_of, write
from tests.processes.command import Command

pytestmark = [pytest.mark.nightly, pytest.mark.processes]

# DESIGN section 4: within 10 s of the tool's death; and what a machine that is busy with other things needs on top.
HEAL_DEADLINE_S = 10.0
SLACK_S = 10.0
ATTEMPTS = 3
# One form of each fault: that one takes in its other forms too is what test_every_fault_bites shows.
FAULTS = {bite.fault: bite for bite in reversed(BITES)}
CASES = [
    pytest.param(backend, fault, id=f"{backend}-{fault}", marks=on(backend))
    for backend, impossible in IMPOSSIBLE.items()
    for fault in sorted(FAULTS)
    # What is never proven ends its run at once.
    if fault not in impossible and fault not in UNPROVABLE.get(backend, {})
]


@pytest.fixture(scope="module")
def started() -> Iterator[Callable[[], Theirs]]:
    """Somebody's containers, started when they are first asked for."""
    with ExitStack() as stack:
        made: list[Theirs] = []

        def get() -> Theirs:
            if not made:
                made.append(stack.enter_context(theirs()))
            return made[0]

        yield get


@pytest.fixture
def attached(request: pytest.FixtureRequest, started: Callable[[], Theirs]) -> Iterator[Theirs | None]:
    """What a run on `url` is attached to; whatever happens to it, it is whole afterwards."""
    if request.getfixturevalue("backend") != "url":
        yield None
        return
    containers = started()
    before = containers.seen()
    assert all(running and not paused for _, _, running, paused in before)
    yield containers
    assert containers.seen() == before, "the same containers, and they run"


@pytest.fixture
def before(tmp_path: Path, attached: Theirs | None) -> MachineState:
    return snapshot(tmp_path)


def broken(folder: Path, backend: str, fault: str, attached: Theirs | None, before: MachineState) -> Command:
    """A run in which this fault is on and proven, and which changed this machine.

    A proof that a busy machine spoils (rightly: it is then no proof) is tried again in a run of its own.
    """
    target = None
    if backend in ("compose", "url"):  # where nobody leads
        target = attached.names[1] if attached is not None else SERVICES[1]
    settings = settings_of(FAULTS[fault], backend, target)
    for attempt in range(ATTEMPTS):
        place = folder / f"attempt-{attempt}"
        place.mkdir()
        scenario = write(place, backend, fault, settings, attached=attached)
        command = start(place, scenario, *confirmed(backend, fault))
        try:
            proven(command)
            assert compare(before, snapshot(folder)), "a comparison that sees nothing here would see nothing later"
            return command
        except NotProvenError as error:
            clean(command)
            if attempt + 1 == ATTEMPTS:
                raise
            print(f"tried again: {error}")
        except BaseException:
            clean(command)
            raise
    raise AssertionError("unreachable")


def clean(command: Command) -> None:
    """Leave nothing running, whatever a test found."""
    command.process.kill()
    command.process.wait()
    Command(command.folder, "heal").wait()
    with engine() as api:
        tokens = {one["Labels"].get(TOKEN_LABEL, "") for one in api.containers(all=True)}
    for token in tokens:
        if token and Path(token).is_relative_to(command.folder):
            for inverse in ("remove-containers", "remove-volumes", "remove-networks"):
                undo(inverse, {"endpoint": "unix:///var/run/docker.sock", "token": token})


@pytest.mark.parametrize(("backend", "fault"), CASES)
def test_the_watchdog_puts_everything_back(
    tmp_path: Path, before: MachineState, attached: Theirs | None, backend: str, fault: str
) -> None:
    command = broken(tmp_path, backend, fault, attached, before)
    try:
        watchdog = watchdog_of(command)
        command.send(signal.SIGKILL)
        command.wait()
        wait_until(lambda: not watchdog.alive(), "the watchdog has healed", deadline_s=HEAL_DEADLINE_S + SLACK_S)
        assert registrations(command.folder / "state") == []
        wait_same(before, tmp_path)
        heal = Command(command.folder, "heal")
        assert (heal.wait(), heal.output) == (0, "Nothing to undo.")
    finally:
        clean(command)


@pytest.mark.parametrize(("backend", "fault"), CASES)
def test_heal_puts_everything_back_when_the_watchdog_is_dead_too(
    tmp_path: Path, before: MachineState, attached: Theirs | None, backend: str, fault: str
) -> None:
    command = broken(tmp_path, backend, fault, attached, before)
    try:
        kill_both(command)
        assert compare(before, snapshot(tmp_path)), "nobody is there to undo it"
        heal = Command(command.folder, "heal")
        assert heal.wait() == 0, heal.output
        wait_same(before, tmp_path)
        assert registrations(command.folder / "state") == []
        again = Command(command.folder, "heal")
        assert (again.wait(), again.output) == (0, "Nothing to undo.")
    finally:
        clean(command)
