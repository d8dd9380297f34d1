"""What goes over to the native program: columns that say nothing are left out, nonsense is refused."""

from __future__ import annotations

import io
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aftershock.harness.porcupine import Engine, Model, Operations, programs
from aftershock.harness.porcupine._wire import Request, write_request

from tests.unit.porcupine.generate import Row, operations, read, write

REQUEST = Request(model=Model.REGISTER, engine=Engine.UNIQUE, deadline_ms=60_000, workers=2, initial={})


def sent(history: Operations) -> tuple[dict[str, Any], bytes]:
    target = io.BytesIO()
    write_request(target, history, REQUEST)
    header, _, columns = target.getvalue().partition(b"\n")
    return json.loads(header), columns


def answered(given: bytes, *, piped: bool = False, folder: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    program = os.environ.get("AFTERSHOCK_CHECKER") or programs.checker_path()
    if piped or folder is None:
        return subprocess.run([program], input=given, capture_output=True, timeout=60, check=False)
    (folder / "input").write_bytes(given)
    with (folder / "input").open("rb") as source:
        return subprocess.run([program], stdin=source, capture_output=True, timeout=60, check=False)


def lines_of(history: Operations, **how: Any) -> list[dict[str, Any]]:
    target = io.BytesIO()
    write_request(target, history, REQUEST)
    result = answered(target.getvalue(), **how)
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert lines[-1]["done"] is True
    return lines[:-1]


ROWS = [write(1, 0, 1, key=3), read(1, 2, 3, key=3), write(4, 0, 1, key=-8), write(5, 5, 6, key=3)]


def test_a_column_of_one_value_is_a_number_and_small_ones_are_bytes() -> None:
    header, columns = sent(operations(ROWS))

    assert header["columns"] == ["key", "f", "value", "start_ns", "end_ns"]
    assert header["narrow"] == ["f"]
    assert header["constant"] == {"process": 0, "expected": 0, "version": -1, "unknown": 0}
    assert len(columns) == len(ROWS) * (4 * 8 + 1)


def test_a_column_whose_ends_are_equal_is_not_taken_for_constant() -> None:
    header, _ = sent(operations([write(1, 0, 1, key=3), write(2, 0, 1, key=4), write(3, 0, 1, key=3)]))

    assert "key" in header["columns"]


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], [read(2, 0, 1, key=7)] * 3, sorted(ROWS, key=lambda row: row.key)])
def test_every_key_is_answered_whichever_way_the_input_comes(rows: list[Row], tmp_path: Path) -> None:
    from_pipe = lines_of(operations(rows), piped=True)
    mapped = lines_of(operations(rows), folder=tmp_path)

    assert {line["key"] for line in mapped} == {row.key for row in rows}
    assert sorted(mapped, key=str) == sorted(from_pipe, key=str)


@pytest.mark.parametrize("order", ["by key", "mixed"])
@pytest.mark.parametrize("spread", [1, 2**40])
def test_the_rows_of_many_keys_are_told_apart(order: str, spread: int) -> None:
    """Every third key reads what was never written under it but under its neighbour."""
    keys = np.arange(300) * spread - 2**50
    rows = [write(index + 1, 0, 1, key=int(key)) for index, key in enumerate(keys)]
    rows += [read(index + 1 + (index % 3 == 0), 2, 3, key=int(key)) for index, key in enumerate(keys)]
    if order == "by key":
        rows.sort(key=lambda row: row.key)

    lines = lines_of(operations(rows))

    failed = {line["key"] for line in lines if line["verdict"] == "fail"}
    assert failed == set(keys[::3].tolist())
    assert {line["key"] for line in lines} == set(keys.tolist())
    for line in lines:
        assert {rows[row].key for row in line.get("counterexample", {"rows": []})["rows"]} <= {line["key"]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 1}, "schema 1"),
        ({"columns": ["key"]}, "column f is missing"),
        ({"columns": ["key", "key"]}, "column key is unknown or there twice"),
        ({"columns": ["colour"]}, "column colour is unknown"),
        ({"constant": {"colour": 1}}, "constant column colour is unknown"),
        ({"constant": {"key": 1}}, "constant column key is unknown or there twice"),
        ({"narrow": ["version"]}, "narrow column version is none of the columns"),
        ({"operations": 5}, "column end_ns is cut short: "),
        ({"operations": 3}, "bytes follow the columns"),
        ({"operations": -1}, "-1 operations are out of range"),
        ({"model": "stack"}, 'model "stack"'),
        ({"engine": "guess"}, 'engine "guess"'),
    ],
)
def test_an_input_that_makes_no_sense_is_refused_with_the_place(changes: dict[str, Any], message: str) -> None:
    header, columns = sent(operations(ROWS))

    result = answered(json.dumps(header | changes).encode() + b"\n" + columns)

    assert result.returncode == 2
    assert message in result.stderr.decode()
    assert result.stdout == b""


@pytest.mark.parametrize("given", [b"", b"{}", b"no json\n", b"[1]\n"])
def test_what_is_no_request_is_refused(given: bytes, tmp_path: Path) -> None:
    assert answered(given, folder=tmp_path).returncode == 2
    assert answered(given, piped=True).returncode == 2
