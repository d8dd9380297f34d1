"""Starting a program of this machine inside given cgroups (enter.py), and knowing that it is in there."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from ..errors import SetupError
from .cgroups import Cgroups

__all__ = ["folders_of", "start_inside"]

_ENTER: Final = Path(__file__).with_name("enter.py")
_START_DEADLINE_S: Final = 10.0


def folders_of(cgroups: Cgroups) -> list[Path]:
    """The folders to enter for all controllers that we know."""
    return list(dict.fromkeys(cgroups.folders[name] for name in sorted(cgroups.folders)))


def start_inside(
    folders: Iterable[Path],
    argv: Sequence[str],
    *,
    left_s: float,
    environment: Mapping[str, str],
    output: int = subprocess.DEVNULL,
    working_folder: str | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program that is in these cgroups before it is itself, and that the kernel ends after `left_s`.

    It gets no environment but this. Raises SetupError when it does not get there; nothing of it is left then.
    """
    read_end, write_end = os.pipe()
    places = [str(folder) for folder in folders]
    command = [sys.executable, "-I", "-S", str(_ENTER), f"{left_s:.3f}", str(write_end), *places, "--", *argv]
    try:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.DEVNULL,
                env=dict(environment),
                cwd=working_folder,
                pass_fds=(write_end,),
                start_new_session=True,
            )
        except OSError as error:
            raise SetupError(f"{argv[0]} cannot be run: {error}") from error
        finally:
            os.close(write_end)
        said = _until_exec(read_end)
    finally:
        os.close(read_end)
    if said:
        process.kill()
        process.communicate()
        raise SetupError(f"{argv[0]} could not be run inside {', '.join(places) or 'no cgroup'}: {said}")
    return process


def _until_exec(descriptor: int) -> str:
    """What a program says before it is itself; `""` is the exec, which closes the pipe."""
    until, said = time.monotonic() + _START_DEADLINE_S, b""
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    while True:
        left_s = until - time.monotonic()
        if left_s <= 0 or not poller.poll(left_s * 1000):
            return f"it did not get there within {_START_DEADLINE_S:g} s"
        new = os.read(descriptor, 4096)
        if not new:
            return said.decode(errors="replace")
        said += new
