"""What every explainer looks at, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ._brute import precedes
from ._specs import Item
from ._values import Model
from ._words import Words

__all__ = ["Explainer", "Scene", "Why"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Operations that no order explains, by start.

    `items` are as answered (whole reads of sets and lists with the elements that matter), `judged` with what was done
    to them so that these few stand for the whole history (`Counterexample`). `initial` is the bank's, as judged.
    """

    items: Sequence[Item]
    judged: Sequence[Item]
    model: Model
    words: Words
    base: int = 0
    initial: Mapping[int, int] | None = None
    merged: Mapping[int, int] | None = None
    anchor: int | None = None

    def precedes(self, a: int, b: int) -> bool:
        """Whether operation `a` was over before `b` began."""
        return precedes(self.judged[a], self.judged[b])

    def label(self, i: int) -> str:
        return self.words.label(self.items[i])

    def found(self, i: int) -> str:
        told = self.judged[i].items
        if self.merged and told is not None:
            return f"found {self.words.balances(told, self.merged)}"
        return self.words.found(self.items[i])

    def answered(self, i: int) -> str:
        return self.words.answered(self.items[i])

    def again(self, i: int) -> str:
        return self.words.again(self.items[i])


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """One sentence, the same in steps, and whose answer cannot be, by position."""

    reason: str
    reasons: tuple[str, ...]
    impossible: int
    against: int | None = None
    """The operation that `impossible` contradicts."""


Explainer: TypeAlias = Callable[[Scene], Why | None]
"""Finds one kind of contradiction; None when there is none of it."""
