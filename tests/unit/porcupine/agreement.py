"""Holds every engine against brute force on many small histories: keys of one check call, so that it costs little.

The engines are asked directly, without the counterexamples' second judge in the binding: that would turn a wrong
violation into an unknown, and it is wrong violations that are looked for here.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from aftershock.harness.porcupine import Engine, Model, Operations
from aftershock.harness.porcupine._brute import Item, legal
from aftershock.harness.porcupine._child import ask
from aftershock.harness.porcupine._wire import Request, write_request
from aftershock.harness.porcupine.programs import checker_path

from tests.unit.porcupine.generate import Row, history_of, operations
from tests.unit.porcupine.machines import ACCOUNTS

__all__ = ["ENGINES", "Tally", "item_of", "sweep", "verdicts"]

_REGISTERS = (Model.REGISTER, Model.CAS_REGISTER, Model.KEY_VALUE)

ENGINES: dict[Model, tuple[Engine, ...]] = {
    model: (
        Engine.AUTO,
        Engine.PORCUPINE,
        *((Engine.UNIQUE,) if model is not Model.BANK else ()),
        *((Engine.FRONTIER,) if model in _REGISTERS else ()),
    )
    for model in Model
}
"""Those that may have a say. `unique` and `frontier` may also answer that they do not know."""


@dataclass(slots=True)
class Tally:
    """What a sweep found. `disagreements` say which history, by seed and key, and who said what."""

    histories: int = 0
    illegal: int = 0
    decided: Counter[Engine] = field(default_factory=Counter)
    disagreements: list[str] = field(default_factory=list)
    brute_s: float = 0.0
    engines_s: float = 0.0

    def add(self, other: Tally) -> None:
        self.histories += other.histories
        self.illegal += other.illegal
        self.decided += other.decided
        self.disagreements += other.disagreements
        self.brute_s += other.brute_s
        self.engines_s += other.engines_s

    def __str__(self) -> str:
        engines = ", ".join(f"{engine} {self.decided[engine]}" for engine in Engine if self.decided[engine])
        return (
            f"{self.histories} histories, {self.illegal} of them illegal; decided by {engines}; "
            f"brute force {self.brute_s:.1f} s, engines {self.engines_s:.1f} s"
        )


def item_of(row: Row) -> Item:
    return Item(
        f=row.f,
        process=row.process,
        value=row.value,
        expected=row.expected,
        version=row.version,
        start_ns=row.start_ns,
        end_ns=row.end_ns,
        unknown=row.unknown,
        items=row.items,
    )


def verdicts(history: Operations, model: Model, engine: Engine) -> dict[int, bool | None]:
    """Of every key whether the engine found it legal; None where it could not say."""
    until_s = time.monotonic() + 600
    request = Request(model=model, engine=engine, deadline_ms=500_000, workers=0, initial=ACCOUNTS)
    answer = ask(
        Path(os.environ.get("AFTERSHOCK_CHECKER") or checker_path()),
        write_input=lambda target: write_request(target, history, request),
        until_s=until_s,
        memory_limit_bytes=2 << 30,
    )
    assert answer.problem is None, f"{model}, engine {engine}: {answer.problem}"
    meaning = {"pass": True, "fail": False, "unknown": None}
    return {line["key"]: meaning[line["verdict"]] for line in answer.lines}


def sweep(model: Model, profile: str, *, seed: str, count: int, most: int = 7) -> Tally:
    """Hold the engines of a model against brute force on `count` histories of up to `most` operations."""
    rng = random.Random(f"{seed} {model} {profile}")
    histories = [history_of(rng, model, profile, key=key, most=most) for key in range(count)]
    started_s = time.monotonic()
    expected = [legal([item_of(row) for row in rows], model, initial=ACCOUNTS) for rows in histories]
    judged_s = time.monotonic()
    tally = Tally(histories=count, illegal=expected.count(False), brute_s=judged_s - started_s)
    together = operations(row for rows in histories for row in rows)
    for engine in ENGINES[model]:
        found = verdicts(together, model, engine)
        assert sorted(found) == list(range(count)), f"{engine} did not answer for every key"
        for key, answer in found.items():
            must_say = engine in (Engine.AUTO, Engine.PORCUPINE)
            tally.decided[engine] += answer is not None
            if answer is expected[key] or (answer is None and not must_say):
                continue
            tally.disagreements.append(
                f"{model}, {profile}, seed {seed!r}, count {count}, most {most}, key {key}: {engine} says legal="
                f"{answer}, brute force {expected[key]}:\n" + "\n".join(f"    {row}" for row in histories[key])
            )
    tally.engines_s = time.monotonic() - judged_s
    return tally
