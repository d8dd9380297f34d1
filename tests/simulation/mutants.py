"""The protocol with one line taken out, and the sequence that must show it.

A mutant is a replacement in the source of one module, so that production code needs no hooks; the text must occur
exactly once, or building it fails and says so. The modules around it are loaded afresh against the changed one.
"""

from __future__ import annotations

import inspect
import sys
import types
from dataclasses import dataclass, replace
from typing import Any

from aftershock.systems_under_test.reference import replica, replica_primary, replica_state, state_machine
from aftershock.systems_under_test.reference.replica import Replica

from . import sequences as do
from .observer import watched
from .sequences import Sequence
from .world import AGGRESSIVE, DEFAULT

CORE = (state_machine, replica_state, replica_primary, replica)  # in the order of their imports


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """`edits`: (old text, new text) in `module`."""

    rule: str
    what: str
    module: types.ModuleType
    edits: tuple[tuple[str, str], ...]
    sequence: Sequence

    def build(self) -> type[Replica]:
        """The replica without that line. Raises LookupError when the line is not there exactly once."""
        loaded: dict[str, types.ModuleType] = {}
        saved = {module.__name__: sys.modules[module.__name__] for module in CORE}
        try:
            for original in CORE:
                source = inspect.getsource(original)
                if original is self.module:
                    source = self._edit(source)
                fresh = types.ModuleType(original.__name__)
                fresh.__package__ = original.__package__
                fresh.__file__ = original.__file__
                sys.modules[original.__name__] = fresh
                exec(compile(source, f"<{self.rule}> {original.__file__}", "exec"), fresh.__dict__)
                loaded[original.__name__] = fresh
        finally:
            sys.modules.update(saved)
        base: type[Replica] = loaded[replica.__name__].Replica
        machine = watched(loaded[state_machine.__name__].StateMachine)
        return type(f"Without{self.rule}", (base,), {"machine_type": machine})

    def _edit(self, source: str) -> str:
        for old, new in self.edits:
            if source.count(old) != 1:
                raise LookupError(
                    f"mutant {self.rule}: this text occurs {source.count(old)} times in {self.module.__name__}, "
                    f"expected once; follow the change in tests/simulation/mutants.py:\n{old}"
                )
            source = source.replace(old, new)
        return source


ISOLATED = Sequence(act=do.isolate_primary_with_readers, settings=AGGRESSIVE, world=do.READING)

MUTANTS = (
    Mutant(
        rule="P1",
        what="a new primary does not wait for its promises to run out",
        module=replica_primary,
        edits=(("if state.settings.lease and now < state.grant_until_ns:  # P1\n            return", "pass"),),
        sequence=ISOLATED,
    ),
    Mutant(
        rule="L5",
        what="what was granted before a restart does not bind",
        module=replica_state,
        edits=(("self.grant_until_ns = clock() + settings.grant_ns", "self.grant_until_ns = 0"),),
        sequence=Sequence(act=do.backups_restart_while_primary_is_cut_off, settings=AGGRESSIVE, world=do.READING),
    ),
    Mutant(
        rule="Q3",
        what="the lease is not looked at when a read is answered",
        module=replica_primary,
        edits=(
            (
                'self.lease_holds(self._state.clock()):  # Q3\n            return self._refuse(token, "no lease")',
                "False:\n            pass",
            ),
        ),
        sequence=ISOLATED,
    ),
    Mutant(
        rule="Q3-flag",
        what="the lease is a flag kept by the beacon timer instead of the clock",
        module=replica_primary,
        edits=(
            ("not self.lease_holds(self._state.clock()):  # Q3", "not self.flag:"),
            ("        self.on_config()\n\n", "        self.flag = False\n        self.on_config()\n\n"),
            (
                "        self._notice_pause(now)\n        if self.released:",
                "        self.flag = self.lease_holds(now)\n        if self.released:",
            ),
        ),
        sequence=Sequence(act=do.primary_sleeps_with_reads_in_its_sockets, world=do.READING),
    ),
    Mutant(
        rule="A1",
        what="an adopted configuration is not made durable",
        module=replica,
        edits=(("state.effects.append(SaveConfig(config))  # A1", "pass  #"),),
        sequence=Sequence(act=do.restarted_backup_meets_the_old_primary, world={"read_share": 0.0}),
    ),
    Mutant(
        rule="F3",
        what="a conflicting entry is kept",
        module=replica,
        edits=(
            (
                (
                    "                state.truncate(entry.index)\n"
                    "                if self._primary is not None:  # only without fencing\n"
                    "                    self._primary.on_truncated()\n"
                    "                break\n"
                ),
                "                pass\n",
            ),
        ),
        sequence=Sequence(act=do.isolated_primary_rejoins),
    ),
    Mutant(
        rule="F3-eager",
        what="every Replicate cuts the log at its end, not only a conflicting one",
        module=replica,
        edits=(
            (
                "        if skip < len(entries):\n",
                (
                    "        end = prev + skip\n"
                    "        if skip == len(entries) and state.last_index > end:\n"
                    "            state.truncate(end + 1)\n"
                    "        if skip < len(entries):\n"
                ),
            ),
        ),
        sequence=Sequence(act=do.links_reorder),
    ),
    Mutant(
        rule="F5",
        what="entries are acknowledged before they are durable",
        module=replica,
        edits=(
            ("if state.synced >= self._verified:  # F5; otherwise on_synced acknowledges", "if True:"),
            ("min(self._verified, state.synced)", "self._verified"),
        ),
        sequence=Sequence(act=do.everybody_loses_power),
    ),
    Mutant(
        rule="F6",
        what="commit is learned up to the own end instead of what was verified",
        module=replica,
        edits=(("min(message.commit, self._verified)  # F6", "min(message.commit, state.last_index)  #"),),
        sequence=Sequence(act=do.isolated_primary_restarts_then_rejoins, world={"think_ms": 6, "read_share": 0.0}),
    ),
    Mutant(
        rule="C2",
        what="the primary does not wait for its own fsync",
        module=replica_primary,
        edits=(("commit = state.synced  # C2", "commit = state.last_index"),),
        sequence=Sequence(act=do.primary_with_a_slow_disk_loses_power),
    ),
    Mutant(
        rule="P4",
        what="a new primary is active before its first entry is committed",
        module=replica_primary,
        edits=(("if state.commit >= self.noop_index and not self.active", "if not self.active"),),
        sequence=Sequence(
            act=do.primary_dies_and_backups_are_far_apart,
            settings=replace(DEFAULT, router_attempt_ns=60_000_000),
            world={"readers": 3, "keys": 1, "read_share": 0.0},
        ),
    ),
    Mutant(
        rule="J1",
        what="a joining learner does not count",
        module=replica_primary,
        edits=(("counted.append(self.joining)  # J1", "pass"),),
        sequence=Sequence(act=do.learner_joins_over_a_slow_link, world={"think_ms": 60}),
    ),
    Mutant(
        rule="L3",
        what="the lease counts from the receipt of the answer instead of the sending of the beacon",
        module=replica_primary,
        edits=(("until_ns = message.t_sent_ns + self", "until_ns = self._state.clock() + self"),),
        sequence=Sequence(act=do.late_beacon_acks_then_isolation, world=do.READING),
    ),
    Mutant(
        rule="L2-drift",
        what="the promise lasts as long as the lease, with no margin for clock drift",
        module=replica,
        edits=(("now + state.settings.grant_ns", "now + state.settings.lease_ns"),),
        sequence=Sequence(act=do.isolate_primary_with_readers, settings=AGGRESSIVE, world=do.DRIFTING),
    ),
    Mutant(
        rule="X4",
        what="a restarted primary goes on in its old term",
        module=replica,
        edits=(
            (
                "        self._primary: PrimaryRole | None = None  # X4",
                (
                    "        found = recovered.config\n"
                    "        again = found is not None and found.primary == store\n"
                    "        self._primary = self.primary_type(self._state, term=found.term) if again else None  #"
                ),
            ),
        ),
        sequence=Sequence(
            act=do.primary_with_a_slow_disk_loses_power, settings=replace(DEFAULT, suspect_ns=1_500_000_000)
        ),
    ),
    Mutant(
        rule="born",
        what="what may have been applied and forgotten is applied",
        module=state_machine,
        edits=(("        if born < self.floor:\n            return _TOO_OLD\n", ""),),
        sequence=Sequence(
            act=do.requests_arrive_late_and_twice, settings=replace(DEFAULT, dedupe_entries=48), world={"think_ms": 6}
        ),
    ),
    Mutant(
        rule="W3",
        what="a retried request is applied again",
        module=state_machine,
        edits=(("        if seen is not None:\n            return seen\n", ""),),
        sequence=Sequence(act=do.requests_arrive_late_and_twice),
    ),
)

UNSAFE: dict[str, tuple[dict[str, Any], Sequence]] = {
    "ack": ({"ack": "primary"}, Sequence(act=do.cut_replication_of_the_primary)),
    "lease": ({"lease": False}, Sequence(act=do.isolate_primary_with_readers, world=do.READING)),
    "fencing": ({"fencing": False}, Sequence(act=do.zombie_wakes_unaware)),
    "read_from": ({"read_from": "any"}, Sequence(act=do.nothing_but_distance)),
    "min_in_sync": ({"min_in_sync": 1}, Sequence(act=do.primary_alone_then_its_disk_is_emptied)),
}
