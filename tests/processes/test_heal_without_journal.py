"""Somebody deletes the folder of a run that died: what has the run's name is found and undone without its journal."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from aftershock.harness import heal as heal_module
from aftershock.harness import loop_files, nft
from aftershock.harness.backends.packet_rules import table_name
from aftershock.harness.heal import heal
from aftershock.harness.identity import ProcessIdentity, run_token
from aftershock.harness.inverses.containers import TOKEN_LABEL
from aftershock.harness.journal import RunJournal, registrations
from aftershock.harness.network_namespace import apart

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(os.geteuid() != 0, reason="tables and mounts take root"),
]

GONE = ProcessIdentity(1, 1, "00000000-0000-0000-0000-000000000000").to_json()


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """Of a run that is registered, whose tool is dead and whose journal is gone."""
    folder = tmp_path / "run"
    folder.mkdir()
    with RunJournal.open(folder, "r1", tmp_path / "state") as journal:
        text = journal.registration.read_text()
    journal.registration.write_text(json.dumps({**json.loads(text), "owner": GONE}))
    journal.path.unlink()
    return folder


@pytest.fixture(autouse=True)
def no_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(heal_module, "_USUAL_ENGINE", tmp_path / "nowhere.sock")


def test_there_may_be_nothing(run_folder: Path, tmp_path: Path) -> None:
    report = apart(lambda: heal(state_folder=tmp_path / "state"))
    assert (report.undone, report.left) == ((), ())
    assert registrations(tmp_path / "state") == []
    assert not (run_folder / "journal.jsonl").exists()


def test_its_tables_are_deleted_and_no_other(run_folder: Path, tmp_path: Path) -> None:
    def do() -> None:
        name, other = table_name("r1"), table_name("r2")
        nft.apply(f"add table bridge {name}\nadd table bridge {other}\n")
        report = heal(state_folder=tmp_path / "state")
        assert report.clean
        assert report.undone == (f"r1: deleted nft tables {name} (bridge)",)
        assert nft.list_table("bridge", name) is None
        assert nft.list_table("bridge", other) is not None

    apart(do)


def test_its_disks_are_unmounted_and_no_other_mount(run_folder: Path, tmp_path: Path) -> None:
    data = run_folder / "data"
    member, foreign = data / "n1", data / "theirs"
    for folder in (member, foreign):
        folder.mkdir(parents=True)
    file = data / ".n1.ext4"
    loop_files.make(file, size_bytes=16 << 20)
    loop_files.mount(file, member)
    subprocess.run(["mount", "-t", "tmpfs", "none", str(foreign)], check=True)
    try:
        file.unlink()
        report = apart(lambda: heal(state_folder=tmp_path / "state"))
        assert report.clean, report
        assert loop_files.mount_of(member) is None
        assert loop_files.mount_of(foreign) is not None
    finally:
        loop_files.unmount(file, member, deadline_s=5)
        subprocess.run(["umount", str(foreign)], check=True)


@pytest.mark.docker
def test_what_it_made_on_the_usual_engine_is_removed(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("docker") is None:
        pytest.skip("no docker program here")
    monkeypatch.setattr(heal_module, "_USUAL_ENGINE", Path("/var/run/docker.sock"))
    name, docker = f"aftershock-test-{os.getpid()}", ["docker", "volume"]
    label = f"{TOKEN_LABEL}={run_token(run_folder)}"
    subprocess.run([*docker, "create", "--label", label, name], check=True, capture_output=True)
    try:
        report = apart(lambda: heal(state_folder=tmp_path / "state"))
        assert report.left == ()
        assert report.undone == ("r1: removed 1 volumes of the run",)
    finally:
        subprocess.run([*docker, "rm", "-f", name], check=False, capture_output=True)
