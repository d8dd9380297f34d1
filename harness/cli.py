"""The command `aftershock`: argv in, exit code out. What each command does lives elsewhere.

Heavy modules are imported inside the commands, so that `aftershock version` and a mistake in a scenario answer at once.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from . import environment
from .cli_history import check, convert, print_verdict
from .cli_images import images
from .cli_safety import confirm, on_terminal, preview, stop
from .errors import AftershockError, HealError, RunFolderError, SetupError, UsageError
from .interrupts import Aborted, Interrupted, Interrupts
from .registry import GROUPS, Registry, installed
from .scenario import Scenario, load
from .verdict import ExitCode, Verdict, most_severe

__all__ = ["app", "main"]

app = typer.Typer(
    name="aftershock",
    help="Breaks a distributed system on purpose under load, and proves from the record whether it kept its promises.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_EXIT_OF = {
    UsageError: ExitCode.USAGE,
    SetupError: ExitCode.SETUP,
    HealError: ExitCode.HEAL_FAILED,
}

Scenarios = Annotated[list[Path] | None, typer.Argument(help="Scenario files (TOML).", show_default=False)]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one value, such as load.rate_per_s=100. Repeatable."),
]
Seed = Annotated[int | None, typer.Option(help="Seed of the run; by default the scenario's, or a new one.", min=0)]
OtherBackend = Annotated[
    str | None, typer.Option("--backend", metavar="NAME", help="Run on another backend than the scenario says.")
]
RunsFolder = Annotated[Path, typer.Option(help="Where run folders go.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


@app.command()
def run(
    scenarios: Scenarios = None,
    *,
    seed: Seed = None,
    replay: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Run the resolved scenario and seed of an earlier run again.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be broken, when, and stop.")] = False,
    set_: Overrides = None,
    backend: OtherBackend = None,
    yes_break: Annotated[
        list[str] | None,
        typer.Option(
            "--yes-break",
            metavar="SCENARIO",
            help="Confirm, by the scenario's name, that it may break what Aftershock did not start. Repeatable.",
        ),
    ] = None,
    runs: RunsFolder = Path("runs"),
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the verdict only.")] = False,
) -> None:
    """Deploy, load, break, record, check and report. Exits with the verdict."""
    registry = installed()
    paths = _scenario_paths(scenarios, replay)
    # All scenarios are parsed before any is started: a mistake in the last one must not cost an hour.
    parsed = [(path, load(path, registry, overrides=_pairs(set_), backend=backend)) for path in paths]
    chosen = [(path, scenario, _seed(seed, scenario)) for path, scenario in parsed]
    if dry_run:
        for _, scenario, its_seed in chosen:
            _print_timeline(scenario, its_seed, registry)
            _out(preview(scenario, registry))
        return
    permitted = [confirm(s, registry, named=yes_break or (), ask=on_terminal()) for _, s, _ in chosen]
    codes: list[ExitCode] = []
    for (path, scenario, its_seed), confirmed in zip(chosen, permitted, strict=True):
        request = _Chosen(path, scenario, its_seed, registry, runs, confirmed)
        code, go_on = _run_one(request, quiet=quiet)
        codes.append(code)
        if not go_on:
            break  # nothing new is broken after "stop", nor where something is still broken
    if len(codes) < len(chosen):
        _error(f"not run after that: {', '.join(str(path) for path, _, _ in chosen[len(codes) :])}")
    raise typer.Exit(most_severe(codes))


@dataclasses.dataclass(frozen=True, slots=True)
class _Chosen:
    """One scenario of the command line, ready to be run."""

    path: Path
    scenario: Scenario
    seed: int
    registry: Registry
    runs: Path
    confirmed: bool


def _run_one(chosen: _Chosen, *, quiet: bool) -> tuple[ExitCode, bool]:
    """Run one scenario. Returns its exit code, and whether the next one may begin."""
    from .progress import Progress
    from .run import RunRequest
    from .run import run as run_scenario

    progress = Progress(_console(), quiet=quiet)
    request = RunRequest(
        scenario=chosen.scenario,
        seed=chosen.seed,
        source=str(chosen.path),
        runs=chosen.runs,
        registry=chosen.registry,
        confirmed=chosen.confirmed,
    )
    ended_early = False

    def call() -> ExitCode:
        # A fail is never retried. Every attempt keeps its own run folder and is shown.
        nonlocal ended_early
        left = chosen.scenario.on_unknown.retry
        while True:
            interrupts = Interrupts(announce=progress.note)
            try:
                with interrupts.installed():
                    result = run_scenario(request, progress=progress, interrupts=interrupts)
            finally:
                ended_early = interrupts.aborted is not None
            print_verdict(result.verdict, result.folder)
            # What ended this run early would end the next one too, or is not to be met again at all.
            if result.verdict["verdict"] != Verdict.UNKNOWN or left == 0 or ended_early:
                return result.exit_code
            progress.note(f"Unknown; trying again, {left} left (on_unknown.retry)")
            left -= 1

    code = _guarded(call)
    return code, not ended_early and code not in (ExitCode.INTERRUPTED, ExitCode.HEAL_FAILED)


app.command()(check)
app.command()(convert)


@app.command()
def report(folder: RunArgument) -> None:
    """Write report.html, junit.xml and summary.md of a judged run again."""
    from ..reports import write_reports
    from .record import read_verdict

    for path in write_reports(read_verdict(folder), folder):
        _out(str(path))


@app.command()
def validate(scenarios: Scenarios = None, *, set_: Overrides = None, backend: OtherBackend = None) -> None:
    """Check scenario files without running them."""
    registry = installed()
    codes = []
    for path in _scenario_paths(scenarios, None):
        try:
            scenario = load(path, registry, overrides=_pairs(set_), backend=backend)
        except UsageError as error:
            _error(error)
            codes.append(ExitCode.USAGE)
        else:
            size = f"{len(scenario.faults)} faults, {scenario.load.duration_s:g} s of load"
            _out(f"{path}: {scenario.name} is valid ({size})")
    raise typer.Exit(most_severe(codes))


app.command()(stop)


@app.command("list")
def list_(*, as_json: AsJson = False) -> None:
    """List the systems, backends, faults and workloads that are installed, and where each comes from."""
    registry = installed()
    found = {kind: {name: registry.origin(kind, name) for name in registry.names(kind)} for kind in GROUPS}
    if as_json:
        sys.stdout.write(json.dumps(found) + "\n")
        return
    for kind, plugins in found.items():
        for name, origin in plugins.items():
            plugin = registry.get(kind, name)
            fields = ", ".join(plugin.settings.model_fields) or "no settings"
            _out(f"{kind:<9} {name:<14} {fields}   ({origin})")


@app.command()
def heal(*, as_json: AsJson = False) -> None:
    """Undo what a killed run left behind. Skips runs that are still going on. Exits 0 when all is clean, else 5."""
    from .heal import heal as heal_all
    from .journal import default_state_folder

    result = heal_all(state_folder=default_state_folder())
    if as_json:
        sys.stdout.write(json.dumps({"clean": result.clean, **dataclasses.asdict(result)}) + "\n")
    else:
        for line in (*result.undone, *result.left, *result.skipped) or ("Nothing to undo.",):
            _out(line)
    raise typer.Exit(ExitCode.PASS if result.clean else ExitCode.HEAL_FAILED)


@app.command()
def doctor(*, as_json: AsJson = False) -> None:
    """Say what this machine can do: every fault on every backend, and what would mend the rest."""
    from .doctor import examine
    from .doctor_text import render

    found = examine(installed())
    if as_json:
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        _out(render(found))
    raise typer.Exit(ExitCode.PASS if found["usable"] else ExitCode.SETUP)


@app.command()
def init(path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("scenario.toml")) -> None:
    """Write a commented scenario to start from."""
    from .starter import STARTER

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(STARTER)
    except FileExistsError:
        raise UsageError(f"{path} exists already, and is left as it is; name another file") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    _out(f"Wrote {path}. Next: aftershock run {path} --dry-run")


@app.command()
def version() -> None:
    """Print the version."""
    _out(f"aftershock {environment.tool_version()}")


app.command()(images)


# ------------------------------------------------------------------------------------------------ entry


def main() -> None:
    """Entry point: maps every way a command can end to its exit code. Never returns."""

    def call() -> ExitCode:
        try:
            outcome = app(standalone_mode=False)
        except typer.Exit as leave:
            return ExitCode(leave.exit_code)
        return ExitCode(outcome) if isinstance(outcome, int) else ExitCode.PASS

    sys.exit(_guarded(call))


def _guarded(call: Callable[[], ExitCode]) -> ExitCode:
    """Call, and turn what it raises into a message for whoever must act and an exit code."""
    try:
        return call()
    except AftershockError as error:
        _error(error)
        return next((code for kind, code in _EXIT_OF.items() if isinstance(error, kind)), ExitCode.INTERNAL)
    except Interrupted as interrupted:
        _error(f"{interrupted}; everything was undone, and what was recorded is kept")
        return ExitCode.INTERRUPTED
    except Aborted as aborted:
        _error(f"ended early: {aborted}; everything was undone, and what was recorded is kept")
        return ExitCode.UNKNOWN
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except typer.Exit:
        raise
    except Exception as error:
        show = getattr(error, "show", None)
        if callable(show):  # a mistake on the command line, told by the command-line library itself
            show()
            return ExitCode.USAGE
        traceback.print_exc()
        _error(
            "This is a bug in Aftershock. What was recorded is kept in the run folder; please report it with the "
            f"lines above and the version ({environment.tool_version()})."
        )
        return ExitCode.INTERNAL


# ------------------------------------------------------------------------------------------------ helpers


def _scenario_paths(scenarios: list[Path] | None, replay: Path | None) -> list[Path]:
    if replay is not None:
        if scenarios:
            raise UsageError("--replay runs an earlier run's own scenario; name either scenarios or --replay RUN")
        path = replay / "scenario.toml"
        if not path.is_file():
            raise RunFolderError(f"{replay}: not a run folder, it holds no scenario.toml")
        return [path]
    if not scenarios:
        raise UsageError("no scenario was named; `aftershock init` writes one to start from")
    return scenarios


def _pairs(texts: list[str] | None) -> dict[str, str]:
    pairs = {}
    for text in texts or []:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise UsageError(f"--set {text}: expected KEY=VALUE, such as --set load.rate_per_s=100")
        pairs[key] = value
    return pairs


def _seed(asked: int | None, scenario: Scenario) -> int:
    if asked is not None:
        return asked
    return scenario.seed if scenario.seed is not None else secrets.randbelow(10**8)


def _print_timeline(scenario: Scenario, seed: int, registry: Registry) -> None:
    from .schedule import plan, render_text

    _out(render_text(plan(scenario, seed), registry))


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def _out(text: str) -> None:
    sys.stdout.write(text + "\n")


def _error(error: AftershockError | str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(Text(f"aftershock: {error}"))
