"""Loading a run folder: everything in one frozen value, and every defect named with its place."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from aftershock.harness.errors import RunFolderError
from aftershock.harness.record import load_record, read_verdict

from tests.runs import Run, at, healthy


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = healthy(tmp_path / "run", duration_s=30)
    run.steady_load()
    run.final_reads()
    return run


def test_a_whole_run_is_loaded(run: Run) -> None:
    run.logs["n1"] = "one\ntwo\n"
    record = load_record(run.write())
    assert record.facts.run_id == "run"
    assert record.facts.state == "recorded"
    assert record.seconds(at(1.5)) == 1.5
    assert record.scenario.faults[0].id == "f1"
    assert record.scenario.system.settings == {"nodes": 3}
    assert record.history.height == len(run.operations)
    assert record.replicas is not None
    assert len(record.replicas) == 12
    assert record.load is not None
    assert record.load["planned"] == 3000
    assert record.logs == {"n1": "one\ntwo\n"}
    assert record.warnings == record.holes == ()
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.folder = Path()  # type: ignore[misc]


def test_events_come_by_time_though_systems_write_theirs_late(run: Run) -> None:
    record = load_record(run.write())
    times = [event.t_ns for event in record.events]
    assert times == sorted(times)
    assert [e["t_ns"] for e in run.events] != times


def test_no_plugin_is_needed(run: Run) -> None:
    """A run of somebody's own system can be judged where that plugin is not installed."""
    folder = run.write()
    text = (folder / "scenario.toml").read_text().replace('"reference"', '"their-database"')
    (folder / "scenario.toml").write_text(text)
    assert load_record(folder).scenario.system.name == "their-database"


def test_a_line_that_was_cut_off_is_left_out_with_a_warning(run: Run) -> None:
    folder = run.write()
    with (folder / "events.jsonl").open("a") as file:
        file.write('{"t_ns": 1, "sou')
    record = load_record(folder)
    assert len(record.events) == len(run.events)
    assert "last line of events.jsonl was cut off" in record.warnings[0]


def test_missing_events_are_a_warning(run: Run) -> None:
    folder = run.write()
    (folder / "events.jsonl").unlink()
    assert "events.jsonl is missing" in load_record(folder).warnings[0]


def test_a_run_that_did_not_come_so_far_lacks_what_it_lacks(run: Run) -> None:
    run.replicas = None
    run.load = None
    record = load_record(run.write())
    assert record.replicas is None
    assert record.load is None


def test_holes_that_the_generator_knows_of_are_holes(run: Run) -> None:
    run.load = {"holes": 3}
    assert load_record(run.write()).holes == ("the load generator knows of 3 operations that it could not record",)


def test_logs_need_not_be_text(run: Run) -> None:
    folder = run.write()
    (folder / "logs" / "n2.log").write_bytes(b"\xff\xfe\x00 hello\n")
    assert "hello" in load_record(folder).logs["n2"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.json", None, r"run\.json: is missing; every run has one, so this is no run folder"),
        ("run.json", "{", r"run\.json: is not JSON"),
        ("run.json", "[]", r"run\.json: expected an object, found list"),
        ("run.json", '{"schema": 2}', r"run\.json: has schema 2, this version reads up to 1"),
        (
            "run.json",
            '{"state": "failed", "problem": "n1 never came up"}',
            r"before its load began \(n1 never came up\)",
        ),
        ("run.json", '{"origin_ns": 1, "state": "odd"}', r"state is 'odd', expected running"),
        ("scenario.toml", None, r"scenario\.toml: cannot be read .* nobody knows what was promised"),
        ("scenario.toml", "x = ", r"scenario\.toml: was changed or made by another version"),
        ("events.jsonl", '{"t_ns": 1, "source": "a", "kind": "b"}\nnonsense\n', r"events\.jsonl:2: is not an event"),
        (
            "events.jsonl",
            '{"source": "a", "kind": "b"}\n',
            r"events\.jsonl:1: is not an event; expected an object",
        ),
        ("events.jsonl", "[1]\n", r"events\.jsonl:1: is not an event"),
        ("replicas.json", '{"schema": 9}', r"replicas\.json: has schema 9"),
        ("replicas.json", '{"replicas": [{"shard": 1}]}', r"replicas\.json: entry 0 is no replica state"),
        ("environment.json", "x", r"environment\.json: is not JSON"),
        ("history/load.json", "[]", r"load\.json: expected an object"),
    ],
)
def test_defects_are_named_with_their_place(run: Run, name: str, content: str | None, message: str) -> None:
    folder = run.write()
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with pytest.raises(RunFolderError, match=message):
        load_record(folder)


def test_a_missing_folder_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="no such folder; name the folder of a run"):
        load_record(tmp_path / "nowhere")


def test_reading_a_verdict_of_a_run_that_was_not_judged_says_what_to_run(run: Run) -> None:
    folder = run.write()
    with pytest.raises(RunFolderError, match="was not judged yet; run: aftershock check "):
        read_verdict(folder)
    (folder / "verdict.json").write_text(json.dumps({"schema": 1, "verdict": "pass"}))
    assert read_verdict(folder)["verdict"] == "pass"
