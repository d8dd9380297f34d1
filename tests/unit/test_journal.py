"""The journal: durable before the act, readable after any end, and a registration that lasts as long as it must."""

from __future__ import annotations

import errno
import json
import os
import socket
from pathlib import Path

import pytest
from aftershock.harness.errors import HealError, SetupError
from aftershock.harness.heal import heal, undo_all
from aftershock.harness.identity import ProcessIdentity
from aftershock.harness.inverses import undo
from aftershock.harness.journal import (
    JournalEntry,
    JournalReader,
    JournalWriter,
    Registration,
    RunJournal,
    default_state_folder,
    registrations,
)

# A process that certainly does not run: of another boot.
GONE = ProcessIdentity(1, 1, "00000000-0000-0000-0000-000000000000").to_json()


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


@pytest.fixture
def state_folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


def test_an_entry_is_synced_before_record_returns(
    run_folder: Path, state_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunJournal.open(run_folder, "r1", state_folder) as journal:
        synced: list[str] = []
        real = os.fsync

        def fsync(descriptor: int) -> None:
            real(descriptor)
            synced.append(journal.path.read_text())

        monkeypatch.setattr(os, "fsync", fsync)
        entry = journal.record("resume", expires_ns=17, process=GONE, what="n1")
        assert json.loads(synced[0]) == {
            "entry": entry,
            "inverse": "resume",
            "expires_ns": 17,
            "arguments": {"process": GONE, "what": "n1"},
        }
        assert [each.id for each in journal.open_entries()] == [entry]
        journal.done(entry)
        assert journal.open_entries() == []


def test_an_unknown_inverse_is_refused(run_folder: Path, state_folder: Path) -> None:
    with RunJournal.open(run_folder, "r1", state_folder) as journal, pytest.raises(ValueError, match="known: "):
        journal.record("reboot", expires_ns=None)


def test_a_full_disk_stops_the_act_and_not_the_healing(
    run_folder: Path, state_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunJournal.open(run_folder, "r1", state_folder) as journal:
        entry = journal.record("resume", expires_ns=None, process=GONE)
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(SetupError, match="so it was not done; make room"):
                journal.record("resume", expires_ns=None, process=GONE)
            journal.done(entry)
        assert journal.open_entries() == []
    assert registrations(state_folder) == []


def full(_descriptor: int, _data: bytes) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_torn_line_is_passed_over_and_does_not_swallow_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.jsonl"
    writer = JournalWriter(path)
    real = os.write
    line = {"entry": "e1", "inverse": "resume", "expires_ns": None, "arguments": {}}
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:20]))
        with pytest.raises(OSError, match="only 20 of"):
            writer.append(line, sync=True)
    reader = JournalReader(path)
    assert reader.open_entries() == []
    writer.append({**line, "entry": "e2"}, sync=True)
    writer.close()
    assert [entry.id for entry in reader.open_entries()] == ["e2"]


def test_a_reader_follows_and_keeps_what_it_has_read(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    reader = JournalReader(path)
    assert reader.open_entries() == []
    writer = JournalWriter(path)
    for number in (1, 2):
        writer.append({"entry": f"e{number}", "inverse": "resume", "expires_ns": 1, "arguments": {}}, sync=False)
    assert [entry.id for entry in reader.open_entries()] == ["e1", "e2"]
    writer.append({"done": "e1", "by": "run"}, sync=False)
    assert [entry.id for entry in reader.open_entries()] == ["e2"]
    path.unlink()
    assert [entry.id for entry in reader.open_entries()] == ["e2"]
    writer.close()


def test_a_run_is_registered_while_it_lasts(run_folder: Path, state_folder: Path) -> None:
    with RunJournal.open(run_folder, "r1", state_folder) as journal:
        (path,) = registrations(state_folder)
        registration = Registration.load(path)
        assert registration.owner == ProcessIdentity.of(os.getpid())
        assert registration.journal == journal.path
        assert registration.token == journal.token == str(run_folder)
        with (
            pytest.raises(SetupError, match="a run 'r1' is under way"),
            RunJournal.open(run_folder, "r1", state_folder),
        ):
            pass
        assert heal(state_folder=state_folder).skipped
        assert registrations(state_folder) == [path]
    assert registrations(state_folder) == []
    assert list(state_folder.rglob("*.draft")) == []


def test_what_is_not_undone_keeps_its_registration(run_folder: Path, state_folder: Path) -> None:
    with (
        pytest.raises(HealError, match="run `aftershock heal`"),
        RunJournal.open(run_folder, "r1", state_folder) as journal,
    ):
        journal.record("end-process", expires_ns=None, process=GONE, what="n1")
    assert len(registrations(state_folder)) == 1


def test_a_dead_owners_run_is_healed_once(run_folder: Path, state_folder: Path) -> None:
    with pytest.raises(HealError):
        leave_two_open(run_folder, state_folder)
    (path,) = registrations(state_folder)
    value = json.loads(path.read_text())
    path.write_text(json.dumps({**value, "owner": GONE}))
    report = heal(state_folder=state_folder)
    assert report.clean
    assert report.undone == ()  # machine restarted, server gone: both had undone themselves
    assert registrations(state_folder) == []
    assert JournalReader(run_folder / "journal.jsonl").open_entries() == []


def test_links_and_pauses_are_undone_first_and_the_oldest_process_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undone: list[str] = []

    def undo(inverse: str, arguments: dict[str, str]) -> str:
        undone.append(arguments["what"])
        if arguments["what"] == "n1" and undone.count("n1") == 1:
            raise OSError("planted")
        return ""

    monkeypatch.setattr("aftershock.harness.heal.undo", undo)
    written = [
        ("end-process", "toxiproxy"),
        ("end-process", "n1"),
        ("resume", "paused"),
        ("end-process", "n2"),
        ("end-processes", "others"),
        ("remove-toxics", "links"),
    ]
    entries = [
        JournalEntry(id=f"e{number}", inverse=inverse, arguments={"what": what})
        for number, (inverse, what) in enumerate(written)
    ]
    results = undo_all(entries, run_folder=tmp_path, writer=None, by="test")
    # What failed is tried once more at the end, and stops nothing before.
    assert undone == ["links", "paused", "n2", "n1", "toxiproxy", "others", "n1"]
    assert [result.problem for result in results] == [""] * 6


def test_a_bad_entry_stops_no_other(run_folder: Path, state_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HealError):
        leave_two_open(run_folder, state_folder)
    (path,) = registrations(state_folder)
    path.write_text(json.dumps({**json.loads(path.read_text()), "owner": GONE}))
    writer = JournalWriter(run_folder / "journal.jsonl")
    for entry, inverse, arguments in (("x1", "reboot", {"what": "n9"}), ("x2", "resume", {}), ("x3", "resume", None)):
        writer.append({"entry": entry, "inverse": inverse, "expires_ns": None, "arguments": arguments}, sync=False)
    writer.close()
    monkeypatch.setattr("aftershock.harness.inverses.processes._SCAN_PAUSE_S", 0.0)

    report = heal(state_folder=state_folder)

    malformed, missing, unknown = sorted(report.left, key=lambda text: ("reboot" in text, "KeyError" in text))
    assert "TypeError: " in malformed
    assert "KeyError: 'process'; by hand: we cannot read this entry" in missing
    assert "r1: unknown inverse 'reboot'; known: " in unknown
    assert "by hand: we cannot read this entry; look at what 'reboot' of {'what': 'n9'} means" in unknown
    left = JournalReader(run_folder / "journal.jsonl").open_entries()
    assert [entry.id for entry in left] == ["x1", "x2", "x3"]
    assert registrations(state_folder) == [path]


def test_what_is_unknown_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    monkeypatch.setattr("aftershock.harness.heal.undo", lambda inverse, _arguments: tried.append(inverse) or "")
    inverses = ["end-processes", "resume", "reboot"]
    entries = [JournalEntry(id=inverse, inverse=inverse, arguments={}) for inverse in inverses]
    undo_all(entries, run_folder=tmp_path, writer=None, by="test")
    assert tried == ["resume", "end-processes", "reboot"]


def test_a_service_that_got_the_port_of_a_links_server_is_left_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as somebody_else:
        arguments = {"address": list(somebody_else.getsockname()), "toxics": [["p", "t"]], "server": GONE}
        assert undo("remove-toxics", arguments) == ""
        somebody_else.setblocking(False)
        with pytest.raises(BlockingIOError):
            somebody_else.accept()


def leave_two_open(run_folder: Path, state_folder: Path) -> None:
    with RunJournal.open(run_folder, "r1", state_folder) as journal:
        journal.record("end-process", expires_ns=None, process=GONE, what="n1")
        # Port 1 of loopback: nothing listens there.
        journal.record("remove-toxics", expires_ns=None, address=["127.0.0.1", 1], toxics=[["p", "t"]])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 2}', '{"schema": 1, "run_id": "x"}'])
def test_an_unreadable_registration_is_told_and_left(state_folder: Path, text: str) -> None:
    folder = state_folder / "aftershock" / "runs"
    folder.mkdir(parents=True)
    (folder / "r1.json").write_text(text)
    report = heal(state_folder=state_folder)
    assert not report.clean
    assert "is not readable as a registered run" in report.left[0]
    assert (folder / "r1.json").exists()


def test_an_unwritable_place_is_a_setup_error(tmp_path: Path, state_folder: Path) -> None:
    with (
        pytest.raises(SetupError, match="cannot be written: No such file"),
        RunJournal.open(tmp_path / "missing", "r1", state_folder),
    ):
        pass
    assert registrations(state_folder) == []
    assert not state_folder.exists()
    state_folder.mkdir()
    state_folder.joinpath("aftershock").write_text("a file")
    with pytest.raises(SetupError, match="cannot be written"), RunJournal.open(tmp_path, "r1", state_folder):
        pass


def test_default_state_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")
    assert default_state_folder() == Path("/somewhere")
    monkeypatch.setenv("XDG_STATE_HOME", "relative/is/ignored")
    assert default_state_folder() == Path.home() / ".local" / "state"
