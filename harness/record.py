"""Loads a run folder (docs/run-folder.md) into one frozen value. Everything that judges takes this and nothing else.

Loading executes nothing and asks no plugin: the scenario in the folder was validated when it was run, so a run of a
system whose plugin is not installed here can still be judged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import polars as pl
from pydantic import ConfigDict

from .errors import RunFolderError, ScenarioError
from .history import History, load_history
from .interfaces import ReplicaState, Settings
from .registry import Registry
from .scenario import Scenario, parse

__all__ = ["Event", "RunFacts", "RunRecord", "load_record", "read_verdict"]

SCHEMA: Final = 1
# Enough for the minutes around every fault; a member that prints more has its oldest lines left out.
_LOG_TAIL_BYTES: Final = 8 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of `events.jsonl`. `fields` is what the line holds beside time, source and kind."""

    t_ns: int
    source: str
    kind: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """`run.json`. `origin_ns` is CLOCK_MONOTONIC at the start of the load: second 0 of everything that is shown.

    `aborted` is what ended the run early (`safety.Abort`), None when nothing of the scenario's `[safety]` did.
    """

    run_id: str
    scenario: str
    source: str
    seed: int
    backend: str
    system: str
    tool: str
    started_utc: str
    origin_ns: int
    load_end_ns: int | None
    state: str
    problem: str | None
    aborted: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A whole run, as recorded. `load` and `replicas` are None when the run did not come so far."""

    folder: Path
    facts: RunFacts
    scenario: Scenario
    events: tuple[Event, ...]  # by time
    recorded: History  # every operation, left on disk until it is asked for
    holes: tuple[str, ...]  # what is known to be missing from the history
    replicas: tuple[ReplicaState, ...] | None
    load: Mapping[str, Any] | None
    environment: Mapping[str, Any]
    logs: Mapping[str, str]  # member -> what it printed (the newest part)
    warnings: tuple[str, ...]  # what loading noticed, one sentence each

    @property
    def history(self) -> pl.DataFrame:
        """All operations as one table, with the columns of operation.OPERATION_COLUMNS."""
        return self.recorded.frame

    def seconds(self, t_ns: int) -> float:
        """A CLOCK_MONOTONIC time as seconds from the start of the load."""
        return (t_ns - self.facts.origin_ns) / 1e9


def load_record(folder: Path) -> RunRecord:
    """Load a run folder. Raises RunFolderError naming the file and line that cannot be used, and what to do."""
    if not folder.is_dir():
        raise RunFolderError(
            f"{folder}: no such folder; name the folder of a run, such as runs/20261121T140211Z-demo-7"
        )
    run = _json_object(folder / "run.json", why="every run has one, so this is no run folder")
    facts = _facts(folder / "run.json", run)
    warnings: list[str] = []
    history = load_history(folder / "history")
    load = _json_object(folder / "history" / "load.json", why=None)
    holes = [*history.holes, *_load_holes(load, recorded=history.height - history.finals)]
    return RunRecord(
        folder=folder,
        facts=facts,
        scenario=_scenario(folder / "scenario.toml"),
        events=_events(folder / "events.jsonl", warnings),
        recorded=history,
        holes=tuple(holes),
        replicas=_replicas(folder / "replicas.json"),
        load=load or None,
        environment=_json_object(folder / "environment.json", why=None),
        logs=_logs(folder / "logs"),
        warnings=tuple(warnings),
    )


def read_verdict(folder: Path) -> dict[str, Any]:
    """What `verdict.json` of a judged run holds. Raises RunFolderError when it was not judged yet."""
    return _json_object(folder / "verdict.json", why=f"the run was not judged yet; run: aftershock check {folder}")


def _json_object(path: Path, *, why: str | None) -> dict[str, Any]:
    """The object in a file; {} when it may be missing (`why` is None) and is."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        if why is None:
            return {}
        raise RunFolderError(f"{path}: is missing; {why}") from None
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise RunFolderError(f"{path}: is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise RunFolderError(f"{path}: expected an object, found {type(value).__name__}")
    schema = value.get("schema", 1)
    if not isinstance(schema, int) or schema > SCHEMA:
        raise RunFolderError(
            f"{path}: has schema {schema!r}, this version reads up to {SCHEMA}; use the version of aftershock that "
            "made the run, or a newer one"
        )
    return value


def _facts(path: Path, run: Mapping[str, Any]) -> RunFacts:
    if not isinstance(run.get("origin_ns"), int):
        problem = run.get("problem")
        raise RunFolderError(
            f"{path}: has no origin_ns: the run ended before its load began"
            + (f" ({problem})" if problem else "")
            + ", so there is nothing to judge"
        )
    state = run.get("state")
    if state not in ("running", "recorded", "interrupted", "failed"):
        raise RunFolderError(f"{path}: state is {state!r}, expected running, recorded, interrupted or failed")
    seed, end = run.get("seed"), run.get("load_end_ns")
    return RunFacts(
        run_id=str(run.get("run_id", path.parent.name)),
        scenario=str(run.get("scenario", "")),
        source=str(run.get("source", "scenario.toml")),
        seed=seed if isinstance(seed, int) else 0,
        backend=str(run.get("backend", "")),
        system=str(run.get("system", "")),
        tool=str(run.get("tool", "")),
        started_utc=str(run.get("started_utc", "")),
        origin_ns=run["origin_ns"],
        load_end_ns=end if isinstance(end, int) else None,
        state=state,
        problem=None if run.get("problem") is None else str(run["problem"]),
        aborted=_aborted(path, run.get("aborted")),
    )


def _aborted(path: Path, value: Any) -> Mapping[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not all(isinstance(value.get(name), str) for name in ("condition", "text")):
        raise RunFolderError(f'{path}: aborted is {value!r}, expected {{"condition": "...", "text": "...", ...}}')
    numbers = {name: value[name] if isinstance(value.get(name), int | float) else None for name in ("value", "limit")}
    return {"condition": value["condition"], "text": value["text"], **numbers}


class _AnySettings(Settings):
    """Takes whatever a plugin had accepted when the scenario was run."""

    model_config = ConfigDict(extra="allow", frozen=True)


class _AnyPlugin:
    settings = _AnySettings


class _AnyRegistry(Registry):
    """Knows every plugin by any name: the folder's scenario was checked against the real ones when it ran."""

    def find(self, kind: str, name: str) -> Any:
        return _AnyPlugin


def _scenario(path: Path) -> Scenario:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunFolderError(f"{path}: cannot be read ({error}); without it nobody knows what was promised") from None
    try:
        return parse(text, _AnyRegistry(), where=str(path))
    except ScenarioError as error:
        raise RunFolderError(f"{path}: was changed or made by another version:\n{error}") from None


def _events(path: Path, warnings: list[str]) -> tuple[Event, ...]:
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        warnings.append("events.jsonl is missing: what was done to the system, and when, is not known")
        return ()
    if lines.pop():
        warnings.append("the last line of events.jsonl was cut off in the middle of writing, and is left out")
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            value = json.loads(line)
            event = Event(t_ns=value.pop("t_ns"), source=value.pop("source"), kind=value.pop("kind"), fields=value)
            if not (type(event.t_ns) is int and isinstance(event.source, str) and isinstance(event.kind, str)):
                raise TypeError
        except (ValueError, KeyError, TypeError, AttributeError):
            raise RunFolderError(
                f"{path}:{number}: is not an event; expected an object with t_ns (integer), source and kind"
            ) from None
        found.append(event)
    # Systems' own events are copied in at the end of a run: the order of lines is not the order of time.
    return tuple(sorted(found, key=lambda event: event.t_ns))


def _load_holes(load: Mapping[str, Any], *, recorded: int) -> list[str]:
    """What the load generator's own account says is missing; `recorded` is how many of its operations there are."""
    found = []
    holes = load.get("holes", 0)
    count = holes if isinstance(holes, int) else len(holes)
    if count:
        noun = "operation" if count == 1 else "operations"
        found.append(f"the load generator knows of {count} {noun} that it could not record")
    told = [load.get("sent"), load.get("not_sent")]
    lacking = sum(n for n in told if isinstance(n, int)) - recorded
    if lacking > 0:
        found.append(f"history/load.json counts {lacking} operations more than the history holds")
    return found


def _replicas(path: Path) -> tuple[ReplicaState, ...] | None:
    if not path.exists():
        return None
    rows = _json_object(path, why="").get("replicas")
    names = [field.name for field in fields(ReplicaState)]
    if not isinstance(rows, list):
        raise RunFolderError(f'{path}: expected {{"replicas": [...]}}, a list of replica states')
    found = []
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or any(name not in row for name in names):
            raise RunFolderError(f"{path}: entry {number} is no replica state; expected {', '.join(names)}")
        found.append(ReplicaState(**{name: row[name] for name in names}))
    return tuple(found)


def _logs(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.glob("*.log")):
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LOG_TAIL_BYTES))
            # Members print what they like; bytes that are no text must not keep a run from being judged.
            found[path.stem] = file.read().decode("utf-8", errors="replace")
    return found
