"""Doing something in another process's network namespace.

Only the calling thread of `setns` changes its namespace, so the work is done in a thread of its own, which ends with
it: nothing of ours ever stays behind in a member's namespace by mistake. Sockets that are opened there stay there;
programs that are started there run there. Standard library only: the watchdog imports this.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from .identity import ProcessIdentity

__all__ = ["apart", "enter", "inside"]

_CLONE_NEWNET: Final = 0x4000_0000
_libc = ctypes.CDLL(None, use_errno=True)  # os.setns came with Python 3.12

_Result = TypeVar("_Result")


def enter(process: ProcessIdentity) -> None:
    """Put the calling thread into the network namespace of exactly this process.

    Raises ProcessLookupError when the process is gone, PermissionError when we may not.
    """
    if process.pid <= 0:  # never the host's own by mistake
        raise ProcessLookupError(f"there is no process {process.pid}")
    try:
        descriptor = os.open(f"/proc/{process.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ProcessLookupError(f"process {process.pid} is gone") from None
    try:
        # Checked after opening: what the descriptor stands for can no longer change.
        if not process.alive():
            raise ProcessLookupError(f"process {process.pid} is gone")
        if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise OSError(code, f"{os.strerror(code)}: entering the network namespace of process {process.pid}")
    finally:
        os.close(descriptor)


def inside(process: ProcessIdentity, work: Callable[[], _Result]) -> _Result:
    """Do `work` in the network namespace of a process, and return or raise what it does. Raises as `enter` does."""
    return _in_a_thread(lambda: enter(process), work)


def apart(work: Callable[[], _Result]) -> _Result:
    """Do `work` in a new, empty network namespace that ends with it: a place to try what a kernel can do."""
    return _in_a_thread(_unshare, work)


def _unshare() -> None:
    if _libc.unshare(_CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{os.strerror(code)}: making a network namespace")


def _in_a_thread(first: Callable[[], None], work: Callable[[], _Result]) -> _Result:
    results: list[_Result] = []
    problems: list[BaseException] = []

    def do() -> None:
        try:
            first()
            results.append(work())
        except BaseException as problem:
            problems.append(problem)

    thread = threading.Thread(target=do, name="network-namespace")
    thread.start()
    thread.join()
    if problems:
        raise problems[0]
    return results[0]
