"""What a user's model is, and what it is shown."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Call", "OptionalMethods", "UserModel", "UserOperation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UserOperation:
    """One operation of a history: what was called, what was answered, and when.

    Times are CLOCK_MONOTONIC nanoseconds, intervals closed. `end_ns` is None for an `unknown` operation, which may take
    effect at any time from its start on, or never. `row` is where it stands in its file or list. Raises ValueError when
    these contradict each other.
    """

    process: int
    f: str
    value: Any = None
    result: Any = None
    start_ns: int
    end_ns: int | None
    unknown: bool = False
    row: int

    def __post_init__(self) -> None:
        if self.unknown:
            object.__setattr__(self, "end_ns", None)
        elif self.end_ns is None:
            raise ValueError(f"row {self.row} has no end although it is not unknown")
        elif self.end_ns < self.start_ns:
            raise ValueError(f"row {self.row} ends before it starts")


class Call:
    """What a step may look at: `f`, `value`, `result`, `unknown` and `process`.

    Not the times: what an operation does depends on the state alone. An unknown one has no result. A model that never
    looks at `process` is asked once for all processes.
    """

    __slots__ = ("_looked_at", "_process", "f", "result", "unknown", "value")

    def __init__(self, operation: UserOperation, *, unknown: bool, looked_at: set[str]) -> None:
        self.f = operation.f
        self.value = operation.value
        self.result = None if unknown else operation.result
        self.unknown = unknown
        self._process = operation.process
        self._looked_at = looked_at

    @property
    def process(self) -> int:
        """Who called. To be read from here and nowhere else: equal calls of others are the same call until it is."""
        self._looked_at.add("process")
        return self._process


class UserModel(Protocol):
    """A sequential specification. A class with these two methods is one; see also `OptionalMethods`."""

    def initial(self) -> Hashable:
        """State at the start."""
        ...

    def step(self, state: Any, operation: Call) -> Any:
        """State that follows when `operation` takes effect in `state`, or None when its result is impossible there.

        A list of states when several may follow, an empty one being impossible. For an unknown operation, which has no
        result: what it leaves behind if it takes effect, None when it cannot. Must be a pure function, and states
        hashable values that compare by what they hold.
        """
        ...


class OptionalMethods(Protocol):
    """What a `UserModel` may have beside."""

    def partition(self, operation: UserOperation) -> Hashable:
        """Key of the part that an operation concerns. Parts are judged apart, each from the initial state on."""
        ...

    def describe(self, operation: UserOperation) -> str:
        """`pop() → 3`, for people."""
        ...

    def describe_state(self, state: Any) -> str:
        """A state, for people."""
        ...
