"""In CI a skipped test is one that nobody ran: AFTERSHOCK_NO_SKIPS=1 makes it an error, with few exceptions.

What is marked `nightly` is not skipped but left out, and `make nightly` runs it.
"""

from __future__ import annotations

import os
from functools import cache

import pytest

# Reason (its beginning) of each skip that CI accepts, and why it does.
ACCEPTED_SKIPS: dict[str, str] = {}

_skipped: list[tuple[str, str]] = []


@cache
def _no_docker() -> str | None:
    """Why tests marked `docker` cannot run here, or None. Asked once, when the first of them comes."""
    from aftershock.harness import images
    from aftershock.harness.backends.docker import DockerBackend, DockerBackendSettings
    from aftershock.harness.backends.docker_engine import DEFAULT_ENDPOINT

    reason = DockerBackend(DockerBackendSettings()).available()
    return reason if reason is not None else images.missing(DEFAULT_ENDPOINT, ["reference"])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked `nightly`, unless -m names it: also with `-m docker`, which says nothing of nights."""
    if "nightly" in (config.getoption("markexpr") or ""):
        return
    left_out = [item for item in items if item.get_closest_marker("nightly") is not None]
    if left_out:
        items[:] = [item for item in items if item.get_closest_marker("nightly") is None]
        config.hook.pytest_deselected(items=left_out)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("docker") is not None and (reason := _no_docker()) is not None:
        pytest.skip(reason)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if not any(reason.startswith(accepted) for accepted in ACCEPTED_SKIPS):
            _skipped.append((report.nodeid, reason))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _skipped and os.environ.get("AFTERSHOCK_NO_SKIPS") == "1" and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _skipped and os.environ.get("AFTERSHOCK_NO_SKIPS") == "1":
        terminalreporter.section("skipped, which CI does not accept", red=True)
        for nodeid, reason in _skipped:
            terminalreporter.line(f"{nodeid}: {reason}")
