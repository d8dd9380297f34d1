"""The watch over a run: what it looks at, and that it asks once, says so, and never dies silently."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aftershock.harness.abort import Watcher, probe
from aftershock.harness.errors import SetupError
from aftershock.harness.identity import TOKEN_VARIABLE, ProcessIdentity, run_token
from aftershock.harness.interrupts import Aborted, Interrupted, Interrupts
from aftershock.harness.safety import Abort, ProbePlan, SafetyPlan
from aftershock.harness.stop import STOP_REQUEST


def wait_until(condition: Callable[[], object], what: str, *, deadline_s: float = 10.0) -> None:
    until = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < until, f"not within {deadline_s} s: {what}"
        time.sleep(0.005)


class Asked:
    """Stands for the run that is asked to stop."""

    def __init__(self) -> None:
        self.aborts: list[Abort] = []
        self.events: list[tuple[str, dict[str, Any]]] = []

    def ask(self, abort: Abort) -> bool:
        self.aborts.append(abort)
        return True

    def event(self, kind: str, /, *, source: str = "harness", t_ns: int | None = None, **fields: Any) -> None:
        self.events.append((kind, fields))

    def watcher(self, folder: Path, **plan: Any) -> Watcher:
        return Watcher(SafetyPlan(**plan), load_s=60, run_folder=folder, ask=self.ask, events=self.event)


@pytest.fixture
def asked() -> Asked:
    return Asked()


def test_stop_request_in_the_run_folder_is_seen_and_told_once(tmp_path: Path, asked: Asked) -> None:
    with asked.watcher(tmp_path).watching():
        (tmp_path / STOP_REQUEST).touch()
        wait_until(lambda: asked.events, "the event is written")

    assert [abort.condition for abort in asked.aborts] == ["stop-command"]
    assert asked.events == [("abort", asked.aborts[0].to_json())]


def test_duration_counts_from_the_making(tmp_path: Path, asked: Asked) -> None:
    with asked.watcher(tmp_path, max_duration_s=0.01).watching():
        wait_until(lambda: asked.aborts, "asked to stop")

    assert asked.aborts[0].condition == "max-duration"


def test_once_all_is_recorded_only_the_duration_counts(tmp_path: Path, asked: Asked) -> None:
    (tmp_path / STOP_REQUEST).touch()
    watcher = asked.watcher(tmp_path, max_duration_s=0.6)
    watcher.recorded()
    with watcher.watching():
        wait_until(lambda: asked.aborts, "asked to stop")

    assert [abort.condition for abort in asked.aborts] == ["max-duration"]


def test_watch_that_crashes_ends_the_run(tmp_path: Path, asked: Asked) -> None:
    def broken() -> Any:
        raise ValueError("the page is gone")

    watcher = asked.watcher(tmp_path)
    with watcher.watching(), watcher.load(broken, origin_ns=0, timeout_s=1):
        wait_until(lambda: asked.aborts, "asked to stop")

    assert asked.aborts[0].condition == "watch"
    assert "ValueError: the page is gone" in asked.aborts[0].text


def test_watchdog_that_dies_ends_the_run_and_one_that_was_let_go_does_not(tmp_path: Path, asked: Asked) -> None:
    """Without it, nobody would undo what is broken if the tool died now."""
    watcher = asked.watcher(tmp_path)
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    identity = ProcessIdentity.of(child)
    assert identity is not None
    with watcher.watching():
        with watcher.needing(identity):
            pass
        with watcher.needing(identity):
            os.kill(child, signal.SIGKILL)
            wait_until(lambda: asked.aborts, "asked to stop")
        os.waitpid(child, 0)

    assert [abort.condition for abort in asked.aborts] == ["watchdog"]


@pytest.mark.parametrize("url", [False, True])
def test_probes_in_a_row_end_the_run_and_one_success_begins_anew(tmp_path: Path, asked: Asked, url: bool) -> None:
    well = tmp_path / "well"
    well.touch()
    settings: dict[str, Any] = {"url": "http://127.0.0.1:9/"} if url else {"command": ["test", "-e", str(well)]}
    watcher = asked.watcher(tmp_path, probe={**settings, "every_s": 0.1, "failures": 2})
    if not url:
        watcher.check_before()
    with watcher.watching():
        if not url:
            time.sleep(0.3)  # the time in which a watch that counts what is well would end the run
            assert not asked.aborts
            well.unlink()
        wait_until(lambda: asked.aborts, "asked to stop")

    assert (asked.aborts[0].condition, asked.aborts[0].value) == ("probe", 2)


def test_nothing_may_be_wrong_before_anything_is_started(tmp_path: Path, asked: Asked) -> None:
    (tmp_path / "frozen").touch()

    with pytest.raises(SetupError, match=r"safety.stop_file exists"):
        asked.watcher(tmp_path, stop_file=str(tmp_path / "frozen")).check_before()
    with pytest.raises(SetupError, match=r"safety.probe fails before anything was started: false: ended with status 1"):
        asked.watcher(tmp_path, probe={"command": ["false"]}).check_before()
    asked.watcher(tmp_path, stop_file=str(tmp_path / "absent"), probe={"command": ["true"]}).check_before()


# ------------------------------------------------------------------------------------------------ probes


def probed(*command: str, timeout_s: float = 5.0, ended: threading.Event | None = None) -> str | None:
    plan = ProbePlan(command=command, timeout_s=timeout_s)
    return probe(plan, dict(os.environ), ended or threading.Event())


def test_probe_says_what_is_wrong() -> None:
    assert probed("true") is None
    assert probed("sh", "-c", "echo no money >&2; exit 7") == "ended with status 7: no money"
    assert probed("sh", "-c", "kill -9 $$") == "ended with signal 9"
    assert probed("/no/such/program") == "cannot be started: No such file or directory"
    assert probed("sleep", "60", timeout_s=0.05) == "has not ended within 0.05 s"


def test_probe_that_talks_much_does_not_hang() -> None:
    assert probed(sys.executable, "-S", "-c", "import sys; sys.stderr.write('x' * 1_000_000)") is None


def test_probe_ends_with_the_run_and_takes_its_children_along(tmp_path: Path) -> None:
    ended = threading.Event()
    pids = tmp_path / "pids"
    thread = threading.Thread(
        target=probed,
        args=("sh", "-c", f"sleep 60 & echo $! > {pids}.part; mv {pids}.part {pids}; wait"),
        kwargs={"timeout_s": 60, "ended": ended},
    )
    thread.start()
    wait_until(pids.exists, "the command has started its child")
    child = ProcessIdentity.of(int(pids.read_text()))
    assert child is not None
    ended.set()
    thread.join(10)

    assert not thread.is_alive()
    wait_until(lambda: not child.alive(), "the child has ended")


def test_probe_carries_the_token_of_its_run(tmp_path: Path, asked: Asked) -> None:
    command = ["sh", "-c", f'test "${TOKEN_VARIABLE}" = "{run_token(tmp_path)}"']

    asked.watcher(tmp_path, probe={"command": command}).check_before()


# ------------------------------------------------------------------------------------------------ in the main thread

ABORT = Abort(condition="stop-file", text="the file exists")


def from_another_thread(interrupts: Interrupts) -> list[bool]:
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(interrupts.abort(ABORT)))
    thread.start()
    thread.join(10)
    return answers


def test_abort_wakes_a_wait_at_once() -> None:
    interrupts = Interrupts()
    with interrupts.installed():
        timer = threading.Timer(0.05, interrupts.abort, (ABORT,))
        timer.start()
        begun_s = time.monotonic()
        with pytest.raises(Aborted, match="the file exists") as caught, interrupts.allowed():
            time.sleep(30)
        timer.join()

    assert time.monotonic() - begun_s < 20
    assert caught.value.abort is ABORT


def test_abort_outside_allowed_only_sets_stop_and_is_raised_once() -> None:
    said: list[str] = []
    interrupts = Interrupts(announce=said.append)
    with interrupts.installed():
        assert from_another_thread(interrupts) == [True]
        assert interrupts.stop.is_set()
        assert from_another_thread(interrupts) == [False], "the first one counts"
        with pytest.raises(Aborted), interrupts.allowed():
            pytest.fail("an abort that came before must be raised on the way in")
        with interrupts.allowed():
            pass

    assert said == ["Ending the run early, and undoing what was done: the file exists"]


def test_signal_comes_through_while_an_aborted_run_is_judged() -> None:
    interrupts = Interrupts()
    with interrupts.installed():
        from_another_thread(interrupts)
        with pytest.raises(Aborted):
            interrupts.check()
        with pytest.raises(Interrupted), interrupts.allowed():
            os.kill(os.getpid(), signal.SIGTERM)


def test_abort_after_a_signal_changes_nothing() -> None:
    interrupts = Interrupts()
    with interrupts.installed():
        os.kill(os.getpid(), signal.SIGTERM)
        assert from_another_thread(interrupts) == [False]
        with pytest.raises(Interrupted):
            interrupts.check()
        interrupts.check()


def test_abort_that_is_too_late_is_not_raised() -> None:
    interrupts = Interrupts()
    with interrupts.installed():
        from_another_thread(interrupts)
        interrupts.too_late()
        with interrupts.allowed():
            pass

    assert interrupts.aborted is ABORT


def test_abort_after_the_handlers_are_gone_sends_nothing() -> None:
    """The waking signal would end the tool."""
    interrupts = Interrupts()
    with interrupts.installed():
        pass

    assert from_another_thread(interrupts) == [False]


def test_waking_signal_from_outside_does_nothing() -> None:
    interrupts = Interrupts()
    with interrupts.installed(), interrupts.allowed():
        os.kill(os.getpid(), signal.SIGUSR1)
