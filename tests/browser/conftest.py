"""One browser for all tests of this folder, and pages made from the example verdicts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aftershock.reports import render_html

# The test tree is no package (pytest's importlib mode), so helpers are found by their folders.
sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "unit" / "reports")]

import devtools
import report_examples


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name of an example -> its report on disk."""
    folder = tmp_path_factory.mktemp("pages")
    made = {}
    for name, make in {**report_examples.EXAMPLES, "hostile": report_examples.hostile}.items():
        made[name] = folder / f"{name}.html"
        made[name].write_text(render_html(make()), encoding="utf-8")
    return made


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    if not Path(devtools.CHROMIUM).exists():
        pytest.skip(f"no browser: {devtools.CHROMIUM} is missing (apt-get install chromium)")
    with devtools.browser() as page:
        yield page
