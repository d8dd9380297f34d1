"""File systems in files: made, mounted through a loop device, taken away again; and limits on how fast they write.

For harness/backends/disks.py and for its inverses. Standard library only: the watchdog imports this. Linux; needs
root, util-linux and e2fsprogs. Errors are OSError or RuntimeError with what is the case and what was expected.
"""

from __future__ import annotations

import errno
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Final, NamedTuple

__all__ = [
    "FILLER",
    "TRIAL",
    "Mount",
    "is_writable",
    "make",
    "mount",
    "mount_of",
    "mounts_below",
    "open_folder",
    "repair",
    "throttled",
    "unmount",
    "unthrottle",
]

# What fills a file system, and what tries whether it can be written; both in its root.
FILLER: Final = ".aftershock-filler"
TRIAL: Final = ".aftershock-trial"
_COMMAND_TIMEOUT_S: Final = 20.0
_POLL_S: Final = 0.02


class Mount(NamedTuple):
    """What is mounted at a folder: device number as `MAJOR:MINOR`, and the file behind its loop device (or None)."""

    device: str
    source: str
    file: str | None


def mount_of(folder: Path) -> Mount | None:
    """What is mounted at this very folder, on top; None when nothing is."""
    found = None
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if _unescaped(fields[4]) == str(folder):
            found = Mount(fields[2], _unescaped(after.split()[1]), _backing_file(fields[2]))
    return found


def mounts_below(folder: Path) -> list[Path]:
    """Every place inside this folder where something is mounted."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    places = {Path(_unescaped(line.split()[4])) for line in lines}
    return sorted(place for place in places if folder in place.parents)


def make(file: Path, *, size_bytes: int) -> None:
    """An ext4 file system in a new file, all of whose room is taken from the disk now and stays taken.

    No room is kept for root, so that it is full for everybody at the same instant; an error makes it read-only.
    """
    descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size_bytes)
    finally:
        os.close(descriptor)
    options = "nodiscard,lazy_itable_init=0,lazy_journal_init=0"
    _command("mkfs.ext4", "-q", "-F", "-m", "0", "-e", "remount-ro", "-E", options, str(file))


def mount(file: Path, folder: Path) -> Mount:
    """Mount the file system in a file at a folder."""
    _command("mount", "-t", "ext4", "-o", "loop,nosuid,nodev,noatime", str(file), str(folder))
    mounted = mount_of(folder)
    if mounted is None or mounted.file != str(file):
        raise RuntimeError(f"{folder} should have {file} mounted, and has {mounted}")
    return mounted


def unmount(file: Path, folder: Path, *, deadline_s: float) -> bool:
    """Unmount a file system of ours, waiting while it is in use, and have its loop device let go of the file.

    False when it was not mounted. Raises RuntimeError when it is still in use at the deadline.
    """
    until, did = time.monotonic() + deadline_s, False
    while (mounted := mount_of(folder)) is not None and mounted.file == str(file):
        done = subprocess.run(
            ["umount", str(folder)], capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=False
        )
        did = did or done.returncode == 0
        if done.returncode != 0 and time.monotonic() > until:
            raise RuntimeError(f"{folder} cannot be unmounted: {done.stderr.strip()}")
        if done.returncode != 0:
            time.sleep(_POLL_S)
    # The device lets go of its file when nothing holds it any more, which may be an instant later.
    while device := _device_of(file):
        if time.monotonic() > until:
            raise RuntimeError(f"{device} still holds {file}; some process has the file system open")
        time.sleep(_POLL_S)
    return did


def repair(file: Path) -> None:
    """Replay the journal and clear the error mark of a file system that is not mounted."""
    done = subprocess.run(
        ["e2fsck", "-p", str(file)], capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=False
    )
    if done.returncode not in (0, 1):  # 1: errors were corrected, which is what it is called for
        raise RuntimeError(
            f"e2fsck -p {file} ended with {done.returncode}: {done.stdout.strip()} {done.stderr.strip()}"
        )


def open_folder(folder: Path, file: Path) -> int:
    """A descriptor of the root of our file system, checked to be that and nothing else. The caller closes it.

    Whoever writes relative to it cannot write anywhere else, whatever is unmounted meanwhile.
    """
    mounted = mount_of(folder)
    if mounted is None or mounted.file != str(file):
        raise RuntimeError(f"{folder} should have {file} mounted, and has {mounted or 'nothing'}; nothing was written")
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    device = os.fstat(descriptor).st_dev
    if f"{os.major(device)}:{os.minor(device)}" != mounted.device:
        os.close(descriptor)
        raise RuntimeError(f"{folder} is not on device {mounted.device} of {file}; nothing was written")
    return descriptor


def is_writable(folder: Path) -> bool:
    """Whether a file can be made there; a full disk counts as writable. Raises OSError for what is not about that."""
    path = folder / TRIAL
    try:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        path.unlink()
    except OSError as error:
        if error.errno == errno.EROFS:
            return False
        if error.errno != errno.ENOSPC:
            raise
    return True


# ------------------------------------------------------------------------------------------------ how fast it writes


def throttled(path: Path, device: str) -> str | None:
    """The limit on writes that a cgroup's file has for this device, in its own words; None without one."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return None
    for line in lines:
        number, _, rest = line.partition(" ")
        if number == device:
            limit = re.search(r"wiops=(\S+)", rest)
            value = limit[1] if limit else rest.strip()
            return None if value in ("max", "0", "") else value
    return None


def unthrottle(path: Path, device: str, *, unified: bool) -> bool:
    """Take the limit on writes off this device, and nothing else. False when there was none."""
    before = throttled(path, device)
    if before is None:
        return False
    try:
        path.write_text(f"{device} wiops=max" if unified else f"{device} 0", encoding="ascii")
    except (FileNotFoundError, NotADirectoryError):
        return True  # the cgroup went meanwhile, and the limit with it
    left = throttled(path, device)
    if left is not None:
        raise RuntimeError(f"{path} still limits device {device} to {left} writes a second")
    return True


# ------------------------------------------------------------------------------------------------ helpers


def _command(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=False)
    except FileNotFoundError:
        raise RuntimeError(f"there is no {command[0]} here; install e2fsprogs and util-linux") from None
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {said}")


def _backing_file(device: str) -> str | None:
    try:
        text = Path(f"/sys/dev/block/{device}/loop/backing_file").read_text(encoding="utf-8").rstrip("\n")
    except OSError:
        return None
    return text.removesuffix(" (deleted)")


def _device_of(file: Path) -> str | None:
    for entry in Path("/sys/block").glob("loop*"):
        number = entry / "dev"
        if _backing_file(number.read_text(encoding="ascii").strip()) == str(file):
            return entry.name
    return None


def _unescaped(text: str) -> str:
    """Blanks and the like stand in mountinfo as three octal digits (proc(5))."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
