"""A model of a stack that holds at most three elements: `aftershock check FILE --model bounded_stack.py:BoundedStack`.

docs/user-models.md goes through it.
"""

from __future__ import annotations

from collections.abc import Hashable

from aftershock.harness.porcupine.user_model import Call, UserOperation

State = tuple[int, ...]
"""Elements, the top last."""


class BoundedStack:
    """`push` answers "ok" or "full", `pop` the element, or None when the stack is empty. Each key has a stack."""

    capacity = 3

    def initial(self) -> State:
        return ()

    def step(self, state: State, operation: Call) -> State | None:
        _, element = operation.value
        if operation.f == "push":
            full = len(state) == self.capacity
            if operation.unknown:  # no result to look at: what it leaves behind if it takes effect
                return state if full else (*state, element)
            if operation.result == "full":
                return state if full else None
            return None if full else (*state, element)
        if operation.f == "pop":
            if operation.unknown:
                return state[:-1]
            top = state[-1] if state else None
            return state[:-1] if operation.result == top else None
        raise ValueError(f"a stack has push and pop, not {operation.f}")

    def partition(self, operation: UserOperation) -> Hashable:
        key, _ = operation.value
        return key

    def describe(self, operation: UserOperation) -> str:
        _, element = operation.value
        call = f"push({element})" if operation.f == "push" else "pop()"
        return f"{call}, never answered," if operation.unknown else f"{call} → {operation.result}"

    def describe_state(self, state: State) -> str:
        return f"[{', '.join(map(str, state))}]" if state else "empty"
