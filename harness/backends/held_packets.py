"""Packets that are held, reordered or turned into resets, in the namespaces of those who receive them.

In each such namespace stands one table of ours, whose rule hands what comes from some sources to the packet queue. On
the receiver's side, for a sender whose packets are held at home stops sending after a few of them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from .. import nft
from ..identity import ProcessIdentity
from ..network_namespace import inside
from .nfqueue import add_queue_rule
from .packet_rules import input_text, read
from .queue_program import QueueProgram
from .undoing import Undoing

__all__ = ["HeldPackets", "Sources"]

_KEY: Final = "member-table"

# Source's address -> kind -> settings with "expires_ns", as packet_queue takes them.
Sources = Mapping[str, Mapping[str, Mapping[str, Any]]]


class HeldPackets:
    """The packet queue of one run and the rules that fill it."""

    def __init__(self, *, table: str, comment: str, program: QueueProgram, undoing: Undoing) -> None:
        self._table = table
        self._comment = comment
        self._program = program
        self._undoing = undoing
        self._told: dict[str, Sources] = {}
        self._processes: dict[str, ProcessIdentity] = {}
        self._queues: dict[str, int] = {}

    def bring(self, wanted: Mapping[str, Sources], processes: Mapping[str, ProcessIdentity]) -> None:
        """Hold exactly these, by receiving member. Raises SetupError, OSError or RuntimeError."""
        for name in set(self._told) - set(wanted):
            self._leave(name)
        if not wanted:
            self._program.close()
            return
        for name in wanted:
            if self._processes.get(name, processes[name]) != processes[name]:
                self._leave(name)  # it was started anew, and its old namespace is gone
        told = {n: {"process": processes[n].to_json(), "sources": sources} for n, sources in wanted.items()}
        queues = self._program.tell(told)
        for name, sources in wanted.items():
            self._fill(name, processes[name], sources, queues[name])

    def sources(self) -> dict[str, dict[str, dict[str, Mapping[str, Any]]]]:
        """Member -> source -> kind -> settings that are on now: the rule stands in the kernel, the program runs."""
        found: dict[str, dict[str, dict[str, Mapping[str, Any]]]] = {}
        if not self._program.runs:
            return found
        for name, process in self._processes.items():
            try:
                objects = inside(process, lambda: nft.list_table("ip", self._table))
            except ProcessLookupError:
                continue  # the member has ended, and its namespace with it
            standing = {addresses[0] for addresses in read(objects or ()).get("held", {})}
            now_ns = time.monotonic_ns()
            for source, kinds in self._told[name].items():
                on = {kind: told for kind, told in kinds.items() if told["expires_ns"] > now_ns}
                if on and source in standing:
                    found.setdefault(name, {})[source] = on
        return found

    def acted(self) -> Mapping[str, Mapping[str, Mapping[str, int]]]:
        """Member -> source -> kind -> packets that the program did this to."""
        return self._program.acted()

    def _fill(self, name: str, process: ProcessIdentity, sources: Sources, queue: int) -> None:
        until = {source: max(told["expires_ns"] for told in kinds.values()) for source, kinds in sources.items()}
        make = self._queues.get(name) != queue
        key = (_KEY, name, process)
        self._undoing.announce(key, "delete-member-table", table=self._table, process=process.to_json(), what=name)

        def do() -> None:
            now_ns = time.monotonic_ns()
            nft.apply(input_text(self._table, self._comment, sources=until, now_ns=now_ns, make=make))
            if make:
                add_queue_rule(table=self._table, chain="input", sources="held", queue=queue)

        self._processes[name] = process
        self._told[name] = sources
        self._queues.pop(name, None)
        inside(process, do)
        self._queues[name] = queue

    def _leave(self, name: str) -> None:
        self._undoing.undo((_KEY, name, self._processes[name]))
        for each in (self._told, self._processes, self._queues):
            each.pop(name, None)
