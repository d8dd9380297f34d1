"""Slots and their conversion: what was sent is known, whatever instant the load process died at."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from aftershock.harness.errors import InternalError, RunFolderError
from aftershock.harness.interfaces import Address
from aftershock.harness.operation import OPERATION_COLUMNS, Outcome
from aftershock.workloads import recorder as recorder_module
from aftershock.workloads.cas_register import CasRegister
from aftershock.workloads.convert import convert, operations, schema
from aftershock.workloads.insert_only import InsertOnly
from aftershock.workloads.outcomes import ERROR_CODES, ERRORS, Completion
from aftershock.workloads.recorder import NoSlotError, Recorder, Slot
from aftershock.workloads.requests import Request
from aftershock.workloads.slots import (
    COMPLETION_OFFSET,
    HEADER_BYTES,
    SLOT,
    SLOT_BYTES,
    State,
    header,
    read_file,
)
from aftershock.workloads.spec import SPEC_FILE, Group, LoadFile, make_space

REFERENCE = "aftershock.workloads.clients.reference:ReferenceClient"


def specification(**changes: Any) -> LoadFile:
    spec = LoadFile(
        token="test",
        seed=7,
        rate_per_s=10,
        duration_s=1,
        timeout_s=1,
        in_flight=3,
        processes=1,
        record=True,
        slots_per_file=10,
        final_workers=100,
        client=REFERENCE,
        groups=tuple(Group(name=f"clients-r{n}", addresses={"router": Address("127.0.0.1", n)}) for n in (1, 2)),
        spaces=(make_space("cas-register", 0.5, {}, CasRegister), make_space("insert-only", 0.5, {}, InsertOnly)),
    )
    return spec.model_copy(update=changes)


def invoke(recorder: Recorder, request: Request, *, space: int = 0, sequence: int = 1, intended_ns: int = 0) -> Slot:
    slot, _ = recorder.invoke(
        request, space=space, group=1, worker=4, process=5, sequence=sequence, intended_ns=intended_ns
    )
    return slot


def history(folder: Path, **options: Any) -> pl.DataFrame:
    if not (folder / SPEC_FILE).exists():
        (folder / SPEC_FILE).write_text(specification().model_dump_json())
    convert(folder, folder / "history", shard_of=options.pop("shard_of", lambda key: None), **options)
    return pl.concat([pl.read_ipc_stream(path) for path in sorted((folder / "history").glob("*.arrow"))])


def test_the_slot_is_as_documented() -> None:
    assert SLOT_BYTES == 96
    assert SLOT.fields is not None
    assert SLOT.fields["end_ns"][1] == COMPLETION_OFFSET
    assert SLOT.fields["state"][1] == 0


def test_every_column_comes_back_as_it_was_recorded(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "load-0", slots_per_file=10)
    slot = invoke(recorder, Request("cas", 3, 5_000_001, 41), intended_ns=time.monotonic_ns())
    recorder.complete(slot, 99, Completion(Outcome.OK, "mismatch", seen=42, version=17, attempts=2))
    (row,) = history(tmp_path, shard_of=lambda key: int(key.removeprefix("h-")) * 2).to_dicts()

    assert list(row) == list(OPERATION_COLUMNS)
    assert row["start_ns"] >= row["intended_ns"] > 0
    del row["start_ns"], row["intended_ns"]
    assert row == {
        "process": 5,
        "worker": 4,
        "client": "clients-r2",
        "space": "cas-register",
        "f": "cas",
        "final": False,
        "key": "h-3",
        "shard": 6,
        "value": 5_000_001,
        "expected": 41,
        "observed": 42,
        "version": 17,
        "end_ns": 99,
        "outcome": "ok",
        "result": "mismatch",
        "error": "",
        "attempts": 2,
    }


@pytest.mark.parametrize(
    ("request_", "completion", "expected"),
    [
        (Request("read", 1), Completion(Outcome.OK, "found", seen=7, version=3), {"value": 7, "observed": None}),
        (Request("read", 1), Completion(Outcome.OK, "not-found", version=0), {"value": None, "version": 0}),
        (Request("cas", 1, 9, None), Completion(Outcome.OK, "mismatch", version=1), {"expected": None, "value": 9}),
        (Request("cas", 1, 9, 0), Completion(Outcome.OK, "done", version=1), {"expected": 0, "observed": None}),
        (Request("write", 1, 9), Completion(Outcome.FAIL, error="refused"), {"version": None, "end_ns": 50}),
        (Request("write", 1, 9), Completion(Outcome.UNKNOWN, error="gave-up"), {"end_ns": 50, "error": "gave-up"}),
        (Request("delete", 1), Completion(Outcome.OK, "done", version=8), {"value": None, "version": 8}),
    ],
)
def test_absent_is_null_and_never_zero(
    tmp_path: Path, request_: Request, completion: Completion, expected: dict[str, Any]
) -> None:
    recorder = Recorder(tmp_path, "load-0", slots_per_file=10)
    recorder.complete(invoke(recorder, request_), 50, completion)
    (row,) = history(tmp_path).to_dicts()

    assert {name: row[name] for name in expected} == expected


def test_an_invocation_without_end_is_unknown_and_open(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "load-0", slots_per_file=10)
    invoke(recorder, Request("write", 1, 9))
    (row,) = history(tmp_path).to_dicts()

    assert (row["outcome"], row["error"], row["end_ns"], row["value"]) == ("unknown", "interrupted", None, 9)
    assert row["start_ns"] is not None


def test_an_arrival_that_was_not_sent_is_a_fail_without_start(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "load-0", slots_per_file=10)
    recorder.not_sent(
        Request("write", 1, 9), space=0, group=0, worker=1, process=1, sequence=1, intended_ns=time.monotonic_ns()
    )
    (row,) = history(tmp_path).to_dicts()

    assert (row["outcome"], row["error"], row["start_ns"], row["end_ns"]) == ("fail", "not-sent", None, None)
    summary = json.loads((tmp_path / "history" / "load.json").read_text())
    assert (summary["planned"], summary["sent"], summary["not_sent"], summary["unplayed"]) == (10, 0, 1, 9)


def test_a_completion_cut_anywhere_leaves_a_whole_invocation(tmp_path: Path) -> None:
    """SIGKILL between any two bytes of the completion: the operation is unknown, and nothing of it is believed."""
    recorder = Recorder(tmp_path, "load-0", slots_per_file=1)
    slot = invoke(recorder, Request("write", 1, 9))
    recorder.complete(slot, 77, Completion(Outcome.OK, "done", version=12, attempts=3))
    path = tmp_path / "load-0-000000.slots"
    done = path.read_bytes()[HEADER_BYTES:]
    for written in range(COMPLETION_OFFSET, SLOT_BYTES):
        torn = bytes([State.INVOKED]) + done[1:written] + b"\0" * (SLOT_BYTES - written)
        path.write_bytes(header(1).ljust(HEADER_BYTES, b"\0") + torn)
        (row,) = history(tmp_path).to_dicts()
        assert (row["outcome"], row["end_ns"], row["version"], row["result"]) == ("unknown", None, None, "")
        assert (row["process"], row["value"], row["key"], row["attempts"]) == (5, 9, "h-1", 1)


def test_an_invocation_cut_anywhere_was_never_sent(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "load-0", slots_per_file=1)
    invoke(recorder, Request("write", 1, 9))
    path = tmp_path / "load-0-000000.slots"
    whole = path.read_bytes()[HEADER_BYTES:]
    for written in range(1, COMPLETION_OFFSET):
        torn = bytes([State.EMPTY]) + whole[1:written] + b"\0" * (SLOT_BYTES - written)
        path.write_bytes(header(1).ljust(HEADER_BYTES, b"\0") + torn)
        assert len(read_file(path)[0]) == 0


def test_files_are_made_ahead_and_allocated_whole(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "load-0", slots_per_file=50, needed=120)
    size = HEADER_BYTES + 50 * SLOT_BYTES
    for number in range(120):
        while recorder.wants_file:
            recorder.allocate()
        invoke(recorder, Request("write", number, number + 1), sequence=number + 1)
    files = sorted(tmp_path.glob("*.slots"))

    assert [path.name for path in files] == [f"load-0-{n:06}.slots" for n in range(3)]
    assert all(path.stat().st_size == size for path in files)
    assert all(path.stat().st_blocks * 512 >= size for path in files), "a sparse file meets the full disk too late"
    assert sorted(history(tmp_path)["key"].to_list()) == sorted(f"h-{n}" for n in range(120))
    for number in range(30):  # the third file has room for more than was asked for, and then it ends
        invoke(recorder, Request("write", number, 1))
    with pytest.raises(NoSlotError):
        invoke(recorder, Request("write", 0, 1))


def test_without_room_for_another_file_nothing_gets_a_slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(tmp_path, "load-0", slots_per_file=2)

    def no_space(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(recorder_module.os, "posix_fallocate", no_space)
    recorder.allocate()
    invoke(recorder, Request("write", 1, 1))
    invoke(recorder, Request("write", 2, 2))
    with pytest.raises(NoSlotError, match=r"cannot allocate 4288 bytes.*No space left.*free some space"):
        invoke(recorder, Request("write", 3, 3))
    assert not list(tmp_path.glob("*.partial"))

    monkeypatch.undo()
    recorder.allocate()
    invoke(recorder, Request("write", 3, 3))
    assert history(tmp_path)["key"].to_list() == ["h-1", "h-2", "h-3"]


def test_a_file_that_cannot_get_its_name_is_never_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its slots would be in a file that no reader finds: operations sent, and no hole known."""
    recorder = Recorder(tmp_path, "load-0", slots_per_file=2)

    def no_rename(self: Path, target: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "rename", no_rename)
    recorder.allocate()
    monkeypatch.undo()
    invoke(recorder, Request("write", 1, 1))
    invoke(recorder, Request("write", 2, 2))
    with pytest.raises(NoSlotError):
        invoke(recorder, Request("write", 3, 3))
    recorder.allocate()
    invoke(recorder, Request("write", 3, 3))

    assert history(tmp_path)["key"].to_list() == ["h-1", "h-2", "h-3"]


def test_a_first_file_that_cannot_be_made_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Recorder(tmp_path / "missing", "load-0", slots_per_file=2)


def test_a_truncated_file_is_a_known_hole(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "load-0", slots_per_file=10)
    for number in range(10):
        invoke(recorder, Request("write", number, number + 1))
    os.truncate(tmp_path / "load-0-000000.slots", HEADER_BYTES + 6 * SLOT_BYTES + 17)

    assert len(history(tmp_path)) == 6
    assert json.loads((tmp_path / "history" / "load.json").read_text())["holes"] == 4


def test_a_slot_with_nonsense_in_it_is_a_known_hole(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "load-0", slots_per_file=10)
    map_, offset = invoke(recorder, Request("write", 1, 1))
    invoke(recorder, Request("write", 2, 2))
    map_[offset] = 200

    assert history(tmp_path)["key"].to_list() == ["h-2"]
    assert json.loads((tmp_path / "history" / "load.json").read_text())["holes"] == 1


def test_a_file_that_is_not_ours_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "load-0-000000.slots"
    path.write_bytes(b"x" * 8000)

    with pytest.raises(InternalError, match=r"load-0-000000\.slots: is not a file of slots"):
        read_file(path)


def test_a_folder_without_a_load_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"holds no load-spec\.json"):
        convert(tmp_path, tmp_path / "history", shard_of=lambda key: None)


def test_the_schema_is_the_contract() -> None:
    assert schema().names == list(OPERATION_COLUMNS)
    for field in schema():
        assert field.nullable == OPERATION_COLUMNS[field.name].endswith("?")
        assert str(field.type) == OPERATION_COLUMNS[field.name].removesuffix("?")


def test_lateness_is_counted_from_the_schedule(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "load-0", slots_per_file=10)
    for late_ms in (0, 10, 49, 200):
        invoke(recorder, Request("write", 1, 1), intended_ns=time.monotonic_ns() - late_ms * 1_000_000)
    history(tmp_path)
    summary = json.loads((tmp_path / "history" / "load.json").read_text())

    assert summary["late_max_ms"] == pytest.approx(200, abs=1)
    # Three of ten planned arrivals were on time: those that were never reached were not.
    assert summary["on_time_ratio"] <= 0.3
    assert summary["errors"] == {"interrupted": 4}
    assert summary["generator_cpu"] is None


def test_every_error_code_says_what_it_means() -> None:
    assert all(meaning for _, meaning in ERRORS.values())
    assert len(ERROR_CODES) < 256


def test_a_million_slots_are_converted_column_by_column() -> None:
    """No assertion on time: this is the size that must work; benchmarks/recording.py measures."""
    slots = np.zeros(1_000_000, dtype=SLOT)
    slots["state"] = State.COMPLETE
    slots["space"] = np.arange(len(slots)) % 2
    slots["key"] = np.arange(len(slots)) % 1000
    asked: list[str] = []
    table = operations(slots, specification(), shard_of=lambda key: asked.append(key))

    assert table.num_rows == 1_000_000
    assert len(asked) == len(set(asked)) == 1000
    assert table.schema.equals(schema())
    assert table.column("key").type == pa.string()
