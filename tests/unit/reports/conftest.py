"""The example verdicts for every test of this folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

# The test tree is no package (pytest's importlib mode), so helpers are found by their folder.
sys.path.append(str(Path(__file__).parent))


@pytest.fixture(scope="session")
def examples() -> Any:
    import report_examples

    return report_examples
