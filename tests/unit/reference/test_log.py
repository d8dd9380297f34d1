"""The write-ahead log: what was synced comes back, a torn end is cut, a hole in the middle is damage."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from aftershock.systems_under_test.reference import log as log_module
from aftershock.systems_under_test.reference.log import Log, Recovery, initialise, recover, segment_path
from aftershock.systems_under_test.reference.messages import Config, Entry, Kind

HEADER_BYTES = 20


def entry(index: int, *, term: int = 1, value: Any = None) -> Entry:
    return Entry(index, term, Kind.PUT, ("c", index), 0, f"k{index}", (value if value is not None else index,))


def config(epoch: int, shard: int = 0) -> Config:
    return Config(shard=shard, epoch=epoch, term=1, primary="n1:a", isr=frozenset({"n1:a", "n2:b"}))


class Writer:
    """A log whose announcements can be waited for."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.synced: dict[int, tuple[int, int]] = {}
        self._news = threading.Condition()
        self.log = Log(folder, on_synced=self._on_synced, **options)

    def _on_synced(self, synced: dict[int, tuple[int, int]]) -> None:
        with self._news:
            self.synced |= synced
            self._news.notify_all()

    def wait_synced(self, shard: int, index: int) -> None:
        with self._news:
            assert self._news.wait_for(lambda: self.synced.get(shard, (0, 0))[1] >= index, timeout=10)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    initialise(tmp_path)
    return tmp_path


def fill(folder: Path) -> None:
    """Five single-entry records of shard 3, synced."""
    writer = Writer(folder)
    for index in range(1, 6):
        writer.log.append(3, [entry(index)])
        writer.wait_synced(3, index)
    writer.log.close()


def indexes(found: Recovery, shard: int = 3) -> list[int]:
    return [item.index for item in found.entries.get(shard, [])]


def test_what_was_written_comes_back(folder: Path) -> None:
    writer = Writer(folder)
    writer.log.append(1, [entry(1), entry(2, value={"deep": [1, "é", None, 2.5]})])
    writer.log.append(2, [entry(1)])
    writer.log.save_config(config(4, shard=1))
    writer.log.save_config(config(3, shard=2))
    writer.log.append(1, [entry(3), entry(4)])
    writer.log.truncate(1, 3)
    writer.log.append(1, [entry(3, term=2)])
    writer.log.close()
    found = recover(folder)
    assert not found.damaged
    assert not found.tail_cut
    assert found.entries[1] == [entry(1), entry(2, value={"deep": [1, "é", None, 2.5]}), entry(3, term=2)]
    assert indexes(found, 2) == [1]
    assert found.configs == {1: config(4, shard=1), 2: config(3, shard=2)}
    assert found.shards() == [1, 2]
    assert found.of(1).config == config(4, shard=1)


def test_an_announcement_made_before_a_truncation_is_not_believed_after_it(folder: Path) -> None:
    writer = Writer(folder)
    writer.log.append(1, [entry(1), entry(2)])
    writer.wait_synced(1, 2)
    generation, index = writer.synced[1]
    assert index == 2
    assert writer.log.is_current(1, generation)
    writer.log.truncate(1, 2)
    assert not writer.log.is_current(1, generation)
    assert writer.log.is_current(1, writer.synced[1][0])
    assert writer.synced[1][1] == 1
    writer.log.close()


def test_appends_that_wait_share_one_fsync(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, first = threading.Event(), threading.Event()

    def slow_sync(fd: int) -> None:
        first.set()
        gate.wait(10)
        os.fsync(fd)

    monkeypatch.setattr(log_module.os, "fdatasync", slow_sync)
    writer = Writer(folder)
    writer.log.append(1, [entry(1)])
    assert first.wait(10)
    for index in range(2, 50):
        writer.log.append(1, [entry(index)])
    gate.set()
    writer.wait_synced(1, 49)
    assert writer.log.syncs == 2
    writer.log.close()


def test_nothing_is_announced_before_its_fsync_and_a_failed_one_is_fatal(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_fd: int) -> None:
        raise OSError(5, "I/O error")

    monkeypatch.setattr(log_module.os, "fdatasync", broken)
    fatal: list[OSError] = []
    died = threading.Event()
    writer = Writer(folder, fatal=lambda error: (fatal.append(error), died.set()))
    writer.log.append(1, [entry(1)])
    assert died.wait(10)
    assert writer.synced == {}
    assert fatal[0].errno == 5


def test_cut_at_every_byte_of_the_end(folder: Path) -> None:
    """Whatever is left of the last record: the ones before it stay, the rest is cut and said."""
    fill(folder)
    path = segment_path(folder, 1)
    whole = path.read_bytes()
    ends = [position for position in range(len(whole)) if whole.startswith(b"\xabrec", position)]
    assert len(ends) == 5
    for size in range(ends[-2], len(whole) + 1):
        path.write_bytes(whole[:size])
        found = recover(folder)
        assert not found.damaged, size
        complete = 3 + (size >= ends[-1]) + (size == len(whole))
        assert indexes(found) == list(range(1, complete + 1)), size
        torn = size not in (ends[-2], ends[-1], len(whole))
        assert bool(found.tail_cut) == torn, size
        assert recover(folder).tail_cut == "", "the cut must be on disk"


def test_a_flipped_byte_in_the_middle_is_damage_and_stays_so(folder: Path) -> None:
    fill(folder)
    path = segment_path(folder, 1)
    whole = path.read_bytes()
    records = [position for position in range(len(whole)) if whole.startswith(b"\xabrec", position)]
    for position in range(records[1], records[2]):
        broken = bytearray(whole)
        broken[position] ^= 0x40
        path.write_bytes(broken)
        found = recover(folder)
        assert found.damaged, position
        assert not found.tail_cut
        assert indexes(found) == [1], "nothing behind a hole is believed"
        path.write_bytes(whole)
        assert recover(folder).damaged, "the mark is durable: a disk that healed itself is not trusted"
        (folder / "damaged").unlink()


def test_a_flipped_byte_in_the_last_record_looks_like_a_torn_write(folder: Path) -> None:
    fill(folder)
    path = segment_path(folder, 1)
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(whole)
    found = recover(folder)
    assert found.tail_cut
    assert not found.damaged
    assert indexes(found) == [1, 2, 3, 4]


def test_a_flipped_byte_in_the_header_is_damage(folder: Path) -> None:
    fill(folder)
    path = segment_path(folder, 1)
    whole = path.read_bytes()
    for position in range(HEADER_BYTES):
        broken = bytearray(whole)
        broken[position] ^= 1
        path.write_bytes(broken)
        assert recover(folder).damaged, position
        (folder / "damaged").unlink()


def test_a_value_that_looks_like_a_record_is_not_taken_for_one(folder: Path) -> None:
    """The end is torn inside a value that holds the bytes of a whole record of another log."""
    other = folder / "other"
    other.mkdir()
    initialise(other)
    fill(other)
    forged = segment_path(other, 1).read_bytes()[HEADER_BYTES:]
    writer = Writer(folder)
    writer.log.append(3, [entry(1)])
    writer.log.append(3, [entry(2, value=forged)])
    writer.log.close()
    path = segment_path(folder, 1)
    path.write_bytes(path.read_bytes()[:-1])
    found = recover(folder)
    assert found.tail_cut
    assert not found.damaged
    assert indexes(found) == [1]


def test_segments_roll_and_a_missing_one_is_damage(folder: Path) -> None:
    writer = Writer(folder, segment_bytes=300)
    for index in range(1, 30):
        writer.log.append(3, [entry(index)])
        writer.wait_synced(3, index)
    writer.log.close()
    count = len(list(folder.glob("log-*.wal")))
    assert count > 3
    found = recover(folder)
    assert not found.damaged
    assert indexes(found) == list(range(1, 30))
    segment_path(folder, 2).unlink()
    assert "missing" in recover(folder).damaged


def test_a_crash_while_a_segment_is_made(folder: Path) -> None:
    fill(folder)
    for size in range(HEADER_BYTES):
        segment_path(folder, 2).write_bytes(b"AFTERLOG\x00\x00\x00\x02abcdefgh"[:size])
        found = recover(folder)
        assert found.tail_cut
        assert not found.damaged
        assert indexes(found) == [1, 2, 3, 4, 5]
        assert not segment_path(folder, 2).exists()


def test_a_torn_record_in_an_older_segment_is_damage(folder: Path) -> None:
    fill(folder)
    path = segment_path(folder, 1)
    path.write_bytes(path.read_bytes()[:-1])
    log_module.create_segment(folder, 2)
    assert recover(folder).damaged


def test_no_segment_at_all_is_damage_and_the_log_still_takes_configurations(tmp_path: Path) -> None:
    assert recover(tmp_path).damaged
    writer = Writer(tmp_path)
    writer.log.save_config(config(7))
    writer.log.close()
    found = recover(tmp_path)
    assert found.damaged
    assert found.configs == {0: config(7)}


def test_a_folder_with_records_is_not_initialised_again(folder: Path) -> None:
    initialise(folder)  # an interrupted initialisation is repeated
    fill(folder)
    with pytest.raises(FileExistsError, match="no store id"):
        initialise(folder)


def test_death_by_a_failed_write_does_not_depend_on_standard_error(tmp_path: Path) -> None:
    """Standard error is often a file on the disk that is full; the node must not live on and vouch for lost entries."""
    program = (
        "import os, sys\n"
        "from aftershock.systems_under_test.reference.log import _die\n"
        "os.dup2(os.open('/dev/full', os.O_WRONLY), 2)\n"
        "_die(OSError(28, 'No space left on device'))\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == log_module.EXIT_IO
