"""Judges an imported history, and says what came of it as one object (`schema` 1, docs/your-own-history.md).

The object is what `--json` prints, what the text is made of, and what the page of `--html` shows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .. import porcupine
from ..errors import UsageError
from ..porcupine import ABSENT, CheckOutcome, Counterexample, Engine, KeyResult, Model
from ..porcupine.user_model import check_user_model
from ..sessions import SessionCounterexample, check_sessions
from ..verdict import Verdict
from .columns import INITIAL_ROW, Judgeable, initial_text, judgeable
from .imported import ImportedHistory
from .shapes import REGISTERS
from .text_columns import TextColumns, columns_of_texts
from .text_model import TextModel
from .texts import shown
from .user_models import load_model, names_user_model, operations_of, parts_of
from .words import call_of

__all__ = ["SCHEMA", "Asked", "judge_history"]

SCHEMA: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How a history is to be judged. `initial` and `failed_cas` as `judgeable` has them.

    `model` is the name of one of ours, or of one in Python (`names_user_model`), of which initial value, engine and
    failed compare-and-sets are its own affair.
    """

    model: str
    engine: Engine = Engine.AUTO
    deadline_s: float = 60.0
    memory_limit_bytes: int = 2 << 30
    failed_cas: str = "ignore"
    initial: str | None = None


def judge_history(history: ImportedHistory, asked: Asked) -> dict[str, Any]:
    """The object. Raises UsageError when the history does not fit the model, SetupError without the native program."""
    started_s = time.monotonic()
    if names_user_model(asked.model):
        outcome, named, sessions = _by_user_model(history, asked)
    else:
        outcome, named, sessions = _by_own_model(history, asked)
    verdict, reason = _with_holes(history, outcome)
    return {
        "schema": SCHEMA,
        "file": str(history.path),
        "format": history.format,
        "model": str(asked.model),
        "verdict": str(verdict),
        "reason": reason,
        "engine": str(outcome.engine),
        "seconds": round(time.monotonic() - started_s, 6),
        "clock": history.clock,
        "operations": sum(row != INITIAL_ROW for row in named.rows),
        "notes": [*history.notes, *_notes(history, asked)],
        "keys": {
            "checked": outcome.keys_checked,
            "violated": [named.violation(r) for r in outcome.results if r.verdict is Verdict.FAIL],
            "unknown": [
                {"key": named.key(r.key), "reason": r.reason} for r in outcome.results if r.verdict is Verdict.UNKNOWN
            ],
        },
        "sessions": sessions,
    }


def _by_own_model(history: ImportedHistory, asked: Asked) -> tuple[CheckOutcome, _Named, dict[str, Any] | None]:
    model = Model(asked.model)
    given = judgeable(history, model=model, failed_cas=asked.failed_cas, initial=asked.initial)

    def word(number: int) -> str:
        return given.words.get(number) or ("nothing" if number == ABSENT else str(number))

    try:
        outcome = porcupine.check(
            given.operations,
            model=model,
            engine=asked.engine,
            deadline_s=asked.deadline_s,
            memory_limit_bytes=asked.memory_limit_bytes,
            initial=given.initial,
            words=word,
        )
    except ValueError as error:
        raise UsageError(f"{history.path}: does not fit the model {model}: {error}") from None
    named = _Named(
        history=history,
        rows=given.rows.tolist(),
        keys=tuple(map(shown, given.keys)),
        first=initial_text(asked.initial) if model in REGISTERS else "null",
    )
    failed = outcome.verdict is Verdict.FAIL and model in REGISTERS
    return outcome, named, _sessions(named, given, model, word) if failed else None


def _by_user_model(history: ImportedHistory, asked: Asked) -> tuple[CheckOutcome, _Named, None]:
    if asked.initial is not None or asked.failed_cas != "ignore" or asked.engine is not Engine.AUTO:
        raise UsageError(
            f"--initial, --failed-cas and --engine are not for the model {asked.model}: it has its own initial state, "
            "sees what was answered, and is judged by search"
        )
    model = load_model(asked.model)
    texts_only = columns_of_texts(history) if isinstance(model, TextModel) else None
    if texts_only is not None:
        return *_by_texts(history, asked, texts_only), None
    operations, rows = operations_of(history, model=model)
    outcome = check_user_model(
        operations, model=model, deadline_s=asked.deadline_s, memory_limit_bytes=asked.memory_limit_bytes
    )
    describe = getattr(model, "describe", None)
    keys = tuple(part if isinstance(part, _JSON) else str(part) for part in parts_of(model, operations))
    texts = None if describe is None else {row: describe(one) for row, one in zip(rows, operations, strict=True)}
    return outcome, _Named(history=history, rows=rows, keys=keys, texts=texts), None


def _by_texts(history: ImportedHistory, asked: Asked, given: TextColumns) -> tuple[CheckOutcome, _Named]:
    """The model `text` where each text tells who wrote it, which a register decides."""
    outcome = porcupine.check(
        given.operations,
        model=Model.CAS_REGISTER,
        deadline_s=asked.deadline_s,
        memory_limit_bytes=asked.memory_limit_bytes,
        words=given.words.__getitem__,
    )
    named = _Named(history=history, rows=given.rows, keys=given.keys, texts=given.texts, calls=given.calls)
    return outcome, named


_JSON: Final = (str, int, float, bool, type(None))


def _with_holes(history: ImportedHistory, outcome: CheckOutcome) -> tuple[Verdict, str]:
    """A history that is known to lack operations proves nothing here."""
    if not history.holes or outcome.verdict is Verdict.UNKNOWN:
        return outcome.verdict, outcome.reason
    missing = f"operations are missing from the history: {history.holes[0]}"
    if outcome.verdict is Verdict.PASS:
        return Verdict.UNKNOWN, f"what is there can be linearized, but {missing}"
    return (
        Verdict.UNKNOWN,
        f"{outcome.reason}, but {missing}; `aftershock check RUN` tells whether these could explain it",
    )


def _notes(history: ImportedHistory, asked: Asked) -> list[str]:
    cas = history.frame.filter((history.frame["f"].is_in(["cas", "insert"])) & (history.frame["outcome"] == "fail"))
    if not cas.height or asked.model not in list(REGISTERS):
        return []
    meant = (
        "taken as an answer: another value was there"
        if asked.failed_cas == "observe"
        else "left out, as nothing that happened (--failed-cas observe, if it means that another value was there)"
    )
    were = "is" if cas.height == 1 else "are"
    return [f"{_count(cas.height, 'failed compare-and-set')} {were} {meant}."]


# ------------------------------------------------------------------------------------------------ the user's names


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """Speaks of rows and keys of the checker in the words of the file.

    `rows` are rows of the history's frame; `first` is the text of the initial value, `texts` what a user's model calls
    operations, by row. `calls` is what to say for what the checker says.
    """

    history: ImportedHistory
    rows: Sequence[int]
    keys: Sequence[Any]
    first: str = "null"
    texts: Mapping[int, str] | None = None
    calls: Mapping[str, str] | None = None

    def say(self, sentence: str) -> str:
        if self.calls is None:
            return sentence
        for call, said in self.calls.items():
            sentence = sentence.replace(call, said)
        return sentence.replace("compare-and-set", "append").replace("delete", 'write of ""')

    def key(self, number: int) -> Any:
        return self.keys[number]

    def violation(self, result: KeyResult) -> dict[str, Any]:
        found = result.counterexample
        return {
            "key": self.key(result.key),
            "engine": None if result.engine is None else str(result.engine),
            "reason": self.say(result.reason),
            "prefix_operations": result.prefix_operations,
            "prefix_end_line": self._line_of_end(result.prefix_end_ns),
            **(_NOT_FOUND_OUT if found is None else self._counterexample(found)),
        }

    def _line_of_end(self, end_ns: int | None) -> int | None:
        """Where the answer of this time stands; None where that is not known, or several came at once."""
        ended = self.history.frame.filter(self.history.frame["end_ns"] == end_ns) if end_ns is not None else None
        if ended is None or ended.height != 1:
            return None
        line: int = ended["end_line"][0] or ended["line"][0]
        return line

    def _counterexample(self, found: Counterexample) -> dict[str, Any]:
        return {
            "reasons": [self.say(reason) for reason in found.reasons],
            "minimal": found.minimal,
            "rejudged": found.rejudged,
            "operations": [
                {**self.operation(row), "role": role, "note": note}
                for row, role, note in zip(found.rows, found.roles, found.notes, strict=True)
            ],
            "edges": [{"from": edge.source, "to": edge.target, "kind": edge.kind} for edge in found.edges],
            "orders": [
                {"order": list(one.order), "ruled_out_by": one.ruled_out_by, "why": self.say(one.why)}
                for one in found.orders
            ],
            "precedences": [self.say(precedence) for precedence in found.precedences],
        }

    def operation(self, row: int) -> dict[str, Any]:
        """One operation as the file has it; the write of an initial value, which no file has, as one before it all."""
        at = self.rows[row]
        told: Mapping[str, Any] = {**_BEFORE_ALL, "value": self.first}
        if at != INITIAL_ROW:
            told = self.history.frame.row(at, named=True)
        fields = {
            "line": told["line"],
            "end_line": told["end_line"],
            "process": told["process"],
            "f": told["f"],
            "value": shown(told["value"]),
            "expected": None,
            "observed": shown(told["observed"]),
            "result": told["result"],
            "outcome": told["outcome"],
            "start_ns": told["start_ns"],
            "end_ns": None if told["outcome"] == "unknown" else told["end_ns"],
        }
        if told["f"] == "cas" and isinstance(fields["value"], list):
            fields["expected"], fields["value"] = fields["value"]
        if told.get("answer") is not None:
            fields["result"] = shown(told["answer"])
        return {**fields, "text": call_of(fields) if self.texts is None else self.texts[at]}


_NOT_FOUND_OUT: Final[Mapping[str, Any]] = {
    "reasons": [],
    "minimal": False,
    "rejudged": False,
    "operations": [],
    "edges": [],
    "orders": [],
    "precedences": [],
}
_BEFORE_ALL: Final[Mapping[str, Any]] = {
    "line": None,
    "end_line": None,
    "process": -1,
    "f": "write",
    "observed": None,
    "result": "",
    "outcome": "ok",
    "start_ns": None,
    "end_ns": None,
}


# ------------------------------------------------------------------------------------------------ sessions


def _sessions(named: _Named, given: Judgeable, model: Model, word: Callable[[int], str]) -> dict[str, Any]:
    """The session guarantees, in the user's own values."""
    found = check_sessions(given.operations, model=model, value_text=word)
    return {
        "verdict": str(found.verdict),
        "reason": found.reason,
        "guarantees": [
            {
                "guarantee": str(one.guarantee),
                "verdict": str(one.verdict),
                "reason": one.reason,
                "keys_violated": [named.key(key) for key in one.keys_violated],
                "keys_unknown": [named.key(key) for key in one.keys_unknown],
            }
            for one in found.results
        ],
        "counterexamples": [_session_counterexample(named, one, given) for one in found.counterexamples],
    }


def _session_counterexample(named: _Named, found: SessionCounterexample, given: Judgeable) -> dict[str, Any]:
    start_ns = given.operations.start_ns
    return {
        "key": named.key(found.key),
        "guarantees": [str(guarantee) for guarantee in found.guarantees],
        "reason": found.reason,
        "operations": [named.operation(row) for row in sorted({*found.rows, *found.writers}, key=start_ns.__getitem__)],
    }


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")
