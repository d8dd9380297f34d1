"""What labels and a scenario say of somebody's own services, and settings that cannot be meant."""

from __future__ import annotations

from typing import Any

import pytest
from aftershock.harness.errors import SetupError
from aftershock.systems_under_test._own_service import ServiceSettings, _merged
from aftershock.systems_under_test.compose_system import ComposeSettings
from aftershock.systems_under_test.url_system import UrlSettings
from pydantic import ValidationError


def test_the_scenario_wins_over_labels_and_other_labels_are_nobodys_business() -> None:
    labels = {
        "aftershock.port": "8000",
        "aftershock.path": "/health",
        "aftershock.command": "test -e '/tmp/a b'",
        "aftershock.token": "x",
        "port": "9",
    }
    found = _merged("app", labels, ServiceSettings(port=9000, role="router"))

    assert (found.port, found.path, found.role) == (9000, "/health", "router")
    assert found.command == ("test", "-e", "/tmp/a b")


@pytest.mark.parametrize(
    "labels", [{"aftershock.port": "many"}, {"aftershock.role": "boss"}, {"aftershock.path": "/x"}]
)
def test_labels_that_cannot_be_meant_name_the_service(labels: dict[str, str]) -> None:
    with pytest.raises(SetupError, match="service app do not fit"):
        _merged("app", labels, None)


def test_probes_speak_http_unless_something_else_is_said() -> None:
    assert ServiceSettings(port=80, path="/h").ping.request.startswith(b"HEAD /h HTTP/1.1\r\n")
    ping = ServiceSettings(port=6379, send="PING\r\n", expect="+PONG").ping
    assert (ping.request, ping.mark) == (b"PING\r\n", b"+PONG")


@pytest.mark.parametrize(
    "settings",
    [{"path": "/x"}, {"port": 1, "send": "x"}, {"port": 1, "path": "/x", "send": "x", "expect": "y"}, {"port": 0}],
)
def test_services_that_cannot_be_meant(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ServiceSettings(**settings)


@pytest.mark.parametrize(
    "url", ["ftp://x", "shop.example.com", "http://", "http://a/?q=1", "http://me@a/", "http://a:port/"]
)
def test_urls_that_cannot_be_meant(url: str) -> None:
    with pytest.raises(ValidationError):
        UrlSettings(url=url)


@pytest.mark.parametrize("entry", ["web", ":80", "web:http", "web:80/x"])
def test_entries_that_cannot_be_meant(entry: str) -> None:
    with pytest.raises(ValidationError):
        ComposeSettings(entry=entry)
