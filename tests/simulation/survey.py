"""Prints the tables of docs/replication.md: `python -m tests.simulation.survey [seeds]` (default 25).

For every mutant and unsafe setting: seeds in which an invariant broke (inv), in which the clients' history was not
linearizable (lin), and the same faults with the line in place (control).
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from .mutants import MUTANTS, UNSAFE
from .sequences import Sequence
from .world import Outcome


def _count(run: Callable[[int], Outcome], seeds: int) -> str:
    outcomes = [run(seed) for seed in range(1, seeds + 1)]
    broken = sum(bool(outcome.violations) for outcome in outcomes)
    seen = sum(bool(outcome.anomalies) for outcome in outcomes)
    first = next((outcome.violations[0][1] for outcome in outcomes if outcome.violations), "-")
    stuck = sum(outcome.stuck is not None for outcome in outcomes)
    return f"inv {broken:3} ({first:3}) lin {seen:3} stuck {stuck:3}"


def _line(name: str, sequence: Sequence, arm: str, control: str) -> None:
    print(f"{name:12} {arm}   control: {control}   [{sequence.act.__name__}]", flush=True)


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 25
    chosen = sys.argv[2:]
    for mutant in MUTANTS:
        if chosen and mutant.rule not in chosen:
            continue
        replica_type = mutant.build()
        arm = _count(lambda seed: mutant.sequence.run(seed, replica_type=replica_type), seeds)  # noqa: B023
        _line(mutant.rule, mutant.sequence, arm, _count(mutant.sequence.run, seeds))
    for name, (unsafe, sequence) in UNSAFE.items():
        if chosen and name not in chosen:
            continue
        arm = _count(lambda seed: sequence.run(seed, unsafe=unsafe), seeds)  # noqa: B023
        _line(name, sequence, arm, _count(sequence.run, seeds))


if __name__ == "__main__":
    main()
