"""Jepsen's logs of etcd 2 that Porcupine carries as test data, read from the Go module cache of this machine."""

from __future__ import annotations

import os
from pathlib import Path

from aftershock.harness.porcupine import ABSENT, OPEN_NS, F

from tests.unit.porcupine.generate import Row

__all__ = ["LEGAL", "folder", "read_log"]

LEGAL = frozenset(
    (2, 5, 7, 18, 25, 31, 38, 45, 48, 49, 51, 53, 56, 67, 75, 76, 80, 87, 92, 98, 100, 101, 102)
)  # fmt: skip
"""Numbers of the logs that are linearizable, as Porcupine's own tests expect. Number 95 is empty."""


def folder() -> Path | None:
    """Where the logs are; None when Porcupine is not in the module cache."""
    modules = Path(os.environ.get("GOMODCACHE") or Path(os.environ.get("GOPATH") or Path.home() / "go") / "pkg/mod")
    found = sorted((modules / "github.com/anishathalye").glob("porcupine@*/test_data/jepsen"))
    return found[-1] if found else None


def read_log(path: Path, *, key: int) -> list[Row]:
    """Operations of a log as those of one key. Line numbers serve as times; a process does one thing at a time.

    A compare-and-set that did not match is an observation here. A read that timed out says nothing.
    """
    rows: list[Row] = []
    begun: dict[str, tuple[int, str, str]] = {}

    def end(process: str, end_ns: int, outcome: str, answer: str) -> None:
        start_ns, f, argument = begun.pop(process)
        if f == ":read" and outcome == ":ok":
            value = ABSENT if answer == "nil" else int(answer)
            rows.append(Row(key=key, f=F.READ, value=value, start_ns=start_ns, end_ns=end_ns))
        elif f == ":write":
            unknown = outcome != ":ok"
            end_ns = OPEN_NS if unknown else end_ns
            row = Row(key=key, f=F.WRITE, value=int(argument), start_ns=start_ns, end_ns=end_ns, unknown=unknown)
            rows.append(row)
        elif f == ":cas":
            expected, value = map(int, argument.strip("[]").split())
            unknown = outcome not in (":ok", ":fail")
            rows.append(
                Row(
                    key=key,
                    f=F.UNEQUAL if outcome == ":fail" else F.CAS,
                    value=value,
                    expected=expected,
                    start_ns=start_ns,
                    end_ns=OPEN_NS if unknown else end_ns,
                    unknown=unknown,
                )
            )

    for number, line in enumerate(path.read_text().splitlines()):
        words = line.removeprefix("INFO  jepsen.util - ").split(maxsplit=3)
        if len(words) != 4 or not words[0].isdigit():
            continue
        process, kind, f, argument = words
        if kind == ":invoke":
            begun[process] = (number, f, argument)
        else:
            end(process, number, kind, argument)
    for process in list(begun):
        end(process, OPEN_NS, ":info", "")
    return rows
