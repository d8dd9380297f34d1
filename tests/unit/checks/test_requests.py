"""Loads of requests without values: judged by what clients felt, and by nothing that compares values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aftershock.harness import scenario as scenarios
from aftershock.harness.check_needs import unfed
from aftershock.harness.errors import ScenarioError
from aftershock.harness.judge import judge
from aftershock.harness.operation import REQUEST
from aftershock.harness.registry import Registry
from aftershock.workloads.cas_register import CasRegister
from aftershock.workloads.http_requests import HttpRequests
from aftershock.workloads.insert_only import InsertOnly

from tests.runs import OK, Fate, Run
from tests.unit.plugins import registry as small_registry

JUDGED = ["assumptions", "availability", "recovery", "latency", "load"]
KEYS = ("GET /items/{n}", "POST /items", "GET /health")


def requests_run(folder: Path, fate: Any = lambda t_s, key: OK, *, required: list[str] | None = None) -> Run:
    """A run of 40 s at 100 requests a second with one proven and healed fault from 10 to 15 s, due back in 5 s."""
    run = Run(folder, required=JUDGED if required is None else required)
    run.fault("f1", 10, 15, reaction=None)
    run.replicas = []
    for number in range(4000):
        t_s = number / 100
        key = KEYS[number % 3]
        outcome, took_s, error = fate(t_s, key)
        run.operation(
            REQUEST, key, t_s, t_s + took_s, space="http-requests", shard=None, outcome=outcome, error=error,
            value=number, process=number, result="done" if outcome == "ok" else "",
        )  # fmt: skip
    return run


def checks_of(run: Run) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in judge(run.write())["checks"]}


def test_a_service_that_answers_passes_without_any_final_read(tmp_path: Path) -> None:
    run = requests_run(tmp_path / "run")
    verdict = judge(run.write())
    found = {check["name"]: check for check in verdict["checks"]}

    assert verdict["exit_code"] == 0, [(c["name"], c["reason"]) for c in verdict["checks"]]
    assert found["availability"]["verdict"] == found["recovery"]["verdict"] == "pass"
    assert found["linearizability"]["status"] == found["data-loss"]["status"] == "skipped"
    assert found["linearizability"]["reason"] == "No workload writes values, so there is no order of values to judge."
    assert "No workload inserts keys" in found["data-loss"]["reason"]
    assert found["replica-agreement"]["status"] == "skipped"


def test_without_a_single_success_nothing_is_known(tmp_path: Path) -> None:
    run = requests_run(tmp_path / "run", lambda t_s, key: ("unknown", 0.004, "http-4xx"))
    verdict = judge(run.write())
    (assumed,) = (check for check in verdict["checks"] if check["name"] == "assumptions")

    assert verdict["exit_code"] != 0
    assert assumed["verdict"] == "unknown"
    assert "no operation of the load ever succeeded (most often: http-4xx, 4,000 of 4,000)" in assumed["reason"]


def test_nothing_of_it_is_taken_for_a_write_that_must_be_read_back(tmp_path: Path) -> None:
    """Open requests are no open writes, whatever number they carry."""
    run = requests_run(tmp_path / "run", lambda t_s, key: OK if t_s < 12 or t_s > 14 else ("unknown", 2.0, "timeout"))

    assert checks_of(run)["assumptions"]["verdict"] == "pass"


def test_one_request_that_fails_is_a_gap_although_the_others_are_answered(tmp_path: Path) -> None:
    def posts_stay_away(t_s: float, key: str) -> Fate:
        return ("unknown", 0.01, "http-5xx") if key == "POST /items" and 10.2 < t_s < 20 else OK

    recovery = checks_of(requests_run(tmp_path / "run", posts_stay_away))["recovery"]

    assert recovery["verdict"] == "fail"
    assert "Service on POST /items was missing" in recovery["reason"]


def test_the_same_request_back_in_time_is_a_recovery(tmp_path: Path) -> None:
    def posts_come_back(t_s: float, key: str) -> Fate:
        return ("unknown", 0.01, "http-5xx") if key == "POST /items" and 10.2 < t_s < 13 else OK

    found = checks_of(requests_run(tmp_path / "run", posts_come_back))

    assert found["recovery"]["verdict"] == "pass"
    assert found["availability"]["verdict"] == "pass"


def test_failing_at_once_is_not_fast(tmp_path: Path) -> None:
    """Three of four answers are errors after 1 ms; whoever was served waited 300 ms."""

    def mostly_errors(t_s: float, key: str) -> Fate:
        return ("ok", 0.3, "") if round(t_s * 100) % 4 == 0 else ("unknown", 0.001, "http-5xx")

    run = requests_run(tmp_path / "run", mostly_errors)
    run.targets = {"latency_p99_ms": 100}
    run.operations = [row for row in run.operations for _ in range(2)]  # as many as the check needs

    latency = checks_of(run)["latency"]
    assert latency["numbers"]["p50_ms"] == pytest.approx(300, abs=1)
    assert latency["verdict"] == "fail"


# ------------------------------------------------------------------------------------------------ scenarios


def real_registry() -> Registry:
    """The small one, with the workloads as they are."""
    made, small = Registry(), small_registry()
    for kind in ("system", "backend", "fault"):
        for name in small.names(kind):
            made.add(kind, small.get(kind, name), origin="test")
    for workload in (CasRegister, InsertOnly, HttpRequests):
        made.add("workload", workload, origin="test")
    return made


def scenario(*workloads: str, required: str = "") -> scenarios.Scenario:
    share = 1 / len(workloads)
    tables = "".join(f"[[workload]]\nshare = {share}\n{text}\n" for text in workloads)
    checks = f"[checks]\nrequired = {required}\n" if required else ""
    text = f'name = "x"\ncontrol = true\n{checks}[system]\nname = "reference"\n[backend]\nname = "process"\n{tables}'
    return scenarios.parse(text, real_registry(), where="test")


HTTP = """name = "http-requests"
requests = [{ path = "/items/{n}" }, { method = "POST", path = "/x", headers = { "A-B" = "c" } }]"""


def test_what_the_workloads_cannot_feed_is_not_required_by_default() -> None:
    assert set(scenarios.CHECK_NAMES) - set(scenario(HTTP).required) == {"linearizability", "data-loss"}
    assert set(scenarios.CHECK_NAMES) - set(scenario('name = "cas-register"').required) == {"data-loss"}
    assert scenario('name = "insert-only"').required == scenarios.CHECK_NAMES
    assert scenario(HTTP, 'name = "insert-only"').required == scenarios.CHECK_NAMES


@pytest.mark.parametrize("check", ["linearizability", "data-loss"])
def test_requiring_what_the_workloads_cannot_feed_is_a_mistake(check: str) -> None:
    with pytest.raises(
        ScenarioError, match=rf"checks\.required: {check} can never be judged in this scenario\. No work"
    ):
        scenario(HTTP, required=f'["assumptions", "{check}"]')


def test_such_a_scenario_is_written_and_read_back() -> None:
    once = scenario(HTTP)

    assert scenarios.parse(scenarios.to_toml(once), real_registry(), where="again") == once


def test_a_mix_of_reads_alone_gives_no_order_to_judge() -> None:
    assert set(unfed({"read"})) == {"linearizability", "data-loss"}
    assert set(unfed({"read", "write"})) == {"data-loss"}
    assert unfed({"insert"}) == {}
