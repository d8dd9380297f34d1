"""What ends a run early, and what a run may touch: decisions on counters and names, without clock or threads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aftershock.harness.errors import RunFolderError, UsageError
from aftershock.harness.judge import judge
from aftershock.harness.safety import (
    Abort,
    Excuses,
    LoadConditions,
    ProbePlan,
    SafetyPlan,
    mistakes,
    permit,
)
from pydantic import ValidationError

from tests.runs import healthy

ORIGIN_NS = 7_000_000_000
TIMEOUT_S = 0.5
GRACE_S = TIMEOUT_S + 1.0  # what was sent in a window fails a timeout later, and is seen a look after that


def at(t_s: float) -> int:
    return ORIGIN_NS + round(t_s * 1e9)


@dataclass
class Counts:
    """The load's counters, as the test moves them."""

    planned: int = 1000
    ok: int = 0
    fail: int = 0
    unknown: int = 0
    not_sent: int = 0
    in_flight: int = 0


class Run:
    """A load that is looked at every quarter of a second."""

    def __init__(self, **plan: Any) -> None:
        self.excuses = Excuses(origin_ns=ORIGIN_NS, timeout_s=TIMEOUT_S)
        self.conditions = LoadConditions(SafetyPlan(**plan), self.excuses)
        self.counts = Counts()
        self.t_s = 0.0

    def go_on(self, until_s: float, **per_look: int) -> Abort | None:
        """Let time pass with these changes of the counters at every look; the first abort ends it."""
        while self.t_s < until_s:
            self.t_s += 0.25
            for name, more in per_look.items():
                setattr(self.counts, name, getattr(self.counts, name) + more)
            abort = self.conditions.look(at(self.t_s), self.counts)
            if abort is not None:
                return abort
        return None

    def fault(self, kind: str, t_s: float, fault: str = "f1", **fields: Any) -> None:
        self.excuses.saw(kind, at(t_s), {"fault": fault, **fields})

    def planned(self, start_s: float, expect: str, rto_s: float = 2.0, fault: str = "f1") -> None:
        self.fault("fault.planned", 0, fault, start_s=start_s, end_s=start_s + 3, expect=expect, rto_s=rto_s)


# ------------------------------------------------------------------------------------------------ outage


def test_no_success_for_so_long_is_an_outage() -> None:
    run = Run(unavailable_s=2)
    assert run.go_on(5, ok=10) is None

    abort = run.go_on(60, fail=10)

    assert abort is not None
    assert (abort.condition, abort.value, abort.limit) == ("unavailable", 2.0, 2)
    assert abort.text == "no operation has succeeded for 2.0 s (safety.unavailable_s is 2)"
    assert run.t_s == 7.25  # the first look that saw a failure and no success is at 5.25 s


def test_one_success_begins_the_outage_anew() -> None:
    run = Run(unavailable_s=2)
    assert run.go_on(1.5, unknown=5) is None
    assert run.go_on(1.75, ok=1) is None
    assert run.go_on(3.75, unknown=5) is None

    assert run.go_on(60, unknown=5) is not None


def test_operations_that_nobody_answers_count_before_they_time_out() -> None:
    run = Run(unavailable_s=2)
    run.counts.in_flight = 3

    abort = run.go_on(60)

    assert abort is not None
    assert run.t_s == 2.25


def test_silence_of_a_load_that_has_nothing_to_do_is_no_outage() -> None:
    """Below one arrival a second most looks see nothing new."""
    run = Run(unavailable_s=1)
    assert run.go_on(1, ok=1) is None

    assert run.go_on(100) is None


@pytest.mark.parametrize("expect", ["recovers", "available"])
def test_outage_in_a_window_counts_unless_the_scenario_expects_it(expect: str) -> None:
    run = Run(unavailable_s=2)
    run.planned(1, expect, rto_s=10)
    run.fault("fault.injected", 1.1, cut_off={})

    abort = run.go_on(60, fail=5)

    assert abort is not None
    assert run.t_s == 2.25


def test_outage_that_is_expected_does_not_count_until_recovery_is_due() -> None:
    run = Run(unavailable_s=2)
    run.planned(1, "unavailable", rto_s=2)
    assert run.go_on(1, ok=5) is None
    run.fault("fault.injected", 1.1, cut_off={})
    assert run.go_on(30, fail=5) is None
    run.fault("fault.healed", 30, verified=True)

    abort = run.go_on(90, fail=5)

    assert abort is not None
    assert 30 + 2 + GRACE_S + 2 <= run.t_s <= 30 + 2 + GRACE_S + 2.5


def test_none_of_it_counts_where_the_scenario_sets_no_limit() -> None:
    assert Run().go_on(500, fail=10) is None


# ------------------------------------------------------------------------------------------------ error budget


def test_budget_is_a_share_of_all_that_is_planned() -> None:
    run = Run(error_budget=0.05)
    assert run.go_on(12.5, ok=9, fail=1) is None  # 50 of 1000: used up, and not exceeded

    abort = run.go_on(60, unknown=1)

    assert abort is not None
    assert (abort.condition, abort.value, abort.limit) == ("error-budget", 0.051, 0.05)
    assert "51 of 1000 planned operations have failed outside recovery windows, 5.10%" in abort.text


@pytest.mark.parametrize("kind", ["fail", "unknown", "not_sent"])
def test_every_way_to_get_no_answer_counts(kind: str) -> None:
    assert Run(error_budget=0.1).go_on(60, **{kind: 5}) is not None


def test_failures_until_recovery_is_due_count_against_nobody() -> None:
    run = Run(error_budget=0.01)
    run.planned(1, "recovers", rto_s=2)
    assert run.go_on(0.75, ok=5) is None
    run.fault("fault.injected", 1, cut_off={})
    assert run.go_on(1 + 2 + GRACE_S - 0.25, fail=50) is None

    assert run.go_on(60, fail=50) is not None
    assert run.t_s == 1 + 2 + GRACE_S


def test_failures_under_a_fault_that_is_to_stay_available_count() -> None:
    run = Run(error_budget=0.01)
    run.planned(1, "available")
    run.fault("fault.injected", 1, cut_off={})

    assert run.go_on(60, fail=5) is not None


def test_while_clients_are_cut_off_nobody_can_say_whose_failures_they_are() -> None:
    run = Run(error_budget=0.01)
    run.planned(1, "available", rto_s=2)
    run.fault("fault.injected", 1, cut_off={"clients-r1": None})
    run.t_s = 0.75
    assert run.go_on(30, fail=50) is None
    run.fault("fault.healed", 30, verified=True)
    assert run.go_on(30 + 2 + GRACE_S - 0.25, fail=50) is None

    assert run.go_on(90, fail=50) is not None


def test_whom_windows_cut_off_only_together_counts_against_nobody_either() -> None:
    run = Run(error_budget=0.01)
    run.planned(1, "recovers", rto_s=2)
    run.planned(2, "available", rto_s=2, fault="f2")
    run.fault("fault.injected", 1, cut_off={})
    run.fault("fault.injected", 2, "f2", cut_off={})
    run.excuses.saw("fault.together", at(2), {"faults": ["f1", "f2"], "newest": "f2", "cut_off": {"clients-r1": None}})

    run.t_s = 0.75
    assert run.go_on(30, fail=50) is None
    run.fault("fault.healed", 30)
    run.fault("fault.healed", 30, "f2")
    assert run.go_on(30 + 2 + GRACE_S - 0.25, fail=50) is None

    assert run.go_on(90, fail=50) is not None


def test_fault_that_could_not_be_injected_excuses_nothing() -> None:
    run = Run(error_budget=0.01)
    run.planned(1, "recovers", rto_s=50)
    run.fault("fault.failed", 1.5)

    run.t_s = 1.5 + GRACE_S
    assert run.go_on(60, fail=50) is not None


def test_windows_that_overlap_excuse_together() -> None:
    run = Run(error_budget=0.01)
    run.planned(1, "recovers", rto_s=2)
    run.planned(2, "recovers", rto_s=8, fault="f2")
    run.fault("fault.injected", 1, cut_off={})
    run.fault("fault.injected", 2, "f2", cut_off={})

    run.t_s = 0.75
    assert run.go_on(10, fail=50) is None
    assert run.go_on(60, fail=50) is not None


def test_what_is_nearest_is_told_before_it_ends_the_run() -> None:
    run = Run(unavailable_s=10, error_budget=0.5)
    run.go_on(3, fail=1)

    assert run.conditions.nearest is not None
    assert run.conditions.nearest.text.startswith("no operation has succeeded for 2.8 s")
    assert run.conditions.nearest.share == pytest.approx(0.275)


# ------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    "settings",
    [{}, {"command": ["true"], "url": "http://127.0.0.1/"}, {"url": "ftp://x/"}, {"url": "http://"}, {"command": []}],
)
def test_probe_is_one_command_or_one_url(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ProbePlan(**settings)


def test_duration_that_the_load_alone_exceeds_is_a_mistake() -> None:
    [mistake] = mistakes(SafetyPlan(max_duration_s=60), load_s=60)

    assert mistake == "safety.max_duration_s = 60: the load alone takes 60 s; allow more"
    assert mistakes(SafetyPlan(), load_s=86_400) == []


@pytest.mark.parametrize("pattern", ["*", "container:*", "web-1", "container:", "container:??", "*:web"])
def test_pattern_that_names_nothing_in_particular_is_a_mistake(pattern: str) -> None:
    [mistake] = mistakes(SafetyPlan(allow=(pattern,)), load_s=1)

    assert pattern in mistake


def test_patterns_that_name_something_are_none() -> None:
    names = ("container:web-1", "container:web-*", "url:http://localhost:8080", "compose:shop")

    assert mistakes(SafetyPlan(allow=names), load_s=1) == []


# ------------------------------------------------------------------------------------------------ what may be touched


def test_nothing_attached_needs_no_permission() -> None:
    permit([], SafetyPlan(), confirmed=False, scenario="s")


def test_what_is_not_allowed_is_listed_with_the_line_to_add() -> None:
    plan = SafetyPlan(allow=("container:web-1",))

    with pytest.raises(UsageError) as caught:
        permit(["container:web-1", "container:db", "url:http://[::1]:80"], plan, confirmed=True, scenario="shop")

    text = str(caught.value)
    assert "\n  container:db\n  url:http://[::1]:80\n" in text
    line = text.splitlines()[-1].strip()
    assert line == 'allow = ["container:web-1", "container:db", "url:http://[::1]:80"]'
    # The line that is proposed is one that helps.
    added = SafetyPlan(allow=tuple(json.loads(line.removeprefix("allow = "))))
    permit(["container:web-1", "container:db", "url:http://[::1]:80"], added, confirmed=True, scenario="shop")


def test_what_is_allowed_still_wants_a_confirmation() -> None:
    plan = SafetyPlan(allow=("container:web-*",))

    with pytest.raises(UsageError, match="--yes-break shop"):
        permit(["container:web-1"], plan, confirmed=False, scenario="shop")
    permit(["container:web-1"], plan, confirmed=True, scenario="shop")


@pytest.mark.parametrize("target", ["container:my-web-1", "container:Web-1", "container:web", "xcontainer:web-1"])
def test_patterns_are_anchored_and_exact_in_case(target: str) -> None:
    with pytest.raises(UsageError):
        permit([target], SafetyPlan(allow=("container:web-*",)), confirmed=True, scenario="s")


# ------------------------------------------------------------------------------------------------ judging it

ABORTED = {"condition": "unavailable", "text": "no operation has succeeded for 9 s", "value": 9.0, "limit": 9}


def ended_early(folder: Path, **changes: Any) -> Any:
    run = healthy(folder, on_unknown="warn")
    run.run = {"state": "interrupted", "problem": ABORTED["text"], "aborted": ABORTED}
    run.steady_load()
    run.final_reads(**changes)
    return judge(run.write())


def test_run_that_was_ended_early_never_passes_whatever_the_scenario_says_of_unknown(tmp_path: Path) -> None:
    verdict = ended_early(tmp_path)

    assert (verdict["verdict"], verdict["exit_code"]) == ("unknown", 3)
    assert verdict["run"]["aborted"] == ABORTED
    assert verdict["headline"] == "Undecided: the run was ended early: no operation has succeeded for 9 s"
    assert not any("on_unknown.then = warn" in warning for warning in verdict["warnings"])


def test_run_that_was_ended_early_may_fail(tmp_path: Path) -> None:
    verdict = ended_early(tmp_path, i_000002=None)

    assert (verdict["verdict"], verdict["exit_code"]) == ("fail", 1)
    assert verdict["run"]["aborted"] == ABORTED


def test_run_that_nothing_ended_early_says_so(tmp_path: Path) -> None:
    run = healthy(tmp_path)
    run.steady_load()
    run.final_reads()

    assert judge(run.write())["run"]["aborted"] is None


def test_aborted_that_is_no_abort_is_refused(tmp_path: Path) -> None:
    run = healthy(tmp_path)
    run.run = {"aborted": "yes"}

    with pytest.raises(RunFolderError, match="aborted is 'yes'"):
        judge(run.write())
