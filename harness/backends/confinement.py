"""A member's cgroup: its limits, what it uses, and helpers of ours inside it. Keeps interfaces.Confinement.

A helper is in the cgroup before it uses anything (enter.py), so whatever it takes is taken from the member's own share
and the machine around it feels nothing beyond what the member may use anyway. It ends by the kernel's alarm when its
time is up, with the member, and with the run (its end is in the journal, and it carries the run's token).
"""

from __future__ import annotations

import os
import select
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from ..errors import HealError, SetupError
from ..identity import TOKEN_VARIABLE, ProcessIdentity, end
from ..interfaces import Journal, Limits, Usage
from ..inverses import undo
from ..inverses.resources import oom_score, set_oom_score
from .cgroups import Cgroups
from .inside import folders_of, start_inside

__all__ = ["CgroupConfinement"]

_END_DEADLINE_S: Final = 10.0
# The kernel adds so many thousandths of the limit to the size of a process when it looks for the one to end: with all
# of them the member's main process comes before whatever else is in its cgroup, however little it uses itself.
_DOOMED: Final = 1000


@dataclass(slots=True, kw_only=True)
class _Helper:
    member: str
    cgroups: Cgroups
    process: subprocess.Popen[bytes]
    identity: ProcessIdentity
    entries: list[str]  # in the journal: what ends it, and removes the cgroups that it kept from being removed
    watcher: threading.Thread


class CgroupConfinement:
    """Confinement of members whose processes are in cgroups of their own. Make one a stage."""

    def __init__(
        self,
        *,
        pid: Callable[[str], int | None],
        limits: Callable[[str], Limits],
        journal: Journal,
        token: str,
        ends_with_member: bool = False,
    ) -> None:
        """`ends_with_member`: whoever runs the member makes its cgroups anew each time, and removes them at its end."""
        self._pid = pid
        self._limits = limits
        self._ends_with_member = ends_with_member
        self._journal = journal
        self._token = token
        self._lock = threading.Lock()
        self._helpers: dict[int, _Helper] = {}
        self._doomed: dict[str, tuple[ProcessIdentity, int, str]] = {}
        self._last: dict[str, Usage] = {}

    def limits(self, member: str) -> Limits:
        """See interfaces.Confinement."""
        return self._limits(member)

    def usage(self, member: str) -> Usage:
        """See interfaces.Confinement. Of a member that has ended: as it was last seen, its end included.

        Raises SetupError when it was never seen.
        """
        pid = self._pid(member)
        if pid is not None:
            with suppress(SetupError):
                self._last[member] = _usage(Cgroups.of(pid))
        if member not in self._last:
            raise SetupError(f"{member} does not run, so it uses nothing that could be counted")
        return self._last[member]

    def start(self, member: str, argv: Sequence[str], *, expires_ns: int) -> ProcessIdentity:
        """See interfaces.Confinement. Raises SetupError when the member has no cgroup of its own, or it fails."""
        pid = self._running(member)
        identity = ProcessIdentity.of(pid)
        try:
            cgroups = own_cgroups(member, pid)
        except SetupError as error:
            if identity is None or not identity.alive():  # what ends is no longer where it ran
                raise SetupError(f"{member} has ended, so nothing can be run inside its limits; see its log") from error
            raise
        left_s = (expires_ns - time.monotonic_ns()) / 1e9
        if identity is None or left_s <= 0:
            raise SetupError(f"{member}: there is no time left for a helper, or the member has ended")
        environment = {
            TOKEN_VARIABLE: self._token,
            # So that a helper can see for itself, before it takes anything, where it is and for whom.
            "AFTERSHOCK_MEMORY_CGROUP": str(cgroups.folders["memory"]),
            "AFTERSHOCK_MEMBER_PID": str(pid),
        }
        process = start_inside(folders_of(cgroups), argv, left_s=left_s, environment=environment)
        helper = ProcessIdentity.of(process.pid)
        assert helper is not None  # it is not reaped yet, so the pid is its own still
        entries = self._written(member, process, helper, cgroups, expires_ns)
        watcher = threading.Thread(
            target=self._watch, args=(member, identity, helper, cgroups), name=f"helper-of-{member}", daemon=True
        )
        with self._lock:
            self._helpers[helper.pid] = _Helper(
                member=member, cgroups=cgroups, process=process, identity=helper, entries=entries, watcher=watcher
            )
        watcher.start()
        return helper

    def end(self, helper: ProcessIdentity) -> None:
        """See interfaces.Confinement. Raises HealError when it does not end."""
        with self._lock:
            known = self._helpers.get(helper.pid)
        if known is None or known.identity != helper:
            if not end(helper, deadline_s=_END_DEADLINE_S):
                raise HealError(f"helper {helper.pid} does not end; by hand: kill -KILL {helper.pid}")
            return
        end(helper, deadline_s=_END_DEADLINE_S)
        try:
            known.process.wait(_END_DEADLINE_S)
        except subprocess.TimeoutExpired:
            raise HealError(f"helper {helper.pid} does not end; by hand: kill -KILL {helper.pid}") from None
        known.watcher.join()
        with self._lock:
            self._helpers.pop(helper.pid, None)
        if self._ends_with_member:  # it may have ended while the helper was in its cgroups
            undo("remove-cgroups", _left(known.member, known.cgroups))
        for entry in known.entries:
            self._journal.done(entry)

    def holds(self, member: str, helper: ProcessIdentity) -> bool:
        """See interfaces.Confinement."""
        with self._lock:
            known = self._helpers.get(helper.pid)
        return (
            known is not None
            and known.member == member
            and helper.alive()
            and all(known.cgroups.contains(controller, helper.pid) for controller in ("cpu", "memory"))
        )

    def doom(self, member: str, *, expires_ns: int) -> None:
        """See interfaces.Confinement."""
        pid = self._running(member)
        identity = ProcessIdentity.of(pid)
        before = oom_score(identity) if identity is not None else None
        if identity is None or before is None:
            raise SetupError(f"{member} has ended")
        entry = self._journal.record(
            "oom-score", expires_ns=expires_ns, process=identity.to_json(), score=before, what=member
        )
        self._doomed[member] = (identity, before, entry)
        try:
            set_oom_score(identity, _DOOMED)
        except OSError as error:
            raise SetupError(f"{member}: oom_score_adj of process {pid} cannot be set: {error.strerror}") from error

    def spare(self, member: str) -> None:
        """See interfaces.Confinement. Raises HealError when the old value cannot be put back."""
        known = self._doomed.pop(member, None)
        if known is None:
            return
        identity, before, entry = known
        try:
            set_oom_score(identity, before)
        except OSError as error:
            path = f"/proc/{identity.pid}/oom_score_adj"
            raise HealError(f"{path} cannot be put back: {error.strerror}; by hand: echo {before} > {path}") from error
        self._journal.done(entry)

    def close(self) -> None:
        """End every helper and put every score back. Raises HealError."""
        problems = []
        acts = [partial(self.end, helper.identity) for helper in list(self._helpers.values())]
        for act in [*acts, *(partial(self.spare, member) for member in list(self._doomed))]:
            try:
                act()
            except HealError as problem:  # the others must still be undone
                problems.append(str(problem))
        if problems:
            raise HealError("; ".join(problems))

    def _running(self, member: str) -> int:
        pid = self._pid(member)
        if pid is None:
            raise SetupError(f"{member} does not run, so nothing can be run inside its limits; see its log")
        return pid

    def _written(
        self, member: str, process: subprocess.Popen[bytes], helper: ProcessIdentity, cgroups: Cgroups, expires_ns: int
    ) -> list[str]:
        """Its end, in the journal. Until then what ends it is the token it carries, and its alarm."""
        try:
            written = [
                self._journal.record(
                    "end-process", expires_ns=expires_ns, process=helper.to_json(), what=f"helper of {member}"
                )
            ]
            if self._ends_with_member:
                left = _left(member, cgroups)
                written.append(self._journal.record("remove-cgroups", expires_ns=expires_ns, **left))
        except BaseException:
            process.kill()
            process.wait()
            raise
        return written

    def _watch(self, member: str, identity: ProcessIdentity, helper: ProcessIdentity, cgroups: Cgroups) -> None:
        """End the helper with its member.

        As long as the helper is inside, the kernel keeps the cgroup, and with it the count of what the member died of;
        once both are gone whoever made the cgroup may remove it.
        """
        poller = select.poll()
        descriptors = []
        try:
            for process in (identity, helper):
                with suppress(ProcessLookupError):
                    descriptors.append(os.pidfd_open(process.pid))
                    poller.register(descriptors[-1], select.POLLIN)
            if len(descriptors) == 2 and identity.alive() and helper.alive():
                poller.poll()
            if not identity.alive():
                with suppress(SetupError, OSError, KeyError):
                    self._last[member] = _usage(cgroups)
                end(helper, deadline_s=_END_DEADLINE_S)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def _left(member: str, cgroups: Cgroups) -> dict[str, Any]:
    return {"folders": [str(folder) for folder in folders_of(cgroups)], "what": f"helper of {member}"}


def own_cgroups(member: str, pid: int) -> Cgroups:
    """The member's cgroups, if its cpu and memory are its own: what is run in there must not be able to hurt others.

    Raises SetupError otherwise.
    """
    cgroups, ours = Cgroups.of(pid), Cgroups.of(os.getpid())
    for controller in ("cpu", "memory"):
        if not cgroups.distinct(ours, controller):
            where = cgroups.folders.get(controller, "nowhere")
            raise SetupError(
                f"{member} has no {controller} cgroup of its own (it is in {where}); "
                "use a backend that gives it one, as docker does"
            )
    return cgroups


def _usage(cgroups: Cgroups) -> Usage:
    """CPU and memory as the kernel counts them; page cache that it would drop at once is not counted as used."""
    stat = cgroups.counters("cpu", "cpu.stat")
    memory = cgroups.counters("memory", "memory.stat")
    if "memory" in cgroups.unified:
        used, cache = cgroups.number("memory", "memory.current"), memory.get("inactive_file", 0)
        kills = cgroups.counters("memory", "memory.events").get("oom_kill")
    else:
        used, cache = cgroups.number("memory", "memory.usage_in_bytes"), memory.get("total_inactive_file", 0)
        kills = cgroups.counters("memory", "memory.oom_control").get("oom_kill")
    if "cpu" in cgroups.unified:
        cpu_ns, throttled_ns = stat.get("usage_usec", 0) * 1000, stat.get("throttled_usec", 0) * 1000
    else:
        cpu_ns, throttled_ns = cgroups.number("cpuacct", "cpuacct.usage") or 0, stat.get("throttled_time", 0)
    if used is None or kills is None or not stat:
        raise SetupError(f"cgroups {sorted(map(str, set(cgroups.folders.values())))} do not say what is used")
    return Usage(cpu_ns=cpu_ns, throttled_ns=throttled_ns, memory_bytes=max(used - cache, 0), oom_kills=kills)
