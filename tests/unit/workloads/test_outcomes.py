"""The one table from how a request ended to what that means."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from aftershock.harness.operation import Outcome
from aftershock.workloads import outcomes
from aftershock.workloads.http_client import Trouble


@pytest.mark.parametrize("trouble", list(Trouble))
def test_every_trouble_of_the_client_is_in_the_table(trouble: Trouble) -> None:
    completion = outcomes.of_trouble(trouble)

    assert completion.error in outcomes.ERRORS
    assert completion.outcome is outcomes.ERRORS[completion.error][0]
    assert completion.outcome is not Outcome.OK


def test_only_what_certainly_did_not_leave_is_a_fail() -> None:
    certain = {t for t in Trouble if outcomes.of_trouble(t).outcome is Outcome.FAIL}

    assert certain == {
        Trouble.CONNECT_REFUSED,
        Trouble.CONNECT_TIMEOUT,
        Trouble.CONNECT_FAILED,
        Trouble.SEND_FAILED,
    }


def test_the_documentation_has_every_code_with_its_outcome() -> None:
    text = (Path(__file__).parents[3] / "docs" / "load.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:3] for line in text.splitlines() if line.startswith("| `")]
    documented = {code: outcome.strip() for codes, outcome in rows for code in re.findall(r"`([^`]+)`", codes)}

    assert {code: documented.get(code) for code in outcomes.ERROR_CODES if code} == {
        code: str(outcome) for code, (outcome, _) in outcomes.ERRORS.items() if code
    }
