"""In CI a skipped test is one that nobody ran: AFTERSHOCK_NO_SKIPS=1 makes it an error, with few exceptions."""

from __future__ import annotations

import os

import pytest

# Reason (its beginning) of each skip that CI accepts, and why it does.
ACCEPTED_SKIPS: dict[str, str] = {}

_skipped: list[tuple[str, str]] = []


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
