"""Enters a member's cgroups, then becomes the helper that it was given: nothing is used before it is inside.

    enter.py SECONDS REPORT_DESCRIPTOR FOLDER... -- PROGRAM ARGUMENT...

Run by path, with nothing but the standard library. It ends by the kernel's alarm after SECONDS, which an exec does not
take back. REPORT_DESCRIPTOR is closed by the exec; what is written to it before says why there was none.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

__all__ = ["main"]


def main(arguments: list[str]) -> None:
    """Never returns: execs, or ends with status 70 after having said why."""
    report = int(arguments[1])
    try:
        os.set_inheritable(report, False)
        end = arguments.index("--")
        # The default action of SIGALRM ends whatever has become of this process by then. Whoever started the tool may
        # have had it ignored or blocked, which goes on through every exec.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
        signal.setitimer(signal.ITIMER_REAL, max(float(arguments[0]), 0.001))
        # Of all in the cgroup a helper must not be the one that the kernel ends first.
        Path("/proc/self/oom_score_adj").write_text("0", encoding="ascii")
        _be_scheduled_as(int(os.environ.get("AFTERSHOCK_MEMBER_PID", "0")))
        mine = str(os.getpid())
        for folder in arguments[2:end]:
            procs = Path(folder, "cgroup.procs")
            procs.write_text(mine, encoding="ascii")
            if mine not in procs.read_text(encoding="ascii").split():
                raise OSError(f"{procs} does not list this process after having taken it")
        program = arguments[end + 1 :]
        os.execv(program[0], program)
    except BaseException as error:
        os.write(report, f"{type(error).__name__}: {error}".encode()[:2000])
        os._exit(70)


def _be_scheduled_as(member: int) -> None:
    """Compete with the member as an equal, whatever class and niceness the tool itself was started with.

    Real-time classes are not taken over: a helper that burns in one would hold up more than the member.
    """
    if not member:
        return
    with contextlib.suppress(PermissionError, ProcessLookupError):
        policy = os.sched_getscheduler(member)
        if policy in (os.SCHED_OTHER, os.SCHED_BATCH, os.SCHED_IDLE):
            os.sched_setscheduler(0, policy, os.sched_param(0))
            os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, member))


if __name__ == "__main__":
    main(sys.argv[1:])
