"""Every engine of the checker against brute force: 200,000 small random histories a model, a new seed every night.

    pytest -m nightly tests/nightly/test_checker_agreement.py

Needs neither root nor Docker. `AFTERSHOCK_FUZZ` is another number of histories a model, `AFTERSHOCK_FUZZ_SEED` the
printed seed of a run to repeat.
"""

from __future__ import annotations

import os
import secrets

import pytest
from aftershock.harness.porcupine import Model

from tests.unit.porcupine.agreement import ENGINES, Tally, sweep
from tests.unit.porcupine.machines import PROFILES

pytestmark = pytest.mark.nightly

COUNT = int(os.environ.get("AFTERSHOCK_FUZZ", "200000"))
SEED = os.environ.get("AFTERSHOCK_FUZZ_SEED") or str(secrets.randbelow(10**9))
BATCH = 4000

# Most histories are of a length at which brute force is fast; some are longer, for what needs more to go wrong.
LENGTHS = (4, 7, 7, 7, 9)


@pytest.mark.parametrize("model", list(Model))
def test_engines_and_brute_force_agree(model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally()
    number = 0
    while tally.histories < COUNT:
        profile = PROFILES[model][number % len(PROFILES[model])]
        most = LENGTHS[number // len(PROFILES[model]) % len(LENGTHS)]
        left = COUNT - tally.histories
        tally.add(sweep(model, profile, seed=f"{SEED}-{number}", count=min(BATCH, left), most=most))
        number += 1
        if tally.disagreements:
            break
    with capsys.disabled():
        print(f"\n{model}, seed {SEED}: {tally}, {len(tally.disagreements)} disagreements")
    assert not tally.disagreements, "\n".join(tally.disagreements[:3])
    # Agreement on valid histories alone would say little.
    assert tally.illegal > tally.histories / 6
    assert all(tally.decided[engine] > 0 for engine in ENGINES[model])
