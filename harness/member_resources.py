"""Seams for what a member may use: CPU and memory, and its disk. Values and Protocols; `interfaces.Stage` has both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from .identity import ProcessIdentity

__all__ = ["Confinement", "DiskTrial", "Disks", "Limits", "Usage"]


class Limits(NamedTuple):
    """What a member may use at most; None where nothing limits it but the machine."""

    cpus: float | None
    memory_bytes: int | None


class Usage(NamedTuple):
    """What a member (with helpers in its limits) has used, as the operating system counts it."""

    cpu_ns: int
    throttled_ns: int
    memory_bytes: int
    oom_kills: int


class Confinement(Protocol):
    """A member's own resource limits, and helpers of ours inside them (a cgroup). Every method names the member."""

    def limits(self, member: str) -> Limits: ...

    def usage(self, member: str) -> Usage:
        """Of a member that has ended: as it was last seen, what it ended of included."""
        ...

    def start(self, member: str, argv: Sequence[str], *, expires_ns: int) -> ProcessIdentity:
        """Journal its end, then run a helper of this machine (not of the member's image) inside the member's limits.

        Whatever it uses is taken from what the member may use, and from nothing else. Ends with the member.
        """
        ...

    def end(self, helper: ProcessIdentity) -> None:
        """End a helper that `start` gave, and wait; nothing happens when it has ended."""
        ...

    def holds(self, member: str, helper: ProcessIdentity) -> bool:
        """Whether this helper runs inside the member's limits now, as the kernel lists it."""
        ...

    def doom(self, member: str, *, expires_ns: int) -> None:
        """Journal the inverse, then make the member's main process the first that the kernel ends for want of memory.

        That is, when the member's own memory runs out: what is outside of its limits is not looked at.
        """
        ...

    def spare(self, member: str) -> None:
        """Undo `doom`; nothing happens where it is not on, or when the process has ended."""
        ...


class DiskTrial(NamedTuple):
    """What became of writes to a member's disk, each with fsync. `error` is the error's name (`ENOSPC`), or empty."""

    written: int
    error: str
    seconds: float  # for all of them
    free_bytes: int


class Disks(Protocol):
    """A member's data folder as a file system of its own. Inverses are journalled before anything is touched."""

    def why_not(self, kind: str) -> str | None:
        """None when `kind` ("full", "slow" or "read-only") can be done here; otherwise the reason and the remedy."""
        ...

    def fill(self, member: str, *, leave_bytes: int, expires_ns: int) -> None:
        """Fill the member's size-limited file system, never the host's, but for `leave_bytes`."""
        ...

    def slow(self, member: str, *, writes_per_s: int, expires_ns: int) -> None:
        """Limit how many writes a second reach the disk under the member's data; fsync waits for them."""
        ...

    def make_read_only(self, member: str, *, expires_ns: int) -> None:
        """Every write and every open for writing fails with EROFS, for files that are open too where that can be."""
        ...

    def mend(self, member: str, kind: str) -> None:
        """Undo one kind; nothing happens where it is not on."""
        ...

    def attempt(self, member: str, *, writes: int, size_bytes: int, timeout_s: float) -> DiskTrial:
        """Write a small file of ours to the member's disk, from inside the member's limits, and remove it.

        Raises SetupError when that did not come to an end within `timeout_s`.
        """
        ...

    def condition(self, member: str) -> Mapping[str, str]:
        """Kind -> in words what is wrong with the member's disk now, as read back; empty when it is whole."""
        ...
