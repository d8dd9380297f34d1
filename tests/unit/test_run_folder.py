"""The run folder: whole files or none, one event a line, and a clear word when the disk will not have it."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from aftershock.harness.errors import SetupError
from aftershock.harness.run_folder import RunFolder, write_json


def test_folder_is_named_after_time_scenario_and_seed(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, scenario="demo", seed=7) as folder:
        folder.update(state="running")
        folder.update(problem=None)

    assert folder.path.name.endswith("Z-demo-7")
    facts = json.loads((folder.path / "run.json").read_text())
    assert facts == {"schema": 1, "run_id": folder.run_id, "state": "running", "problem": None}


def test_two_runs_in_one_second_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        RunFolder.create(tmp_path, scenario="demo", seed=7) as one,
        RunFolder.create(tmp_path, scenario="demo", seed=7) as two,
    ):
        assert one.path != two.path


def test_events_of_many_threads_are_whole_lines(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, scenario="demo", seed=1) as folder:
        threads = [
            threading.Thread(target=lambda n=n: [folder.event("warning", text="x" * 500, n=n) for _ in range(100)])
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    lines = [json.loads(line) for line in (folder.path / "events.jsonl").read_text().splitlines()]
    assert len(lines) == 400
    assert {line["source"] for line in lines} == {"harness"}


def test_place_that_cannot_hold_runs_is_a_setup_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with (
        pytest.raises(SetupError, match="no run folder can be made there"),
        RunFolder.create(tmp_path / "file" / "runs", scenario="demo", seed=1),
    ):
        pass


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_json(path, {"a": 1})

    with pytest.raises(ValueError, match="Out of range float"):
        write_json(path, {"a": float("nan")})

    assert json.loads(path.read_text()) == {"a": 1}


def test_event_that_a_helper_thread_could_not_write_is_remembered(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, scenario="demo", seed=1) as folder:
        folder._events.close()
        folder._events = Path("/dev/full").open("ab", buffering=0)  # noqa: SIM115  # closed by the folder
        thread = threading.Thread(target=folder.event, args=("warning",))
        thread.start()
        thread.join()
        assert folder.lost is not None
        with pytest.raises(OSError, match="No space left"):
            folder.event("warning")
