"""Jepsen's log lines, `INFO  jepsen.util - 3 :invoke :write 4`, as in Porcupine's recorded etcd histories.

Without times: the order of the lines is the clock. One key. Reads, writes and compare-and-sets of integers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .events import Event, from_events
from .imported import ImportedHistory, problem

__all__ = ["read_jepsen_log"]

FORMAT: Final = "jepsen-log"

_LINE: Final = re.compile(
    r"INFO\s+jepsen\.util\s+-\s+(?P<process>\d+|:\S+)\s+:(?P<kind>invoke|ok|fail|info)\s+:(?P<f>\S+)\s+(?P<value>.+)"
)
_INTEGER: Final = re.compile(r"-?\d+")
_PAIR: Final = re.compile(r"\[(-?\d+) (-?\d+)\]")


def read_jepsen_log(path: Path, *, free: bool = False) -> ImportedHistory:
    """Raises UsageError with the line that is none of these. `free` as `imported` has it."""
    return from_events(path, _events(path), format_=FORMAT, free=free)


def _events(path: Path) -> Iterator[Event]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, text in enumerate(file, start=1):
            if not text.strip():
                continue
            found = _LINE.fullmatch(text.strip())
            if found is None:
                raise problem(
                    path,
                    number,
                    f"found {text.strip()[:60]!r}; expected `INFO  jepsen.util - PROCESS :invoke :read nil` or the "
                    "like (:invoke, :ok, :fail or :info; :read, :write or :cas). Is the line cut off?",
                )
            if found["process"].startswith(":"):
                continue  # the nemesis, which is no client
            yield Event(
                line=number,
                kind=found["kind"],
                process=int(found["process"]),
                f=_function(path, number, found["f"]),
                key=None,
                value=_value(path, number, found),
            )


def _function(path: Path, number: int, name: str) -> str:
    if name not in ("read", "write", "cas"):
        raise problem(path, number, f"found the function :{name}; expected :read, :write or :cas")
    return name


def _value(path: Path, number: int, found: re.Match[str]) -> str | None:
    """The value as a canonical text. What timed out says so in its place; the invocation has the value."""
    text = found["value"]
    if text == "nil" and found["f"] == "read":
        return None
    if text.startswith(":") and found["kind"] in ("fail", "info"):
        return None
    wanted = _PAIR if found["f"] == "cas" else _INTEGER
    if wanted.fullmatch(text) is None:
        expected = "[FROM TO]" if found["f"] == "cas" else "an integer"
        raise problem(path, number, f"found the value {text[:60]!r} of a {found['f']}; expected {expected}")
    return text.replace(" ", ",") if found["f"] == "cas" else str(int(text))
