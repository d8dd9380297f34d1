"""Why an image could not be made, from what the tools said: one sentence with what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import urllib3

__all__ = ["streamed", "told"]

# How much of the output is told where no known cause is in it: the last lines say why.
_TOLD_LINES: Final = 12

_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")

_CAUSES: Final = (
    (
        ("no space left on device",),
        "the disk is full: look with `df -h /var/lib/docker /tmp`; `aftershock images --prune` makes room",
    ),
    (
        (
            "temporary failure resolving",
            "could not resolve",
            "could not connect",
            "failed to fetch",
            "unable to connect",
        ),
        "a Debian mirror could not be reached: try `apt-get update`; proxies of builds are in ~/.docker/config.json",
    ),
    (
        ("is not valid yet", "expkeysig", "no_pubkey", "is not signed", "gpgv"),
        "a Debian mirror's signature was refused: `apt-get install debian-archive-keyring`, and look at the clock",
    ),
    (
        ("operation not permitted", "permission denied", "must be root", "newuidmap"),
        "this user may not: run it with sudo",
    ),
)


def told(what: str, output: Iterable[str]) -> str:
    """A message: `what` failed, its known cause and remedy, and the last lines that were said."""
    plain = (_COLOURS.sub("", line).rstrip() for line in output)
    lines = [line for line in plain if line]
    text = "\n".join(lines).lower()
    cause = next((remedy for signs, remedy in _CAUSES if any(sign in text for sign in signs)), None)
    tail = "\n".join(f"  {line}" for line in lines[-_TOLD_LINES:])
    head = f"{what}: {cause}" if cause is not None else f"{what}; the last that it said"
    return f"{head}\n{tail}" if tail else f"{head}: nothing"


def streamed(entries: Iterable[Any]) -> Iterator[Any]:
    """What an engine says while it works. Raises OSError when it dies meanwhile, which the SDK tells otherwise."""
    try:
        yield from entries
    except urllib3.exceptions.HTTPError as error:
        raise ConnectionError(str(error)) from error
