"""The command with a bug planted, for tests of what a bug may not do. Without --plant it is the command itself.

driver.py [--plant crash:PHASE | checker-memory | never-ready | start-fails] ARGUMENTS…
"""

from __future__ import annotations

import signal
import sys
from typing import Any

from aftershock.harness import cli
from aftershock.harness.progress import Progress


def plant_crash(phase: str) -> None:
    """A bug of ours when this phase begins."""
    original = Progress.phase

    def crash(self: Progress, name: str) -> None:
        original(self, name)
        if name == phase:
            raise RuntimeError(f"planted in {name}")

    Progress.phase = crash  # type: ignore[method-assign]


def plant_hold(phase: str) -> None:
    """A phase that is too short to be hit by chance waits for a signal as it begins."""
    original = Progress.phase

    def hold(self: Progress, name: str) -> None:
        original(self, name)
        if name == phase:
            signal.pause()

    Progress.phase = hold  # type: ignore[method-assign]


def plant_checker_memory() -> None:
    """The checker may use next to nothing."""
    from aftershock.harness import porcupine

    original = porcupine.check

    def starved(*arguments: Any, **options: Any) -> Any:
        return original(*arguments, **{**options, "memory_limit_bytes": 1 << 20})

    porcupine.check = starved


def plant_member(argv: tuple[str, ...]) -> None:
    """Node n2 is another program."""
    from aftershock.harness.backends import process

    original = process.ProcessStage.run

    def run(self: Any, spec: Any) -> None:
        import dataclasses

        original(self, dataclasses.replace(spec, argv=argv) if spec.member.name == "n2" else spec)

    process.ProcessStage.run = run  # type: ignore[method-assign]


def main() -> None:
    if sys.argv[1:2] == ["--plant"]:
        name, _, argument = sys.argv[2].partition(":")
        del sys.argv[1:3]
        if name == "crash":
            plant_crash(argument)
        elif name == "hold":
            plant_hold(argument)
        elif name == "checker-memory":
            plant_checker_memory()
        elif name == "never-ready":
            from aftershock.harness import run

            run.READY_DEADLINE_S = 3.0  # type: ignore[misc]
            plant_member((sys.executable, "-c", "import time; time.sleep(600)"))
        elif name == "start-fails":
            plant_member((sys.executable, "-c", "import sys; sys.exit('n2 has no idea')"))
        else:
            sys.exit(f"unknown plant {name!r}")
    cli.main()


if __name__ == "__main__":
    main()
