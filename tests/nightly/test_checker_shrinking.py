"""No step of shrinking makes a legal history illegal: 20,000 random legal histories a model, a new seed every night.

    pytest -m nightly tests/nightly/test_checker_shrinking.py

Needs Go, and neither root nor Docker. `AFTERSHOCK_FUZZ` is another number of histories a model, `AFTERSHOCK_FUZZ_SEED`
the printed seed of a run to repeat. What is tried is in `sound_test.go`, beside the steps themselves.
"""

from __future__ import annotations

import importlib
import os
import secrets
import subprocess
from pathlib import Path

import pytest
from aftershock.harness.porcupine import Model

pytestmark = pytest.mark.nightly

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "harness" / "porcupine" / "native"
COUNT = os.environ.get("AFTERSHOCK_FUZZ") or "20000"
SEED = os.environ.get("AFTERSHOCK_FUZZ_SEED") or str(secrets.randbelow(10**9))
TESTS = ("TestSoundSteps", "TestSoundMinimize", "TestSoundTestNoticesAnUnsoundStep")


@pytest.fixture
def go(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The `go` that the build would take."""
    monkeypatch.syspath_prepend(str(ROOT / "build_backend"))
    found: Path | None = importlib.import_module("native_programs").find_go()
    if found is None:
        pytest.fail(f"no `go` on PATH that is as new as {NATIVE / 'go.mod'} says: nightly machines have one")
    return found


def test_shrinking_keeps_legal_histories_legal(go: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = {"AFTERSHOCK_FUZZ": COUNT, "AFTERSHOCK_FUZZ_SEED": SEED, "GOFLAGS": "-buildvcs=false"}
    with capsys.disabled():
        print(f"\nseed {SEED}, {COUNT} histories a model")
    finished = subprocess.run(
        [go, "test", "./internal/shrink", "-run", "Sound", "-count=1", "-v", "-timeout=60m"],
        cwd=NATIVE,
        env=os.environ | told,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    with capsys.disabled():
        print("\n".join(line.strip() for line in finished.stdout.splitlines() if f"seed {SEED}, " in line))
    assert finished.returncode == 0, finished.stdout
    # Go is content where no test has the name.
    wanted = [f"{test}/{model}" for test in TESTS for model in Model]
    missing = [name for name in wanted if f"--- PASS: {name} " not in finished.stdout]
    assert not missing, f"{missing} did not run:\n{finished.stdout}"
