"""Lets these tests run a checker that was built elsewhere: AFTERSHOCK_CHECKER=/path/to/it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from aftershock.harness.porcupine import _check, user_model


@pytest.fixture(autouse=True, scope="session")
def chosen_checker():
    given = os.environ.get("AFTERSHOCK_CHECKER")
    if given is None:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        for module in (_check, user_model):
            patch.setattr(module, "checker_path", lambda: Path(given))
        yield


@pytest.fixture
def write(tmp_path: Path):
    """Write a file of a test and return its path."""

    def write_file(name: str, *lines: str) -> Path:
        path = tmp_path / name
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    return write_file
