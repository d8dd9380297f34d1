"""What we did not start is not touched unless the scenario names it and the user confirms it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from aftershock.harness.attached import attached
from aftershock.harness.cli_safety import confirm, on_terminal, preview
from aftershock.harness.errors import UsageError
from aftershock.harness.interrupts import Interrupts
from aftershock.harness.progress import Progress
from aftershock.harness.registry import Registry
from aftershock.harness.run import RunRequest, run
from aftershock.harness.scenario import Scenario, parse
from rich.console import Console

from tests.unit.plugins import plugin, registry

SCENARIO = """
name = "shop"
control = true
[backend]
name = "theirs"
containers = "web-1 web-2"
[load]
duration_s = 30
[[workload]]
name = "cas-register"
share = 1
"""


class _Theirs(plugin("theirs", containers=(str, ""))):  # type: ignore[misc]
    """A backend that acts on containers of somebody else."""

    @staticmethod
    def attached(settings: Any) -> list[str]:
        return [f"container:{name}" for name in settings.containers.split()]

    def available(self) -> None:
        raise AssertionError("it was touched")

    open = available


def plugins() -> Registry:
    made = registry()
    made.add("backend", _Theirs, origin="test")
    return made


def scenario(allow: str = "") -> Scenario:
    return parse(SCENARIO + f"[safety]\nallow = [{allow}]\n", plugins(), where="s.toml")


def typed(text: str) -> Callable[[str], str]:
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        assert "container:web-1" in question
        return text

    return ask


BOTH = '"container:web-1", "container:web-2"'


def test_attached_is_what_the_plugin_says_under_the_scenarios_settings() -> None:
    assert attached(scenario(), plugins()) == ["container:web-1", "container:web-2"]


def test_scenario_that_starts_all_it_touches_asks_nobody() -> None:
    own = scenario().model_copy(
        update={"backend": scenario().system.model_copy(update={"name": "process", "settings": {}})}
    )

    assert attached(own, plugins()) == []
    assert confirm(own, plugins(), named=(), ask=None) is False


@pytest.mark.parametrize(
    ("named", "ask", "confirmed"),
    [
        (["shop"], None, True),
        (["other"], None, False),
        ([], None, False),
        ([], typed("shop"), True),
        ([], typed(" shop\n"), True),
        ([], typed("yes"), False),
        ([], typed(""), False),
    ],
)
def test_confirmation_is_the_scenarios_name(named: list[str], ask: Any, confirmed: bool) -> None:
    if confirmed:
        assert confirm(scenario(BOTH), plugins(), named=named, ask=ask) is True
    else:
        with pytest.raises(UsageError, match="--yes-break shop"):
            confirm(scenario(BOTH), plugins(), named=named, ask=ask)


def test_ctrl_c_at_the_prompt_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(*arguments: Any, **options: Any) -> str:
        raise typer.Abort

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr(typer, "prompt", leave)

    with pytest.raises(UsageError, match="--yes-break shop"):
        confirm(scenario(BOTH), plugins(), named=(), ask=on_terminal())


def test_nobody_is_asked_for_what_the_scenario_does_not_allow() -> None:
    def ask(question: str) -> str:
        raise AssertionError("asked")

    with pytest.raises(UsageError, match="container:web-2"):
        confirm(scenario('"container:web-1"'), plugins(), named=(), ask=ask)


@pytest.mark.parametrize(("allow", "confirmed"), [("", True), ('"container:web-1"', True), (BOTH, False)])
def test_run_refuses_before_anything_is_touched(tmp_path: Path, allow: str, confirmed: bool) -> None:
    """Also for whoever calls `run` without the command line."""
    request = RunRequest(
        scenario=scenario(allow), seed=1, source="s", runs=tmp_path / "runs", registry=plugins(), confirmed=confirmed
    )

    with pytest.raises(UsageError, match="Nothing was touched"):
        run(request, progress=Progress(Console(quiet=True)), interrupts=Interrupts())
    assert not (tmp_path / "runs").exists()


def test_run_goes_on_when_it_is_allowed_and_confirmed(tmp_path: Path) -> None:
    request = RunRequest(
        scenario=scenario(BOTH), seed=1, source="s", runs=tmp_path / "runs", registry=plugins(), confirmed=True
    )
    interrupts = Interrupts()

    with pytest.raises(AssertionError, match="it was touched"), interrupts.installed():
        run(request, progress=Progress(Console(quiet=True)), interrupts=interrupts)


def test_dry_run_shows_what_is_attached_and_what_ends_the_run() -> None:
    text = preview(scenario('"container:web-1"'), plugins())

    assert "container:web-1   (allowed)" in text
    assert "container:web-2   (NOT in safety.allow)" in text
    assert "--yes-break shop" in text
    assert "the run takes longer than 1830 s" in text
    assert "somebody says `aftershock stop`" in text


# ------------------------------------------------------------------------------------------------ --backend


def other(text: str, **overrides: str) -> Scenario:
    return parse(text, plugins(), where="s.toml", backend="theirs", overrides=overrides)


def test_other_backend_keeps_the_settings_that_it_knows() -> None:
    text = SCENARIO.replace('name = "theirs"', 'name = "process"').replace("containers", "elsewhere = 1\ncontainers")

    assert other(text).backend.settings == {"containers": "web-1 web-2"}
    assert other(text, **{"backend.containers": "db"}).backend.settings == {"containers": "db"}


def test_same_backend_keeps_its_mistakes() -> None:
    with pytest.raises(UsageError, match="elsewhere: unknown key"):
        other(SCENARIO.replace("containers", "elsewhere = 1\ncontainers"))


def test_backend_that_nobody_provides_is_told() -> None:
    with pytest.raises(UsageError, match="unknown backend 'dokcer'"):
        parse(SCENARIO, plugins(), where="s.toml", backend="dokcer")
