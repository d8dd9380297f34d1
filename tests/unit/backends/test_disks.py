"""What disks in files refuse, and how their inverses read the files they act on; the real ones: tests/processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from aftershock.harness import loop_files
from aftershock.harness.backends import disks as module
from aftershock.harness.backends.disks import LoopDisks
from aftershock.harness.errors import SetupError
from aftershock.harness.inverses import by_hand, rank, undo

from tests.fakes import FakeJournal, RecordedEvents


def disks(folder: Path, size_mb: int | None = 16) -> LoopDisks:
    return LoopDisks(
        folder=folder, size_mb=size_mb, journal=FakeJournal(), events=RecordedEvents(), pid=lambda member: None
    )


@pytest.mark.parametrize("kind", ["full", "slow", "read-only"])
def test_without_a_size_there_is_nothing_to_break_and_nothing_is_made(tmp_path: Path, kind: str) -> None:
    made = disks(tmp_path, None)
    assert "set disk_mb in [backend]" in (made.why_not(kind) or "")
    made.prepare("n1")
    assert list(tmp_path.iterdir()) == []
    assert made.condition("n1") == {}
    made.mend("n1", kind)
    made.close()


def test_what_a_machine_lacks_is_said_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "too small" in (disks(tmp_path, 8).why_not("full") or "")
    assert "there are full, slow, read-only" in (disks(tmp_path).why_not("crooked") or "")
    monkeypatch.setattr(module.os, "geteuid", lambda: 1000)
    assert "needs root" in (disks(tmp_path).why_not("full") or "")
    monkeypatch.setattr(module.os, "geteuid", lambda: 0)
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    assert "apt-get install e2fsprogs" in (disks(tmp_path).why_not("full") or "")
    with pytest.raises(SetupError, match=r"disk_mb = 16 in \[backend\]: mkfs.ext4, e2fsck, mount, umount not found"):
        disks(tmp_path).prepare("n1")


def test_a_host_without_room_is_not_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LoopDisks, "why_not", lambda self, kind: None)
    free = os.statvfs(tmp_path)
    monkeypatch.setattr(module, "_HOST_KEEPS_BYTES", free.f_bavail * free.f_frsize)
    with pytest.raises(SetupError, match=r"too few for a disk of 16 MB for n1 .*smaller disk_mb"):
        disks(tmp_path).prepare("n1")
    assert not (tmp_path / ".n1.ext4").exists()


def test_a_member_without_a_disk_of_its_own_is_never_written_to(tmp_path: Path) -> None:
    made = disks(tmp_path)
    (tmp_path / "n1").mkdir()
    for act in (
        lambda: made.fill("n1", leave_bytes=0, expires_ns=1),
        lambda: made.make_read_only("n1", expires_ns=1),
        lambda: made.attempt("n1", writes=1, size_bytes=1, timeout_s=1),
    ):
        with pytest.raises(SetupError, match="n1 has no disk of its own"):
            act()
    assert list((tmp_path / "n1").iterdir()) == []


def test_what_is_mounted_where(tmp_path: Path) -> None:
    assert loop_files.mount_of(tmp_path) is None
    root = loop_files.mount_of(Path("/"))
    assert root is not None
    assert root.file is None


def test_blanks_in_mountinfo() -> None:
    assert loop_files._unescaped(r"/a\040b/c\134d") == r"/a b/c\d"


def test_limits_of_version_1(tmp_path: Path) -> None:
    file = tmp_path / "blkio.throttle.write_iops_device"
    file.write_text("7:0 10\n7:10 30\n")
    assert loop_files.throttled(file, "7:0") == "10"
    assert loop_files.throttled(file, "7:10") == "30"
    assert loop_files.throttled(file, "7:1") is None
    assert loop_files.throttled(tmp_path / "gone", "7:0") is None


def test_limits_of_version_2(tmp_path: Path) -> None:
    file = tmp_path / "io.max"
    file.write_text("7:0 rbps=max wbps=1000 riops=max wiops=10\n7:1 rbps=5 wbps=max riops=max wiops=max\n")
    assert loop_files.throttled(file, "7:0") == "10"
    assert loop_files.throttled(file, "7:1") is None


@pytest.mark.parametrize(("unified", "wrote"), [(False, "7:0 0"), (True, "7:0 wiops=max")])
def test_only_our_line_is_taken_off(tmp_path: Path, unified: bool, wrote: str) -> None:
    """A plain file stands in for the kernel's, so what was written stays there to be seen."""
    file = tmp_path / "limits"
    file.write_text("7:0 wiops=10\n" if unified else "7:0 10\n")
    assert loop_files.unthrottle(file, "7:0", unified=unified)
    assert file.read_text() == wrote
    assert not loop_files.unthrottle(file, "7:0", unified=unified)


def test_a_limit_that_stays_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "limits"
    file.write_text("7:0 10\n")
    monkeypatch.setattr(Path, "write_text", lambda *a, **k: 0)
    with pytest.raises(RuntimeError, match="still limits device 7:0 to 10 writes a second"):
        undo("unthrottle", {"path": str(file), "device": "7:0", "unified": False})


@pytest.mark.parametrize("inverse", ["unfill", "make-writable", "unmount"])
def test_what_is_not_ours_any_more_is_left_alone(tmp_path: Path, inverse: str) -> None:
    """Something else is in that place: nothing is removed, and nothing is unmounted."""
    (tmp_path / "n1").mkdir()
    (tmp_path / "n1" / loop_files.FILLER).write_text("somebody's")
    arguments = {"folder": str(tmp_path / "n1"), "file": str(tmp_path / ".n1.ext4"), "process": None}
    assert undo(inverse, arguments) == ""
    assert (tmp_path / "n1" / loop_files.FILLER).read_text() == "somebody's"


def test_an_unmounted_file_of_ours_is_deleted(tmp_path: Path) -> None:
    (tmp_path / ".n1.ext4").write_text("half made, when the tool was killed")
    arguments = {"folder": str(tmp_path / "n1"), "file": str(tmp_path / ".n1.ext4")}
    assert "deleted its file system" in undo("unmount", arguments)
    assert undo("unmount", arguments) == ""


def test_what_a_helper_kept_from_being_removed_is_removed(tmp_path: Path) -> None:
    (tmp_path / "left").mkdir()
    arguments = {"folders": [str(tmp_path / "left"), str(tmp_path / "gone")], "what": "helper of n1"}
    assert undo("remove-cgroups", arguments) == "removed the cgroups that helper of n1 had left"
    assert undo("remove-cgroups", arguments) == ""
    assert max(map(rank, ("end-process", "remove-containers", "remove-networks"))) < rank("remove-cgroups")
    assert by_hand("remove-cgroups", arguments).startswith(f"rmdir {tmp_path}/left {tmp_path}/gone")


def test_order_and_words_of_the_inverses() -> None:
    places = {"folder": "/r/n1", "file": "/r/.n1.ext4"}
    process = {"pid": 7, "start_ticks": 1, "boot_id": "b"}
    assert [rank(name) for name in ("unfill", "unthrottle", "make-writable", "oom-score", "unmount")] == [10] * 4 + [45]
    assert by_hand("unmount", places) == "umount /r/n1; rm /r/.n1.ext4"
    assert by_hand("unfill", places) == "rm /r/n1/.aftershock-filler"
    assert by_hand("unthrottle", {"path": "/c", "device": "7:0", "unified": True}) == "echo '7:0 wiops=max' > /c"
    assert by_hand("make-writable", {**places, "process": process}).startswith("kill -KILL 7; umount /r/n1 && e2fsck")
    assert by_hand("oom-score", {"process": process, "score": 0, "what": "n1"}) == "echo 0 > /proc/7/oom_score_adj"
