"""Porcupine's own recorded histories give their published verdicts. Read from the Go module cache, never copied."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from aftershock.harness.histories import read_history
from aftershock.harness.histories.judged import Asked, judge_history

LINEARIZABLE = {2, 5, 7, 18, 25, 31, 38, 45, 48, 49, 51, 53, 56, 67, 75, 76, 80, 87, 92, 98, 100, 101, 102}
LOGS = [number for number in range(103) if number != 95]  # number 95 is empty


@functools.cache
def test_data() -> Path:
    """Where Porcupine's files are. The build of the checker has fetched them, so CI never skips."""
    cache = os.environ.get("GOMODCACHE")
    if cache is None and shutil.which("go"):
        cache = subprocess.run(["go", "env", "GOMODCACHE"], capture_output=True, text=True, check=True).stdout.strip()
    found = Path(cache or Path.home() / "go/pkg/mod") / "github.com/anishathalye/porcupine@v1.3.1/test_data"
    if not found.is_dir():
        pytest.skip(f"Porcupine's module is not in the Go module cache ({found}); `make native` fetches it")
    return found


test_data.__test__ = False  # type: ignore[attr-defined]


@pytest.mark.parametrize("tens", range(11))
def test_etcd_logs_have_their_published_verdicts(tens: int) -> None:
    folder = test_data() / "jepsen"
    numbers = [number for number in LOGS if number // 10 == tens]
    asked = Asked(model="cas-register", failed_cas="observe")
    verdicts = {n: judge_history(read_history(folder / f"etcd_{n:03}.log"), asked)["verdict"] for n in numbers}

    assert verdicts == {n: "pass" if n in LINEARIZABLE else "fail" for n in numbers}


@pytest.mark.parametrize(
    ("name", "verdict"), [("c01-ok", "pass"), ("c01-bad", "fail"), ("c10-ok", "pass"), ("c10-bad", "fail")]
)
def test_key_value_files_have_their_published_verdicts(name: str, verdict: str) -> None:
    judged = judge_history(read_history(test_data() / f"kv/{name}.txt"), Asked(model="text"))

    assert judged["verdict"] == verdict


@pytest.mark.nightly
@pytest.mark.parametrize(("name", "verdict"), [("c50-ok", "pass"), ("c50-bad", "fail")])
def test_the_large_key_value_files_have_their_published_verdicts(name: str, verdict: str) -> None:
    history = read_history(test_data() / f"kv/{name}.txt")

    assert judge_history(history, Asked(model="text", deadline_s=300.0))["verdict"] == verdict
