"""The parts of the command that are about safety: `aftershock stop`, the confirmation, and --dry-run's preview."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated

import typer

from .attached import attached
from .errors import UsageError
from .journal import default_state_folder
from .registry import Registry
from .safety import allowed, permit
from .scenario import Scenario
from .stop import choose, request, running, wait_healed
from .verdict import ExitCode

__all__ = ["confirm", "preview", "stop"]


def confirm(
    scenario: Scenario,
    registry: Registry,
    *,
    named: Collection[str],
    ask: Callable[[str], str] | None,
) -> bool:
    """Whether the user has said that what we did not start may be broken; True when there is nothing like that.

    `named` are the scenarios that --yes-break names; `ask` puts a question on a terminal, None where nobody sits.
    Raises UsageError when something is not allowed by the scenario, or not confirmed.
    """
    targets = attached(scenario, registry)
    confirmed = scenario.name in named
    # First what the scenario lacks: nobody is asked for a name that would not help.
    permit(targets, scenario.safety, confirmed=True, scenario=scenario.name)
    if targets and not confirmed and ask is not None:
        lines = "\n".join(f"  {target}" for target in targets)
        question = (
            f"Scenario {scenario.name} breaks what Aftershock did not start:\n{lines}\n"
            "Type the scenario's name if that is meant"
        )
        confirmed = ask(question).strip() == scenario.name
    permit(targets, scenario.safety, confirmed=confirmed, scenario=scenario.name)
    return confirmed


def on_terminal() -> Callable[[str], str] | None:
    """How to ask whoever sits at the terminal; None when nobody does."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return None
    return _prompt


def _prompt(question: str) -> str:
    try:
        return str(typer.prompt(question, default="", show_default=False))
    except typer.Abort:  # Ctrl-C or Ctrl-D at the prompt is a no
        return ""


def preview(scenario: Scenario, registry: Registry) -> str:
    """For --dry-run: what ends the run early, and what it may touch that we did not start."""
    lines = ["Ends early, with everything undone, when"]
    lines += [f"  {words}" for words in scenario.safety.words(scenario.load.duration_s)]
    targets = attached(scenario, registry)
    if targets:
        lines.append(f"Touches what Aftershock did not start (needs --yes-break {scenario.name}):")
        lines += [
            f"  {target}   ({'allowed' if allowed(target, scenario.safety) else 'NOT in safety.allow'})"
            for target in targets
        ]
    return "\n".join(lines)


def stop(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="A run's folder or id; may be left out when only one goes on.")
    ] = None,
    *,
    all_: Annotated[bool, typer.Option("--all", help="Every run of this user.")] = False,
    wait_s: Annotated[float, typer.Option("--wait-s", help="How long to wait until it has healed.", min=0)] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """End a run that goes on: it heals, keeps its record and judges it. Waits until it has healed; exits 5 if not."""
    if run is not None and all_:
        raise UsageError(f"stop: name either a run ({run}) or --all")
    going_on = running(default_state_folder())
    chosen = going_on if all_ else [choose(run, going_on)]
    for registration in chosen:
        request(registration)
    results = [wait_healed(registration, deadline_s=wait_s) for registration in chosen]
    if as_json:
        told = [
            {"run_id": r.run_id, "run_folder": str(r.run_folder), "healed": not r.problem, "problem": r.problem}
            for r in results
        ]
        sys.stdout.write(json.dumps({"schema": 1, "runs": told}) + "\n")
    else:
        for result in results:
            line = result.problem or f"stopped; everything is undone, and its record is in {_short(result.run_folder)}"
            sys.stdout.write(f"{result.run_id}: {line}\n")
        if not results:
            sys.stdout.write("No run is under way.\n")
    raise typer.Exit(ExitCode.HEAL_FAILED if any(result.problem for result in results) else ExitCode.PASS)


def _short(path: Path) -> str:
    """The path as the user would type it here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
