"""Inverses on members' disks: mounts of ours, and what is wrong with the file systems on them.

| inverse | arguments | undone when |
|---|---|---|
| `unfill` | `folder`, `file` | our filler is not on our file system, or that is not mounted |
| `unthrottle` | `path`, `device`, `unified` | the cgroup's file limits writes to this device no more, or is gone |
| `make-writable` | `folder`, `file`, `process` (*) | a file can be made there, or it is not mounted |
| `unmount` | `folder`, `file` | our file system is mounted nowhere we put it, and its file is deleted |

(*) The member's process: a file system that has become read-only by an error is writable again only after it was
unmounted, and it cannot be while the member has it open. So the member is ended first.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from .. import loop_files
from ..identity import ProcessIdentity, end
from ._inverse import Inverse

__all__ = ["INVERSES"]

_END_DEADLINE_S: Final = 3.0
_UNMOUNT_DEADLINE_S: Final = 3.0


def _places(arguments: Mapping[str, Any]) -> tuple[Path, Path]:
    return Path(arguments["folder"]), Path(arguments["file"])


def _mounted(folder: Path, file: Path) -> bool:
    mounted = loop_files.mount_of(folder)
    return mounted is not None and mounted.file == str(file)


def _unfill(arguments: Mapping[str, Any]) -> str:
    folder, file = _places(arguments)
    if not _mounted(folder, file):
        return ""
    root = loop_files.open_folder(folder, file)
    try:
        os.unlink(loop_files.FILLER, dir_fd=root)
    except FileNotFoundError:
        return ""
    except OSError as error:
        if error.errno == errno.EROFS:
            raise RuntimeError(f"{folder / loop_files.FILLER} cannot be removed: {folder} is read-only") from None
        raise
    finally:
        os.close(root)
    return f"removed what filled {folder}"


def _unthrottle(arguments: Mapping[str, Any]) -> str:
    path, device = Path(arguments["path"]), arguments["device"]
    did = loop_files.unthrottle(path, device, unified=arguments["unified"])
    return f"took the limit on writes to device {device} off" if did else ""


def _make_writable(arguments: Mapping[str, Any]) -> str:
    folder, file = _places(arguments)
    if not _mounted(folder, file) or loop_files.is_writable(folder):
        return ""
    if arguments["process"] is not None:
        member = ProcessIdentity.from_json(arguments["process"])
        if not end(member, deadline_s=_END_DEADLINE_S):
            raise RuntimeError(f"process {member.pid}, which has {folder} open, does not end")
    loop_files.unmount(file, folder, deadline_s=_UNMOUNT_DEADLINE_S)
    loop_files.repair(file)
    loop_files.mount(file, folder)
    if not loop_files.is_writable(folder):
        raise RuntimeError(f"{folder} is still read-only after having been mounted anew")
    return f"ended what used {folder}, and mounted it anew: it can be written again"


def _unmount(arguments: Mapping[str, Any]) -> str:
    folder, file = _places(arguments)
    did = loop_files.unmount(file, folder, deadline_s=_UNMOUNT_DEADLINE_S)
    existed = file.exists()
    with suppress(FileNotFoundError):
        file.unlink()
    return f"unmounted {folder} and deleted its file system" if did or existed else ""


def _make_writable_by_hand(a: Mapping[str, Any]) -> str:
    kill = f"kill -KILL {a['process']['pid']}; " if a["process"] is not None else ""
    return f"{kill}umount {a['folder']} && e2fsck -p {a['file']}; mount -o loop {a['file']} {a['folder']}"


def _unthrottle_by_hand(a: Mapping[str, Any]) -> str:
    return f"echo '{a['device']} {'wiops=max' if a['unified'] else '0'}' > {a['path']}"


INVERSES: Final[dict[str, Inverse]] = {
    "unfill": Inverse(undo=_unfill, by_hand=lambda a: f"rm {a['folder']}/{loop_files.FILLER}", rank=10),
    "unthrottle": Inverse(undo=_unthrottle, by_hand=_unthrottle_by_hand, rank=10),
    "make-writable": Inverse(undo=_make_writable, by_hand=_make_writable_by_hand, rank=10),
    "unmount": Inverse(undo=_unmount, by_hand=lambda a: f"umount {a['folder']}; rm {a['file']}", rank=45),
}
