"""What each fault must do to members, measured from their side, and with which settings.

A bite is called on a whole cluster, where it takes what it compares with, and gives what is called in the fault.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from aftershock.harness.identity import os_state
from aftershock.harness.interfaces import Link

from tests.nightly.scene import Scene, Seen, cpu_of, tcp_counter

__all__ = ["BITES", "IMPOSSIBLE", "UNPROVABLE", "Bite", "settings_of"]

Measure = Callable[[Scene], Callable[[], None]]
PATIENT_S: Final = 30.0
# Shortest time after which TCP sends again what was lost: RTO_MIN of Linux is 0.2 s.
WAITED_S: Final = 0.18


class Bite(NamedTuple):
    """`id`: the fault, and what is special here. `target`: whether the fault has a target to be told."""

    id: str
    settings: dict[str, Any]
    measure: Measure
    target: bool = True

    @property
    def fault(self) -> str:
        return self.id.partition("/")[0]


def settings_of(bite: Bite, backend: str, target: str | None) -> dict[str, Any]:
    """With the target told, where the fault has one, and in a form that fits the system on this backend."""
    told = {"target": target} if bite.target and target is not None else {}
    one_way_in = bite.fault == "partition" and backend in ("compose", "url")
    return {**bite.settings, **told, **({"shape": "isolate-alone"} if one_way_in else {})}


def _both_answer(scene: Scene, link: Link | None = None) -> None:
    for seen in (scene.old(link, timeout_s=PATIENT_S), scene.new(link, timeout_s=PATIENT_S)):
        assert seen.answered, seen


def _neither_answers(scene: Scene) -> None:
    for seen in (scene.old(), scene.new()):
        assert not seen.answered, seen
    _both_answer(scene, scene.control)


# ------------------------------------------------------------------------------------------------ processes


def nothing(scene: Scene) -> Callable[[], None]:
    return lambda: _both_answer(scene)


def gone(scene: Scene) -> Callable[[], None]:
    before = scene.identity(scene.target)

    def look() -> None:
        assert not before.alive()
        _neither_answers(scene)

    return look


def stopped(scene: Scene) -> Callable[[], None]:
    before = scene.identity(scene.target)

    def look() -> None:
        assert os_state(before) == "T"
        _neither_answers(scene)
        assert before.alive()

    return look


def replaced(scene: Scene) -> Callable[[], None]:
    before = scene.identity(scene.target)

    def look() -> None:
        assert not before.alive()
        assert not scene.old().answered, "a connection of before leads nowhere any more"
        _until(lambda: scene.new().answered, "the new process answers")
        assert scene.identity(scene.target) != before

    return look


def looping(scene: Scene) -> Callable[[], None]:
    before = scene.identity(scene.target)

    def look() -> None:
        assert not before.alive()
        assert not scene.old().answered
        processes: set[object] = set()

        def others() -> bool:
            with contextlib.suppress(AssertionError):
                processes.add(scene.identity(scene.target))
            return len(processes) > 1

        _until(others, "a second process came and another one took its place")
        _until(lambda: not scene.new(timeout_s=0.5).answered, "it is down again")

    return look


def all_replaced(scene: Scene) -> Callable[[], None]:
    before = {name: scene.identity(name) for name in scene.nodes}

    def look() -> None:
        _until(lambda: not any(it.alive() for it in before.values()), "every node was stopped")
        for a, b in zip(scene.nodes, (*scene.nodes[1:], scene.nodes[0]), strict=True):
            assert not scene.old(Link(a, b)).answered, f"{a} -> {b} is a connection of before"
            _until(lambda a=a, b=b: scene.new(Link(a, b)).answered, f"{a} -> {b} answers anew")  # type: ignore[misc]

    return look


# ------------------------------------------------------------------------------------------------ networks


def cut(*, to_target: bool, from_target: bool) -> Measure:
    """What the two nodes see of each other when bytes to the target, or from it, vanish."""

    def before(scene: Scene) -> Callable[[], None]:
        def look() -> None:
            back = Link(scene.target, scene.other)
            there, here = scene.old(), scene.old(back)
            assert (there.delivered, there.answered) == (not to_target, False), there
            assert (here.delivered, here.answered) == (not from_target, False), here
            for link in (scene.link, back):
                assert not scene.new(link).answered
            _both_answer(scene, scene.control)

        return look

    return before


def delayed(least_s: float) -> Measure:
    """Every exchange takes at least so long, where the fastest before took less."""

    def before(scene: Scene) -> Callable[[], None]:
        assert min(scene.old(timeout_s=PATIENT_S).seconds for _ in range(5)) < least_s

        def look() -> None:
            for seen in (scene.old(timeout_s=PATIENT_S), scene.new(timeout_s=PATIENT_S)):
                assert seen.answered, seen
                assert seen.seconds >= least_s, seen
            assert min(scene.old(scene.control, timeout_s=PATIENT_S).seconds for _ in range(10)) < least_s

        return look

    return before


def waits(scene: Scene) -> Callable[[], None]:
    """Some exchanges wait for TCP to send again. With 30 % lost each way about half do, so none is no chance."""

    def slow(seen: list[Seen]) -> int:
        return sum(one.seconds >= WAITED_S for one in seen)

    def look() -> None:
        old = [scene.old(timeout_s=PATIENT_S) for _ in range(20)]
        new = [scene.new(timeout_s=PATIENT_S) for _ in range(8)]
        assert slow(old) >= 3, old
        assert slow(new) >= 1, new
        assert any(seen.answered for seen in old)
        assert any(seen.answered for seen in new)
        beside = [scene.old(scene.control, timeout_s=PATIENT_S) for _ in range(20)]
        assert slow(beside) < slow(old), beside

    return look


def counted(name: str, *, size_bytes: int = 0) -> Measure:
    """The receiver's own TCP counts what a network that is whole does not do, on an old and on a new connection."""

    def before(scene: Scene) -> Callable[[], None]:
        pid = scene.identity(scene.target).pid

        def grew(ask: Callable[..., Seen]) -> int:
            begun = tcp_counter(pid, name)
            for _ in range(10):
                seen = ask(timeout_s=PATIENT_S, size_bytes=size_bytes)
                assert seen.answered, seen
            return tcp_counter(pid, name) - begun

        usual = max(grew(scene.old), grew(scene.new))

        def look() -> None:
            assert grew(scene.old) >= usual + 3, f"{name} grew by {usual} before"
            assert grew(scene.new) >= usual + 3, f"{name} grew by {usual} before"

        return look

    return before


def narrow(*, kbit_per_s: int) -> Measure:
    """What the limit lets through in 2 s takes 1 s at least.

    At the default of 1 Mbit/s: below half of that what waits in front of the limit (64 KiB) waits for longer than a
    second, and the reference cluster's TCP_USER_TIMEOUT ends the connection.
    """
    size_bytes, least_s = kbit_per_s * 125 * 2, 1.0

    def before(scene: Scene) -> Callable[[], None]:
        usual = scene.old(timeout_s=PATIENT_S, size_bytes=size_bytes)
        assert usual.answered
        assert usual.seconds < least_s, usual

        def look() -> None:
            for ask in (scene.old, scene.new):
                seen = ask(timeout_s=PATIENT_S, size_bytes=size_bytes)
                assert seen.answered, seen
                assert seen.seconds >= least_s, seen

        return look

    return before


def ended(scene: Scene) -> Callable[[], None]:
    """Connections end instead of staying silent."""

    def look() -> None:
        for seen in (scene.old(timeout_s=PATIENT_S), scene.new(timeout_s=PATIENT_S)):
            assert not seen.answered, seen
            assert seen.seconds < PATIENT_S / 2, f"silence, not an end: {seen}"
        _both_answer(scene, scene.control)

    return look


# ------------------------------------------------------------------------------------------------ resources


def pressed(scene: Scene) -> Callable[[], None]:
    """Somebody else uses most of the CPU that the member's limit leaves it, the kernel throttles; it still answers."""

    def look() -> None:
        pid, cgroups = scene.identity(scene.target).pid, scene.cgroups(scene.target)
        v2 = "cpu" in cgroups.unified

        def used_s() -> float:
            if v2:
                return cgroups.counters("cpu", "cpu.stat")["usage_usec"] / 1e6
            return (cgroups.number("cpuacct", "cpuacct.usage") or 0) / 1e9

        throttled = cgroups.counters("cpu", "cpu.stat")["nr_throttled"]
        all_s, own_s = used_s(), cpu_of(pid)
        _until(lambda: used_s() - all_s > 1.0, "the cgroup used a second of CPU", deadline_s=120)
        all_s, own_s = used_s() - all_s, cpu_of(pid) - own_s
        assert own_s < all_s / 2, f"the member used {own_s:.2f} of {all_s:.2f} s"
        assert cgroups.counters("cpu", "cpu.stat")["nr_throttled"] > throttled
        _both_answer(scene)

    return look


def crowded(scene: Scene) -> Callable[[], None]:
    def share() -> float:
        cgroups = scene.cgroups(scene.target)
        names = ("memory.current", "memory.max")
        if "memory" not in cgroups.unified:
            names = ("memory.usage_in_bytes", "memory.limit_in_bytes")
        used, limit = (cgroups.number("memory", name) for name in names)
        assert used is not None
        assert limit is not None
        return used / limit

    usual = share()
    assert usual < 0.8, f"{usual:.0%} of the memory is in use before the fault"

    def look() -> None:
        assert share() > 0.85, f"{share():.0%} in use, {usual:.0%} before"
        _both_answer(scene)

    return look


# ------------------------------------------------------------------------------------------------ disks

_FSYNCS = """
import os, sys, time
old = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY, 0o600)
print('open', flush=True)
for path in sys.stdin:
    new = os.open(path.strip(), os.O_CREAT | os.O_WRONLY, 0o600)
    times = []
    for file in (old, new):
        begun = time.monotonic()
        for _ in range(10):
            os.write(file, b'x' * 4096)
            os.fsync(file)
        times.append(time.monotonic() - begun)
    print(*times, flush=True)
"""


def refuses(expected: int) -> Measure:
    """Writes to the member's disk fail with this error, to a file open before the fault and to a new one."""

    def before(scene: Scene) -> Callable[[], None]:
        folder = scene.disk(scene.target)

        def look() -> None:
            assert _write_error(lambda: os.open(folder / "new", os.O_CREAT | os.O_WRONLY, 0o600)) == expected
            assert _write_error(lambda: os.open(folder / "old", os.O_WRONLY)) == expected
            beside = scene.disk(scene.other) / "new"
            assert _write_error(lambda: os.open(beside, os.O_CREAT | os.O_WRONLY, 0o600)) == 0
            beside.unlink()

        # Kept open by nobody: a file system with an error cannot be mounted anew while anybody of ours has it open.
        (folder / "old").write_bytes(b"")
        return look

    return before


def _write_error(opened: Callable[[], int]) -> int:
    """The error of opening or of writing a megabyte with fsync; 0 when there was none."""
    try:
        descriptor = opened()
    except OSError as error:
        return error.errno or errno.EIO
    try:
        for _ in range(256):
            os.write(descriptor, b"x" * 4096)
        os.fsync(descriptor)
    except OSError as error:
        return error.errno or errno.EIO
    finally:
        os.close(descriptor)
    return 0


def slow(*, writes_per_s: int) -> Measure:
    """Writes with fsync from inside the member's limits take long, on a file open before and on a new one."""

    def before(scene: Scene) -> Callable[[], None]:
        folder, cgroups = scene.disk(scene.target), scene.cgroups(scene.target)
        entered = cgroups.folders["io" if "io" in cgroups.unified else "blkio"] / "cgroup.procs"
        writer = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _FSYNCS, str(folder / "old")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdin is not None
        assert writer.stdout is not None
        entered.write_text(str(writer.pid))
        assert writer.stdout.readline() == "open\n"

        def times() -> list[float]:
            assert writer.stdin is not None
            assert writer.stdout is not None
            print(folder / "new", file=writer.stdin, flush=True)
            return [float(word) for word in writer.stdout.readline().split()]

        usual = times()
        least_s = 10 / writes_per_s / 2
        assert min(usual) < least_s, usual

        def look() -> None:
            try:
                measured = times()
                assert min(measured) >= least_s, f"{measured}, {usual} before"
            finally:
                writer.kill()
                writer.communicate()
                for name in ("old", "new"):
                    (folder / name).unlink(missing_ok=True)

        return look

    return before


def _until(condition: Callable[[], object], what: str, *, deadline_s: float = 90.0) -> None:
    until = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < until, f"not within {deadline_s} s: {what}"
        time.sleep(0.02)


BITES: Final = [
    Bite("noop", {}, nothing, target=False),
    Bite("kill", {}, gone),
    Bite("pause", {"reaction_after_s": 60}, stopped),
    Bite("stop", {}, gone),
    Bite("restart", {}, replaced),
    Bite("restart/kill", {"by": "kill"}, replaced),
    Bite("crash-loop", {"kill_every_s": 2.5, "down_s": 0.5}, looping),
    Bite("rolling-restart", {"role": "node"}, all_replaced, target=False),
    *(
        Bite(f"partition/{direction}", {"direction": direction, "reaction_after_s": 60}, measure)
        for direction, measure in (
            ("both", cut(to_target=True, from_target=True)),
            ("out", cut(to_target=False, from_target=True)),
            ("in", cut(to_target=True, from_target=False)),
        )
    ),
    Bite("latency", {"latency_ms": 300}, delayed(0.55)),
    Bite("latency/out", {"latency_ms": 300, "direction": "out"}, delayed(0.28)),
    Bite("loss", {"percent": 30}, waits),
    Bite("duplicate", {"percent": 50}, counted("TCPDSACKOldSent")),
    Bite("reorder", {"percent": 30}, counted("TCPOFOQueue", size_bytes=256 * 1024)),
    Bite("bandwidth", {}, narrow(kbit_per_s=1000)),
    Bite("reset", {}, ended),
    Bite("cpu-pressure", {"percent": 1000}, pressed),
    Bite("memory-pressure", {}, crowded),
    Bite("oom-kill", {"deadline_s": 60}, gone),
    Bite("disk-full", {}, refuses(errno.ENOSPC)),
    Bite("disk-slow", {"writes_per_s": 10}, slow(writes_per_s=10)),
    Bite("disk-read-only", {}, refuses(errno.EROFS)),
]

_NO_PACKETS: Final = "carry byte streams, not packets"
_NO_LIMITS: Final = "no limits of their own"
_NO_DISKS: Final = "gives members' data no file system of its own"
# Backend -> fault that cannot be there -> what it must say.
IMPOSSIBLE: Final[dict[str, dict[str, str]]] = {
    "docker": {},
    "process": {
        **dict.fromkeys(("loss", "duplicate", "reorder"), _NO_PACKETS),
        **dict.fromkeys(("cpu-pressure", "memory-pressure", "oom-kill"), _NO_LIMITS),
        **dict.fromkeys(("disk-full", "disk-slow", "disk-read-only"), _NO_DISKS),
    },
    "compose": dict.fromkeys(("disk-full", "disk-slow", "disk-read-only"), _NO_DISKS),
    "url": {
        **dict.fromkeys(("cpu-pressure", "memory-pressure", "oom-kill"), _NO_LIMITS),
        **dict.fromkeys(("disk-full", "disk-slow", "disk-read-only"), _NO_DISKS),
    },
}
# Faults that bite there, but that the probes of such a service cannot prove, and what is said of it.
UNPROVABLE: Final[dict[str, dict[str, str]]] = {
    name: dict.fromkeys(("reorder", "bandwidth"), "exchange single small messages") for name in ("compose", "url")
}
