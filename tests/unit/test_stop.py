"""`aftershock stop`: which run is meant, how it is told, and what "healed" means."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from aftershock.harness.errors import UsageError
from aftershock.harness.identity import ProcessIdentity
from aftershock.harness.journal import Registration, RunJournal
from aftershock.harness.stop import STOP_REQUEST, choose, request, running, wait_healed


def registered(state_folder: Path, run_folder: Path, run_id: str, *, alive: bool = True) -> Registration:
    """A registration of this very process, or of one that is gone."""
    run_folder.mkdir(parents=True, exist_ok=True)
    owner = ProcessIdentity.of(os.getpid())
    assert owner is not None
    path = state_folder / "aftershock" / "runs" / f"{run_id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {**owner.to_json(), "start_ticks": owner.start_ticks - (0 if alive else 1)}
    value = {"schema": 1, "run_id": run_id, "journal": str(run_folder / "journal.jsonl"), "token": "t", "owner": told}
    path.write_text(json.dumps(value))
    return Registration.load(path)


def test_runs_of_dead_tools_do_not_go_on(tmp_path: Path) -> None:
    registered(tmp_path, tmp_path / "a", "a")
    registered(tmp_path, tmp_path / "b", "b", alive=False)
    (tmp_path / "aftershock" / "runs" / "torn.json").write_text("{")

    assert [run.run_id for run in running(tmp_path)] == ["a"]


def test_run_is_named_by_id_folder_name_or_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    going_on = [registered(tmp_path, tmp_path / "runs" / name, f"{name}-id") for name in ("a", "b")]
    monkeypatch.chdir(tmp_path)

    for name in ("b-id", "b", "runs/b", str(tmp_path / "runs" / "b"), "runs/../runs/b/"):
        assert choose(name, going_on) is going_on[1]


def test_only_run_needs_no_name(tmp_path: Path) -> None:
    run = registered(tmp_path, tmp_path / "a", "a-id")

    assert choose(None, [run]) is run


def test_name_that_is_not_clear_is_refused_with_those_that_go_on(tmp_path: Path) -> None:
    going_on = [registered(tmp_path, tmp_path / parent / "same", f"{parent}-id") for parent in ("x", "y")]

    with pytest.raises(UsageError, match="means several runs") as caught:
        choose("same", going_on)
    assert str(tmp_path / "x" / "same") in str(caught.value)
    with pytest.raises(UsageError, match="several runs are under way"):
        choose(None, going_on)
    with pytest.raises(UsageError, match="no run 'z' is under way; these are:"):
        choose("z", going_on)
    with pytest.raises(UsageError, match=r"^no run is under way$"):
        choose(None, [])


def test_request_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    run = registered(tmp_path, tmp_path / "a", "a")
    (tmp_path / "a").rmdir()

    with pytest.raises(UsageError, match=f"kill -TERM {os.getpid()}"):
        request(run)


def test_healed_is_when_the_registration_goes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with RunJournal.open(tmp_path / "a", "a", tmp_path) as journal:
        run = Registration.load(journal.registration)
        request(run)
        assert (tmp_path / "a" / STOP_REQUEST).exists()
        assert "has not undone everything within 0 s" in wait_healed(run, deadline_s=0).problem
        timer = threading.Timer(0.1, journal.registration.unlink)
        timer.start()
        assert wait_healed(run, deadline_s=30).problem == ""
        timer.join()


def test_heal_that_could_not_be_verified_is_not_healed(tmp_path: Path) -> None:
    run = registered(tmp_path, tmp_path / "a", "a")
    run.path.unlink()
    events = [
        {"t_ns": 1, "source": "harness", "kind": "fault.healed", "fault": "f1", "verified": True, "facts": []},
        {
            "t_ns": 2,
            "source": "harness",
            "kind": "fault.healed",
            "fault": "f2",
            "verified": False,
            "facts": ["n1 paused"],
        },
    ]
    (tmp_path / "a" / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events) + '{"torn')

    assert wait_healed(run, deadline_s=1).problem == "fault f2 was not seen to be undone: n1 paused"


def test_tool_that_died_on_the_way_gives_its_watchdog_time_first(tmp_path: Path) -> None:
    run = registered(tmp_path, tmp_path / "a", "a", alive=False)
    clock = iter(range(1000))

    problem = wait_healed(run, deadline_s=500, clock_s=lambda: float(next(clock))).problem

    assert problem == "its tool died before everything was undone; run `aftershock heal`"
    assert next(clock) > 12
