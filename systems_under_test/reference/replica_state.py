"""What a replica is made of, whichever role it plays: configuration, log, applied state, and its promise not to open.

Effects are gathered here in the order in which they must be carried out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .invariants import InvariantError
from .messages import Append, Config, Effect, Entry, PeerMessage, Recovered, Send, Store, Truncate
from .settings import ClusterSettings
from .state_machine import Result, StateMachine

__all__ = ["ReplicaState"]


class ReplicaState:
    """Durable and volatile state of one shard on one store (docs/replication.md section 2)."""

    __slots__ = (
        "clock",
        "commit",
        "config",
        "damaged",
        "effects",
        "entries",
        "grant_until_ns",
        "machine",
        "machine_type",
        "settings",
        "shard",
        "store",
        "synced",
    )

    def __init__(
        self,
        *,
        shard: int,
        store: Store,
        settings: ClusterSettings,
        clock: Callable[[], int],
        recovered: Recovered,
        machine_type: type[StateMachine],
    ) -> None:
        self.shard = shard
        self.store = store
        self.settings = settings
        self.clock = clock
        self.config: Config | None = recovered.config
        self.damaged = recovered.damaged
        self.entries: list[Entry] = list(recovered.entries)  # the entry with index i is at i - 1
        self.synced = len(self.entries)  # X1: the shell fsyncs the log once before it hands it over
        self.commit = 0  # X2: nothing is known to be committed until somebody says so
        self.machine_type = machine_type
        self.machine = machine_type(dedupe_entries=settings.dedupe_entries)
        # L5: what was granted before the process started is forgotten, but still binds.
        self.grant_until_ns = clock() + settings.grant_ns
        self.effects: list[Effect] = []

    @property
    def last_index(self) -> int:
        return len(self.entries)

    def term_at(self, index: int) -> int:
        """Term of the entry at `index`; 0 before the first one."""
        return self.entries[index - 1].term if index > 0 else 0

    @property
    def commit_is_final(self) -> bool:
        """False with two unsafe settings: an asynchronous primary calls committed what its backups never saw, and

        without fencing a zombie rewrites history. There, dropping it is the broken promise that they exist to show.
        """
        return self.settings.fencing and self.settings.ack == "all"

    def send(self, to: Store, message: PeerMessage) -> None:
        self.effects.append(Send(to, message))

    def append(self, entries: Sequence[Entry]) -> None:
        """Write entries at the end of the log; durable when `synced` says so."""
        self.entries.extend(entries)
        self.effects.append(Append(self.shard, tuple(entries)))

    def truncate(self, from_index: int) -> None:
        """Drop entries from `from_index` on (rule F3), which must be above the commit index."""
        if from_index <= self.commit:
            if self.commit_is_final:
                raise InvariantError(
                    "I7", f"shard {self.shard}: asked to drop entries from {from_index}, committed is {self.commit}"
                )
            self._forget_applied(from_index - 1)
        del self.entries[from_index - 1 :]
        self.synced = min(self.synced, from_index - 1)
        self.effects.append(Truncate(self.shard, from_index))

    def _forget_applied(self, commit: int) -> None:
        """Unsafe settings only: go back to the state as it was after `commit`."""
        self.commit = 0
        self.machine = self.machine_type(dedupe_entries=self.settings.dedupe_entries)
        self.advance(commit)

    def advance(self, commit: int) -> list[Result]:
        """Move the commit index up to `commit` and apply in order. Returns one result for each newly applied entry."""
        applied = [self.machine.apply(entry) for entry in self.entries[self.commit : commit]]
        self.commit = commit
        return applied
