"""Every nightly test of faults runs once per backend."""

from __future__ import annotations

import pytest

ON_AN_ENGINE = ("docker", "compose", "url")


def on(backend: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.docker] if backend in ON_AN_ENGINE else []


@pytest.fixture(params=[pytest.param(name, marks=on(name)) for name in ("process", *ON_AN_ENGINE)], scope="module")
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name
