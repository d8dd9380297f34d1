"""Deadline and memory limit of a check: kept, whatever a search wants, and what was decided by then stays decided."""

from __future__ import annotations

import os
import random
import resource

import aftershock.harness.porcupine._check as binding
import pytest
from aftershock.harness.porcupine import ABSENT, CheckOutcome, Engine, F, Model, Operations, check
from aftershock.harness.porcupine._child import Answer, ask
from aftershock.harness.verdict import Verdict

from tests.unit.porcupine.generate import Row, operations, read, write

pytestmark = pytest.mark.processes

EASY_KEYS = 12
HOPELESS = 99
MIB = 1 << 20


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Answer]:
    """What the program answered, with what it needed."""
    kept: list[Answer] = []

    def keeping(*arguments, **options):  # type: ignore[no-untyped-def]
        kept.append(ask(*arguments, **options))
        return kept[-1]

    monkeypatch.setattr(binding, "ask", keeping)
    return kept


def hopeless(rng: random.Random, *, clients: int = 30, count: int = 3000) -> list[Row]:
    """One key, five values, thirty clients that write at the same time, and an answer that nothing explains.

    A depth-first search tries every order of the writes that overlap, and remembers each.
    """
    free = [(rng.random(), client) for client in range(clients)]
    planned = []
    while len(planned) < count:
        start, client = min(free)
        took = rng.expovariate(1.0)
        planned.append((start + rng.random() * took, start, start + took, client))
        free[client] = (start + took + rng.expovariate(5.0), client)
    rows, state = [], ABSENT
    for _, start, end, process in sorted(planned):
        f = rng.choice((F.READ, F.WRITE))
        state = rng.randint(1, 5) if f is F.WRITE else state
        start_ns, end_ns = int(start * 1e6), int(end * 1e6)
        rows.append(Row(key=HOPELESS, f=f, value=state, process=process, start_ns=start_ns, end_ns=end_ns))
    last = rows[-1].end_ns + 1
    return [*rows, read(77, last, last + 1, key=HOPELESS)]


def history(*, broken: bool = False) -> Operations:
    easy = [row for key in range(EASY_KEYS) for row in (write(1, 0, 1, key=key), read(1, 2, 3, key=key))]
    if broken:
        easy += [read(ABSENT, 4, 5, key=0)]
    return operations([*easy, *hopeless(random.Random(4))])


def searched(given: Operations, *, deadline_s: float, memory_limit_bytes: int) -> CheckOutcome:
    return check(
        given,
        model=Model.CAS_REGISTER,
        engine=Engine.PORCUPINE,
        deadline_s=deadline_s,
        memory_limit_bytes=memory_limit_bytes,
    )


def assert_easy_keys_are_decided(outcome: CheckOutcome) -> None:
    assert outcome.keys_checked == EASY_KEYS
    assert outcome.keys_unknown == 1
    assert [r.key for r in outcome.results if r.verdict is Verdict.UNKNOWN] == [HOPELESS]


def explode(answers: list[Answer], limit_mib: int) -> None:
    outcome = searched(history(), deadline_s=120, memory_limit_bytes=limit_mib * MIB)
    assert outcome.verdict is Verdict.UNKNOWN
    assert "more memory than its limit allows" in outcome.reason
    assert_easy_keys_are_decided(outcome)
    (answer,) = answers
    assert answer.problem is None  # it gave up by itself, in order
    # It came near, or the search did not explode and this test shows nothing.
    assert 0.7 * limit_mib * MIB <= answer.peak_bytes <= 1.1 * limit_mib * MIB


def test_a_search_that_explodes_gives_up_at_the_memory_limit(answers: list[Answer]) -> None:
    explode(answers, 60)


@pytest.mark.nightly
@pytest.mark.parametrize("limit_mib", [100, 300, 1000])
def test_the_same_at_other_limits(answers: list[Answer], limit_mib: int) -> None:
    explode(answers, limit_mib)


def test_a_violation_that_was_found_outlives_the_memory_limit() -> None:
    outcome = searched(history(broken=True), deadline_s=120, memory_limit_bytes=60 * MIB)
    assert outcome.verdict is Verdict.FAIL
    assert (outcome.keys_violated, outcome.keys_unknown) == (1, 1)
    assert outcome.results[0].verdict is Verdict.FAIL
    assert outcome.results[0].counterexample is not None


def test_a_search_that_explodes_takes_no_other_with_it() -> None:
    """Larger keys are searched after it, and decided, although it wanted all the memory twice."""
    rows = hopeless(random.Random(4), count=1500)
    for key in range(3):
        for turn in range(1000):
            value = turn % 5
            rows += [write(value, 4 * turn, 4 * turn + 1, key=key), read(value, 4 * turn + 2, 4 * turn + 3, key=key)]
    outcome = searched(operations(rows), deadline_s=120, memory_limit_bytes=60 * MIB)
    assert {r.key: r.verdict for r in outcome.results} == {
        0: Verdict.PASS,
        1: Verdict.PASS,
        2: Verdict.PASS,
        HOPELESS: Verdict.UNKNOWN,
    }
    assert outcome.verdict is Verdict.UNKNOWN


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_a_search_without_end_is_ended_at_the_deadline(answers: list[Answer]) -> None:
    """Wall clock says nothing on a busy machine. What the child worked, and by when it was told to end, does."""
    deadline_s = 0.5
    before_s = cpu_s()
    outcome = searched(history(), deadline_s=deadline_s, memory_limit_bytes=4 << 30)
    worked_s = cpu_s() - before_s
    assert outcome.verdict is Verdict.UNKNOWN
    assert_easy_keys_are_decided(outcome)
    assert worked_s <= 1.1 * deadline_s * len(os.sched_getaffinity(0))
    (answer,) = answers
    if answer.problem is None:  # it ended by itself, in order
        assert 0.5 * deadline_s <= answer.summary["seconds"] <= 1.1 * deadline_s
    else:
        assert answer.problem == "the checker was ended at its deadline"


@pytest.mark.parametrize("engine", list(Engine))
def test_no_time_at_all_is_never_a_pass(engine: Engine) -> None:
    given = operations([write(1, 0, 1), read(1, 2, 3)])
    outcome = check(given, model=Model.CAS_REGISTER, engine=engine, deadline_s=1e-6)
    assert outcome.verdict is Verdict.UNKNOWN
    assert outcome.keys_unknown == 1


def test_too_little_memory_to_begin_with_is_never_a_pass(answers: list[Answer]) -> None:
    outcome = searched(history(), deadline_s=60, memory_limit_bytes=1 * MIB)
    assert outcome.verdict is Verdict.UNKNOWN
    assert "limit is 1 MiB" in outcome.reason


def test_peak_and_summary_are_told(answers: list[Answer]) -> None:
    assert check(operations([write(1, 0, 1)]), model=Model.CAS_REGISTER).verdict is Verdict.PASS
    (answer,) = answers
    assert answer.problem is None
    # So short a life may be over before anybody looked; how true it is, the limits above show.
    assert answer.peak_bytes < 500 * MIB
    assert answer.summary["keys"] == 1
    assert answer.summary["decide_seconds"] <= answer.summary["seconds"]
