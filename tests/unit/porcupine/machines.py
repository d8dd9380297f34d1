"""One small machine a model that does what the model says: called one operation at a time, it gives the right answers.

They share nothing with the specifications: those judge answers, these make them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Protocol

from aftershock.harness.porcupine import ABSENT, NO_VERSION, F, Model

__all__ = ["ACCOUNTS", "PROFILES", "Call", "Machine", "machine"]

ACCOUNTS = {0: 3, 1: 2, 7: 0}
"""Balances that every bank starts with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What an operation called and was answered."""

    f: F
    value: int = 0
    expected: int = 0
    version: int = NO_VERSION
    items: tuple[int, ...] | None = None


class Machine(Protocol):
    def call(self, rng: random.Random, *, process: int, happens: bool) -> Call:
        """Any operation. Unless it `happens`, nothing changes, and nobody will look at the answer."""
        ...


@dataclass(slots=True)
class Register:
    unique: bool = True
    deletes: bool = False
    versions: bool = False
    compares: bool = True
    value: int = ABSENT
    version: int = 0
    written: int = 0

    def call(self, rng: random.Random, *, process: int, happens: bool) -> Call:
        del process
        compared = (F.CAS, F.CAS, F.UNEQUAL) if self.compares else ()
        f = rng.choice((F.READ, F.READ, F.WRITE, *compared, *((F.DELETE,) if self.deletes else ())))
        self.written += 1
        value = self.written if self.unique else rng.randint(1, 3)
        expected = self.value
        if f is F.CAS and not happens:
            expected = rng.choice((self.value, rng.randint(1, 4)))
        elif f is F.UNEQUAL:
            expected = rng.choice([other for other in (ABSENT, 1, 2, 3) if other != self.value])
        elif f is F.READ:
            value = self.value
        if happens and f in (F.WRITE, F.CAS, F.DELETE):
            idle = f is F.DELETE and self.value == ABSENT and rng.random() < 0.5
            self.value = ABSENT if f is F.DELETE else value
            self.version += 0 if idle else rng.randint(1, 3)
        told = self.versions and rng.random() < 0.8
        return Call(f=f, value=value, expected=expected, version=self.version if told else NO_VERSION)


@dataclass(slots=True)
class GrowingSet:
    unique: bool = True
    whole: bool = True
    members: list[int] = field(default_factory=list)
    added: int = 0

    def call(self, rng: random.Random, *, process: int, happens: bool) -> Call:
        del process
        f = rng.choice((F.ADD, F.ADD, F.READ_ALL if self.whole else F.CONTAINS, F.CONTAINS))
        self.added += 1
        if f is F.ADD:
            value = self.added if self.unique else rng.randint(1, 3)
            if happens and value not in self.members:
                self.members.append(value)
            return Call(f=f, value=value)
        if f is F.READ_ALL:
            return Call(f=f, items=tuple(rng.sample(self.members, len(self.members))))
        value = rng.randint(1, max(3, self.added))
        return Call(f=f, value=value, expected=int(value in self.members))


@dataclass(slots=True)
class Queue:
    unique: bool = True
    waiting: list[int] = field(default_factory=list)
    put: int = 0

    def call(self, rng: random.Random, *, process: int, happens: bool) -> Call:
        del process
        self.put += 1
        if rng.random() < 0.5:
            value = self.put if self.unique else rng.randint(1, 2)
            if happens:
                self.waiting.append(value)
            return Call(f=F.ENQUEUE, value=value)
        if happens and self.waiting:
            return Call(f=F.DEQUEUE, value=self.waiting.pop(0))
        return Call(f=F.DEQUEUE, value=ABSENT if happens else rng.choice((0, ABSENT, 1)))


@dataclass(slots=True)
class Counter:
    amounts: tuple[int, ...] = (1,)
    total: int = 0

    def call(self, rng: random.Random, *, process: int, happens: bool) -> Call:
        del process
        if rng.random() < 0.4:
            return Call(f=F.READ, value=self.total)
        amount = rng.choice(self.amounts)
        self.total += amount * happens
        return Call(f=F.INCREMENT, value=amount)


@dataclass(slots=True)
class FetchAndIncrement:
    number: int = 0

    def call(self, rng: random.Random, *, process: int, happens: bool) -> Call:
        del process
        if rng.random() < 0.25:
            return Call(f=F.READ, value=self.number)
        self.number += happens
        return Call(f=F.INCREMENT, value=self.number if happens else rng.randint(0, 5))


@dataclass(slots=True)
class Mutex:
    tokens: float = 0.0
    """How many of the acquisitions are told a token."""
    attempts: bool = True
    holder: int | None = None
    token: int = 0

    def call(self, rng: random.Random, *, process: int, happens: bool) -> Call:
        wants_release = self.holder == process or (not happens and rng.random() < 0.5)
        if wants_release and not (self.attempts and rng.random() < 0.1):
            if happens:
                self.holder = None
            return Call(f=F.RELEASE)
        if self.holder is not None and happens:
            return Call(f=F.HELD)
        token = ABSENT
        if happens:
            self.holder = process
            self.token += rng.randint(1, 2)
            token = self.token
        return Call(f=F.ACQUIRE, value=token if rng.random() < self.tokens else ABSENT)


@dataclass(slots=True)
class AppendOnly:
    unique: bool = True
    elements: list[int] = field(default_factory=list)
    appended: int = 0

    def call(self, rng: random.Random, *, process: int, happens: bool) -> Call:
        del process
        if rng.random() < 0.45:
            return Call(f=F.READ_ALL, items=tuple(self.elements))
        self.appended += 1
        value = self.appended if self.unique else rng.randint(1, 2)
        if happens:
            self.elements.append(value)
        return Call(f=F.APPEND, value=value)


@dataclass(slots=True)
class Bank:
    balances: dict[int, int] = field(default_factory=lambda: dict(ACCOUNTS))

    def call(self, rng: random.Random, *, process: int, happens: bool) -> Call:
        del process
        if rng.random() < 0.4:
            accounts = rng.sample(sorted(self.balances), len(self.balances))
            return Call(f=F.READ_ALL, items=tuple(n for account in accounts for n in (account, self.balances[account])))
        source, target = rng.choice(sorted(self.balances)), rng.choice(sorted(self.balances))
        amount = rng.randint(0, max(1, self.balances[source]))
        if happens:
            amount = min(amount, self.balances[source])
            self.balances[source] -= amount
            self.balances[target] += amount
        return Call(f=F.TRANSFER, value=amount, expected=source, version=target)


PROFILES: dict[Model, tuple[str, ...]] = {
    Model.REGISTER: ("unique", "repeated"),
    Model.CAS_REGISTER: ("unique", "repeated", "repeated-with-deletes"),
    Model.KEY_VALUE: ("unique", "repeated", "versions", "repeated-versions"),
    Model.SET: ("members", "whole", "repeated"),
    Model.QUEUE: ("unique", "repeated"),
    Model.COUNTER: ("by-one", "by-amounts"),
    Model.FETCH_AND_INCREMENT: ("numbers",),
    Model.MUTEX: ("plain", "tokens", "some-tokens", "no-attempts"),
    Model.LIST_APPEND: ("unique", "repeated"),
    Model.BANK: ("accounts",),
}
"""Kinds of histories of each model: what the engines' preconditions depend on."""


def machine(model: Model, profile: str) -> Machine:
    """A new machine in its initial state."""
    unique = "repeated" not in profile
    match model:
        case Model.REGISTER:
            return Register(unique=unique, deletes=not unique, compares=False)
        case Model.CAS_REGISTER:
            return Register(unique=unique, deletes="deletes" in profile)
        case Model.KEY_VALUE:
            return Register(unique=unique, deletes="versions" in profile, versions="versions" in profile)
        case Model.SET:
            return GrowingSet(unique=unique, whole=profile != "members")
        case Model.QUEUE:
            return Queue(unique=unique)
        case Model.COUNTER:
            return Counter((1,) if profile == "by-one" else (-1, 1, 2, 3))
        case Model.FETCH_AND_INCREMENT:
            return FetchAndIncrement()
        case Model.MUTEX:
            tokens = {"tokens": 1.0, "some-tokens": 0.5}.get(profile, 0.0)
            return Mutex(tokens, attempts=profile != "no-attempts")
        case Model.LIST_APPEND:
            return AppendOnly(unique=unique)
        case Model.BANK:
            return Bank()
