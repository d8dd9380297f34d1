"""The process that has a user's model: answers the native search's questions, and says what came out.

It turns equal calls into one class and equal states into one number, so that a state and a class cross the border
once. A number stands for a set of the model's states, those that may be: the search sees one next state (the power
set construction), and an unknown operation is possible in each, as it may have had no effect.
"""

from __future__ import annotations

import json
import struct
import subprocess
import traceback
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeAlias, TypeVar

from ._user_explain import in_words
from ._user_values import Call, UserModel, UserOperation
from ._values import OPEN_NS

__all__ = ["ModelError", "Session", "Worker"]

States: TypeAlias = frozenset[Hashable]

Doing: TypeAlias = tuple[str, UserOperation | None, Any]
"""A method of the model, and the operation and the state that it was called with, if any."""

_T = TypeVar("_T")


class ModelError(Exception):
    """The user's model raised, or returned what it may not. The message is for the user."""


class _LooksAtProcess(Exception):  # noqa: N818 - a reason to start again, not an error
    """The model wants to know who called, so that calls of different processes are not the same."""


@dataclass(slots=True)
class Session:
    """Classes of calls, numbered states, and what was asked."""

    calls: list[Call]
    examples: list[UserOperation]
    """One operation of each class."""
    of_row: list[tuple[int, int]]
    """Classes of each operation: as it was answered, and if it had not been."""
    states: list[States]
    numbers: dict[States, int]
    changing: set[str]
    """Functions that were seen to change a state."""


class Worker:
    """Judges one history. `say` takes what the parent process is to hear."""

    def __init__(
        self,
        model: UserModel,
        operations: Sequence[UserOperation],
        *,
        program: Path,
        say: Callable[[dict[str, Any]], None],
    ) -> None:
        self.model = model
        self.operations = operations
        self.program = program
        self.say = say
        self.doing: Doing | None = None
        """What the model is doing just now; None while it waits for questions."""
        self._name = type(model).__name__
        self._looked_at: set[str] = set()
        self._keys: list[int] = []
        self._by_process = False
        self.session = Session([], [], [], [], {}, set())

    def run(self, *, deadline_ms: Callable[[], int], memory_limit_bytes: int) -> None:
        """Judge everything. Raises ModelError."""
        self._partition()
        environment = {"GOMEMLIMIT": f"{memory_limit_bytes * 9 // 10}B", "GOTRACEBACK": "none"}
        while True:
            rows = self._rows()
            with subprocess.Popen(
                [self.program, "--user-model"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
            ) as child:
                assert child.stdin is not None
                assert child.stdout is not None
                self.say({"searching": child.pid})
                try:
                    header = json.dumps({"operations": len(self.operations), "deadline_ms": deadline_ms()})
                    child.stdin.write(header.encode() + b"\n" + rows)
                    child.stdin.flush()
                    self._answer(child.stdin, child.stdout)
                    return
                except _LooksAtProcess:
                    continue  # from the beginning, with what was learnt about the model
                finally:
                    child.kill()

    def _partition(self) -> None:
        """Number the parts in order of appearance."""
        part = getattr(self.model, "partition", None)
        numbers: dict[Hashable, int] = {}
        for operation in self.operations:
            key = None if part is None else self._call_model("partition", partial(part, operation), operation)
            try:
                self._keys.append(numbers.setdefault(key, len(numbers)))
            except TypeError:
                what = f"returned {_short(key)}, which is not hashable"
                raise ModelError(self._wrong("partition", what, operation, None)) from None
        self.say({"parts": [str(key) for key in numbers]})

    def _rows(self) -> bytes:
        """Columns of all operations, row by row: key, group, class, class if unknown, start, end."""
        self._by_process = bool(self._looked_at)
        first = frozenset((self._state(self._call_model("initial", self.model.initial), "initial"),))
        self.session = Session([], [], [], [first], {first: 0}, set())
        classes: dict[Hashable, int] = {}
        groups: dict[str, int] = {}

        def class_of(operation: UserOperation, *, unknown: bool) -> int:
            who = operation.process if self._by_process else None
            result = None if unknown else frozen(operation.result)
            identity = (operation.f, frozen(operation.value), result, unknown, who)
            if identity not in classes:
                classes[identity] = len(classes)
                self.session.calls.append(Call(operation, unknown=unknown, looked_at=self._looked_at))
                self.session.examples.append(operation)
            return classes[identity]

        rows = bytearray()
        for key, operation in zip(self._keys, self.operations, strict=True):
            maybe = class_of(operation, unknown=True)
            known = maybe if operation.unknown else class_of(operation, unknown=False)
            self.session.of_row.append((known, maybe))
            end_ns = OPEN_NS if operation.end_ns is None else operation.end_ns
            group = groups.setdefault(operation.f, len(groups))
            rows += struct.pack("<6q", key, group, known, maybe, operation.start_ns, end_ns)
        return bytes(rows)

    def _answer(self, questions_to: IO[bytes], questions_from: IO[bytes]) -> None:
        for line in questions_from:
            if line[:1] in b"?|":
                numbers = [int(number) for number in line[1:].split()]
                after = self.next(*numbers) if line[:1] == b"?" else self._either(numbers)
                questions_to.write(b"%d\n" % after)
                questions_to.flush()
                continue
            said = json.loads(line)
            if "counterexample" in said:
                said["counterexample"] = in_words(self, **said["counterexample"])
            self.say(said)

    # -------------------------------------------------------------------------------------------- the model

    def next(self, state: int, call: int) -> int:
        """Number of the set of states that may follow; -1 when the call is impossible in all of them."""
        session = self.session
        after: set[Hashable] = set()
        for before in session.states[state]:
            after |= self._step(before, call)
        if self._looked_at and not self._by_process:
            raise _LooksAtProcess
        if not after:
            return -1
        following = self._number(frozenset(after))
        if following != state:
            session.changing.add(session.examples[call].f)
        return following

    def _either(self, numbers: Sequence[int]) -> int:
        return self._number(frozenset().union(*(self.session.states[number] for number in numbers)))

    def _number(self, states: States) -> int:
        numbers = self.session.numbers
        if states not in numbers:
            numbers[states] = len(numbers)
            self.session.states.append(states)
        return numbers[states]

    def _step(self, state: Hashable, number: int) -> set[Hashable]:
        call = self.session.calls[number]

        def step() -> list[Any]:
            answer = self.model.step(state, call)
            if answer is None:
                return []
            return list(answer) if isinstance(answer, list | Iterator) else [answer]

        operation = self.session.examples[number]
        following = self._call_model("step", step, operation, state)
        for after in following:
            self._state(after, "step", operation, state)
        # What was never answered may have had no effect; where it can have one, the search decides when.
        return {state} if call.unknown and not following else set(following)

    def _call_model(
        self, method: str, call: Callable[[], _T], operation: UserOperation | None = None, state: Any = None
    ) -> _T:
        self.doing = (method, operation, state)
        try:
            answer = call()
        except (Exception, SystemExit) as error:
            *_, frame = traceback.extract_tb(error.__traceback__)
            said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            what = f"raised {said} ({frame.filename}, line {frame.lineno})"
            raise ModelError(self._wrong(method, what, operation, state)) from None
        self.doing = None  # not when time runs out: what it was doing is then the reason
        return answer

    def _state(self, state: Any, method: str, operation: UserOperation | None = None, before: Any = None) -> Hashable:
        try:
            hash(state)
        except TypeError:
            what = f"returned {_short(state)}, which cannot be a state: states must be hashable (a tuple, a frozenset)"
            raise ModelError(self._wrong(method, what, operation, before)) from None
        return state  # type: ignore[no-any-return]

    def _wrong(self, method: str, what: str, operation: UserOperation | None, state: Any) -> str:
        return f"The model {self._name}: {self.where((method, operation, state))} {what}."

    def where(self, doing: Doing) -> str:
        """`step in state (1, 2) for pop() → 3 by process 4 (row 17)`."""
        method, operation, state = doing
        in_state = f" in state {_short(state)}" if method == "step" else ""
        for_operation = (
            f" for {_plain(operation)} by process {operation.process} (row {operation.row})" if operation else ""
        )
        return f"{method}{in_state}{for_operation}"

    # -------------------------------------------------------------------------------------------- words

    def describe(self, operation: UserOperation) -> str:
        """What an operation did, in the model's words if it has some, and who did it."""
        own = getattr(self.model, "describe", None)
        said = _plain(operation) if own is None else self._call_model("describe", lambda: own(operation), operation)
        return f"{said} by process {operation.process}"

    def describe_state(self, state: Hashable) -> str:
        own = getattr(self.model, "describe_state", None)
        return (
            _short(state) if own is None else str(self._call_model("describe_state", lambda: own(state), state=state))
        )


def _plain(operation: UserOperation) -> str:
    value = "" if operation.value is None else _short(operation.value)
    if operation.unknown:
        return f"{operation.f}({value}), never answered,"
    return f"{operation.f}({value})" + ("" if operation.result is None else f" → {_short(operation.result)}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def frozen(value: Any) -> Hashable:
    """Something hashable that is equal for equal values of the same types: 1 and True are two calls."""
    if isinstance(value, list | tuple):
        return (type(value), *map(frozen, value))
    if isinstance(value, set | frozenset):
        return (type(value), frozenset(map(frozen, value)))
    if isinstance(value, dict):
        return (dict, frozenset((frozen(key), frozen(one)) for key, one in value.items()))
    return (type(value), value)
