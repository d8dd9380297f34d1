"""The packet queue: a program that holds packets back, changes their order, and turns them into resets.

    python -m aftershock.harness.backends.packet_queue

It is told on standard input, one JSON line each, what to do in which member's network namespace, and answers each
line on standard output. It acts on packets that a rule in that namespace hands to it (`nfqueue.add_queue_rule`), and
makes no rule itself. It ends when standard input does (its tool is gone) or when the time of everything is up; what it
holds then goes on at once, and so does what comes later, for the rule bypasses a queue to which nobody listens.

    {"members": {"n2": {"process": {...}, "sources": {"10.0.0.1": {"delay": {"latency_ms": 50, "jitter_ms": 0,
                                                                    "expires_ns": 8123...}}}}}}
    {"problem": "", "queues": {"n2": 31337}}
    {}                                                      only asks
    {"problem": "", "queues": {...}, "acted": {"n2": {"10.0.0.1": {"delay": 12}}}}

Kinds: `delay` (latency_ms, jitter_ms), `reorder` (percent, hold_ms), `reset`. Standard library only.
"""

from __future__ import annotations

import heapq
import itertools
import json
import os
import random
import select
import signal
import socket
import sys
import time
from typing import Any, Final

from ..identity import ProcessIdentity
from ..network_namespace import inside
from .nfqueue import PacketQueue
from .segments import Segment

__all__ = ["Holder", "main"]

_BATCH: Final = 64
_IDLE_S: Final = 60.0

# What a source's packets suffer: kind -> settings, as they were told.
_Kinds = dict[str, dict[str, Any]]


class Member:
    """The queue of one member's namespace, and what to do to the packets of each source."""

    def __init__(self, process: ProcessIdentity, rng: random.Random) -> None:
        self.process = process
        self.queue, self._raw = inside(process, lambda: (PacketQueue(rng), _raw_socket()))
        self.sources: dict[bytes, _Kinds] = {}
        self.acted: dict[tuple[bytes, str], int] = {}

    def close(self) -> None:
        self.queue.close()
        self._raw.close()

    def count(self, source: bytes, kind: str) -> None:
        self.acted[source, kind] = self.acted.get((source, kind), 0) + 1

    def reset(self, packet: int, segment: Segment) -> None:
        """The receiver gets a reset in place of these bytes, and their sender one too."""
        self.queue.replace(packet, segment.reset_for_receiver())
        self._raw.sendto(segment.reset_for_sender(), (socket.inet_ntoa(segment.source), 0))


class Holder:
    """All packets that are held back, over all members, in the order in which they go on."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._members: dict[str, Member] = {}
        self._held: list[tuple[int, int, Member, int]] = []
        self._count = itertools.count()

    def tell(self, wanted: dict[str, Any]) -> None:
        """Bring members and sources to exactly these. Raises OSError when a namespace cannot be entered."""
        for name in set(self._members) - set(wanted):
            self._leave(name)
        for name, each in wanted.items():
            process = ProcessIdentity.from_json(each["process"])
            if name in self._members and self._members[name].process != process:
                self._leave(name)
            if name not in self._members:
                self._members[name] = Member(process, self._rng)
            self._members[name].sources = {socket.inet_aton(a): kinds for a, kinds in each["sources"].items()}

    def answer(self) -> dict[str, Any]:
        acted: dict[str, Any] = {}
        for name, member in self._members.items():
            of_member = acted[name] = {}
            for (source, kind), count in member.acted.items():
                of_member.setdefault(socket.inet_ntoa(source), {})[kind] = count
        queues = {name: member.queue.number for name, member in self._members.items()}
        return {"problem": "", "queues": queues, "acted": acted}

    def queues(self) -> dict[int, Member]:
        return {member.queue.fileno(): member for member in self._members.values()}

    def take(self, member: Member) -> None:
        """What has come for a member: each packet goes on, is held, or becomes a reset."""
        for packet in member.queue.packets(_BATCH):
            now_ns = time.monotonic_ns()
            source = packet.head[12:16]
            kinds = member.sources.get(source, {})
            on = {kind: told for kind, told in kinds.items() if told["expires_ns"] > now_ns}
            if "reset" in on:
                segment = Segment.parse(packet.head)
                if segment is not None and segment.carries_data:
                    member.count(source, "reset")
                    member.reset(packet.id, segment)
                    continue
            wait_ns = self._wait_ns(member, source, on)
            if wait_ns <= 0:
                member.queue.accept(packet.id)
            else:
                heapq.heappush(self._held, (now_ns + wait_ns, next(self._count), member, packet.id))

    def _wait_ns(self, member: Member, source: bytes, on: _Kinds) -> int:
        wait_ns = 0
        if "delay" in on:
            told = on["delay"]
            jitter_ns = told["jitter_ms"] * 1_000_000
            wait_ns += told["latency_ms"] * 1_000_000 + (self._rng.randint(-jitter_ns, jitter_ns) if jitter_ns else 0)
            member.count(source, "delay")
        if "reorder" in on and self._rng.random() * 100 < on["reorder"]["percent"]:
            wait_ns += on["reorder"]["hold_ms"] * 1_000_000
            member.count(source, "reorder")
        return wait_ns

    def release_due(self) -> None:
        now_ns = time.monotonic_ns()
        while self._held and self._held[0][0] <= now_ns:
            _, _, member, packet = heapq.heappop(self._held)
            member.queue.accept(packet)

    def release_all(self) -> None:
        for _, _, member, packet in sorted(self._held, key=lambda held: held[:2]):
            member.queue.accept(packet)
        self._held.clear()

    def due_s(self) -> float:
        """Seconds until something is to be done."""
        now_ns = time.monotonic_ns()
        next_ns = min([held[0] for held in self._held[:1]] + self._expiries_ns(), default=now_ns + int(_IDLE_S * 1e9))
        return max(0.0, (next_ns - now_ns) / 1e9)

    def is_over(self) -> bool:
        """Whether there was something to do, and the time of all of it is up."""
        now_ns = time.monotonic_ns()
        expiries_ns = self._expiries_ns(also_past=True)
        return bool(expiries_ns) and not self._held and max(expiries_ns) <= now_ns

    def _expiries_ns(self, *, also_past: bool = False) -> list[int]:
        now_ns = time.monotonic_ns()
        found = [
            int(told["expires_ns"])
            for member in self._members.values()
            for kinds in member.sources.values()
            for told in kinds.values()
        ]
        return [each for each in found if also_past or each > now_ns]

    def _leave(self, name: str) -> None:
        """Give back a member's packets and its queue."""
        member = self._members.pop(name)
        for _, _, holder, packet in sorted(self._held, key=lambda held: held[:2]):
            if holder is member:
                member.queue.accept(packet)
        self._held = [held for held in self._held if held[2] is not member]
        heapq.heapify(self._held)
        member.close()


def main() -> int:
    """Until standard input ends or all is over. Returns 0."""
    # Ctrl-C and a closed terminal are the tool's to answer; it ends this program by closing the pipe.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.set_blocking(0, False)
    holder, told = Holder(random.Random(os.urandom(16))), b""
    while not holder.is_over():
        queues = holder.queues()
        readable, _, _ = select.select([0, *queues], [], [], holder.due_s())
        holder.release_due()
        for descriptor in readable:
            if descriptor != 0:
                holder.take(queues[descriptor])
        if 0 in readable:
            data = os.read(0, 1 << 20)
            if not data:
                break
            *lines, told = (told + data).split(b"\n")
            for line in lines:
                _answer(holder, line)
    holder.release_all()
    return 0


def _answer(holder: Holder, line: bytes) -> None:
    problem = ""
    try:
        request = json.loads(line)
        if "members" in request:
            holder.tell(request["members"])
    except Exception as error:  # the tool says it, with the member; this program goes on with what it has
        problem = f"{type(error).__name__}: {error}"
    sys.stdout.write(json.dumps({**holder.answer(), "problem": problem}) + "\n")
    sys.stdout.flush()


def _raw_socket() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW)


if __name__ == "__main__":
    sys.exit(main())
