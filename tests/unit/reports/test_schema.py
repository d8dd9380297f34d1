"""The examples are what the judge writes: they follow harness/schema/verdict.schema.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

SCHEMA = Path(__file__).parents[3] / "harness" / "schema" / "verdict.schema.json"


# heal-failed and not-started carry exit codes that only the runner adds.
@pytest.mark.parametrize("name", ["pass", "fail", "unknown", "incomplete", "control"])
def test_examples_follow_the_schema(examples: Any, name: str) -> None:
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8"))).validate(examples.EXAMPLES[name]())


def test_the_schema_would_notice(examples: Any) -> None:
    verdict = examples.passing()
    verdict["verdict"] = "green"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8"))).validate(verdict)
