"""Programs of this machine that are asked for something: nft, tc, ip, ss. Standard library only, for the watchdog."""

from __future__ import annotations

import subprocess
from typing import Final

__all__ = ["ask"]

_TIMEOUT_S: Final = 5.0


def ask(
    program: str, *arguments: str, package: str, problem: type[Exception], text: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, whatever its status. `text` is its standard input, `package` Debian's that has it.

    Raises `problem`, with a sentence, when the program is not there or does not answer.
    """
    try:
        return subprocess.run(
            [program, *arguments], input=text, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        raise problem(f"there is no `{program}` program; apt-get install {package}") from None
    except subprocess.TimeoutExpired:
        raise problem(f"{program} did not answer within {_TIMEOUT_S:g} s") from None
