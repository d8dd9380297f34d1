"""`aftershock images`: the container images that this version needs, built where they are missing."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from .errors import UsageError

if TYPE_CHECKING:
    from .image_builder import Outcome, Pruned

__all__ = ["images"]


def images(
    names: Annotated[list[str] | None, typer.Argument(help="Which; by default all.", show_default=False)] = None,
    *,
    list_: Annotated[bool, typer.Option("--list", help="Say what is there, and build nothing.")] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Build again what is there, for Debian's updates, base first.")
    ] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Remove earlier images of ours that nothing uses.")] = False,
    endpoint: Annotated[str | None, typer.Option(help="Socket of the Docker engine, unix:///PATH.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Build the container images that runs on Docker need, each once; without a registry, from Debian packages."""
    from . import image_builder
    from . import images as catalogue
    from .backends.docker_engine import DEFAULT_ENDPOINT, Engine, not_followed
    from .journal import default_state_folder

    if sum((list_, rebuild, prune)) > 1:
        raise UsageError("--list, --rebuild and --prune exclude each other")
    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    wanted = [catalogue.named(name) for name in _in_order(names, catalogue.names())]
    engine = Engine.open(endpoint or DEFAULT_ENDPOINT)
    try:
        console.print(f"Docker engine {engine.version} at {engine.endpoint}")
        elsewhere = not_followed(engine.endpoint)
        if elsewhere is not None:
            console.print(elsewhere)
        if prune:
            keep = [catalogue.tag(name) for name in catalogue.names()]
            _print_pruned(image_builder.prune(engine, keep=keep, only=names or None), as_json=as_json)
            return
        if list_:
            _print_outcomes(image_builder.listed(engine, wanted), as_json=as_json)
            return
        with image_builder.one_at_a_time(default_state_folder(), note=console.print):
            outcomes = list(image_builder.build(engine, wanted, rebuild=rebuild, note=console.print))
        _print_outcomes(outcomes, as_json=as_json)
    finally:
        engine.close()


def _in_order(asked: list[str] | None, known: tuple[str, ...]) -> list[str]:
    """What was asked for, each once, in an order in which it can be built; unknown names last, to be refused."""
    chosen = set(asked or known)
    return [*(name for name in known if name in chosen), *sorted(chosen - set(known))]


def _print_outcomes(outcomes: Iterable[Outcome], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps({"schema": 1, "images": [dataclasses.asdict(one) for one in outcomes]}) + "\n")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("image", "tag", "state"):
        table.add_column(heading, no_wrap=True)
    for heading in ("size", "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in outcomes:
        size = "" if one.size_bytes is None else f"{one.size_bytes / 1e6:.0f} MB"
        table.add_row(one.name, one.tag, one.state, size, f"{one.seconds:.1f}")
    Console(highlight=False).print(table)


def _print_pruned(pruned: Pruned, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps({"schema": 1, **dataclasses.asdict(pruned)}) + "\n")
        return
    lines = [f"removed {tag}" for tag in pruned.removed]
    lines += [f"left    {tag}: a container uses it" for tag in pruned.in_use]
    for line in lines or ["Nothing to remove."]:
        sys.stdout.write(line + "\n")
