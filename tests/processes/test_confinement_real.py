"""Confinement and disks on real cgroups and real mounts of the test's own making; no Docker needed."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import aftershock.faults as faults_package
import pytest
from aftershock.harness import loop_files
from aftershock.harness.backends.confinement import CgroupConfinement
from aftershock.harness.backends.disks import LoopDisks
from aftershock.harness.errors import HealError, SetupError
from aftershock.harness.heal import undo_all
from aftershock.harness.identity import ProcessIdentity, find_by_token
from aftershock.harness.interfaces import Limits
from aftershock.harness.inverses.resources import oom_score
from aftershock.harness.journal import JournalReader, RunJournal

from tests.processes.confined import MB, ConfinedMember, confined_member, in_cgroup, needs_cgroups, needs_root
from tests.processes.stages import Events, wait_until

pytestmark = pytest.mark.processes

HOG = str(Path(faults_package.__path__[0], "_hog.py"))


def soon_ns(seconds: float = 120) -> int:
    return time.monotonic_ns() + int(seconds * 1e9)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[RunJournal]:
    (tmp_path / "run").mkdir()
    with RunJournal.open(tmp_path / "run", "r1", tmp_path / "state") as journal:
        yield journal


@pytest.fixture
def member() -> Iterator[ConfinedMember]:
    with confined_member() as member:
        yield member


@pytest.fixture
def confinement(member: ConfinedMember, journal: RunJournal) -> Iterator[CgroupConfinement]:
    made = CgroupConfinement(
        pid=lambda name: member.pid(), limits=lambda name: member.limits, journal=journal, token=journal.token
    )
    yield made
    made.close()
    assert find_by_token(journal.token) == []


# ------------------------------------------------------------------------------------------------ helpers in a cgroup


@needs_cgroups
def test_a_helper_is_inside_before_it_is_itself(
    confinement: CgroupConfinement, member: ConfinedMember, journal: RunJournal
) -> None:
    helper = confinement.start("n1", ["/bin/sleep", "300"], expires_ns=soon_ns())

    assert all(in_cgroup(helper.pid, folder.parent.name, folder) for folder in member.folders)
    assert Path(f"/proc/{helper.pid}/cmdline").read_bytes().startswith(b"/bin/sleep\0")
    assert helper in find_by_token(journal.token)
    assert [entry.inverse for entry in journal.open_entries()] == ["end-process"]

    confinement.end(helper)
    assert not helper.alive()
    assert journal.open_entries() == []
    confinement.end(helper)  # nothing happens


@needs_cgroups
def test_a_helper_is_scheduled_as_its_member_is(confinement: CgroupConfinement, member: ConfinedMember) -> None:
    assert member.process is not None
    os.sched_setscheduler(member.process.pid, os.SCHED_BATCH, os.sched_param(0))
    os.setpriority(os.PRIO_PROCESS, member.process.pid, 7)
    helper = confinement.start("n1", ["/bin/sleep", "300"], expires_ns=soon_ns())
    assert os.sched_getscheduler(helper.pid) == os.SCHED_BATCH
    assert os.getpriority(os.PRIO_PROCESS, helper.pid) == 7


@needs_cgroups
def test_a_helper_ends_by_itself_when_its_time_is_up(confinement: CgroupConfinement) -> None:
    helper = confinement.start("n1", [sys.executable, "-S", "-c", "while True: pass"], expires_ns=soon_ns(0.5))
    wait_until(lambda: not helper.alive(), "the alarm ended it")


@needs_cgroups
def test_a_helper_ends_with_its_member(confinement: CgroupConfinement, member: ConfinedMember) -> None:
    helper = confinement.start("n1", ["/bin/sleep", "300"], expires_ns=soon_ns())
    member.end()
    wait_until(lambda: not helper.alive(), "the helper ended with its member")
    assert confinement.usage("n1").oom_kills == 0, "counted until its end"


@needs_cgroups
@pytest.mark.parametrize("ended_by", ["end", "heal"])
def test_cgroups_that_a_helper_kept_are_removed_with_it(
    member: ConfinedMember, journal: RunJournal, monkeypatch: pytest.MonkeyPatch, ended_by: str
) -> None:
    """An engine gave up on removing them while the helper ran; nobody else would come for them."""
    monkeypatch.setattr(CgroupConfinement, "_watch", lambda *_: None)  # as if the tool was killed before the member
    confinement = CgroupConfinement(
        pid=lambda name: member.pid(),
        limits=lambda name: member.limits,
        journal=journal,
        token=journal.token,
        ends_with_member=True,
    )
    helper = confinement.start("n1", ["/bin/sleep", "300"], expires_ns=soon_ns())
    member.end()
    for folder in member.folders:
        with pytest.raises(OSError, match="busy"):
            folder.rmdir()
    if ended_by == "end":
        confinement.end(helper)
    else:
        undo_all(journal.open_entries(), run_folder=journal.path.parent, writer=None, by="test")
    confinement.close()
    assert not [folder for folder in member.folders if folder.exists()]


@needs_cgroups
def test_cgroups_in_which_the_member_runs_stay(member: ConfinedMember, journal: RunJournal) -> None:
    confinement = CgroupConfinement(
        pid=lambda name: member.pid(),
        limits=lambda name: member.limits,
        journal=journal,
        token=journal.token,
        ends_with_member=True,
    )
    confinement.end(confinement.start("n1", ["/bin/sleep", "300"], expires_ns=soon_ns()))
    assert all(folder.exists() for folder in member.folders)
    assert journal.open_entries() == []


@needs_cgroups
def test_a_member_in_our_own_cgroup_is_refused(journal: RunJournal) -> None:
    """What a helper took there would be taken from the tool, and from everybody else."""
    confinement = CgroupConfinement(
        pid=lambda name: os.getpid(), limits=lambda name: Limits(None, None), journal=journal, token=journal.token
    )
    with pytest.raises(SetupError, match="n1 has no cpu cgroup of its own"):
        confinement.start("n1", ["/bin/sleep", "300"], expires_ns=soon_ns())
    assert journal.open_entries() == []


@needs_cgroups
def test_a_program_that_cannot_be_run_is_told(confinement: CgroupConfinement, journal: RunJournal) -> None:
    with pytest.raises(SetupError, match=r"/not/there could not be run inside .*No such file"):
        confinement.start("n1", ["/not/there"], expires_ns=soon_ns())
    assert journal.open_entries() == []


@needs_cgroups
def test_memory_is_taken_from_the_member_only(confinement: CgroupConfinement, member: ConfinedMember) -> None:
    assert confinement.usage("n1").memory_bytes < 16 * MB
    helper = confinement.start(
        "n1", [sys.executable, "-I", "-S", HOG, "memory", str(32 * MB), str(30 * MB)], expires_ns=soon_ns()
    )
    wait_until(lambda: confinement.usage("n1").memory_bytes >= 32 * MB, "32 MB are in use", deadline_s=60)
    assert confinement.usage("n1").oom_kills == 0
    confinement.end(helper)
    wait_until(lambda: confinement.usage("n1").memory_bytes < 16 * MB, "they are given back", deadline_s=60)


@needs_cgroups
@pytest.mark.parametrize("place", ["nowhere", "unlimited"])
def test_the_hog_takes_nothing_where_nothing_limits_it(journal: RunJournal, place: str) -> None:
    with confined_member(memory_mb=None) as member:
        confinement = CgroupConfinement(
            pid=lambda name: member.pid(), limits=lambda name: member.limits, journal=journal, token=journal.token
        )
        argv = [sys.executable, "-I", "-S", HOG, "memory", str(64 * MB), "0"]
        if place == "nowhere":
            argv = ["/usr/bin/env", f"AFTERSHOCK_MEMORY_CGROUP={member.folders[0]}", *argv]
        helper = confinement.start("n1", argv, expires_ns=soon_ns())
        wait_until(lambda: not helper.alive(), "it ended without taking anything", deadline_s=60)
        assert confinement._helpers[helper.pid].process.wait() == 3
        assert confinement.usage("n1").memory_bytes < 16 * MB
        confinement.end(helper)


@needs_cgroups
def test_a_burning_helper_uses_up_the_members_cpu(confinement: CgroupConfinement) -> None:
    before = confinement.usage("n1")
    helper = confinement.start("n1", [sys.executable, "-I", "-S", HOG, "cpu", "1"], expires_ns=soon_ns())
    wait_until(
        lambda: confinement.usage("n1").throttled_ns > before.throttled_ns + 200_000_000,
        "the member is throttled",
        deadline_s=60,
    )
    assert confinement.usage("n1").cpu_ns > before.cpu_ns
    confinement.end(helper)


@needs_cgroups
def test_out_of_memory_hits_the_member_and_is_counted(confinement: CgroupConfinement, member: ConfinedMember) -> None:
    confinement.doom("n1", expires_ns=soon_ns())
    helper = confinement.start(
        "n1", [sys.executable, "-I", "-S", HOG, "memory", str(256 * MB), str(40 * MB)], expires_ns=soon_ns()
    )
    assert member.process is not None
    assert member.process.wait(60) == -signal.SIGKILL
    wait_until(lambda: not helper.alive(), "the helper ended with its member")
    # The kernel may end the helper too, before it has seen that its member is gone.
    assert confinement.usage("n1").oom_kills in (1, 2)
    confinement.spare("n1")
    confinement.end(helper)


@needs_cgroups
@pytest.mark.parametrize("by", ["spare", "heal"])
def test_a_doomed_member_is_spared_again(
    confinement: CgroupConfinement, member: ConfinedMember, journal: RunJournal, by: str
) -> None:
    assert member.process is not None
    identity = ProcessIdentity.of(member.process.pid)
    assert identity is not None
    before = oom_score(identity)
    confinement.doom("n1", expires_ns=soon_ns())
    assert oom_score(identity) == 1000
    if by == "heal":
        undo_all(JournalReader(journal.path).open_entries(), run_folder=journal.path.parent, writer=None, by="heal")
        assert oom_score(identity) == before
    confinement.spare("n1")
    assert oom_score(identity) == before
    assert journal.open_entries() == []


# ------------------------------------------------------------------------------------------------ disks

# Appends a block and syncs it for every line it is told to, and says what came of it.
WRITER = """
import os, sys, time
file = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
synced = 0
while True:
    try:
        os.write(file, b'x' * 4096); os.fsync(file); said = 'ok'
        synced = os.fstat(file).st_size
    except OSError as error:
        said = str(error.errno)
    with open(sys.argv[2] + '.new', 'w') as report:
        report.write(f'{said} {synced}')
    os.rename(sys.argv[2] + '.new', sys.argv[2])
    time.sleep(0.02)
"""


@pytest.fixture
def disks(member: ConfinedMember, journal: RunJournal, tmp_path: Path) -> Iterator[LoopDisks]:
    """The member writes to its disk all the time, in one file that it keeps open."""
    folder = tmp_path / "data folder"  # mountinfo writes blanks in its own way
    made = LoopDisks(folder=folder, size_mb=16, journal=journal, events=Events(), pid=lambda name: member.pid())
    folder.mkdir()
    made.prepare("n1")
    member.end()
    member.argv = [sys.executable, "-S", "-c", WRITER, str(folder / "n1" / "log"), str(tmp_path / "said")]
    member.start()
    try:
        wait_until(lambda: said(tmp_path) == "ok", "the member writes")
        yield made
    finally:
        member.end()
        made.close()
    assert loop_files.mount_of(folder / "n1") is None
    assert list(folder.iterdir()) == [folder / "n1"]
    assert list((folder / "n1").iterdir()) == []


def said(folder: Path) -> str:
    """What came of the member's last write: `ok`, or the number of the error."""
    try:
        return (folder / "said").read_text().split()[0]
    except FileNotFoundError:
        return ""


def undone_by(by: str, disks: LoopDisks, kind: str, journal: RunJournal) -> None:
    """Undo as a fault does when it is left, or as `aftershock heal` and the watchdog do, who know only the journal."""
    if by == "mend":
        disks.mend("n1", kind)
        return
    wanted = [entry for entry in JournalReader(journal.path).open_entries() if entry.inverse != "unmount"]
    results = undo_all(wanted, run_folder=journal.path.parent, writer=None, by="heal")
    assert [(bool(result.did), result.problem) for result in results] == [(True, "")]


@needs_cgroups
@pytest.mark.parametrize("by", ["mend", "heal"])
def test_a_full_disk_is_full_for_the_member_and_is_emptied(
    disks: LoopDisks, journal: RunJournal, tmp_path: Path, by: str
) -> None:
    file = tmp_path / "data folder" / ".n1.ext4"
    taken = file.stat().st_blocks
    disks.fill("n1", leave_bytes=0, expires_ns=soon_ns())

    wait_until(lambda: said(tmp_path) == "28", "the member sees ENOSPC")
    trial = disks.attempt("n1", writes=1, size_bytes=65536, timeout_s=30)
    assert (trial.error, trial.written) == ("ENOSPC", 0)
    assert set(disks.condition("n1")) == {"full"}
    assert file.stat().st_blocks == taken, "nothing more is taken from the host's disk"

    undone_by(by, disks, "full", journal)
    wait_until(lambda: said(tmp_path) == "ok", "the member writes again")
    assert disks.condition("n1") == {}
    assert disks.attempt("n1", writes=1, size_bytes=65536, timeout_s=30).written == 1
    disks.mend("n1", "full")


@needs_cgroups
def test_some_room_can_be_left(disks: LoopDisks) -> None:
    disks.fill("n1", leave_bytes=2 * MB, expires_ns=soon_ns())
    trial = disks.attempt("n1", writes=1, size_bytes=MB, timeout_s=30)
    assert (trial.error, trial.written) == ("", 1)
    assert disks.attempt("n1", writes=1, size_bytes=3 * MB, timeout_s=30).error == "ENOSPC"
    disks.mend("n1", "full")


@needs_cgroups
@pytest.mark.parametrize("by", ["mend", "heal"])
def test_a_slow_disk_makes_fsync_wait_for_the_member(
    disks: LoopDisks, member: ConfinedMember, journal: RunJournal, by: str
) -> None:
    disks.slow("n1", writes_per_s=10, expires_ns=soon_ns())

    trial = disks.attempt("n1", writes=8, size_bytes=4096, timeout_s=60)
    assert trial.written == 8
    assert trial.seconds > 0.5, "8 writes at 10 a second, of which a few may go at once"
    assert disks.condition("n1") == {"slow": "10 writes a second at most"}
    file = member.folders[3] / "blkio.throttle.write_iops_device"
    assert file.read_text().split()[1] == "10"

    undone_by(by, disks, "slow", journal)
    assert file.read_text() == ""
    assert disks.condition("n1") == {}
    disks.mend("n1", "slow")


@needs_cgroups
def test_a_limit_of_somebody_else_is_left_alone(disks: LoopDisks, member: ConfinedMember, tmp_path: Path) -> None:
    file = member.folders[3] / "blkio.throttle.write_iops_device"
    mounted = loop_files.mount_of(tmp_path / "data folder" / "n1")
    assert mounted is not None
    file.write_text(f"{mounted.device} 500")
    with pytest.raises(SetupError, match="not ours to change"):
        disks.slow("n1", writes_per_s=10, expires_ns=soon_ns())
    assert file.read_text().split() == [mounted.device, "500"]


@needs_cgroups
@pytest.mark.parametrize("by", ["mend", "heal"])
def test_read_only_holds_for_open_files_and_keeps_what_was_synced(
    disks: LoopDisks, member: ConfinedMember, journal: RunJournal, tmp_path: Path, by: str
) -> None:
    log = tmp_path / "data folder" / "n1" / "log"
    disks.make_read_only("n1", expires_ns=soon_ns())

    wait_until(lambda: said(tmp_path) == "30", "the member sees EROFS on the file that it has open")
    synced = int((tmp_path / "said").read_text().split()[1])
    assert disks.attempt("n1", writes=1, size_bytes=4096, timeout_s=30).error == "EROFS"
    assert set(disks.condition("n1")) == {"read-only"}
    if by == "mend":
        with pytest.raises(HealError, match=r"still read-only.*umount"):
            disks.mend("n1", "read-only")  # the member still has it open
        member.end()

    undone_by(by, disks, "read-only", journal)
    assert member.pid() is None, "it was ended"
    assert disks.condition("n1") == {}
    assert synced > 0
    assert log.read_bytes()[:synced] == b"x" * synced
    member.start()
    wait_until(lambda: said(tmp_path) == "ok", "the member writes again")
    disks.mend("n1", "read-only")


@needs_cgroups
def test_heal_unmounts_and_deletes(
    disks: LoopDisks, member: ConfinedMember, journal: RunJournal, tmp_path: Path
) -> None:
    disks.fill("n1", leave_bytes=0, expires_ns=soon_ns())
    member.end()
    results = undo_all(journal.open_entries(), run_folder=tmp_path, writer=None, by="heal")
    assert [result.problem for result in results] == ["", ""]
    assert loop_files.mount_of(tmp_path / "data folder" / "n1") is None
    assert not (tmp_path / "data folder" / ".n1.ext4").exists()


@needs_cgroups
def test_a_disk_that_is_in_use_is_said_to_be(disks: LoopDisks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aftershock.harness.backends.disks._CLOSE_DEADLINE_S", 0.1)
    with pytest.raises(HealError, match=r"still mounted:\n.*n1 cannot be unmounted.*by hand: umount"):
        disks.close()
    assert loop_files.mount_of(tmp_path / "data folder" / "n1") is not None


@needs_root
def test_nothing_is_written_where_our_file_system_is_not(journal: RunJournal, tmp_path: Path) -> None:
    """As when somebody unmounted it meanwhile: the folder is then a folder of the host's disk."""
    disks = LoopDisks(folder=tmp_path, size_mb=16, journal=journal, events=Events(), pid=lambda name: None)
    disks.prepare("n1")
    loop_files.unmount(tmp_path / ".n1.ext4", tmp_path / "n1", deadline_s=5)

    actions: list[Callable[[], object]] = [
        lambda: disks.fill("n1", leave_bytes=0, expires_ns=soon_ns()),
        lambda: disks.attempt("n1", writes=1, size_bytes=1, timeout_s=5),
        lambda: disks.make_read_only("n1", expires_ns=soon_ns()),
        lambda: disks.condition("n1"),
    ]
    for action in actions:
        with pytest.raises(SetupError, match="no disk of its own"):
            action()
    with pytest.raises(RuntimeError, match="nothing was written"):
        loop_files.open_folder(tmp_path / "n1", tmp_path / ".n1.ext4")
    assert list((tmp_path / "n1").iterdir()) == []
    disks.close()


@needs_root
def test_a_disk_takes_all_its_room_at_once(journal: RunJournal, tmp_path: Path) -> None:
    disks = LoopDisks(folder=tmp_path, size_mb=16, journal=journal, events=Events(), pid=lambda name: None)
    disks.prepare("n1")
    assert (tmp_path / ".n1.ext4").stat().st_blocks * 512 >= 16 * MB
    assert list((tmp_path / "n1").iterdir()) == [], "no lost+found"
    disks.close()
    assert journal.open_entries() == []
