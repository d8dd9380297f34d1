"""A program that is run in a container, and how it ended: for probes by command."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from .docker_engine import Engine

__all__ = ["run_inside"]

_POLL_S: Final = 0.02


def run_inside(engine: Engine, container: str, argv: Sequence[str], *, timeout_s: float) -> str | None:
    """None when the program exits with 0, otherwise half a sentence. One that does not end in time goes on there.

    Detached, so that a program which says nothing for ever holds nobody up. Raises SetupError when the engine refuses.
    """
    words = " ".join(argv)
    until = time.monotonic() + timeout_s
    with engine.asked_to(f"run {words!r} in container {container[:12]}"):
        made = engine.api.exec_create(container, list(argv), stdout=False, stderr=False)["Id"]
        engine.api.exec_start(made, detach=True)
        while True:
            seen = engine.api.exec_inspect(made)
            if not seen["Running"] and seen["ExitCode"] is not None:
                return None if seen["ExitCode"] == 0 else f"{words!r} exits with {seen['ExitCode']} in it"
            if time.monotonic() > until:
                return f"{words!r} has not ended in it within {timeout_s:g} s"
            time.sleep(_POLL_S)
