"""What operations are called, and what their answers say, in sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ._specs import Item
from ._values import ABSENT, F, Model

__all__ = ["REGISTERS", "Words", "capital", "count", "default_words"]

REGISTERS: Final = (Model.REGISTER, Model.CAS_REGISTER, Model.KEY_VALUE)

_UNTOLD = 2**32
_SHOWN = 8  # members of a collection that a sentence lists


def default_words(value: int) -> str:
    """Numbers as they are, and `nothing` for `ABSENT`."""
    return "nothing" if value == ABSENT else str(value)


def capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def count(number: int, what: str) -> str:
    """`1 increment`, `4 increments`."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Sentences of one model. `value` shows what was written, added, put in or read, `ABSENT` included."""

    model: Model
    value: Callable[[int], str] = default_words

    @property
    def absent(self) -> bool:
        """Whether `ABSENT` stands for a key that holds nothing, and not for some initial value."""
        return self.value(ABSENT) == default_words(ABSENT)

    def listed(self, values: Iterable[int]) -> str:
        shown = list(values)
        more = f", … {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
        return ", ".join(self.value(value) for value in shown[:_SHOWN]) + more

    def collection(self, values: Sequence[int]) -> str:
        if self.model is Model.SET:
            return f"{{{self.listed(sorted(values))}}}" if values else "an empty set"
        return f"[{self.listed(values)}]" if values else "an empty list"

    def balances(self, items: Sequence[int], merged: Mapping[int, int] | None = None) -> str:
        """`3 on account 1, 2 on accounts 4 and 7`. `merged`: with which account others were counted."""
        pairs = sorted(zip(items[::2], items[1::2], strict=False))
        return ", ".join(f"{balance} on {self.accounts(account, merged)}" for account, balance in pairs)

    def accounts(self, account: int, merged: Mapping[int, int] | None = None) -> str:
        """An account with those that were counted with it."""
        group = sorted([account, *(other for other, of in (merged or {}).items() if of == account)])
        if len(group) > _SHOWN:
            return f"{len(group)} accounts"
        names = [self.value(one) for one in group]
        return f"account {names[0]}" if len(group) == 1 else f"accounts {', '.join(names[:-1])} and {names[-1]}"

    # -------------------------------------------------------------------------------------------- operations

    def call(self, item: Item) -> str:
        """`write of 7`: what was asked for, without who asked."""
        value = self.value
        match item.f:
            case F.READ | F.READ_ALL:
                return "read"
            case F.WRITE:
                return f"write of {value(item.value)}"
            case F.DELETE:
                return "delete"
            case F.CAS if item.expected == ABSENT and self.absent:
                return f"insert of {value(item.value)}"
            case F.CAS:
                return f"compare-and-set from {value(item.expected)} to {value(item.value)}"
            case F.UNEQUAL if item.expected == ABSENT and self.absent:
                return "insert that did not match"
            case F.UNEQUAL:
                return f"compare-and-set from {value(item.expected)} that did not match"
            case F.CONTAINS:
                return f"look for {value(item.value)}"
            case F.DEQUEUE:
                return "dequeue"
            case F.INCREMENT if self.model is Model.COUNTER and item.value != 1:
                return f"increment of {item.value}"
            case F.INCREMENT:
                return "increment"
            case F.ACQUIRE:
                return "acquisition"
            case F.RELEASE:
                return "release"
            case F.HELD:
                return "attempt to acquire"
            case F.TRANSFER:
                return f"transfer of {item.value} from {value(item.expected)} to {value(item.version)}"
            case F.ADD | F.ENQUEUE | F.APPEND:
                return f"{item.f.name.lower()} of {value(item.value)}"

    def label(self, item: Item) -> str:
        """`the write of 7 by process 3`."""
        return f"the {self.call(item)} by process {item.process}"

    def again(self, item: Item) -> str:
        """`that write`: the operation that the same sentence named already."""
        short = {
            F.CAS: "insert" if item.expected == ABSENT and self.absent else "compare-and-set",
            F.UNEQUAL: "compare-and-set",
            F.CONTAINS: "look",
            F.READ_ALL: "read",
            F.ACQUIRE: "acquisition",
            F.HELD: "attempt",
        }
        return f"that {short.get(item.f, item.f.name.lower())}"

    def answered(self, item: Item) -> str:
        """What ended the operation."""
        match item.f:
            case F.READ:
                return f"ended with {self.value(item.value)}"
            case F.READ_ALL | F.CONTAINS | F.DEQUEUE | F.HELD | F.UNEQUAL:
                return f"{self.found(item)} and ended"
            case F.INCREMENT if self.model is Model.FETCH_AND_INCREMENT:
                return f"was answered with {item.value}"
            case F.ACQUIRE if item.value != ABSENT:
                return f"was given token {item.value}"
            case _:
                return "was acknowledged"

    def found(self, item: Item) -> str:
        """What its answer says."""
        value = self.value
        match item.f:
            case F.READ if item.value == ABSENT and self.absent and self.model in REGISTERS:
                return "found the key absent"
            case F.READ:
                return f"found {value(item.value)}"
            case F.CAS if item.needed == ABSENT and self.absent:
                return "succeeded, as if the key were absent"
            case F.CAS if item.needed is not None:
                return f"succeeded, as if {value(item.needed)} were still there"
            case F.UNEQUAL:
                there = "the key was there" if item.expected == ABSENT and self.absent else ""
                return f"found that {there or f'{value(item.expected)} was not there'}"
            case F.CONTAINS:
                return f"found {value(item.value)}" if item.expected else f"did not find {value(item.value)}"
            case F.READ_ALL if self.model is Model.BANK:
                return f"found {self.balances(item.items or ())}"
            case F.READ_ALL:
                return f"found {self.collection(item.items or ())}"
            case F.DEQUEUE:
                return "found the queue empty" if item.value == ABSENT else f"took {value(item.value)}"
            case F.ACQUIRE:
                return "got the lock" if item.value == ABSENT else f"got the lock with token {item.value}"
            case F.HELD:
                return "found the lock taken"
            case F.INCREMENT if self.model is Model.FETCH_AND_INCREMENT:
                return f"was answered with {item.value}"
            case _:
                return "was acknowledged"

    # -------------------------------------------------------------------------------------------- states

    def state(self, state: Any) -> str:
        """`7 was there`: what a state of the specification is, in a sentence."""
        match self.model:
            case Model.SET:
                return f"{self.collection(sorted(state))} was there"
            case Model.LIST_APPEND:
                return f"{self.collection(state)} was there"
            case Model.QUEUE:
                return f"{self.value(state[0])} was first in the queue" if state else "the queue was empty"
            case Model.MUTEX if state.holder is None:
                known = state.token > ABSENT + _UNTOLD  # a token that nobody was told counts on from `ABSENT`
                return "nobody held the lock" + (f", and token {state.token} had been given" if known else "")
            case Model.MUTEX:
                return f"process {state.holder} held it"
            case Model.COUNTER | Model.FETCH_AND_INCREMENT:
                return f"it was at {state}"
            case _:
                if state.value == ABSENT and self.absent:
                    return "the key was absent"
                return f"{self.value(state.value)} was there"
