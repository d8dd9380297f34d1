"""Every nightly test of faults runs once per backend."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["process", pytest.param("docker", marks=pytest.mark.docker)], scope="module")
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name
