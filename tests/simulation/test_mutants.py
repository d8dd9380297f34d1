"""The simulator is judged: it must find every removed line and unsafe setting, and nothing in the control arm."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from dataclasses import replace

import pytest
from aftershock.systems_under_test.reference import replica

from .mutants import MUTANTS, UNSAFE, Mutant
from .sequences import Sequence
from .world import Outcome

TRIES = 25  # survey.py tells how often each is found; the rarest in about a third of the seeds


def _find(run: Callable[[int], Outcome], sequence: Sequence) -> Outcome:
    """The first outcome that is unsafe; up to its seed the control arm must be clean and well again."""
    for seed in range(1, TRIES + 1):
        control = sequence.run(seed)
        assert not control.violations, f"control arm, seed {seed}: {control.violations[:3]}"
        assert not control.anomalies, f"control arm, seed {seed}: {control.anomalies[:3]}"
        assert control.stuck is None, f"control arm, seed {seed}: {control.stuck}"
        outcome = run(seed)
        if outcome.unsafe:
            return outcome
    pytest.fail(f"not found in {TRIES} seeds of {sequence.act.__name__}")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule)
def test_a_removed_line_is_found(mutant: Mutant) -> None:
    replica_type = mutant.build()
    _find(lambda seed: mutant.sequence.run(seed, replica_type=replica_type), mutant.sequence)


@pytest.mark.parametrize("name", UNSAFE)
def test_an_unsafe_setting_is_found(name: str) -> None:
    """By the clients' own history, not only by an invariant: that is all that a run on real processes will have."""
    unsafe, sequence = UNSAFE[name]
    for seed in range(1, TRIES + 1):
        outcome = sequence.run(seed, unsafe=unsafe)
        if outcome.anomalies:
            break
    else:
        pytest.fail(f"clients saw nothing in {TRIES} seeds of {sequence.act.__name__}")
    _find(lambda seed: sequence.run(seed, unsafe=unsafe), sequence)


@pytest.mark.parametrize("rule", ["P1", "L5", "Q3", "A1"])
def test_clients_see_it_too(rule: str) -> None:
    """The lines that the first issue names, seen through the linearizability of the history alone."""
    mutant = next(mutant for mutant in MUTANTS if mutant.rule == rule)
    replica_type = mutant.build()
    outcomes = (mutant.sequence.run(seed, replica_type=replica_type) for seed in range(1, TRIES + 1))
    assert any(outcome.anomalies for outcome in outcomes)


def test_a_mutant_whose_line_has_moved_says_so() -> None:
    mutant = replace(MUTANTS[0], edits=(("no such line", ""),))
    with pytest.raises(LookupError, match="occurs 0 times"):
        mutant.build()


def test_building_a_mutant_leaves_the_real_modules_alone() -> None:
    before = replica.Replica
    MUTANTS[0].build()
    module = sys.modules[replica.__name__]
    assert isinstance(module, types.ModuleType)
    assert module is replica
    assert module.Replica is before
