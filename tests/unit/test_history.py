"""Histories on disk: whole batches survive a torn stream, and what cannot be trusted is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from aftershock.harness.errors import RunFolderError
from aftershock.harness.history import load_history
from aftershock.harness.operation import OPERATION_COLUMNS

from tests.runs import Run, write_stream


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    run = Run(tmp_path / "unused", duration_s=10)
    run.steady_load()
    return run.operations


def test_all_streams_of_a_folder_make_one_table(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    write_stream(tmp_path / "load-0.arrow", rows[:400])
    write_stream(tmp_path / "load-1.arrow", rows[400:])
    history = load_history(tmp_path)
    assert history.frame.columns == list(OPERATION_COLUMNS)
    assert history.frame.height == len(rows) == 1000
    assert history.holes == ()


def test_a_missing_folder_is_no_operations(tmp_path: Path) -> None:
    history = load_history(tmp_path / "history")
    assert history.frame.height == 0
    assert history.frame.columns == list(OPERATION_COLUMNS)


def test_a_torn_stream_gives_all_its_whole_batches_and_a_hole(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    """Wherever the writer is killed, what it flushed counts and the hole is known."""
    path = tmp_path / "load-0.arrow"
    write_stream(path, rows, batch=100)
    whole = path.read_bytes()
    seen = set()
    for cut in range(len(whole) - 1, 2000, -len(whole) // 37):
        path.write_bytes(whole[:cut])
        history = load_history(tmp_path)
        assert history.frame.height % 100 == 0
        assert history.holes, f"cut at {cut} of {len(whole)} bytes went unnoticed"
        assert history.holes[0].startswith("history/load-0.arrow stops in the middle after")
        seen.add(history.frame.height)
    assert {0, 500, 900} <= seen


def test_a_stream_without_its_end_marker_is_a_hole(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    """Its last batch is whole, but nobody knows whether there was to be another."""
    path = tmp_path / "load-0.arrow"
    write_stream(path, rows)
    path.write_bytes(path.read_bytes()[:-8])
    history = load_history(tmp_path)
    assert history.frame.height == 1000
    assert "end marker is missing" in history.holes[0]


def test_an_empty_file_is_a_hole(tmp_path: Path) -> None:
    (tmp_path / "load-0.arrow").write_bytes(b"")
    assert load_history(tmp_path).holes == (
        "history/load-0.arrow stops in the middle after 0 whole operations: 0 bytes, too short for a stream",
    )


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "load-0.arrow").write_bytes(b"process,key,value\n" * 20)
    with pytest.raises(RunFolderError, match="is not an Arrow stream"):
        load_history(tmp_path)


def test_a_newer_schema_is_refused_by_name(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    write_stream(tmp_path / "load-0.arrow", rows, schema="2")
    with pytest.raises(RunFolderError, match="written with history schema 2, this version reads up to 1"):
        load_history(tmp_path)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    table = pa.table({"process": pa.array([1], pa.int64()), "key": pa.array(["k"])})
    with pa.OSFile(str(tmp_path / "load-0.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(RunFolderError, match="lacks the columns worker, client, space"):
        load_history(tmp_path)


def test_an_unknown_outcome_is_refused(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    write_stream(tmp_path / "load-0.arrow", [{**rows[0], "outcome": "perhaps"}])
    with pytest.raises(RunFolderError, match="outcome 'perhaps', expected ok, fail or unknown"):
        load_history(tmp_path)


def test_nulls_where_none_may_be_are_refused(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    fields = [pa.field(name, pa.string() if name == "key" else pa.null()) for name in OPERATION_COLUMNS]
    table = pa.table({f.name: pa.array([None], f.type) for f in fields})
    with pa.OSFile(str(tmp_path / "load-0.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(RunFolderError, match="column process holds 1 nulls, expected none"):
        load_history(tmp_path)
