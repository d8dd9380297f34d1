"""What is marked `nightly` is left out of every run of the tests that does not ask for it by name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.conftest import pytest_collection_modifyitems


def chosen(expression: str) -> tuple[list[str], list[str]]:
    """Names of the items that stay, and of those that pytest is told were left out."""

    def item(name: str, *marks: str) -> Any:
        return SimpleNamespace(name=name, get_closest_marker=lambda mark: mark if mark in marks else None)

    left_out: list[str] = []
    hook = SimpleNamespace(pytest_deselected=lambda items: left_out.extend(each.name for each in items))
    config = SimpleNamespace(getoption=lambda name: {"markexpr": expression}[name], hook=hook)
    items = [item("quick"), item("slow", "nightly"), item("engine", "docker"), item("both", "docker", "nightly")]
    pytest_collection_modifyitems(cast(pytest.Config, config), cast(list[pytest.Item], items))
    return [each.name for each in items], left_out


@pytest.mark.parametrize("expression", ["", "docker", "processes or docker", "not browser"])
def test_it_is_left_out_unless_named(expression: str) -> None:
    assert chosen(expression) == (["quick", "engine"], ["slow", "both"])


@pytest.mark.parametrize("expression", ["nightly", "nightly and docker", "not nightly"])
def test_it_is_pytests_own_choice_when_named(expression: str) -> None:
    assert chosen(expression) == (["quick", "slow", "engine", "both"], [])
