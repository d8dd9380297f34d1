"""The model `text` as a register with compare-and-set: exact, and near-linear where the search for texts is not.

Let no two appends to a key append the same, and no text that was put or appended begin with another one. Then a text
that was read tells one sequence: what was put first, and what was appended to it, in order. So an append that some read
shows found just what stands before it there: it is a compare-and-set from that text to the longer one. An append that
no read shows leaves a text that is never seen again before the next put, as the write of a value that nobody reads
does. Puts are writes. Two reads that show an append behind different texts cannot both be right, and then the longer
text of one of them has no writer. Where the condition does not hold, `columns_of_texts` says so with None.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ..porcupine import ABSENT, NO_VERSION, OPEN_NS, F, Operations
from .imported import ImportedHistory, problem
from .texts import shown, text_of

__all__ = ["TextColumns", "columns_of_texts"]

_EMPTY: Final = ""
_FUNCTIONS: Final = ("read", "write", "append")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextColumns:
    """Columns for `Model.CAS_REGISTER`. `words` are texts of numbers, `calls` what to say for what the checker says."""

    operations: Operations
    rows: Sequence[int]
    keys: tuple[Any, ...]
    words: Mapping[int, str]
    calls: Mapping[str, str]
    texts: Mapping[int, str]
    """What to call each operation, by row of the history's frame."""


def columns_of_texts(history: ImportedHistory) -> TextColumns | None:
    """Columns, or None when some key's texts do not tell who wrote them. Raises UsageError for what is no text."""
    by_key: dict[str | None, list[dict[str, Any]]] = {}
    for row, told in enumerate(history.frame.iter_rows(named=True)):
        if told["f"] not in _FUNCTIONS:
            raise problem(history.path, told["line"], f"the model text has no {told['f']!r}, only read, write, append")
        value = shown(told["value"])
        if not isinstance(value, str | None):
            raise problem(history.path, told["line"], f"the value is {told['value']}; the model text has texts only")
        if told["outcome"] != "fail" and not (told["f"] == "read" and told["outcome"] == "unknown"):
            by_key.setdefault(told["key"], []).append({**told, "row": row, "text": value or _EMPTY})
    made = _Columns()
    for key in by_key:
        before = _before_appends(by_key[key])
        if before is None:
            return None
        for one in by_key[key]:
            made.add(one, before, key=len(made.keys))
        made.keys.append(shown(key))
    return made.finished()


def _before_appends(operations: Sequence[Mapping[str, Any]]) -> dict[str, str] | None:
    """What stood before each append that some read shows; None where texts do not tell."""
    appended = [one["text"] for one in operations if one["f"] == "append"]
    put = {one["text"] for one in operations if one["f"] == "write"} - {_EMPTY}
    parts = sorted({*appended, *put})
    # In order, a text stands right before those that begin with it, or before another one that does.
    alike = any(later.startswith(earlier) for earlier, later in itertools.pairwise(parts))
    if len(set(appended)) < len(appended) or put & set(appended) or alike or _EMPTY in appended:
        return None
    before: dict[str, str] = {}
    longest = max(map(len, parts), default=0)
    for text in {one["text"] for one in operations if one["f"] == "read"}:
        for part, start in _sequence(text, put, set(appended), longest):
            before.setdefault(part, text[:start])
    return before


def _sequence(text: str, put: set[str], appended: set[str], longest: int) -> Iterable[tuple[str, int]]:
    """The appends that a text shows, with where each begins; none for a text that no sequence makes."""
    found: list[tuple[str, int]] = []
    start = 0
    while start < len(text):
        ends = range(start + 1, min(len(text), start + longest) + 1)
        part = next((text[start:end] for end in ends if text[start:end] in appended), None)
        if part is not None:
            found.append((part, start))
        elif start == 0:
            part = next((text[:end] for end in ends if text[:end] in put), None)
        if part is None:
            return []
        start += len(part)
    return found


class _Columns:
    def __init__(self) -> None:
        self.keys: list[Any] = []
        self._numbers: dict[str, int] = {}
        self._words: dict[int, str] = {ABSENT: '""'}
        self._calls: dict[str, str] = {}
        self._texts: dict[int, str] = {}
        self._rows: list[list[int]] = []

    def add(self, one: Mapping[str, Any], before: Mapping[str, str], *, key: int) -> None:
        """A row of the columns for one operation."""
        text, f, expected = one["text"], F.READ, ABSENT
        name = text_of(text)
        value = self._number(text)
        if one["f"] == "write":
            f = F.WRITE if text else F.DELETE
        elif one["f"] == "append" and text in before:
            f, expected, value = F.CAS, self._number(before[text]), self._number(before[text] + text)
            call = f"compare-and-set from {self._word(expected)} to {self._word(value)}"
            self._calls[call] = f"append of {name}"
        elif one["f"] == "append":
            # A number of its own: a read of the very same text, put by somebody, is no read of this.
            f, value = F.WRITE, self._fresh(f"{name}, appended and never read,")
        answer = f"read -> {name}" if one["f"] == "read" else f"{one['f']} {name}"
        self._texts[one["row"]] = answer + (f" to {self._word(expected)}" if f is F.CAS else "")
        unknown = one["outcome"] == "unknown"
        end = OPEN_NS if unknown else one["end_ns"]
        self._rows.append([key, one["process"], f, value, expected, one["start_ns"], end, unknown, one["row"]])

    def _number(self, text: str) -> int:
        if not text:
            return ABSENT
        number = self._numbers.setdefault(text, len(self._words))
        self._words.setdefault(number, str(text_of(text)))
        return number

    def _fresh(self, word: str) -> int:
        number = len(self._words)
        self._words[number] = word
        return number

    def _word(self, number: int) -> str:
        return self._words[number]

    def finished(self) -> TextColumns:
        columns = np.array(self._rows, dtype=np.int64).reshape(-1, 9).T
        key, process, f, value, expected, start_ns, end_ns, unknown, rows = columns
        return TextColumns(
            operations=Operations(
                key=key,
                process=process,
                f=f,
                value=value,
                expected=expected,
                version=np.full(len(key), NO_VERSION, dtype=np.int64),
                start_ns=start_ns,
                end_ns=end_ns,
                unknown=unknown.astype(np.bool_),
            ),
            rows=rows.tolist(),
            keys=tuple(self.keys),
            words=self._words,
            calls=self._calls,
            texts=self._texts,
        )
