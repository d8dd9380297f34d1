"""The model `text`: each key holds a text, empty at first; read, write, and append, which puts a text behind.

What Porcupine's key-value histories are held against. It is judged as a model of a user's own is.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from ..errors import UsageError
from ..porcupine.user_model import Call, UserOperation

__all__ = ["NAME", "TextModel"]

NAME: Final = "text"


class TextModel:
    """State: the text. An operation's value is its key, and what was written or read."""

    def initial(self) -> str:
        return ""

    def step(self, state: str, operation: Call) -> str | None:
        _, value = operation.value
        text = "" if value is None else value
        if not isinstance(text, str):
            raise UsageError(f"the model text reads, writes and appends texts, not {value!r}")
        if operation.f == "read":
            return state if text == state else None
        if operation.f == "write":
            return text
        if operation.f == "append":
            return state + text
        raise UsageError(f"the model text has read, write and append, not {operation.f}")

    def partition(self, operation: UserOperation) -> Hashable:
        key: Hashable = operation.value[0]
        return key

    def describe(self, operation: UserOperation) -> str:
        _, value = operation.value
        return f"{operation.f} -> {value!r}" if operation.f == "read" else f"{operation.f} {value!r}"

    def describe_state(self, state: str) -> str:
        return repr(state)
