"""The write-ahead log of a node: one append-only file sequence shared by all of its shards.

A segment is a header and records. A record is

    marker (4 bytes) | length of payload (4) | CRC-32 of length and payload, seeded with the salt (4) | payload

with a msgpack payload: ["a", shard, [entry, ...]] appended, ["t", shard, index] truncated from index on, ["c", config].
The salt is random and is written in the header only, so no value that a client stores can look like a record.

What is found at a start (docs/replication.md rules X1, X5, X6): a broken record with no whole record after it is a torn
write and is cut; a broken record in the middle, or a missing segment, means that the disk lost what it had promised,
and the store is *damaged*. After power loss an unsynced page may be missing before one that was written; that looks
like damage and is treated so, which is safe. A failed fsync is fatal: what the kernel dropped cannot be written again.
"""

from __future__ import annotations

import os
import secrets
import struct
import threading
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

import msgpack  # type: ignore[import-untyped]

from .data_folder import DAMAGED_FILE, sync_folder, write_durably
from .messages import Config, Entry, Recovered
from .wire import WireError, pack, pack_config, pack_entry, unpack_config, unpack_entry

SEGMENT_BYTES: Final = 64 * 1024 * 1024
_MAGIC: Final = b"AFTERLOG"
_HEADER: Final = struct.Struct(">8sIII")  # magic, segment number, salt, CRC-32 of the three
_RECORD: Final = struct.Struct(">4sII")
_MARKER: Final = b"\xabrec"
RECORD_LIMIT: Final = 64 * 1024 * 1024
EXIT_IO: Final = 74  # EX_IOERR of sysexits.h

# Shard -> (generation, last index that is durable now). Ask `Log.is_current` before believing it: a truncation since
# then means that the index may name another entry now.
SyncedCallback = Callable[[dict[int, tuple[int, int]]], None]


@dataclass(slots=True)
class Recovery:
    """What the log held: per shard its configuration and entries, and what was wrong."""

    configs: dict[int, Config] = field(default_factory=dict)
    entries: dict[int, list[Entry]] = field(default_factory=dict)
    damaged: str = ""  # why, or empty
    tail_cut: str = ""  # what was cut, or empty

    def shards(self) -> list[int]:
        return sorted(self.configs.keys() | self.entries.keys())

    def of(self, shard: int) -> Recovered:
        """What the replica of one shard is started with. Damage and cuts concern the file, so every shard in it."""
        return Recovered(
            config=self.configs.get(shard),
            entries=tuple(self.entries.get(shard, ())),
            damaged=bool(self.damaged),
            tail_cut=bool(self.tail_cut),
        )


def segment_path(folder: Path, number: int) -> Path:
    return folder / f"log-{number:08d}.wal"


def _segments(folder: Path) -> list[int]:
    return sorted(int(path.stem[4:]) for path in folder.glob("log-*.wal") if path.stem[4:].isdigit())


# ---------------------------------------------------------------------------------------------- recovery


def recover(folder: Path) -> Recovery:
    """Read all segments, cut a torn tail, and fsync everything once before it is trusted (X1).

    Raises OSError. Damage is reported in the result and by a durable mark, never raised: the node must still say so
    to the controller.
    """
    found = Recovery()
    numbers = _segments(folder)
    mark = folder / DAMAGED_FILE
    if mark.exists():
        found.damaged = mark.read_text(errors="replace").strip() or "marked as damaged by an earlier start"
    if numbers != list(range(1, len(numbers) + 1)) or not numbers:
        found.damaged = found.damaged or f"segments {numbers or 'none'} found: one is missing"
    for number in numbers:
        _drop_from_cache(segment_path(folder, number))
    for number in numbers:
        _recover_segment(folder, number, is_last=number == numbers[-1], found=found)
    if found.damaged and not mark.exists():
        write_durably(mark, (found.damaged + "\n").encode())
    for number in numbers:
        _sync_path(segment_path(folder, number))
    sync_folder(folder)
    return found


def _drop_from_cache(path: Path) -> None:
    """Make the next read come from the disk: pages whose fsync failed stay in the cache, and count as clean."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _recover_segment(folder: Path, number: int, *, is_last: bool, found: Recovery) -> None:
    path = segment_path(folder, number)
    data = path.read_bytes()
    salt = _read_header(data, number)
    if salt is None:
        # A segment is used only after its header was synced. So in the last one there is nothing behind a broken
        # header, unless the header rotted; then it is longer than a header.
        if is_last and number > 1 and len(data) <= _HEADER.size:
            found.tail_cut = f"{path.name}: header was being written"
            path.unlink()
            sync_folder(folder)
        else:
            found.damaged = found.damaged or f"{path.name}: the header is broken"
        return
    position = _HEADER.size
    while position < len(data):
        payload = _read_record(data, position, salt)
        if payload is None:
            following = _next_whole_record(data, position + 1, salt)
            if following is None and is_last:
                found.tail_cut = f"{path.name}: {len(data) - position} bytes cut at offset {position}"
                os.truncate(path, position)
                return
            found.damaged = found.damaged or f"{path.name}: the record at offset {position} is broken"
            if following is None:
                return
            position = following
            continue
        _replay(payload, found, where=f"{path.name}: the record at offset {position}")
        position += _RECORD.size + len(payload)


def _read_header(data: bytes, number: int) -> int | None:
    if len(data) < _HEADER.size:
        return None
    magic, stored_number, salt, checksum = _HEADER.unpack_from(data)
    if magic != _MAGIC or stored_number != number or checksum != zlib.crc32(data[: _HEADER.size - 4]):
        return None
    return int(salt)


def _checksum(payload: bytes, salt: int) -> int:
    return zlib.crc32(payload, zlib.crc32(len(payload).to_bytes(4, "big"), salt))


def _read_record(data: bytes, position: int, salt: int) -> bytes | None:
    if len(data) - position < _RECORD.size:
        return None
    marker, length, checksum = _RECORD.unpack_from(data, position)
    start = position + _RECORD.size
    if marker != _MARKER or length > RECORD_LIMIT or start + length > len(data):
        return None
    payload = data[start : start + length]
    return payload if _checksum(payload, salt) == checksum else None


def _next_whole_record(data: bytes, position: int, salt: int) -> int | None:
    while (position := data.find(_MARKER, position)) >= 0:
        if _read_record(data, position, salt) is not None:
            return position
        position += 1
    return None


def _replay(payload: bytes, found: Recovery, *, where: str) -> None:
    try:
        kind, *rest = msgpack.unpackb(payload)
        if kind == "c":
            config = unpack_config(rest[0])
            known = found.configs.get(config.shard)
            if known is None or config.epoch > known.epoch:
                found.configs[config.shard] = config
        elif found.damaged:
            return  # entries behind a hole prove nothing; the configuration still says who may ask whom
        elif kind == "a":
            shard, entries = rest
            log = found.entries.setdefault(shard, [])
            for entry in map(unpack_entry, entries):
                if entry.index != len(log) + 1:
                    raise WireError(f"shard {shard}: entry {entry.index} follows {len(log)}")
                log.append(entry)
        elif kind == "t":
            shard, from_index = rest
            del found.entries.setdefault(shard, [])[max(from_index - 1, 0) :]
        else:
            raise WireError(f"unknown kind {kind!r}")
    except (ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
        found.damaged = found.damaged or f"{where} is whole but makes no sense: {error}"


def _sync_path(path: Path) -> None:
    if not path.exists():
        return
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# ---------------------------------------------------------------------------------------------- writing


class Log:
    """The open log. Appends are group-committed by one thread; configurations and truncations are durable on return.

    `on_synced` is called from the committing thread, or from the caller of a synchronous operation, with what has
    become durable since the last call; the node hands it over to its event loop.
    """

    def __init__(
        self, folder: Path, *, on_synced: SyncedCallback, segment_bytes: int = SEGMENT_BYTES, fatal: Any = None
    ) -> None:
        """Open for appending after `recover` (or `initialise`). Raises OSError."""
        self._folder = folder
        self._on_synced = on_synced
        self._segment_bytes = segment_bytes
        self._fatal: Callable[[Exception], None] = fatal or _die
        self._io = threading.Lock()  # held while writing and syncing
        self._pending_lock = threading.Lock()  # held for a moment
        self._pending: list[bytes] = []  # payloads not yet written
        self._pending_synced: dict[int, tuple[int, int]] = {}
        self._generation: dict[int, int] = {}  # shard -> number of truncations by this process
        self._wake: SimpleQueue[bool] = SimpleQueue()
        self._queued = False
        self.syncs = 0
        self.appended_records = 0
        number = max(_segments(folder), default=0)
        if number == 0:  # `recover` has marked the store as damaged; its configurations need a place all the same
            number = 1
            create_segment(folder, number)
        self._open_segment(number)
        self._thread = threading.Thread(target=self._commit_loop, name="log-commit", daemon=True)
        self._thread.start()

    def append(self, shard: int, entries: Iterable[Entry]) -> None:
        """Queue entries for the next group commit; `on_synced` follows."""
        entries = tuple(entries)
        if not entries:
            return
        payload = pack(("a", shard, [pack_entry(entry) for entry in entries]))
        with self._pending_lock:
            self._pending.append(payload)
            self._pending_synced[shard] = (self._generation.get(shard, 0), entries[-1].index)
            wake, self._queued = not self._queued, True
        if wake:
            self._wake.put(True)

    def save_config(self, config: Config) -> None:
        """Durable on return (A1)."""
        self._write_now(pack(("c", pack_config(config))))

    def truncate(self, shard: int, from_index: int) -> None:
        """Drop a shard's entries from `from_index` on. Durable on return. What is left is announced as durable anew."""
        generation = self._generation.get(shard, 0) + 1
        self._generation[shard] = generation
        self._write_now(pack(("t", shard, from_index)), synced=(shard, (generation, from_index - 1)))

    def is_current(self, shard: int, generation: int) -> bool:
        """Whether an announcement of this generation still speaks of the entries that are in the log."""
        return self._generation.get(shard, 0) == generation

    def close(self) -> None:
        """Write and sync what is queued, end the thread, close the file. `on_synced` is called for the rest."""
        self._wake.put(False)
        self._thread.join()
        self._commit()
        with self._io:
            os.close(self._fd)

    def _write_now(self, payload: bytes, synced: tuple[int, tuple[int, int]] | None = None) -> None:
        with self._pending_lock:
            self._pending.append(payload)
            if synced is not None:
                self._pending_synced[synced[0]] = synced[1]
        self._commit()

    def _commit_loop(self) -> None:
        while self._wake.get():
            with self._pending_lock:
                self._queued = False
            self._commit()

    def _commit(self) -> None:
        """Write all that is queued, in order, and sync it once."""
        with self._io:
            try:
                with self._pending_lock:
                    payloads, self._pending = self._pending, []
                    synced, self._pending_synced = self._pending_synced, {}
                if not payloads:
                    return
                data = b"".join([self._record(payload) for payload in payloads])
                self._write(data)
                os.fdatasync(self._fd)
                self.syncs += 1
                self.appended_records += len(payloads)
                if self._size >= self._segment_bytes:
                    self._roll()
            except Exception as error:  # also a bug of ours: a node whose commits silently stopped would only hang
                # Still holding the lock: the kernel tells of a failed sync once, and nobody may sync after it.
                self._fatal(error)
                return
        if synced:
            self._on_synced(synced)

    def _record(self, payload: bytes) -> bytes:
        if len(payload) > RECORD_LIMIT:
            raise OSError(f"record of {len(payload)} bytes; the limit is {RECORD_LIMIT}")
        return _RECORD.pack(_MARKER, len(payload), _checksum(payload, self._salt)) + payload

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = os.write(self._fd, view)
            self._size += written
            view = view[written:]

    def _roll(self) -> None:
        """Begin the next segment. The one before is synced already."""
        create_segment(self._folder, self._number + 1)
        os.close(self._fd)
        self._open_segment(self._number + 1)

    def _open_segment(self, number: int) -> None:
        path = segment_path(self._folder, number)
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        salt = _read_header(os.pread(self._fd, _HEADER.size, 0), number)
        if salt is None:
            # Only a damaged store comes here (`recover` says so); it appends configurations and nothing else.
            salt = 0
        self._number, self._salt, self._size = number, salt, os.fstat(self._fd).st_size


def create_segment(folder: Path, number: int) -> None:
    """Make an empty segment, durable in its folder. Raises OSError."""
    head = _HEADER.pack(_MAGIC, number, secrets.randbits(32), 0)[:-4]
    fd = os.open(segment_path(folder, number), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, head + zlib.crc32(head).to_bytes(4, "big"))
        os.fsync(fd)
    finally:
        os.close(fd)
    sync_folder(folder)


def initialise(folder: Path) -> None:
    """Make the first segment of a fresh folder. Call before the store id is written: the id marks the folder as used.

    A folder that holds records but no store id is refused by FileExistsError: it was not an interrupted initialisation.
    """
    numbers = _segments(folder)
    if any(segment_path(folder, number).stat().st_size > _HEADER.size for number in numbers):
        raise FileExistsError(
            f"{folder} holds a log but no store id; empty it to let the node come back as a new store"
        )
    for number in numbers:
        segment_path(folder, number).unlink()
    create_segment(folder, 1)


def _die(error: Exception) -> None:
    """A failed write or fsync: exit at once, from whichever thread (docs/replication.md section 1, disk)."""
    try:
        # Standard error is often a file on the very disk that is full.
        os.write(2, f"fatal: the log cannot be written: {error!r}; this process ends now\n".encode())
    finally:
        os._exit(EXIT_IO)
