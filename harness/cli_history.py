"""`aftershock check` and `aftershock convert`: judge a run again, or somebody's own history; convert histories."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import UsageError
from .verdict import ExitCode, Verdict

if TYPE_CHECKING:
    from .histories import ImportedHistory

__all__ = ["check", "convert", "print_verdict"]

_EXITS = {Verdict.PASS: ExitCode.PASS, Verdict.FAIL: ExitCode.FAIL, Verdict.UNKNOWN: ExitCode.UNKNOWN}
_FORMATS = "jsonl, csv, jepsen-edn, jepsen-log, porcupine-kv, run-folder"

Format = Annotated[
    str | None, typer.Option("--format", metavar="NAME", help=f"{_FORMATS}; by default what it looks like.")
]


def check(
    history: Annotated[Path, typer.Argument(metavar="RUN|FILE", help="A run folder, or a file that holds a history.")],
    *,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="What the history must be linearizable as; one of your own is FILE.py:NAME."
        ),
    ] = None,
    format_: Format = None,
    initial: Annotated[
        str | None, typer.Option(metavar="VALUE", help="What a register holds at first; of a bank: a=10,b=0.")
    ] = None,
    failed_cas: Annotated[
        str | None,
        typer.Option(metavar="ignore|observe", help="How a failed compare-and-set is meant; by default ignore."),
    ] = None,
    engine: Annotated[
        str | None, typer.Option(metavar="NAME", help="auto (default), unique, frontier or porcupine.")
    ] = None,
    deadline: Annotated[float | None, typer.Option(metavar="SECONDS", help="60 by default.")] = None,
    memory_limit: Annotated[str | None, typer.Option(metavar="SIZE", help="Such as 500MiB; 2GiB by default.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="OUT", help="Write the counterexamples as a page, too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Judge a recorded run again, or a history of your own with --model. Exits with the verdict."""
    options = (format_, initial, failed_cas, engine, deadline, memory_limit, html)
    if model is None and history.is_dir() and format_ in (None, "run-folder"):
        if any(option is not None for option in options[1:]):
            raise UsageError("these options are for a history that is held against a --model; a run is judged whole")
        _check_run(history, as_json=as_json)
    judged = _judge(
        history,
        model=model,
        format_=format_,
        initial=initial,
        failed_cas=failed_cas or "ignore",
        engine=engine or "auto",
        deadline_s=60.0 if deadline is None else deadline,
        memory_limit_bytes=2 << 30 if memory_limit is None else _bytes(memory_limit),
    )
    if html is not None:
        _write_page(html, judged)
    if as_json:
        sys.stdout.write(json.dumps(judged, ensure_ascii=False) + "\n")
    else:
        from .histories.words import verdict_text

        sys.stdout.write(verdict_text(judged))
        if html is not None:
            sys.stdout.write(f"Page: {html.resolve()}\n")
    raise typer.Exit(_EXITS[Verdict(judged["verdict"])])


def convert(
    history: Annotated[Path, typer.Argument(metavar="RUN|FILE", help="A run folder, or a file that holds a history.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new file; .jsonl or .csv.")],
    *,
    format_: Format = None,
) -> None:
    """Write a history of any format as JSON Lines or CSV (docs/your-own-history.md)."""
    from .histories import read_history
    from .histories.written import write_history

    found = read_history(history, format_=format_)
    write_history(found, out)
    for note in (*found.notes, *found.holes):
        sys.stdout.write(f"note: {note}\n")
    sys.stdout.write(f"Wrote {found.frame.height:,} operations to {out}\n")


def _check_run(folder: Path, *, as_json: bool) -> None:
    from .judge import check_folder

    verdict, code = check_folder(folder)
    if as_json:
        sys.stdout.write(json.dumps(verdict) + "\n")
    else:
        print_verdict(verdict, folder)
    raise typer.Exit(code)


def _judge(
    path: Path,
    *,
    model: str | None,
    format_: str | None,
    initial: str | None,
    failed_cas: str,
    engine: str,
    deadline_s: float,
    memory_limit_bytes: int,
) -> dict[str, Any]:
    from .histories import read_history
    from .histories.judged import Asked, judge_history
    from .histories.text_model import NAME
    from .histories.user_models import names_user_model
    from .porcupine import Engine, Model

    if engine not in list(Engine):
        raise UsageError(f"--engine {engine}: expected one of {', '.join(Engine)}")
    if not deadline_s > 0:
        raise UsageError(f"--deadline {deadline_s:g}: expected more than 0 seconds")
    own = model is not None and names_user_model(model)
    found = read_history(path, format_=format_, free=own and model != NAME)
    if model is None or not (own or model in list(Model)):
        raise UsageError(_which_model(found, model))
    asked = Asked(
        model=model,
        engine=Engine(engine),
        deadline_s=deadline_s,
        memory_limit_bytes=memory_limit_bytes,
        failed_cas=failed_cas,
        initial=initial,
    )
    return judge_history(found, asked)


def _which_model(found: ImportedHistory, model: str | None) -> str:
    from .histories.shapes import FUNCTIONS_OF, models_for
    from .histories.text_model import NAME

    text = [NAME] if set(found.frame["f"].unique()) <= {"read", "write", "append"} else []
    fitting = ", ".join([*models_for(found), *text]) or "none; a model of your own is FILE.py:NAME"
    if model is None:
        return f"{found.path}: --model says what it must be linearizable as; models that have its functions: {fitting}"
    known = f"{', '.join(FUNCTIONS_OF)}, {NAME} or FILE.py:NAME"
    return f"--model {model}: expected one of {known}; those that have the file's functions: {fitting}"


_SIZES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]i?)?b?", text.strip().lower())
    size = int(float(found[1]) * _SIZES[found[2] or ""]) if found else 0
    if size <= 0:
        raise UsageError(f"--memory-limit {text}: expected a size such as 500MiB or 2GiB")
    return size


def _write_page(path: Path, judged: dict[str, Any]) -> None:
    from ..reports.history_page import write_history_page

    try:
        write_history_page(path, judged)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from None


# ------------------------------------------------------------------------------------------------ a run's verdict

_MARK = {"pass": "PASS", "fail": "FAIL", "unknown": "UNKNOWN"}


def print_verdict(verdict: Any, folder: Path) -> None:
    """The last thing that a person reads of a run: verdict, reason, findings, where the report is."""
    _out("")
    _out(f"{_MARK[verdict['verdict']]}  {verdict['headline']}")
    if verdict["cause"]:
        _out(f"      {verdict['cause']}")
    for check_ in verdict["checks"]:
        if check_["status"] == "judged":
            kind = "" if check_["required"] else " (advisory)"
            text = check_["summary"] if check_["verdict"] == "pass" else check_["reason"]
            _out(f"  {_MARK[check_['verdict']]:<8}{check_['title']}{kind}: {text}")
    for warning in verdict.get("warnings", []):
        _out(f"  warning: {warning}")
    _out(f"Report: {(folder / 'report.html').resolve()}")
    _out(f"Again:  {verdict['reproduce']['run']}")


def _out(text: str) -> None:
    sys.stdout.write(text + "\n")
