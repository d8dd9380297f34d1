"""Children on a full disk: no process is left behind, and only the disk is blamed. No process is started."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, cast

import pytest
from aftershock.harness.backends import children as module
from aftershock.harness.backends.children import Children, _Child
from aftershock.harness.identity import ProcessIdentity
from aftershock.harness.interfaces import Member, ProcessSpec, Role

from tests.fakes import RecordedEvents


class FakeProcess:
    """Ends when it is killed; a request to end is not heard."""

    returncode: int | None = None

    def __init__(self) -> None:
        self.killed = threading.Event()

    def wait(self) -> int:
        assert self.killed.wait(10)
        self.returncode = -9
        return -9


class Journal:
    def record(self, inverse: str, /, *, expires_ns: int | None, **arguments: Any) -> str:
        return inverse

    def done(self, entry: str) -> None: ...


class Bed:
    """One member `n1` whose process is a fake, and what was signalled to it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *, fail_on: str) -> None:
        self.process, self.state, self.sent = FakeProcess(), "S", list[int]()
        self.events = RecordedEvents(fail_on=fail_on)
        self.children = Children(logs=folder, token="t", journal=Journal(), events=self.events)
        self.children.add(ProcessSpec(member=Member(name="n1", role=Role.NODE), argv=("x",), environment={}))
        made = _Child(process=cast(Any, self.process), identity=ProcessIdentity(1, 1, "none"), entry="e")
        monkeypatch.setattr(self.children, "_spawn", lambda spec: made)
        monkeypatch.setattr(ProcessIdentity, "alive", lambda identity: not self.process.killed.is_set())
        monkeypatch.setattr(module, "end", lambda identity, deadline_s: self.process.killed.set())
        monkeypatch.setattr(module, "send", lambda identity, number: self.sent.append(number) or True)
        monkeypatch.setattr(module, "wait_state", lambda identity, stopped, deadline_s: True)
        monkeypatch.setattr(module, "os_state", lambda identity: self.state)
        monkeypatch.setattr(module, "find_by_token", lambda token: [])
        monkeypatch.setattr(module, "_GRACE_S", 0.0)
        monkeypatch.setattr(module, "_SIGNAL_DEADLINE_S", 0.5)


def test_a_start_that_cannot_be_told_can_be_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bed = Bed(tmp_path, monkeypatch, fail_on="member.started")
    with pytest.raises(OSError, match="No space"):
        bed.children.start("n1")
    assert bed.children.kill("n1") == -9  # HealError without a thread that waits for its exit


@pytest.mark.parametrize("kind", ["warning", "member.exited"])
def test_close_ends_what_does_not_listen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    bed = Bed(tmp_path, monkeypatch, fail_on=kind)
    bed.children.start("n1")
    bed.children.close(last="n1")
    assert bed.process.killed.is_set()
    assert bed.children.exit_status("n1") == -9


def test_stop_ends_what_does_not_listen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bed = Bed(tmp_path, monkeypatch, fail_on="warning")
    bed.children.start("n1")
    assert bed.children.stop("n1", deadline_s=0) == -9


def test_strangers_are_told_without_stopping_the_close(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bed = Bed(tmp_path, monkeypatch, fail_on="warning")
    found = iter([[ProcessIdentity(2, 2, "none")], []])
    monkeypatch.setattr(module, "find_by_token", lambda token: next(found))
    bed.children.close(last="n1")
    assert next(found, None) is None


@pytest.mark.parametrize("kind", ["warning", "member.resumed", "nothing"])
@pytest.mark.parametrize("state", ["T", "S"])
def test_resume_always_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, state: str) -> None:
    bed = Bed(tmp_path, monkeypatch, fail_on=kind)
    bed.children.start("n1")
    bed.children.pause("n1", expires_ns=1)
    bed.state = state
    bed.children.resume("n1")
    assert [int(number) for number in bed.sent] == [19, 18]
    if kind == "nothing":
        assert bed.events.kinds()[-1] == {"T": "member.resumed", "S": "warning"}[state]
    bed.children.kill("n1")
