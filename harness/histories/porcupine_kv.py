"""Porcupine's key-value histories: `{:process 9, :type :invoke, :f :append, :key "0", :value "x 9 0 y"}` a line.

Keys hold texts, empty at first. `get` reads one, `put` writes one, `append` puts a text behind (model `text`). Without
times: the order of the lines is the clock.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .events import Event, from_events
from .imported import ImportedHistory, problem

__all__ = ["read_porcupine_kv"]

FORMAT: Final = "porcupine-kv"

_LINE: Final = re.compile(
    r"\{:process (?P<process>\d+), :type :(?P<kind>invoke|ok|fail|info), :f :(?P<f>get|put|append), "
    r':key "(?P<key>.*?)", :value (?:nil|"(?P<value>.*)")\}'
)
_FUNCTIONS: Final = {"get": "read", "put": "write", "append": "append"}


def read_porcupine_kv(path: Path, *, free: bool = False) -> ImportedHistory:
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
                    f"found {text.strip()[:60]!r}; expected "
                    '`{:process 9, :type :invoke, :f :append, :key "0", :value "x"}` or the like (:invoke, :ok, :fail '
                    "or :info; :get, :put or :append). Is the line cut off?",
                )
            value = found["value"]
            yield Event(
                line=number,
                kind=found["kind"],
                process=int(found["process"]),
                f=_FUNCTIONS[found["f"]],
                key=_text(found["key"]),
                value=None if value is None else _text(value),
            )


def _text(plain: str) -> str:
    return json.dumps(plain, ensure_ascii=False)
