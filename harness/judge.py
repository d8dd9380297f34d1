"""Judges a run folder: record in, verdict.json out. Needs nothing of what ran; the cluster may be long gone.

The run's verdict is the worst of its required checks (fail > unknown > pass). A check that crashes is unknown with
the reason; a run that was cut short may fail and never passes.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

import jsonschema
import polars as pl
from jsonschema.exceptions import best_match

from . import porcupine
from .checks.assumptions import assumptions as all_assumptions
from .checks.assumptions import check_assumptions
from .checks.availability import Availability, check_availability
from .checks.data_loss import DataLoss, check_data_loss
from .checks.gaps import Gaps, find_gaps
from .checks.latency import Latency, check_latency
from .checks.linearizability import Checker, Linearizability, check_linearizability
from .checks.load_schedule import Load, check_load
from .checks.recovery import Recovery, check_recovery
from .checks.replica_agreement import check_replica_agreement
from .checks.result import Assumption, CheckResult, tainted
from .checks.sessions import check_session_guarantees
from .checks.summary import Judged, verdict_json
from .checks.view import View, make_view
from .errors import InternalError
from .files import write_text
from .record import RunRecord, load_record
from .scenario import Scenario
from .verdict import ExitCode, Verdict, worst

__all__ = ["check_folder", "judge", "judge_record", "validate"]

_T = TypeVar("_T")

# Nothing that is judged means anything without them, so no scenario can leave them out.
_ALWAYS_REQUIRED: Final = "assumptions"
# In the order in which they are shown.
_TITLES: Final = {
    "assumptions": "Assumptions",
    "linearizability": "Linearizability",
    "sessions": "Session guarantees",
    "data-loss": "Data loss",
    "availability": "Availability",
    "recovery": "Recovery",
    "latency": "Latency",
    "load": "Load",
    "replica-agreement": "Replica agreement",
}


def judge(folder: Path, *, deadline_s: float = 60.0, checker: Checker = porcupine.check) -> dict[str, Any]:
    """Judge a run folder and return what verdict.json holds, validated against its schema.

    `deadline_s` bounds the history checker; what it has not decided by then is unknown. Raises RunFolderError when
    the folder cannot be read, and InternalError when what we would write is not what docs/verdict.md promises.
    """
    return judge_record(load_record(folder), deadline_s=deadline_s, checker=checker)


def check_folder(
    folder: Path, *, deadline_s: float = 60.0, checker: Checker = porcupine.check
) -> tuple[dict[str, Any], ExitCode]:
    """Judge a run folder, write its verdict.json whole or not at all, and return it with the exit code."""
    verdict = judge(folder, deadline_s=deadline_s, checker=checker)
    write_text(folder / "verdict.json", json.dumps(verdict, separators=(",", ":"), allow_nan=False) + "\n")
    return verdict, ExitCode(verdict["exit_code"])


def judge_record(record: RunRecord, *, deadline_s: float = 60.0, checker: Checker = porcupine.check) -> dict[str, Any]:
    """The same for a record that is already loaded. Pure but for the checker's own process."""
    view = make_view(record)
    gaps = find_gaps(view.load.filter(~pl.col("cut_off")), until_s=view.judged_until_s)
    found = _run_checks(view, gaps, checker=checker, deadline_s=deadline_s)
    results = _settle(view.record.scenario, found)
    required = [r for r in results if r.status == "judged" and _is_required(view.record.scenario, r.name)]
    verdict = worst(r.verdict for r in required)
    if all(r.name == _ALWAYS_REQUIRED for r in required):
        # Nothing that was asked for could be judged; that the assumptions hold is no promise kept.
        verdict = worst([verdict, Verdict.UNKNOWN])
    value = verdict_json(
        view,
        Judged(
            results=tuple(results),
            required=tuple(required),
            verdict=verdict,
            exit_code=_exit_code(record, verdict),
            gaps=gaps,
            assumptions=tuple(found.assumptions),
            linearizability=found.linearizability,
            data_loss=found.data_loss,
            targets=tuple(found.targets),
            recovery=found.recovery,
            load=found.load,
            shards=found.shards,
            warnings=tuple(found.warnings),
        ),
    )
    validate(value)
    return value


# Checks that judge one target alone are as advisory as it is.
_ONLY_TARGET = {"latency": "latency_p99_ms", "load": "on_time_ratio"}


def _is_required(scenario: Scenario, name: str) -> bool:
    if _ONLY_TARGET.get(name) in scenario.targets.advisory:
        return False
    return name in scenario.required or name == _ALWAYS_REQUIRED


def _exit_code(record: RunRecord, verdict: Verdict) -> ExitCode:
    if verdict is Verdict.UNKNOWN:
        # "warn" is for records that do not allow a decision; what safety has ended is not let through by it.
        warn = record.scenario.on_unknown.then == "warn" and record.facts.aborted is None
        return ExitCode.PASS if warn else ExitCode.UNKNOWN
    return ExitCode.PASS if verdict is Verdict.PASS else ExitCode.FAIL


# ------------------------------------------------------------------------------------------------ checks


@dataclass(slots=True, kw_only=True)
class _Found:
    """What the checks left behind; filled in one pass. A part whose check crashed stays None."""

    results: list[CheckResult]
    assumptions: list[Assumption]
    targets: list[dict[str, Any]]
    warnings: list[str]
    shards: tuple[dict[str, Any], ...] = ()
    linearizability: Linearizability | None = None
    data_loss: DataLoss | None = None
    recovery: Recovery | None = None
    load: Load | None = None


def _run_checks(view: View, gaps: Gaps, *, checker: Checker, deadline_s: float) -> _Found:
    record = view.record
    found = _Found(results=[], assumptions=[], targets=[], warnings=[])

    def attempt(name: str, check: Callable[[], _T]) -> _T | None:
        """A check that crashes is unknown with its reason; the others are judged all the same."""
        try:
            return check()
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}: {error}"
            found.results.append(_crashed(name, what))
            return None

    assumed = attempt("assumptions", lambda: all_assumptions(view))
    load = attempt("load", lambda: check_load(view))
    found.assumptions = [*(assumed or ()), *((load.assumption,) if load is not None else ())]
    if assumed is not None:
        found.results.append(check_assumptions(assumed))
    if load is not None:
        found.load = load
        found.results.append(load.result)
    found.linearizability = attempt(
        "linearizability", lambda: check_linearizability(record, checker=checker, deadline_s=deadline_s)
    )
    linear = found.linearizability.result if found.linearizability is not None else None
    sessions = attempt("sessions", lambda: check_session_guarantees(record, linearizability=linear))
    found.data_loss = attempt("data-loss", lambda: check_data_loss(record))
    availability: Availability | None = attempt("availability", lambda: check_availability(view, gaps))
    found.recovery = attempt("recovery", lambda: check_recovery(view, gaps))
    latency: Latency | None = attempt("latency", lambda: check_latency(view))
    replicas = attempt("replica-agreement", lambda: check_replica_agreement(view))
    for part in (found.linearizability, found.data_loss, availability, found.recovery, latency):
        if part is not None:
            found.results.append(part.result)
    found.results.extend(result for result in (sessions, replicas) if result is not None)
    for judged in (availability, found.recovery, latency, load):
        if judged is not None:
            found.targets.extend(judged.targets)
    if availability is not None:
        found.shards = availability.shards
    return found


def _crashed(name: str, what: str) -> CheckResult:
    reason = f"The check itself crashed ({what}). This is a bug of aftershock; please report it with the run folder."
    return CheckResult(
        name=name,
        title=_TITLES[name],
        verdict=Verdict.UNKNOWN,
        reason=reason,
        value="internal error",
        context=f"the check {name} itself crashed; this is a bug of aftershock",
        numbers={"crashed": True},
    )


def _settle(scenario: Scenario, found: _Found) -> list[CheckResult]:
    """Apply what the assumptions taint, and tell what nobody asked for from what is undecided; in a fixed order."""
    settled = []
    for result in found.results:
        if result.name != _ALWAYS_REQUIRED:
            result = tainted(result, found.assumptions)
        # Not asked for and nothing there to judge: skipped. Asked for and nothing there: unknown.
        if result.verdict is Verdict.UNKNOWN and not result.numbers and not _is_required(scenario, result.name):
            result = replace(result, status="skipped")
        settled.append(result)
    order = list(_TITLES)
    return sorted(settled, key=lambda r: order.index(r.name))


# ------------------------------------------------------------------------------------------------ schema

_SAMPLE: Final = 200


@cache
def _validator() -> Any:
    schema = json.loads((Path(__file__).parent / "schema" / "verdict.schema.json").read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator(schema)


def validate(value: Mapping[str, Any]) -> None:
    """Hold a verdict to its schema. Raises InternalError naming the place.

    Of long lists the first entries are looked at: all entries of a list are made by the same code, and validating
    twenty thousand points takes longer than judging the run.
    """
    error = best_match(_validator().iter_errors(_sampled(value)))
    if error is not None:
        raise InternalError(
            f"verdict.json would not keep its schema at {error.json_path}: {error.message}; please report this with "
            "the run folder"
        )


def _sampled(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sampled(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_sampled(item) for item in value[:_SAMPLE]]
    return value
