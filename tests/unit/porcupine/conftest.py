"""Lets the tests of the checker run a program that was built elsewhere: AFTERSHOCK_CHECKER=/path/to/it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from aftershock.harness.porcupine import _check


@pytest.fixture(autouse=True, scope="session")
def chosen_checker():
    given = os.environ.get("AFTERSHOCK_CHECKER")
    if given is None:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_check, "checker_path", lambda: Path(given))
        yield
