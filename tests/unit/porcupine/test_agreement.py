"""Every engine, and a brute force that shares nothing with them, must agree on small histories of every model.

`pytest -m nightly tests/nightly/test_checker_agreement.py` is the same with 200,000 histories a model.
"""

from __future__ import annotations

import random

import pytest
from aftershock.harness.porcupine import Engine, Model, check
from aftershock.harness.porcupine._brute import legal
from aftershock.harness.verdict import Verdict

from tests.unit.porcupine import agreement
from tests.unit.porcupine.agreement import ENGINES, item_of, sweep
from tests.unit.porcupine.generate import history_of, operations, watched
from tests.unit.porcupine.machines import ACCOUNTS, PROFILES, machine

SEED = "20261123"
COUNT = 400

KINDS = [(model, profile) for model in Model for profile in PROFILES[model]]


@pytest.mark.parametrize(("model", "profile"), KINDS)
def test_engines_and_brute_force_agree(model: Model, profile: str) -> None:
    tally = sweep(model, profile, seed=SEED, count=COUNT)

    assert not tally.disagreements, tally.disagreements[0]
    # The sweep means something only when both verdicts are common in it, and an engine only when it decides.
    assert COUNT / 8 < tally.illegal < COUNT * 7 / 8
    assert all(tally.decided[engine] > 0 for engine in ENGINES[model])


@pytest.mark.parametrize(("model", "profile"), KINDS)
def test_what_a_machine_that_works_answers_is_legal(model: Model, profile: str) -> None:
    """Machines and specifications were written apart: neither calls the other's answers impossible."""
    rng = random.Random(f"{SEED} {model} {profile}")
    histories = [watched(rng, machine(model, profile), most=7) for _ in range(COUNT)]

    wrong = [rows for rows in histories if not legal([item_of(row) for row in rows], model, initial=ACCOUNTS)]

    assert wrong == []


@pytest.mark.parametrize("model", list(Model))
def test_the_binding_gives_the_same_verdicts_with_confirmed_counterexamples(model: Model) -> None:
    rng = random.Random(f"{SEED} {model}")
    profiles = PROFILES[model]
    histories = [history_of(rng, model, profiles[key % len(profiles)], key=key) for key in range(COUNT // 2)]
    expected = [legal([item_of(row) for row in rows], model, initial=ACCOUNTS) for rows in histories]

    outcome = check(operations(row for rows in histories for row in rows), model=model, initial=ACCOUNTS)

    for result in outcome.results:
        assert result.verdict is (Verdict.PASS if expected[result.key] else Verdict.FAIL), (
            result,
            histories[result.key],
        )
        assert (result.counterexample is None) == expected[result.key]
        assert result.counterexample is None or result.counterexample.rejudged


@pytest.mark.parametrize("lie", [True, False, None])
def test_an_engine_that_is_wrong_is_found_out(lie: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever says the same of every history disagrees with brute force on many."""
    true_verdicts = agreement.verdicts

    def verdicts(history, model, engine):  # type: ignore[no-untyped-def]
        found = true_verdicts(history, model, engine)
        return dict.fromkeys(found, lie) if engine is Engine.PORCUPINE else found

    monkeypatch.setattr(agreement, "verdicts", verdicts)

    tally = sweep(Model.SET, "whole", seed=SEED, count=100)

    assert len(tally.disagreements) == {True: tally.illegal, False: 100 - tally.illegal, None: 100}[lie]
    assert all("porcupine says" in text and SEED in text for text in tally.disagreements)
