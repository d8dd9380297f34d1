"""What each operation of an imported history means under a model: the checker's function, and which texts go where.

The parts are still texts here; `columns` gives them numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import polars as pl

from ..porcupine import F, Model
from .imported import ImportedHistory, problem
from .texts import NULL, parsed, text_of

__all__ = ["FUNCTIONS_OF", "REGISTERS", "models_for", "shaped"]

REGISTERS: Final = (Model.REGISTER, Model.CAS_REGISTER, Model.KEY_VALUE)

_REGISTER: Final = {"read": F.READ, "write": F.WRITE, "delete": F.DELETE}
_CAS: Final = {**_REGISTER, "cas": F.CAS, "insert": F.CAS}
_READS_ALL: Final = {"read": F.READ_ALL, "read-all": F.READ_ALL}

FUNCTIONS_OF: Final[Mapping[Model, Mapping[str, F]]] = {
    Model.REGISTER: _REGISTER,
    Model.CAS_REGISTER: _CAS,
    Model.KEY_VALUE: _CAS,
    Model.SET: {"add": F.ADD, "contains": F.CONTAINS, **_READS_ALL},
    Model.QUEUE: {"enqueue": F.ENQUEUE, "dequeue": F.DEQUEUE},
    Model.COUNTER: {"increment": F.INCREMENT, "add": F.INCREMENT, "read": F.READ},
    Model.FETCH_AND_INCREMENT: {"increment": F.INCREMENT, "read": F.READ},
    Model.MUTEX: {"acquire": F.ACQUIRE, "release": F.RELEASE},
    Model.LIST_APPEND: {"append": F.APPEND, **_READS_ALL},
    Model.BANK: {"transfer": F.TRANSFER, **_READS_ALL},
}
"""What each model calls each function of a file."""

_SAYS_NOTHING: Final = ("read", "read-all", "contains")  # when nobody heard the answer


def models_for(history: ImportedHistory) -> list[Model]:
    """The models that have every function of the file."""
    used = set(history.frame["f"].unique())
    return [model for model, functions in FUNCTIONS_OF.items() if used <= set(functions)]


def shaped(history: ImportedHistory, *, model: Model, observe_failed: bool) -> pl.DataFrame:
    """A row for each operation that can matter. Raises UsageError with the line of one that the model has not.

    Columns: `row` (of the history's frame), `line`, `key`, `process`, `start_ns`, `end_ns`, `unknown`, `version`; `f`
    (a number of `F`); `value` and `expected` (texts, `null` for absence; null where there is none); `list` (the text
    of a list, null where there is none).
    """
    _refuse_functions(history, model)
    cas, failed = pl.col("f").is_in(["cas", "insert"]), pl.col("outcome") == "fail"
    looked = cas & failed & (pl.col("result") != "not-compared") & pl.lit(value=observe_failed)
    rows = (
        history.frame.with_row_index("row")
        .with_columns(pl.col("row").cast(pl.Int64))
        .with_columns(
            unknown=pl.col("outcome") == "unknown",
            mismatch=looked | ((pl.col("outcome") == "ok") & cas & pl.col("result").is_in(["mismatch", "not-found"])),
            observed=pl.when(cas & (pl.col("result") == "not-found")).then(pl.lit(NULL)).otherwise("observed"),
            called=pl.col("f"),
            text=pl.col("value"),
            value=pl.col("value").fill_null(NULL),
        )
        .filter(~failed | looked)
        .filter(~(pl.col("unknown") & pl.col("called").is_in(_SAYS_NOTHING)))
        .with_columns(
            f=pl.col("called").replace_strict(
                list(FUNCTIONS_OF[model]), [int(f) for f in FUNCTIONS_OF[model].values()], return_dtype=pl.Int64
            ),
            expected=pl.lit(None, dtype=pl.String),
            list=pl.lit(None, dtype=pl.String),
        )
    )
    rows = _SHAPES[model](history, rows)
    return rows.select(
        "row", "line", "key", "process", "start_ns", "end_ns", "unknown", "version", "f", "value", "expected", "list"
    )


def _refuse_functions(history: ImportedHistory, model: Model) -> None:
    fitting = FUNCTIONS_OF[model]
    odd = history.frame.filter(~pl.col("f").is_in(list(fitting))).head(1)
    if not odd.height:
        return
    row = odd.row(0, named=True)
    others = models_for(history)
    instead = (
        f"models that have all functions of this file: {', '.join(others)}"
        if others
        else ("no model has all functions of this file: split it, or write a model of your own")
    )
    raise problem(
        history.path, row["line"], f"the model {model} has no {row['f']!r}, only {', '.join(fitting)}; {instead}"
    )


# ------------------------------------------------------------------------------------------------ the models


def _register(history: ImportedHistory, rows: pl.DataFrame) -> pl.DataFrame:
    called, observed = pl.col("called"), pl.col("observed")
    pairs = _parts(history, rows.filter(called == "cas"), _pair, ("from", "to"))
    rows = rows.join(pairs, on="text", how="left", maintain_order="left", nulls_equal=True)
    asked = pl.when(called == "cas").then("from").when(called == "insert").then(pl.lit(NULL))
    rows = rows.with_columns(
        # A delete writes absence.
        f=pl.when(called == "delete").then(int(F.WRITE)).otherwise("f"),
        value=pl.when(called == "cas").then("to").when(called == "delete").then(pl.lit(NULL)).otherwise("value"),
        expected=asked,
    )
    absurd = rows.filter(pl.col("mismatch") & (observed == pl.col("expected"))).head(1)
    if absurd.height:
        row = absurd.row(0, named=True)
        raise problem(
            history.path,
            row["line"],
            f"this {row['called']} did not match, and observed {row['observed']}, the very value that it asked for; "
            "expected another one. Either the system contradicts itself, or the file was put together wrongly",
        )
    told = pl.col("mismatch") & observed.is_not_null()
    return rows.with_columns(
        f=pl.when(told).then(int(F.READ)).when("mismatch").then(int(F.UNEQUAL)).otherwise("f"),
        value=pl.when(told).then("observed").otherwise("value"),
        expected=pl.when(told).then(None).otherwise("expected"),
    )


def _set(history: ImportedHistory, rows: pl.DataFrame) -> pl.DataFrame:
    contains, found = pl.col("called") == "contains", pl.col("result") == "found"
    _refuse(
        history,
        rows.filter(contains & ~pl.col("result").is_in(["found", "not-found"])),
        lambda row: f"this contains has the result {row['result']!r}; expected found or not-found",
    )
    rows = rows.with_columns(
        expected=pl.when(contains & found).then(pl.lit("1")).when(contains).then(pl.lit("0")).otherwise("expected")
    )
    return _with_lists(rows)


def _queue(history: ImportedHistory, rows: pl.DataFrame) -> pl.DataFrame:
    _refuse(
        history,
        rows.filter((pl.col("called") == "enqueue") & pl.col("text").is_null()),
        lambda _: "this enqueue has the value null, which means that a queue was empty; expected another value",
    )
    return rows


def _counter(history: ImportedHistory, rows: pl.DataFrame) -> pl.DataFrame:
    one = pl.when((pl.col("f") == int(F.INCREMENT)) & pl.col("text").is_null()).then(pl.lit("1")).otherwise("value")
    return _numbers(history, rows.with_columns(value=one))


def _fetch_and_increment(history: ImportedHistory, rows: pl.DataFrame) -> pl.DataFrame:
    # What was never answered told no number.
    return _numbers(history, rows.with_columns(value=pl.when("unknown").then(pl.lit("0")).otherwise("value")))


def _mutex(history: ImportedHistory, rows: pl.DataFrame) -> pl.DataFrame:
    acquired = pl.col("called") == "acquire"
    rows = rows.with_columns(
        f=pl.when(pl.col("result") == "held").then(int(F.HELD)).otherwise("f"),
        # Only an acquisition that was answered tells a fencing token.
        value=pl.when(acquired & ~pl.col("unknown") & (pl.col("result") != "held")).then("value").otherwise(None),
    )
    return _numbers(history, rows, nothing=True)


def _list_append(history: ImportedHistory, rows: pl.DataFrame) -> pl.DataFrame:
    del history
    return _with_lists(rows)


def _bank(history: ImportedHistory, rows: pl.DataFrame) -> pl.DataFrame:
    keys = rows["key"].unique()
    if len(keys) > 1:
        raise problem(
            history.path,
            None,
            f"has {len(keys)} keys; expected one bank, of which accounts are parts (leave `key` out)",
        )
    transfers = rows.filter(pl.col("called") == "transfer")
    parts = _parts(history, transfers, _transfer, ("from", "to", "amount"))
    rows = rows.join(parts, on="text", how="left", maintain_order="left", nulls_equal=True)
    moved = pl.col("called") == "transfer"
    rows = rows.with_columns(
        value=pl.when(moved).then("amount").otherwise(None),
        expected=pl.when(moved).then("from").otherwise("expected"),
        # The second account stands where a version would; `columns` gives it its number.
        list=pl.when(moved).then("to").otherwise(pl.col("text").fill_null("[]")),
    )
    return _numbers(history, rows, nothing=True)


_SHAPES: Final[Mapping[Model, Callable[[ImportedHistory, pl.DataFrame], pl.DataFrame]]] = {
    Model.REGISTER: _register,
    Model.CAS_REGISTER: _register,
    Model.KEY_VALUE: _register,
    Model.SET: _set,
    Model.QUEUE: _queue,
    Model.COUNTER: _counter,
    Model.FETCH_AND_INCREMENT: _fetch_and_increment,
    Model.MUTEX: _mutex,
    Model.LIST_APPEND: _list_append,
    Model.BANK: _bank,
}


# ------------------------------------------------------------------------------------------------ parts


def _with_lists(rows: pl.DataFrame) -> pl.DataFrame:
    """A read of a set or list holds a list; one that found nothing holds none, which is the empty one."""
    whole = pl.col("f") == int(F.READ_ALL)
    return rows.with_columns(
        list=pl.when(whole).then(pl.col("text").fill_null("[]")), value=pl.when(whole).then(None).otherwise("value")
    )


def _numbers(history: ImportedHistory, rows: pl.DataFrame, *, nothing: bool = False) -> pl.DataFrame:
    """Refuses values that are no whole numbers; those that say nothing become null when `nothing`, else are refused."""
    value = pl.col("value")
    wrong = value.cast(pl.Int64, strict=False).is_null() & value.is_not_null()
    if nothing:
        rows = rows.with_columns(value=pl.when(value != NULL).then(value))
    _refuse(
        history,
        rows.filter(wrong),
        lambda row: f"the value of this {row['called']} is {row['value']}; expected a whole number of 64 bits",
    )
    return rows


def _refuse(history: ImportedHistory, wrong: pl.DataFrame, say: Callable[[Mapping[str, Any]], str]) -> None:
    if wrong.height:
        row = wrong.row(0, named=True)
        raise problem(history.path, row["line"], say(row))


def _parts(
    history: ImportedHistory,
    rows: pl.DataFrame,
    split: Callable[[Any], tuple[str, ...] | None],
    names: tuple[str, ...],
) -> pl.DataFrame:
    """Every distinct value of the rows with its parts, as texts. Raises UsageError for the first that has none."""
    texts = rows["text"].unique(maintain_order=True)
    found = [split(None if text is None else parsed(text)) for text in texts]
    if None in found:
        wrong = texts[found.index(None)]
        row = rows.filter(pl.col("text").eq_missing(pl.lit(wrong))).row(0, named=True)
        expected = "[FROM, TO]" if row["called"] == "cas" else '{"from": ACCOUNT, "to": ACCOUNT, "amount": NUMBER}'
        raise problem(
            history.path, row["line"], f"the value of this {row['called']} is {wrong or NULL}; expected {expected}"
        )
    columns = {name: [part[i] for part in found if part is not None] for i, name in enumerate(names)}
    return pl.DataFrame({"text": texts, **columns}, schema=dict.fromkeys(("text", *names), pl.String))


def _pair(value: Any) -> tuple[str, ...] | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    return tuple(text_of(member) or NULL for member in value)


def _transfer(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, dict):
        # Jepsen's keywords keep their colon.
        value = {name.removeprefix(":"): member for name, member in value.items()}
        value = [value.get(name) for name in ("from", "to", "amount")]
    if not isinstance(value, list) or len(value) != 3 or None in value:
        return None
    return tuple(text_of(member) or NULL for member in value)
