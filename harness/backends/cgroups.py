"""Where a process's cgroups are, in both versions of the hierarchy, and what their files say.

Version 1 has a hierarchy for each controller (cpu, cpuacct, memory, blkio), version 2 one for all (`io` takes the place
of blkio there). A machine may have both mounted, with each controller in one of them: what a process is in is asked
from /proc, where the hierarchies are mounted from mountinfo. Format of both files: proc(5), cgroups(7).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ..errors import SetupError

__all__ = ["Cgroups"]

CONTROLLERS: Final = ("cpu", "cpuacct", "memory", "blkio", "io")
# Version 1 says "no limit" with the greatest number of pages that fits, in bytes.
_NO_LIMIT_BYTES: Final = 1 << 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Cgroups:
    """The cgroups of one process: for each controller its folder, and whether that is version 2."""

    folders: Mapping[str, Path] = field(hash=False)
    unified: frozenset[str]  # controllers whose folder is in the version 2 hierarchy

    @classmethod
    def of(cls, pid: int, *, proc: Path = Path("/proc")) -> Cgroups:
        """Cgroups of a running process. Raises SetupError when it is gone or no hierarchy is mounted."""
        try:
            lines = (proc / str(pid) / "cgroup").read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise SetupError(f"process {pid} has no cgroup that can be read: {error.strerror}") from error
        mounts = _mounts((proc / "self" / "mountinfo").read_text(encoding="utf-8"))
        folders: dict[str, Path] = {}
        unified: set[str] = set()
        for line in lines:
            number, names, path = line.split(":", 2)
            if number == "0" and "" in mounts:
                folder = _below(mounts[""], path)
                for controller in _controllers(folder):
                    if controller in CONTROLLERS and controller not in folders:
                        folders[controller] = folder
                        unified.add(controller)
                continue
            for controller in names.split(","):
                if controller in CONTROLLERS and controller in mounts:
                    folders[controller] = _below(mounts[controller], path)
                    unified.discard(controller)
        if "cpu" in unified:
            folders.setdefault("cpuacct", folders["cpu"])
            unified.add("cpuacct")
        return cls(folders=folders, unified=frozenset(unified))

    def contains(self, controller: str, pid: int) -> bool:
        """Whether the kernel lists this process in the controller's folder."""
        folder = self.folders.get(controller)
        if folder is None:
            return False
        try:
            return str(pid) in (folder / "cgroup.procs").read_text(encoding="ascii").split()
        except OSError:
            return False

    def number(self, controller: str, name: str) -> int | None:
        """The number in a file; None for "max", for version 1's way of saying so, and where there is no such file."""
        text = self._text(controller, name).strip()
        if not text or text == "max":
            return None
        value = int(text)
        return None if value < 0 or value >= _NO_LIMIT_BYTES else value

    def counters(self, controller: str, name: str) -> dict[str, int]:
        """The `name value` lines of a file; empty where there is no such file."""
        found = {}
        for line in self._text(controller, name).splitlines():
            key, _, value = line.rpartition(" ")
            if key and value.isdigit():
                found[key] = int(value)
        return found

    def words(self, controller: str, name: str) -> list[str]:
        return self._text(controller, name).split()

    def distinct(self, other: Cgroups, controller: str) -> bool:
        """Whether this is a cgroup of its own: not the other's, nor one that holds the other's."""
        mine, theirs = self.folders.get(controller), other.folders.get(controller)
        return mine is not None and mine != theirs and (theirs is None or mine not in theirs.parents)

    def _text(self, controller: str, name: str) -> str:
        folder = self.folders.get(controller)
        if folder is None:
            return ""
        with suppress(FileNotFoundError, NotADirectoryError):
            return (folder / name).read_text(encoding="ascii")
        return ""


@dataclass(frozen=True, slots=True)
class _Mount:
    folder: Path
    root: str  # the part of the hierarchy that is mounted there


def _mounts(mountinfo: str) -> dict[str, _Mount]:
    """Controller -> where its version 1 hierarchy is mounted; `""` -> where version 2 is."""
    found: dict[str, _Mount] = {}
    for line in mountinfo.splitlines():
        before, dash, after = line.partition(" - ")
        if not dash:
            continue
        fields, kind = before.split(), after.split()
        mount = _Mount(Path(fields[4]), fields[3])
        if kind[0] == "cgroup2":
            found.setdefault("", mount)
        elif kind[0] == "cgroup":
            for option in kind[2].split(","):
                if option in CONTROLLERS:
                    found.setdefault(option, mount)
    return found


def _below(mount: _Mount, path: str) -> Path:
    relative = os.path.relpath(path, mount.root) if mount.root != "/" else path.lstrip("/")
    return mount.folder / relative


def _controllers(folder: Path) -> list[str]:
    with suppress(OSError):
        return (folder / "cgroup.controllers").read_text(encoding="ascii").split()
    return []
