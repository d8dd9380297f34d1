"""Requests of a scenario: drawn by weight and seed, named in the history, and mistakes found before anything starts."""

from __future__ import annotations

import random
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aftershock.harness.interfaces import Workload
from aftershock.harness.operation import REQUEST
from aftershock.workloads.http_requests import HttpRequests, HttpRequestsSettings, Template
from aftershock.workloads.requests import Request
from aftershock.workloads.values import Identity
from pydantic import ValidationError

SHOP: dict[str, Any] = {
    "requests": [
        {"method": "GET", "path": "/items/{n}", "weight": 3, "expect_status": [200, 404]},
        {"method": "POST", "path": "/items", "body": '{"id": {n}}', "n": "unique"},
        {"path": "/health"},
    ],
    "n": [5, 9],
}


def drawn(settings: dict[str, Any], *, seed: int = 1, count: int = 500) -> list[Request]:
    workload = HttpRequests(HttpRequestsSettings.model_validate(settings))
    rng, identity = random.Random(seed), Identity(worker=3, workers=10)
    made = []
    for _ in range(count):
        identity.begin()
        made.append(workload.next(rng, identity.value))
    return made


def test_the_same_seed_gives_the_same_requests() -> None:
    assert drawn(SHOP) == drawn(SHOP) != drawn(SHOP, seed=2)


def test_weights_and_numbers_are_those_of_the_scenario() -> None:
    requests = drawn(SHOP)
    counts = Counter(request.key for request in requests)
    numbers = {key: [r.value for r in requests if r.key == key] for key in range(3)}

    assert {request.f for request in requests} == {REQUEST}
    assert counts[0] / 500 == pytest.approx(0.6, abs=0.08)
    assert counts[1] / 500 == pytest.approx(0.2, abs=0.08)
    assert set(numbers[0]) == {5, 6, 7, 8, 9}
    assert len(set(numbers[1])) == len(numbers[1]), "unique"
    assert set(numbers[2]) == {None}, "there is nothing to put a number in"


def test_what_is_expected_is_told_to_the_client() -> None:
    settings = HttpRequestsSettings.model_validate(SHOP)
    assert Template.of(settings.requests[0]).expected == {200, 404}
    assert Template.of(settings.requests[2]).expected == set(range(200, 400))


def test_keys_are_named_by_their_requests() -> None:
    twice = {
        "requests": [{"path": "/a"}, {"method": "POST", "path": "/a", "body": "1"}, {"path": "/a"}, {"path": "/a"}]
    }
    settings = HttpRequestsSettings.model_validate(twice)

    assert HttpRequests.key_names(settings) == ["GET /a", "POST /a", "GET /a #2", "GET /a #3"]


def test_it_keeps_the_protocol_of_the_seams() -> None:
    settings = HttpRequestsSettings.model_validate(SHOP)
    assert isinstance(HttpRequests(settings), Workload)
    assert HttpRequests.functions(settings) == {REQUEST}
    assert HttpRequests.hot_keys(settings) == ()


def test_settings_that_are_written_out_read_back_to_the_same() -> None:
    settings = HttpRequestsSettings.model_validate(SHOP)

    assert HttpRequestsSettings.model_validate(settings.model_dump(mode="json", exclude_none=True)) == settings


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        ({"path": "items"}, "a path begins with / and holds no blanks"),
        ({"path": "/a b"}, "a path begins with / and holds no blanks"),
        ({"path": "/a\r\nX: y"}, "a path begins with / and holds no blanks"),
        ({"path": "/ä"}, "percent-encoded"),
        ({"path": "/", "method": "BREW"}, "Input should be 'GET'"),
        ({"path": "/", "weight": 0}, "greater than 0"),
        ({"path": "/", "expect_status": []}, "at least one status, each from 200 to 599"),
        ({"path": "/", "expect_status": [100]}, "each from 200 to 599"),
        ({"path": "/", "headers": {"A": "b\r\nC: d"}}, "a value of printable ASCII"),
        ({"path": "/", "headers": {"A B": "c"}}, "a name without blanks"),
        ({"path": "/", "headers": {"Content-Length": "3"}}, "follows from the body and cannot be set"),
        ({"path": "/{n}", "n": [9, 5]}, "0 <= first <= last"),
        ({"path": "/{n}", "n": [-1, 5]}, "0 <= first <= last"),
        ({"path": "/{n}", "n": "counter"}, "'unique'"),
        ({"path": "/", "n": [1, 5]}, "no {n} in path, headers or body"),
        ({"path": "/", "stauts": [200]}, "Extra inputs are not permitted"),
    ],
)
def test_mistakes_are_found_at_once(request_: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError) as caught:
        HttpRequestsSettings.model_validate({"requests": [request_]})

    assert complaint in str(caught.value)


def test_without_requests_there_is_nothing_to_do() -> None:
    with pytest.raises(ValidationError, match="at least 1 item"):
        HttpRequestsSettings.model_validate({"requests": []})


def test_the_example_of_the_documentation_is_valid() -> None:
    text = (Path(__file__).parents[3] / "docs" / "load.md").read_text(encoding="utf-8")
    section = text.partition("## Requests to any HTTP service")[2]
    (plan,) = tomllib.loads(section.partition("```toml")[2].partition("```")[0])["workload"]
    assert (plan.pop("name"), plan.pop("share")) == (HttpRequests.name, 1)
    settings = HttpRequestsSettings.model_validate(plan)

    assert HttpRequests.key_names(settings) == ["GET /items/{n}", "POST /items"]
