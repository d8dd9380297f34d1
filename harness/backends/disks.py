"""Members' data folders as file systems of their own: ext4 in a file, through a loop device. Keeps interfaces.Disks.

Such a disk can be full, slow or read-only without the host's being so. The file is allocated when it is made, so that
what members write later takes nothing more from the host's disk (DESIGN section 4, safety).

How each kind works, and what its undoing needs (anchors/platform.md section 4):

| kind | done by | undone by |
|---|---|---|
| full | a filler file inside our mount | removing it |
| slow | a limit on writes a second to the loop device, for the member's cgroup | removing the limit |
| read-only | an error that ext4 is told of (`errors=remount-ro`): EROFS at once, for open files too | a new mount |

The new mount cannot be had while the member has the old one open: `mend` of "read-only" is for a member that has ended.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from .. import loop_files
from ..errors import HealError, SetupError
from ..identity import ProcessIdentity
from ..interfaces import DiskTrial, EventSink, Journal
from ..inverses.disks import INVERSES
from .cgroups import Cgroups
from .inside import folders_of, start_inside

__all__ = ["LoopDisks"]

_TRIAL: Final = Path(__file__).with_name("disk_trial.py")
_MB: Final = 1 << 20
_LEAST_MB: Final = 16
# What the host's disk must still have after the members' disks are made.
_HOST_KEEPS_BYTES: Final = 1 << 30
_FILL_STEP_BYTES: Final = 4096
_CLOSE_DEADLINE_S: Final = 10.0
_NEEDED: Final = ("mkfs.ext4", "e2fsck", "mount", "umount")
_KINDS: Final = ("full", "slow", "read-only")


class LoopDisks:
    """The disks of one stage. `close` takes them away, after the members that use them have ended."""

    def __init__(
        self,
        *,
        folder: Path,
        size_mb: int | None,
        journal: Journal,
        events: EventSink,
        pid: Callable[[str], int | None],
    ) -> None:
        self._folder = folder.resolve()
        self._size_mb = size_mb
        self._journal = journal
        self._events = events
        self._pid = pid
        self._mounts: dict[str, str] = {}  # member -> journal entry that unmounts
        self._changes: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}  # (member, kind) -> entry, arguments

    def prepare(self, member: str) -> None:
        """Make the member's disk and mount it at its data folder; nothing happens when no size is set.

        Raises SetupError when this machine cannot, or has not the room.
        """
        if self._size_mb is None:
            return
        reason = self.why_not("full")
        if reason is not None:
            raise SetupError(f"disk_mb = {self._size_mb} in [backend]: {reason}")
        folder, file, size_bytes = self._folder / member, self._file(member), self._size_mb * _MB
        folder.mkdir(parents=True, exist_ok=True)
        host = os.statvfs(self._folder)
        free = host.f_bavail * host.f_frsize
        if free - size_bytes < _HOST_KEEPS_BYTES:
            raise SetupError(
                f"{self._folder}: {free // _MB} MB are free, too few for a disk of {self._size_mb} MB for {member} and "
                f"{_HOST_KEEPS_BYTES // _MB} MB that stay free; make room, or set a smaller disk_mb in [backend]"
            )
        self._mounts[member] = self._journal.record("unmount", expires_ns=None, **self._places(member))
        try:
            loop_files.make(file, size_bytes=size_bytes)
            loop_files.mount(file, folder)
            # Programs that want an empty folder for their data (PostgreSQL) would refuse this one.
            (folder / "lost+found").rmdir()
        except (OSError, RuntimeError) as error:
            raise SetupError(f"the disk of {member} could not be made: {error}") from error

    def why_not(self, kind: str) -> str | None:
        """See interfaces.Disks."""
        if kind not in _KINDS:
            return f"there is no such fault of disks; there are {', '.join(_KINDS)}"
        if self._size_mb is None:
            return "members' data is on the host's own disk, which is never touched; set disk_mb in [backend]"
        if self._size_mb < _LEAST_MB:
            return f"disk_mb = {self._size_mb} is too small for a file system; set {_LEAST_MB} at least"
        if os.geteuid() != 0:
            return "mounting a file system needs root; run it as root"
        missing = [name for name in _NEEDED if shutil.which(name) is None]
        if missing:
            return f"{', '.join(missing)} not found; apt-get install e2fsprogs util-linux"
        if not Path("/dev/loop-control").exists():
            return "this kernel has no loop devices (/dev/loop-control); modprobe loop"
        if kind == "slow" and not {"blkio", "io"} & set(Cgroups.of(os.getpid()).folders):
            return "no blkio or io controller is mounted here, which limits writes; see cgroups(7)"
        if kind == "read-only" and not all(trigger.exists() for trigger in self._triggers()):
            return "this kernel's ext4 has no trigger_fs_error in /sys/fs/ext4; Linux 3.12 or newer has"
        return None

    def fill(self, member: str, *, leave_bytes: int, expires_ns: int) -> None:
        """See interfaces.Disks. Raises SetupError when it cannot be filled, with nothing left of the attempt."""
        folder, file = self._folder / member, self._file(member)
        with self._opened(member) as root:
            self._begin(member, "full", "unfill", expires_ns, self._places(member))
            try:
                _fill(root, leave_bytes)
            except OSError as error:
                self.mend(member, "full")
                raise SetupError(f"{folder} ({file}) could not be filled: {error}") from error

    def slow(self, member: str, *, writes_per_s: int, expires_ns: int) -> None:
        """See interfaces.Disks. Raises SetupError when the member has no cgroup of its own, or it does not take."""
        pid = self._running(member)
        cgroups = Cgroups.of(pid)
        controller = "blkio" if "blkio" in cgroups.folders else "io"
        if not cgroups.distinct(Cgroups.of(os.getpid()), controller):
            raise SetupError(f"{member} has no {controller} cgroup of its own, so only all could be slowed; use docker")
        unified, device = controller in cgroups.unified, self._mounted(member).device
        name = "io.max" if unified else "blkio.throttle.write_iops_device"
        path = cgroups.folders[controller] / name
        older = loop_files.throttled(path, device)
        if older is not None and (member, "slow") not in self._changes:
            raise SetupError(f"{path} has a limit for {device} already ({older}), which is not ours to change")
        arguments = {"path": str(path), "device": device, "unified": unified}
        self._begin(member, "slow", "unthrottle", expires_ns, arguments)
        line = f"{device} wiops={writes_per_s}" if unified else f"{device} {writes_per_s}"
        try:
            path.write_text(line, encoding="ascii")
        except OSError as error:
            raise SetupError(f"{path}: {line!r} was refused: {error.strerror}") from error
        now = loop_files.throttled(path, device)
        if now != str(writes_per_s):
            raise SetupError(f"{path} should limit {device} to {writes_per_s} writes a second, and says {now}")

    def make_read_only(self, member: str, *, expires_ns: int) -> None:
        """See interfaces.Disks. To `mend` it the member must have ended."""
        folder, mounted = self._folder / member, self._mounted(member)
        pid = self._pid(member)
        identity = ProcessIdentity.of(pid) if pid is not None else None
        arguments = {**self._places(member), "process": identity.to_json() if identity is not None else None}
        self._begin(member, "read-only", "make-writable", expires_ns, arguments)
        trigger = _trigger(mounted.source)
        try:
            trigger.write_text("aftershock", encoding="ascii")
        except OSError as error:
            raise SetupError(f"{trigger} cannot be written: {error.strerror}") from error
        if loop_files.is_writable(folder):
            raise SetupError(f"{folder} can still be written after an error was reported by {trigger}")

    def mend(self, member: str, kind: str) -> None:
        """See interfaces.Disks. Raises HealError when it is still on; for "read-only" the member must have ended."""
        known = self._changes.get((member, kind))
        if known is None:
            return
        entry, arguments = known
        inverse = {"full": "unfill", "slow": "unthrottle", "read-only": "make-writable"}[kind]
        if kind == "read-only":
            # Whoever called this has ended the member in the way the backend likes; it is not ours to kill.
            arguments = {**arguments, "process": None}
        try:
            INVERSES[inverse].undo(arguments)
        except (OSError, RuntimeError) as error:
            by_hand = INVERSES[inverse].by_hand(arguments)
            raise HealError(f"the disk of {member} is still {kind}: {error}; by hand: {by_hand}") from error
        self._journal.done(entry)
        del self._changes[member, kind]

    def attempt(self, member: str, *, writes: int, size_bytes: int, timeout_s: float) -> DiskTrial:
        """See interfaces.Disks."""
        pid = self._pid(member)
        inside = []
        if pid is not None:
            cgroups, ours = Cgroups.of(pid), Cgroups.of(os.getpid())
            inside = folders_of(cgroups) if cgroups.distinct(ours, "memory") else []
        with self._opened(member) as root:
            process = start_inside(
                inside,
                [sys.executable, "-I", "-S", str(_TRIAL), str(writes), str(size_bytes)],
                left_s=timeout_s,
                environment={},
                output=subprocess.PIPE,
                working_folder=f"/proc/{os.getpid()}/fd/{root}",
            )
            # It is ended by its own alarm; a write that the kernel holds back may end only somewhat later.
            said, _ = process.communicate()
            space = os.fstatvfs(root)
            if process.returncode != 0:
                with suppress(OSError):
                    os.unlink(loop_files.TRIAL, dir_fd=root)
                raise SetupError(f"{writes} writes to the disk of {member} took longer than {timeout_s:g} s")
        told = json.loads(said)
        return DiskTrial(
            written=told["written"],
            error=told["error"],
            seconds=told["seconds"],
            free_bytes=space.f_bavail * space.f_frsize,
        )

    def condition(self, member: str) -> Mapping[str, str]:
        """See interfaces.Disks. Empty too for a member without a disk of its own."""
        if member not in self._mounts:
            return {}
        folder = self._folder / member
        found = {}
        with self._opened(member) as root:
            space = os.fstatvfs(root)
            with suppress(FileNotFoundError):
                filler = os.stat(loop_files.FILLER, dir_fd=root).st_size
                free = space.f_bavail * space.f_frsize
                found["full"] = (
                    f"{free // 1024} KiB free of {self._size_mb} MB, {filler // 1024} KiB of them filled by us"
                )
        if not loop_files.is_writable(folder):
            found["read-only"] = "no file can be made (EROFS)"
        limit = self._limit(member)
        if limit is not None:
            found["slow"] = f"{limit} writes a second at most"
        return found

    def close(self) -> None:
        """Unmount every disk and delete its file. Members have ended by now. Raises HealError naming what is left."""
        problems = []
        for member, entry in list(self._mounts.items()):
            try:
                loop_files.unmount(self._file(member), self._folder / member, deadline_s=_CLOSE_DEADLINE_S)
                self._file(member).unlink(missing_ok=True)
            except (OSError, RuntimeError) as error:
                problems.append(f"{error}; by hand: {INVERSES['unmount'].by_hand(self._places(member))}")
                continue
            # What was wrong with a disk went with it; a limit on writes went with the member's cgroup.
            for kind in _KINDS:
                known = self._changes.pop((member, kind), None)
                if known is not None:
                    self._journal.done(known[0])
            self._journal.done(entry)
            del self._mounts[member]
        if problems:
            raise HealError("disks of members are still mounted:\n" + "\n".join(f"  {line}" for line in problems))

    # ---------------------------------------------------------------------------------------- helpers

    def _file(self, member: str) -> Path:
        return self._folder / f".{member}.ext4"

    def _places(self, member: str) -> dict[str, Any]:
        return {"folder": str(self._folder / member), "file": str(self._file(member))}

    def _begin(self, member: str, kind: str, inverse: str, expires_ns: int, arguments: dict[str, Any]) -> None:
        """Write the inverse down; of two of the same kind the newer one counts."""
        older = self._changes.get((member, kind))
        entry = self._journal.record(inverse, expires_ns=expires_ns, **arguments)
        self._changes[member, kind] = (entry, arguments)
        if older is not None:
            self._journal.done(older[0])

    def _running(self, member: str) -> int:
        pid = self._pid(member)
        if pid is None:
            raise SetupError(f"{member} does not run, so its disk cannot be slow for it; see its log")
        return pid

    def _mounted(self, member: str) -> loop_files.Mount:
        mounted = loop_files.mount_of(self._folder / member)
        if member not in self._mounts or mounted is None or mounted.file != str(self._file(member)):
            raise SetupError(f"{member} has no disk of its own at {self._folder / member}; set disk_mb in [backend]")
        return mounted

    @contextmanager
    def _opened(self, member: str) -> Iterator[int]:
        """A descriptor of the root of the member's disk, and of nothing else. Raises SetupError."""
        self._mounted(member)
        try:
            root = loop_files.open_folder(self._folder / member, self._file(member))
        except (OSError, RuntimeError) as error:
            raise SetupError(str(error)) from error
        try:
            yield root
        finally:
            os.close(root)

    def _limit(self, member: str) -> str | None:
        known = self._changes.get((member, "slow"))
        return loop_files.throttled(Path(known[1]["path"]), known[1]["device"]) if known is not None else None

    def _triggers(self) -> list[Path]:
        mounted = [loop_files.mount_of(self._folder / member) for member in self._mounts]
        return [_trigger(it.source) for it in mounted if it is not None]


def _trigger(source: str) -> Path:
    return Path("/sys/fs/ext4") / Path(source).name / "trigger_fs_error"


def _fill(root: int, leave_bytes: int) -> None:
    """Fill the file system of this descriptor but for `leave_bytes`. Raises OSError when it stays emptier than that."""
    descriptor = os.open(loop_files.FILLER, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=root)
    try:
        size = 0
        # In large pieces first, for which the file system needs room of its own too, then to the last block.
        step = 64 * _MB
        while step >= _FILL_STEP_BYTES:
            space = os.fstatvfs(root)
            room = space.f_bavail * space.f_frsize - leave_bytes
            piece = min(step, room)
            if piece < _FILL_STEP_BYTES:
                break
            try:
                os.posix_fallocate(descriptor, size, piece)
                size += piece
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                step //= 2
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    space = os.fstatvfs(root)
    left = space.f_bavail * space.f_frsize
    if left > leave_bytes + 16 * _FILL_STEP_BYTES:
        raise OSError(f"{left} bytes are still free, expected {leave_bytes} at most")
