"""Jepsen's `history.edn`: maps with :type, :f, :value, :process, and mostly :time and :index, one below the other.

The order of the maps is the clock, as it is for Jepsen's own checkers. Operations of the nemesis are no client's, and
left out. Where every value of an invocation is a pair, it is `[key value]` (jepsen.independent).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ..errors import UsageError
from .edn import EdnError, Keyword, forms
from .events import Event, from_events
from .imported import ImportedHistory, problem
from .texts import text_of

__all__ = ["read_jepsen_edn"]

FORMAT: Final = "jepsen-edn"

_KINDS: Final = ("invoke", "ok", "fail", "info")
_FUNCTIONS: Final = (
    *("read", "write", "cas", "delete", "add", "enqueue", "dequeue", "increment", "acquire", "release", "append"),
    *("transfer", "read-all"),
)
_TRANSACTIONS: Final = ("txn", "txn-append", "mop", "multi-read")
# What a failed compare-and-set may carry as :error and still have looked at the value.
_LOOKED: Final = ("precondition-failed", "did-not-match", "mismatch", "not-found", "value-mismatch")


def read_jepsen_edn(path: Path, *, free: bool = False) -> ImportedHistory:
    """Raises UsageError with the line of what is no EDN, no operation, or has no place in one of our models.

    `free` as `imported` has it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: byte {error.start} is not UTF-8; expected EDN, which is") from None
    entries = []
    try:
        for line, value in forms(text):
            entry = _entry(path, line, value, free=free)
            if entry is not None:
                entries.append((line, entry))
    except EdnError as error:
        raise problem(path, error.line, f"{error.text}. Expected maps such as {_EXAMPLE}") from None
    keyed = _keyed(path, entries)
    notes: list[str] = []
    left_out = sum(_unlike_an_answer(entry) for _, entry in entries)
    if left_out:
        notes.append(
            f"{left_out} compare-and-sets failed with an :error that is none of {', '.join(_LOOKED)}; they certainly "
            "did not happen, and say nothing about what was there."
        )
    return from_events(path, [_event(path, *at, keyed=keyed) for at in entries], format_=FORMAT, notes=notes, free=free)


_EXAMPLE: Final = "{:type :invoke, :f :read, :value nil, :process 0, :time 10, :index 0}"


def _entry(path: Path, line: int, value: Any, *, free: bool) -> Mapping[str, Any] | None:
    """The map of a client's entry; None for one of the nemesis."""
    if not isinstance(value, dict):
        found = type(value).__name__
        raise problem(path, line, f"found a {found}; expected a map such as {_EXAMPLE}")
    missing = [name for name in ("process", "type", "f") if name not in value]
    if missing:
        raise problem(path, line, f"this map has no :{', no :'.join(missing)}; expected one such as {_EXAMPLE}")
    if type(value["process"]) is not int:
        return None  # :nemesis, or another process that is no client
    if value["type"] not in _KINDS:
        raise problem(path, line, f"the :type is {value['type']!r}; expected :invoke, :ok, :fail or :info")
    if not free:
        _check_function(path, line, str(value["f"]))
    return value


def _check_function(path: Path, line: int, name: str) -> None:
    if name in _TRANSACTIONS:
        raise problem(
            path,
            line,
            f"the function :{name} is a transaction; transactions are not judged here, only operations on one object "
            "each (Elle judges them)",
        )
    if name not in _FUNCTIONS:
        raise problem(path, line, f"the function is :{name}; expected one of :{', :'.join(_FUNCTIONS)}")


def _keyed(path: Path, entries: list[tuple[int, Mapping[str, Any]]]) -> bool:
    """Whether values are `[key value]`: those of all invocations are pairs, of a compare-and-set with a pair in it."""
    invocations = [(line, entry) for line, entry in entries if entry["type"] == "invoke"]
    pairs = [_is_keyed(entry) for _, entry in invocations]
    if not any(entry["f"] != "cas" or keyed for (_, entry), keyed in zip(invocations, pairs, strict=True)):
        return False
    if all(pairs):
        return True
    for (line, entry), keyed in zip(invocations, pairs, strict=True):
        # A read knows no value yet, so a pair of its own can only be a key and nothing.
        if keyed and entry["f"] == "read":
            raise problem(
                path,
                line,
                f"this read asks for {text_of(_plain(entry['value']))}, a key with nothing, while line "
                f"{invocations[pairs.index(False)][0]} has no key; expected keys everywhere or nowhere. Split the file",
            )
    return False


def _is_keyed(entry: Mapping[str, Any]) -> bool:
    value = entry.get("value")
    if not isinstance(value, list) or len(value) != 2:
        return False
    return entry["f"] != "cas" or (isinstance(value[1], list) and len(value[1]) == 2)


def _event(path: Path, line: int, entry: Mapping[str, Any], *, keyed: bool) -> Event:
    key, value = None, entry.get("value")
    if keyed and isinstance(value, list) and len(value) == 2:
        key, value = value
    elif keyed and entry["type"] == "ok":
        raise problem(path, line, f"the value is {value!r}; expected [key value], as all invocations have")
    elif keyed:
        value = None  # failed, or nobody knows: the invocation has both
    time = entry.get("time")
    if time is not None and type(time) is not int:
        raise problem(path, line, f"the :time is {time!r}; expected nanoseconds")
    try:
        return Event(
            line=line,
            kind=str(entry["type"]),
            process=entry["process"],
            f=str(entry["f"]),
            key=text_of(_plain(key)),
            value=_value(path, line, entry, value),
            time_ns=time,
            result="not-compared" if _unlike_an_answer(entry) else "",
        )
    except ValueError as error:
        raise problem(path, line, f"the value cannot be compared: {error}") from None


def _value(path: Path, line: int, entry: Mapping[str, Any], value: Any) -> str | None:
    if entry["type"] in ("fail", "info") and (isinstance(value, Keyword) or entry.get("error") is not None):
        return None  # why, in place of the value; the invocation has it
    if entry["f"] == "cas" and (not isinstance(value, list) or len(value) != 2) and entry["type"] == "invoke":
        raise problem(path, line, f"the value of this cas is {value!r}; expected [FROM TO]")
    return text_of(_plain(value))


def _unlike_an_answer(entry: Mapping[str, Any]) -> bool:
    error = entry.get("error")
    reason = error[0] if isinstance(error, list) and error else error
    return entry["f"] == "cas" and entry["type"] == "fail" and reason is not None and str(reason) not in _LOOKED


def _plain(value: Any) -> Any:
    """A value as JSON has it. Keywords keep their colon, so that :a and "a" stay two."""
    if isinstance(value, Keyword):
        return f":{value}"
    if isinstance(value, list):
        return [_plain(member) for member in value]
    if isinstance(value, dict):
        return {(f":{name}" if isinstance(name, Keyword) else name): _plain(member) for name, member in value.items()}
    return value
