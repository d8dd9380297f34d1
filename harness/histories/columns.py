"""An imported history as the checker's columns, under one model.

A value becomes a number: whole numbers stay themselves where every value of the file is one, or where the model
counts; otherwise all get numbers in the order of their texts, and `words` says which is which.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ..errors import UsageError
from ..porcupine import ABSENT, NO_VERSION, OPEN_NS, F, Model, Operations
from .imported import ImportedHistory, problem
from .shapes import REGISTERS, shaped
from .texts import NULL, canonical, parsed, text_of

__all__ = ["INITIAL_ROW", "Judgeable", "initial_text", "judgeable"]

INITIAL_ROW: Final = -1
"""In place of a row: the write of an initial value that the file does not hold."""

_WHOLE: Final = r"^(?:0|-?[1-9][0-9]{0,17})$"
_COUNTING: Final = (Model.COUNTER, Model.FETCH_AND_INCREMENT, Model.MUTEX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgeable:
    """What goes to the checker, and how to speak of what comes back.

    `rows` holds, for each operation, its row in the history's frame, or `INITIAL_ROW`. `words` are the user's texts
    for numbers that are not the user's own. `keys` are the texts of the keys, by number. `initial` is the balance of
    every account, for the bank.
    """

    operations: Operations
    rows: npt.NDArray[np.int64]
    words: Mapping[int, str]
    keys: tuple[str | None, ...]
    initial: Mapping[int, int] | None


def judgeable(
    history: ImportedHistory, *, model: Model, failed_cas: str = "ignore", initial: str | None = None
) -> Judgeable:
    """Columns under a model.

    `failed_cas` says how a compare-and-set with outcome fail is meant: `ignore` (it did not happen, and no more is
    known) or `observe` (it looked, and found another value). `initial` is what every register holds at first, as JSON
    or plain text (default: nothing); for the bank `ACCOUNT=BALANCE,…`. Raises UsageError.
    """
    if failed_cas not in ("ignore", "observe"):
        raise UsageError(f"--failed-cas {failed_cas}: expected ignore or observe")
    rows = shaped(history, model=model, observe_failed=failed_cas == "observe")
    keys, rows = _numbered_keys(rows)
    if model is Model.BANK:
        return _bank(history, rows, keys, initial)
    first = NULL
    if model in REGISTERS:
        first = initial_text(initial)
        rows = _initial_writes(rows, first)
    elif initial is not None:
        raise UsageError(f"--initial: the model {model} starts empty, always; leave it out")
    codes = _Codes.of(rows, first=first if model in REGISTERS else None, counting=model in _COUNTING)
    f = pl.col("f")
    if model in REGISTERS:
        back = (
            (pl.col("value") == first) & (f == int(F.WRITE)) & (pl.col("row") != INITIAL_ROW) & ~pl.col("own_initial")
        )
        rows = rows.with_columns(f=pl.when(back).then(int(F.DELETE)).otherwise("f"))
    value, expected = codes.column(rows, "value"), codes.column(rows, "expected")
    if model is Model.SET:
        expected = rows["expected"].cast(pl.Int64)
    if model is Model.QUEUE:
        nothing = (pl.col("f") == int(F.DEQUEUE)) & (pl.col("value") == NULL)
        value = rows.select(pl.when(nothing).then(ABSENT).otherwise(value)).to_series()
    lists = {} if model not in (Model.SET, Model.LIST_APPEND) else codes.lists(history, rows)
    return Judgeable(
        operations=_operations(rows, value=value, expected=expected, version=rows["version"], lists=lists),
        rows=rows["row"].to_numpy(),
        words=codes.words,
        keys=keys,
        initial=None,
    )


def _operations(
    rows: pl.DataFrame,
    *,
    value: pl.Series,
    expected: pl.Series,
    version: pl.Series,
    lists: Mapping[str, npt.NDArray[np.int64]],
) -> Operations:
    return Operations(
        key=rows["key_number"].to_numpy(),
        process=rows["process"].to_numpy(),
        f=rows["f"].to_numpy(),
        value=value.fill_null(ABSENT).to_numpy(),
        expected=expected.fill_null(ABSENT).to_numpy(),
        version=version.fill_null(NO_VERSION).to_numpy(),
        start_ns=rows["start_ns"].to_numpy(),
        end_ns=rows["end_ns"].fill_null(OPEN_NS).to_numpy(),
        unknown=rows["unknown"].to_numpy(),
        **lists,
    )


def _numbered_keys(rows: pl.DataFrame) -> tuple[tuple[str | None, ...], pl.DataFrame]:
    """The texts of all keys in order, and each row's place among them. Operations without a key share one."""
    names = rows["key"].unique().sort(nulls_last=True)
    numbers = pl.DataFrame({"key": names, "key_number": np.arange(len(names), dtype=np.int64)}, schema_overrides=_KEYS)
    return tuple(names), rows.join(numbers, on="key", how="left", nulls_equal=True, maintain_order="left")


_KEYS: Final = {"key": pl.String}


# ------------------------------------------------------------------------------------------------ initial values


def initial_text(given: str | None) -> str:
    """`nil` is Jepsen's null; what is not JSON is a plain text."""
    if given is None or given == "nil":
        return NULL
    try:
        return canonical(given) or NULL
    except ValueError:
        return str(text_of(given))


def _initial_writes(rows: pl.DataFrame, first: str) -> pl.DataFrame:
    """Rows with `own_initial`, and a write of the initial value before everything, for keys that need it.

    The initial value is what absence is to the checker, and writing it a delete. But no compare-and-set can make a
    key absent, so where one puts the initial value back, that value is one like others and is written first.
    """
    back = (pl.col("f") == int(F.CAS)) & (pl.col("value") == first)
    rows = rows.with_columns(own_initial=back.any().over("key_number"))
    begun = rows["start_ns"].min()
    firsts = rows.filter("own_initial").unique("key_number", maintain_order=True)
    if not firsts.height:
        return rows
    assert isinstance(begun, int)
    written = firsts.with_columns(
        row=pl.lit(INITIAL_ROW, dtype=rows["row"].dtype),
        process=pl.lit(-1, dtype=pl.Int64),
        f=pl.lit(int(F.WRITE), dtype=pl.Int64),
        value=pl.lit(first),
        expected=pl.lit(None, dtype=pl.String),
        version=pl.lit(None, dtype=pl.Int64),
        unknown=pl.lit(value=False),
        start_ns=pl.lit(begun - 2, dtype=pl.Int64),
        end_ns=pl.lit(begun - 1, dtype=pl.Int64),
    )
    return pl.concat([written, rows])


# ------------------------------------------------------------------------------------------------ values


@dataclass(frozen=True, slots=True, kw_only=True)
class _Codes:
    """Numbers of texts. `first` is the text that is absence, where its key has not `own_initial`."""

    numbers: Mapping[str, int] | None  # None: every text is a whole number, and stands for itself
    words: Mapping[int, str]
    first: str | None
    first_number: int  # of `first` in keys where it is a value like others

    @classmethod
    def of(cls, rows: pl.DataFrame, *, first: str | None, counting: bool) -> _Codes:
        texts = pl.concat([rows["value"], rows["expected"]]).drop_nulls().unique()
        if first is not None:
            texts = texts.filter(texts != first)
        lists = rows["list"].drop_nulls().unique()
        members = {member for text in lists for member in _members(text)}
        named = {} if first in (None, NULL) else {ABSENT: str(first)}
        written_first = first is not None and bool(rows["own_initial"].any())
        if counting or (texts.str.contains(_WHOLE).all() and all(map(_is_whole, members))):
            own = _unused(texts) if first is None or not _is_whole(first) else int(first)
            words = {**named, own: str(first)} if written_first else named
            return cls(numbers=None, words=words, first=first, first_number=own)
        numbers = {text: i for i, text in enumerate(sorted({*texts, *members}))}
        own = len(numbers)
        words = {i: text for text, i in numbers.items()} | named | ({own: str(first)} if written_first else {})
        return cls(numbers=numbers, words=words, first=first, first_number=own)

    def column(self, rows: pl.DataFrame, name: str) -> pl.Series:
        """The numbers of a column of texts, null where it has none."""
        text = pl.col(name)
        if self.numbers is None:
            number = text.cast(pl.Int64, strict=False)
        else:
            known, codes = list(self.numbers), list(self.numbers.values())
            number = text.replace_strict(known, codes, default=None, return_dtype=pl.Int64)
        if self.first is not None:
            absent = pl.when("own_initial").then(self.first_number).otherwise(ABSENT)
            number = pl.when(text == self.first).then(absent).otherwise(number)
        return rows.select(number.alias(name)).to_series()

    def lists(self, history: ImportedHistory, rows: pl.DataFrame) -> dict[str, npt.NDArray[np.int64]]:
        """The columns of items. Equal lists are there once."""

        def number(member: str) -> int:
            return int(member) if self.numbers is None else self.numbers[member]

        return _items(history, rows, lambda text: [number(member) for member in _members(text)])


def _unused(texts: pl.Series) -> int:
    """A number that is none of these."""
    return max(texts.cast(pl.Int64, strict=False).drop_nulls().to_list(), default=0) + 1


def _is_whole(text: str) -> bool:
    return len(text) <= 18 and text.lstrip("-").isdecimal() and text.isascii()


def _members(text: str) -> list[str]:
    """The texts of a list's members; none of what is no list (`_items` refuses it)."""
    value = parsed(text)
    return [text_of(member) or NULL for member in value] if isinstance(value, list) else []


def _items(history: ImportedHistory, rows: pl.DataFrame, numbers_of: Any) -> dict[str, npt.NDArray[np.int64]]:
    items: list[int] = []
    place: dict[str, tuple[int, int]] = {}
    whole = rows.filter((pl.col("f") == int(F.READ_ALL)) & pl.col("list").is_not_null())
    for text, line in whole.select("list", "line").unique("list", keep="first", maintain_order=True).iter_rows():
        try:
            numbers = numbers_of(text) if isinstance(parsed(text), list | dict) else None
        except ValueError:
            numbers = None
        if numbers is None:
            raise problem(history.path, line, f"this read returned {text[:60]}; expected a list")
        place[text] = (len(items), len(numbers))
        items.extend(numbers)
    found = [place.get(text, (0, -1)) if text is not None else (0, -1) for text in rows["list"]]
    return {
        "items": np.array(items, dtype=np.int64),
        "items_first": np.array([first for first, _ in found], dtype=np.int64),
        "items_count": np.array([count for _, count in found], dtype=np.int64),
    }


# ------------------------------------------------------------------------------------------------ bank


def _bank(history: ImportedHistory, rows: pl.DataFrame, keys: tuple[str | None, ...], initial: str | None) -> Judgeable:
    """Accounts get numbers in order of their names; balances are what they are."""
    if not initial:
        raise UsageError("--initial: the bank needs the balance of every account, such as --initial a=10,b=0")
    balances: dict[str, int] = {}
    for pair in initial.split(","):
        name, separator, amount = pair.partition("=")
        if not separator or not _is_whole(amount.strip()):
            raise UsageError(f"--initial {initial}: {pair!r} is not ACCOUNT=BALANCE, such as a=10")
        balances[initial_text(name.strip())] = int(amount)
    numbers = {name: i for i, name in enumerate(sorted(balances))}
    moved = pl.col("f") == int(F.TRANSFER)
    known = rows.filter(moved & ~(pl.col("expected").is_in(list(numbers)) & pl.col("list").is_in(list(numbers))))
    if known.height:
        row = known.row(0, named=True)
        raise problem(
            history.path,
            row["line"],
            f"this transfer goes from {row['expected']} to {row['list']}; expected accounts of --initial: "
            f"{', '.join(numbers)}",
        )
    code = rows.select(
        expected=pl.col("expected").replace_strict(numbers, default=None, return_dtype=pl.Int64),
        version=pl.when(moved).then(pl.col("list").replace_strict(numbers, default=None, return_dtype=pl.Int64)),
        list=pl.when(~moved).then("list"),
    )
    rows = rows.with_columns(code["list"])
    lists = _items(history, rows, lambda text: _balances(text, numbers))
    return Judgeable(
        operations=_operations(
            rows, value=rows["value"].cast(pl.Int64), expected=code["expected"], version=code["version"], lists=lists
        ),
        rows=rows["row"].to_numpy(),
        words={number: name for name, number in numbers.items()},
        keys=keys,
        initial={numbers[name]: amount for name, amount in balances.items()},
    )


def _balances(text: str, numbers: Mapping[str, int]) -> list[int]:
    """Account and balance in turn; an account that is not known gets a number that nobody has. Raises ValueError."""
    value = parsed(text)
    if isinstance(value, dict):
        # The name of an account that is a number is a text in JSON; it is the number that is meant.
        pairs = [
            (name if json.dumps(name) not in numbers and name in numbers else text_of(name), amount)
            for name, amount in value.items()
        ]
    else:
        pairs = [(text_of(pair[0]), pair[1]) for pair in value if isinstance(pair, list) and len(pair) == 2]
        if len(pairs) != len(value):
            raise ValueError(text)
    if any(type(amount) is not int for _, amount in pairs):
        raise ValueError(text)
    strangers = {name: len(numbers) + i for i, (name, _) in enumerate(pairs)}
    return [number for name, amount in pairs for number in (numbers.get(str(name), strangers[name]), amount)]
