"""The final reads: after everything is healed, every key that was ever attempted is read once more, linearizably.

They run in the harness's process: a plain thread per router, batches of keys by multi-get. Each key of a batch is an
operation of a process of its own, recorded before the batch is sent like any other. A key that was not read is tried
again, at another router if there is one, until the deadline; each try is an operation.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from ..harness.operation import REQUEST, Outcome
from . import outcomes
from .arrivals import worker_count
from .outcomes import Completion
from .recorder import NoSlotError, Recorder, Slot
from .requests import Request
from .slots import FINAL, FUNCTIONS, State, read_all
from .spec import LoadFile
from .values import Identity

__all__ = ["BATCH_KEYS", "FinalReads", "attempted_keys", "read_everything"]

BATCH_KEYS: Final = 100
_BATCH_TIMEOUT_S: Final = 5.0
_RETRY_PAUSE_S: Final = 0.1

Key = tuple[int, int]  # space, number


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalReads:
    """How many keys were read, which could not be, and why not (in words; None when all were read)."""

    read: int
    failed: tuple[str, ...]
    problem: str | None = None


def attempted_keys(folder: Path) -> list[Key]:
    """Every key that any load process may have written to, in order, from the slots."""
    writes = [number for number, name in enumerate(FUNCTIONS) if name not in ("read", REQUEST)]
    found: list[np.ndarray] = []
    for _, slots, _ in read_all(folder):
        attempted = slots[
            np.isin(slots["f"], writes) & (slots["state"] != State.NOT_SENT) & ((slots["flags"] & FINAL) == 0)
        ]
        found.append(np.unique(attempted[["space", "key"]]))
    if not found:
        return []
    return [(int(space), int(key)) for space, key in np.unique(np.concatenate(found))]


def read_everything(spec: LoadFile, folder: Path, *, deadline_s: float) -> FinalReads:
    """Read all attempted keys through all routers, for `deadline_s` at most. Once per load."""
    keys = attempted_keys(folder)
    if not keys:
        return FinalReads(read=0, failed=())
    work = _Work(keys)
    deadline_ns = time.monotonic_ns() + round(deadline_s * 1e9)
    readers = [
        _Reader(spec, folder, group=group, work=work, deadline_ns=deadline_ns) for group in range(len(spec.groups))
    ]
    threads = [threading.Thread(target=reader.run, name=f"final-reads-{i}") for i, reader in enumerate(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    failed = tuple(_name(spec, key) for key in sorted(work.left()))
    problems = [reader.problem for reader in readers if reader.problem is not None]
    return FinalReads(
        read=len(keys) - len(failed),
        failed=failed,
        problem=("; ".join(problems) or f"{len(failed)} keys could not be read in {deadline_s:g} s")
        if failed
        else None,
    )


class _Work:
    """Keys that are still to be read, shared by the readers' threads."""

    def __init__(self, keys: list[Key]) -> None:
        self._lock = threading.Lock()
        self._waiting = deque(keys)
        self._unread = set(keys)

    def take(self) -> list[Key]:
        """The next batch; empty when nothing waits (another reader may still give something back)."""
        with self._lock:
            return [self._waiting.popleft() for _ in range(min(BATCH_KEYS, len(self._waiting)))]

    def give_back(self, keys: list[Key]) -> None:
        with self._lock:
            self._waiting.extend(keys)

    def done(self, key: Key) -> None:
        with self._lock:
            self._unread.discard(key)

    def left(self) -> set[Key]:
        with self._lock:
            return set(self._unread)


class _Reader:
    """Reads batches through one router. `problem` is the last thing that went wrong, in words."""

    def __init__(self, spec: LoadFile, folder: Path, *, group: int, work: _Work, deadline_ns: int) -> None:
        self.problem: str | None = None
        self._spec = spec
        self._group = group
        self._work = work
        self._deadline_ns = deadline_ns
        self._folder = folder
        self._name = f"final-{group}"
        self._client = spec.make_client(group)
        first = worker_count(spec.lanes())
        workers = first + spec.final_workers
        self._identities = [
            Identity(worker=first + group * BATCH_KEYS + place, workers=workers) for place in range(BATCH_KEYS)
        ]

    def run(self) -> None:
        try:
            recorder = Recorder(self._folder, self._name, slots_per_file=10 * BATCH_KEYS, final=True)
            while self._work.left() and time.monotonic_ns() < self._deadline_ns:
                batch = self._work.take()
                again = batch
                try:
                    again = self._read(recorder, batch)
                finally:
                    self._work.give_back(again)
                if not batch or again:
                    # What failed just now, or is in another reader's hands, is not served by asking without a pause.
                    time.sleep(_RETRY_PAUSE_S)
        except NoSlotError as error:
            self.problem = str(error)
        except Exception as error:
            # Nobody is above a thread: what a client of somebody's own does wrong must be in the run's account.
            self.problem = f"a client failed in its own code: {type(error).__name__}: {error}"
        finally:
            self._client.close()

    def _read(self, recorder: Recorder, batch: list[Key]) -> list[Key]:
        """Read one batch; returns the keys that were not read."""
        if not batch:
            return []
        recorded: list[tuple[Key, Identity, Slot]] = []
        now_ns = time.monotonic_ns()
        for key, identity in zip(batch, self._identities, strict=False):
            recorder.allocate()
            identity.begin()
            slot, _ = recorder.invoke(
                Request("read", key[1]),
                space=key[0],
                group=self._group,
                worker=identity.worker,
                process=identity.process,
                sequence=identity.sequence,
                intended_ns=now_ns,
            )
            recorded.append((key, identity, slot))
        completions, end_ns = self._ask(batch, self._identities[0])
        again = []
        for (key, identity, slot), completion in zip(recorded, completions, strict=True):
            recorder.complete(slot, end_ns, completion)
            if completion.outcome is Outcome.OK:
                self._work.done(key)
                continue
            again.append(key)
            self.problem = f"{self._spec.groups[self._group].name}: {outcomes.ERRORS[completion.error][1]}"
            if completion.outcome is Outcome.UNKNOWN:
                identity.renew()
        return again

    def _ask(self, batch: list[Key], identity: Identity) -> tuple[list[Completion], int]:
        """How the read of each key ended, and when."""
        names = [_name(self._spec, key) for key in batch]
        # The last batch may end a little after the deadline: cutting it short would turn an answer into none.
        timeout_ns = round(_BATCH_TIMEOUT_S * 1e9)
        completions = self._client.read_many(
            names,
            request_id=f"{self._spec.token}-{identity.process}:{identity.sequence}",
            deadline_ns=time.monotonic_ns() + timeout_ns,
        )
        # Judging is in this interval too: it may only be longer than what happened, never shorter.
        return list(completions), time.monotonic_ns()


def _name(spec: LoadFile, key: Key) -> str:
    return f"{spec.spaces[key[0]].key_prefix}{key[1]}"
