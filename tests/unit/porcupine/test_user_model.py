"""A user's own model: its verdicts against brute force, its counterexamples, its mistakes, and the budgets."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import time
from collections.abc import Hashable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aftershock.harness.errors import UsageError
from aftershock.harness.porcupine import KeyResult, Model, user_model
from aftershock.harness.porcupine._brute import Item, legal
from aftershock.harness.porcupine._specs import OBSERVERS, apply, initial_state
from aftershock.harness.porcupine.user_model import Call, UserModel, UserOperation, check_user_model
from aftershock.harness.verdict import Verdict

from tests.unit.porcupine.agreement import item_of
from tests.unit.porcupine.generate import Row, history_of, tamper, watched
from tests.unit.porcupine.machines import ACCOUNTS, PROFILES, machine

EXAMPLE = Path(__file__).parents[3] / "examples/user-model/bounded_stack.py"


@pytest.fixture(autouse=True)
def chosen_program(monkeypatch: pytest.MonkeyPatch) -> None:
    given = os.environ.get("AFTERSHOCK_CHECKER")
    if given is not None:
        monkeypatch.setattr(user_model, "checker_path", lambda: Path(given))


@pytest.fixture
def stack() -> UserModel:
    spec = importlib.util.spec_from_file_location("bounded_stack", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: UserModel = module.BoundedStack()
    return made


def operation(
    f: str, value: Any, result: Any, start_ns: int, end_ns: int | None, *, row: int = 0, process: int = 1
) -> UserOperation:
    return UserOperation(
        process=process,
        f=f,
        value=value,
        result=result,
        start_ns=start_ns,
        end_ns=end_ns,
        unknown=end_ns is None,
        row=row,
    )


def push(element: int, start_ns: int, end_ns: int | None, *, result: str = "ok", key: str = "a") -> UserOperation:
    return operation("push", (key, element), result, start_ns, end_ns, process=1)


def pop(element: int | None, start_ns: int, end_ns: int | None, *, key: str = "a") -> UserOperation:
    return operation("pop", (key, None), element, start_ns, end_ns, process=3)


# ------------------------------------------------------------------------------------------------ the example


def test_a_stack_that_works(stack: UserModel) -> None:
    history = [
        push(1, 0, 1),
        push(2, 2, 3),
        push(3, 4, 5),
        push(4, 6, 7, result="full"),
        pop(3, 8, 9),
        pop(2, 10, 12),
        push(5, 11, 13),
        pop(5, 14, 15),
        pop(1, 16, 17),
        pop(None, 18, 19),
    ]

    outcome = check_user_model(history, model=stack)

    assert (outcome.verdict, outcome.keys_checked) == (Verdict.PASS, 1)


def test_a_pop_of_what_is_not_on_top(stack: UserModel) -> None:
    outcome = check_user_model([push(1, 0, 1), push(2, 2, 3), pop(1, 4, 5), pop(2, 6, 7)], model=stack)

    assert outcome.verdict is Verdict.FAIL
    (result,) = outcome.results
    found = result.counterexample
    assert found is not None
    assert (found.rows, found.minimal, found.rejudged) == ((0, 1, 2), True, True)
    assert found.roles == ("write", "write", "impossible")
    assert found.reason == (
        "pop() → 1 by process 3 cannot be: no order of it and 2 more operations explains every result."
    )
    (order,) = found.orders
    assert order.why == (
        "After push(1) → ok by process 1, then push(2) → ok by process 1 the state is [1, 2], where pop() → 1 by "
        "process 3 is impossible."
    )
    assert (result.prefix_operations, result.prefix_end_ns) == (2, 5)


def test_a_violation_late_in_a_long_history_is_told_from_the_last_pause_on(stack: UserModel) -> None:
    history = [one for n in range(0, 400, 20) for one in (push(n, n, n + 1), pop(n, n + 3, n + 4))]
    history += [push(1, 500, 501), push(2, 502, 505), pop(7, 504, 510), pop(1, 520, 530)]

    (result,) = check_user_model(history, model=stack).results

    found = result.counterexample
    assert found is not None
    assert found.rows == (42,)
    assert found.reason.startswith("pop() → 7 by process 3 cannot be: the 41 operations before left [1], where it is")
    assert "1 other operation took effect" in found.reason
    assert found.minimal
    assert result.prefix_end_ns == 510


def test_an_unknown_push_may_have_happened_or_not(stack: UserModel) -> None:
    for element in (1, 2):
        assert check_user_model([push(1, 0, 1), push(2, 2, None), pop(element, 4, 5)], model=stack).verdict == "pass"
    assert check_user_model([push(1, 0, 1), push(2, 2, None), pop(3, 4, 5)], model=stack).verdict == "fail"


def test_each_key_has_its_own_stack(stack: UserModel) -> None:
    history = [push(1, 0, 1, key="a"), pop(None, 2, 3, key="b"), pop(None, 2, 3, key="a"), pop(None, 2, 3, key="c")]

    outcome = check_user_model(history, model=stack)

    assert [result.verdict for result in outcome.results] == ["fail", "pass", "pass"]
    assert outcome.reason == "1 of 3 parts cannot be linearized"
    assert outcome.results[0].reason.startswith("pop() → None by process 3 cannot be")
    assert outcome.results[0].counterexample is not None
    assert outcome.results[0].counterexample.rows == (0, 2)


def test_the_page_shows_the_example_as_it_is() -> None:
    page = (EXAMPLE.parents[2] / "docs/user-models.md").read_text(encoding="utf-8")
    example = EXAMPLE.read_text(encoding="utf-8")

    assert example[example.index("class BoundedStack") :] in page
    assert (EXAMPLE.parent / "stack.jsonl").read_text(encoding="utf-8") in page


# ------------------------------------------------------------------------------------------------ agreement


class Specified:
    """A specification of ours as a user's model: states in lists, parts by key, and it may look at the process."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def initial(self) -> Hashable:
        state: Hashable = initial_state(self.model, ACCOUNTS)
        return state

    def step(self, state: Any, operation: Call) -> Any:
        f, value, expected, version = operation.value
        items = None
        if not operation.unknown:
            value, expected, version, items = operation.result
        return apply(
            state,
            Item(
                f=f,
                process=operation.process if self.model is Model.MUTEX else 0,
                value=value,
                expected=expected,
                version=version,
                start_ns=0,
                end_ns=1,
                unknown=operation.unknown,
                items=items,
            ),
            self.model,
        )

    def partition(self, operation: UserOperation) -> int:
        return operation.row // 100


def as_user(row: Row, index: int) -> UserOperation:
    everything = (row.value, row.expected, row.version)
    return UserOperation(
        process=row.process,
        f=row.f.name,
        value=(row.f, *everything),
        result=(*everything, row.items),
        start_ns=row.start_ns,
        end_ns=row.end_ns,
        unknown=row.unknown,
        row=100 * row.key + index,
    )


@pytest.mark.parametrize("model", list(Model))
def test_it_agrees_with_brute_force(model: Model) -> None:
    seed = os.environ.get("AFTERSHOCK_FUZZ_SEED", "20261123")
    rng = random.Random(f"{seed} {model}")
    profiles = PROFILES[model]
    count = int(os.environ.get("AFTERSHOCK_FUZZ", "80"))
    histories = [history_of(rng, model, profiles[key % len(profiles)], key=key) for key in range(count)]
    flat = [as_user(row, i) for rows in histories for i, row in enumerate(rows)]

    outcome = check_user_model(flat, model=Specified(model), deadline_s=600)

    expected = [legal([item_of(row) for row in rows], model, initial=ACCOUNTS) for rows in histories]
    assert [result.verdict is Verdict.PASS for result in outcome.results] == expected, f"seed {seed}"
    assert outcome.keys_unknown == 0
    assert count / 10 < outcome.keys_violated < count
    found = [result.counterexample for result in outcome.results if result.counterexample is not None]
    assert sum(one.minimal for one in found) > len(found) / 2
    first = 0
    for result, rows in zip(outcome.results, histories, strict=True):
        assert_counterexample(result, rows, first, model)
        first += len(rows)


def assert_counterexample(result: KeyResult, rows: list[Row], first: int, model: Model) -> None:
    """Its answers alone contradict each other, whatever else happened; and forgetting any one of them, they do not."""
    found = result.counterexample
    assert (found is not None) == (result.verdict is Verdict.FAIL)
    if found is None:
        return
    counted = [row - first for row in found.rows]
    assert found.rejudged

    def possible(counted: list[int]) -> bool:
        items = [item_of(row if i in counted else replace(row, unknown=True)) for i, row in enumerate(rows)]
        return legal([item for item in items if not (item.unknown and item.f in OBSERVERS)], model, initial=ACCOUNTS)

    assert not possible(counted)
    for i in counted if found.minimal else ():  # not where a busy machine took the time for it
        assert possible([other for other in counted if other != i]), (rows, counted, i)


def test_a_longer_history_from_its_last_pause_on() -> None:
    """What was before the pause and the answers shown contradict each other by brute force, too."""
    rng = random.Random(7)
    histories = [watched(rng, machine(Model.REGISTER, "repeated"), key=key, most=18) for key in range(60)]
    for rows in histories:  # late, so that there is something before it
        late = rows[-5:]
        tamper(rng, late)
        tamper(rng, late)
        rows[-5:] = late
    flat = [as_user(row, i) for rows in histories for i, row in enumerate(rows)]

    outcome = check_user_model(flat, model=Specified(Model.REGISTER), deadline_s=600)

    shortened = first = 0
    for result, rows in zip(outcome.results, histories, strict=True):
        assert (result.verdict is Verdict.PASS) == legal([item_of(row) for row in rows], Model.REGISTER)
        if (found := result.counterexample) is not None:
            shown = [rows[i - first] for i in found.rows]
            begin = min(row.start_ns for row in shown)
            kept = [row if row in shown or row.end_ns < begin else replace(row, unknown=True) for row in rows]
            assert not legal([item_of(row) for row in kept], Model.REGISTER), rows
            shortened += "before left" in found.reason or "before it left" in found.reason
        first += len(rows)
    assert shortened >= 3


# ------------------------------------------------------------------------------------------------ states and calls


class Switch:
    """Nobody knows how it stands at first; `flip` turns it."""

    def initial(self) -> str:
        return "new"

    def step(self, state: str, operation: Call) -> list[str] | Iterator[str] | str | None:
        sides = ["left", "right"] if state == "new" else [state]
        if operation.f == "look":
            return (side for side in sides if side == operation.result)
        return [{"left": "right", "right": "left"}[side] for side in sides]


def test_a_step_may_answer_several_states() -> None:
    def look(side: str, at: int) -> UserOperation:
        return operation("look", None, side, at, at)

    def flip(at: int) -> UserOperation:
        return operation("flip", None, None, at, at)

    assert check_user_model([flip(0), look("left", 1), flip(2), look("right", 3)], model=Switch()).verdict == "pass"
    outcome = check_user_model([flip(0), look("left", 1), flip(2), look("left", 3)], model=Switch())

    assert outcome.verdict is Verdict.FAIL
    assert outcome.results[0].counterexample is not None
    assert outcome.results[0].counterexample.rows == (0, 1, 2, 3)  # the first flip, too: forgotten, it might be late


def test_a_pair_of_state_and_call_is_asked_once(tmp_path: Path) -> None:
    asked = tmp_path / "asked"

    class Counter:
        def initial(self) -> int:
            return 0

        def step(self, state: int, operation: Call) -> int | None:
            with asked.open("a") as log:
                log.write(f"{state} {operation.f} {operation.result}\n")
            return state + 1 if operation.f == "up" else state if operation.result == state else None

    history = [operation("up", None, None, 0, 1000, process=p) for p in range(3)]
    history += [operation("read", None, 3, 2000 + i, 2001 + i, process=i) for i in range(50)]

    assert check_user_model(history, model=Counter()).verdict is Verdict.PASS
    questions = asked.read_text().splitlines()
    assert len(questions) == len(set(questions)) <= 8


def test_true_and_1_are_two_calls() -> None:
    class Typed:
        def initial(self) -> int:
            return 0

        def step(self, state: int, operation: Call) -> int | None:
            return state if type(operation.result) is bool else None

    history = [operation("read", [1], True, 0, 1), operation("read", [1], 1, 2, 3)]

    assert check_user_model(history[:1], model=Typed()).verdict is Verdict.PASS
    assert check_user_model(history, model=Typed()).verdict is Verdict.FAIL


# ------------------------------------------------------------------------------------------------ mistakes


class Raises:
    def initial(self) -> int:
        return 0

    def step(self, state: int, operation: Call) -> Any:
        if operation.value == "raise":
            raise ZeroDivisionError("by zero")
        if operation.value == "exit":
            raise SystemExit(3)
        return {"a": 1}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("raise", r"The model Raises: step in state 0 for put\('raise'\) by process 1 \(row 17\) raised "),
        ("raise", r"ZeroDivisionError: by zero \(.*test_user_model.py, line \d+\)\."),
        ("exit", r"raised SystemExit: 3"),
        ("dict", r"returned \{'a': 1\}, which cannot be a state: states must be hashable"),
    ],
)
def test_a_mistake_in_the_model_is_told_with_the_operation(value: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        check_user_model([operation("put", value, None, 0, 1, row=17)], model=Raises())


def test_mistakes_outside_of_steps() -> None:
    class Partitions(Raises):
        def partition(self, operation: UserOperation) -> Hashable:
            return [operation.value]  # type: ignore[return-value]

    class Starts(Raises):
        def initial(self) -> int:
            return 1 // 0

    with pytest.raises(
        UsageError, match=r"partition for put\('x'\) by process 1 \(row 4\) returned \['x'\], which is not h"
    ):
        check_user_model([operation("put", "x", None, 0, 1, row=4)], model=Partitions())
    with pytest.raises(UsageError, match=r"The model Starts: initial raised ZeroDivisionError"):
        check_user_model([operation("put", "x", None, 0, 1, row=4)], model=Starts())


def test_operations_that_contradict_themselves() -> None:
    with pytest.raises(ValueError, match="row 4 has no end although it is not unknown"):
        UserOperation(process=1, f="put", start_ns=0, end_ns=None, row=4)
    with pytest.raises(ValueError, match="row 4 ends before it starts"):
        UserOperation(process=1, f="put", start_ns=1, end_ns=0, row=4)
    assert check_user_model([], model=Switch()).verdict is Verdict.UNKNOWN


# ------------------------------------------------------------------------------------------------ budgets


class Endless(Switch):
    def step(self, state: str, operation: Call) -> Any:
        while operation.f == "hang":
            pass
        return state


def test_a_step_that_never_returns_is_ended_at_the_deadline() -> None:
    started_s = time.monotonic()

    outcome = check_user_model([operation("hang", 7, None, 0, 1, row=5)], model=Endless(), deadline_s=0.8)

    assert outcome.verdict is Verdict.UNKNOWN
    in_time = "step in state 'new' for hang(7) by process 1 (row 5) did not return"
    assert outcome.reason in (in_time, "the model was ended at the deadline")  # where even to say so took too long
    assert time.monotonic() - started_s < 60  # it came back at all; how soon, a busy machine decides


def test_a_step_that_swallows_everything_is_killed() -> None:
    class Stubborn(Endless):
        def step(self, state: str, operation: Call) -> Any:
            while True:
                with contextlib.suppress(BaseException):
                    time.sleep(60)

    outcome = check_user_model([operation("hang", 7, None, 0, 1)], model=Stubborn(), deadline_s=0.3)

    assert (outcome.verdict, outcome.reason) == (Verdict.UNKNOWN, "the model was ended at the deadline")


def test_a_model_that_takes_too_much_memory_is_ended() -> None:
    class Hungry(Switch):
        def step(self, state: str, operation: Call) -> Any:
            kept = []
            while True:
                kept.append(bytearray(1 << 22))

    outcome = check_user_model([operation("eat", 7, None, 0, 1)], model=Hungry(), memory_limit_bytes=64 << 20)

    assert outcome.verdict is Verdict.UNKNOWN
    assert "the model and the search were ended when they held" in outcome.reason


def test_a_model_that_ends_its_process_is_no_verdict() -> None:
    class Leaves(Switch):
        def step(self, state: str, operation: Call) -> Any:
            os._exit(0)

    outcome = check_user_model([operation("go", 7, None, 0, 1)], model=Leaves())

    assert (outcome.verdict, outcome.keys_unknown) == (Verdict.UNKNOWN, 1)
    assert outcome.reason == "the process with the model ended before it was done"


def test_a_search_that_does_not_end_leaves_the_other_parts_their_verdict() -> None:
    class Sums:
        def initial(self) -> int:
            return 0

        def step(self, state: int, operation: Call) -> int | None:
            if operation.f == "read":
                return state if operation.result == state else None
            return state + int(operation.value[1])

        def partition(self, operation: UserOperation) -> Hashable:
            return operation.value[0]

    hard = [operation("add", ("hard", 2**i), None, 0, None, process=i) for i in range(40)]
    hard += [operation("read", ("hard", 0), 2**41, 1, 2)]
    easy = [operation("add", ("easy", 1), None, 0, 1), operation("read", ("easy", 0), 1, 2, 3)]

    outcome = check_user_model(hard + easy, model=Sums(), deadline_s=0.6)

    assert [result.verdict for result in outcome.results] == ["unknown", "pass"]
    assert outcome.verdict is Verdict.UNKNOWN
    assert "did not end within its time" in outcome.results[0].reason
