"""The verdict on a history that somebody brought (`aftershock check FILE --html OUT`) as a page that stands alone.

Input is the object that `--json` prints (docs/your-own-history.md). Look and safety are the run report's (`html.py`):
nothing in a key or a value can become markup or code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..harness.files import write_text
from .counterexample import OPERATIONS_MAX, chosen_operations
from .counterexample_figure import figures, operation_text
from .html import render_page
from .text import DASH, Values, clean_tree, count, duration, is_number, plural, shorten
from .view_summary import WORDS, state_of

__all__ = ["render_history_page", "write_history_page"]

_KEYS_DRAWN = 20
_KEYS_LISTED = 200
_ORDERS_MAX = 6
_UNITS = ((1e9, "s"), (1e6, "ms"), (1e3, "\u00b5s"), (1.0, "ns"))


def write_history_page(path: Path, result: Mapping[str, Any]) -> None:
    """Write the page whole or not at all. Raises OSError when it cannot be written."""
    write_text(path, render_history_page(result))


def render_history_page(result: Mapping[str, Any]) -> str:
    """The page as one HTML document; pure. Missing parts are left out, nothing that was not judged looks green."""
    clean: Values = clean_tree(result)
    state = state_of(clean.get("verdict"))
    return render_page("history.html.j2", _view(clean, state), state=state, data={})


def _view(clean: Values, state: str) -> Values:
    keys = clean.get("keys") or {}
    violated, unknown = _list(keys.get("violated")), _list(keys.get("unknown"))
    clock = str(clean.get("clock") or "ns")
    examples = [_example(one, clock=clock, uid=f"ce{i}") for i, one in enumerate(violated[:_KEYS_DRAWN])]
    sessions = _sessions(clean.get("sessions"), clock)
    name = Path(str(clean.get("file") or "")).name
    nav = [("summary", "Summary")]
    nav += [("counterexample", "Counterexample")] if violated else []
    nav += [("undecided", "Not decided")] if unknown else []
    nav += [("sessions", "Session guarantees")] if sessions else []
    return {
        "state": state,
        "word": WORDS[state],
        "reason": _sentence(clean.get("reason")),
        "name": name or "a history",
        "file": str(clean.get("file") or DASH),
        "meta": _meta(clean, keys, violated, unknown),
        "notes": [str(note) for note in _list(clean.get("notes"))],
        "nav": nav,
        "examples": examples,
        "more": [_key(one.get("key")) for one in violated[_KEYS_DRAWN:][:_KEYS_LISTED]],
        "more_count": max(0, len(violated) - _KEYS_DRAWN),
        "unknown": [{"key": _key(one.get("key")), "reason": one.get("reason") or ""} for one in unknown[:_KEYS_LISTED]],
        "unknown_count": len(unknown),
        "listed": _KEYS_LISTED,
        "sessions": sessions,
        "lines": clock == "lines",
        "schema": clean.get("schema"),
    }


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _sentence(text: Any) -> str:
    """With a capital and a full stop."""
    words = str(text or "").strip() or "No reason was given"
    return words[0].upper() + words[1:] + ("" if words.endswith((".", "!", "?")) else ".")


def _key(key: Any) -> str:
    return "the only key" if key is None else str(key)


def _meta(clean: Values, keys: Values, violated: Sequence[Values], unknown: Sequence[Values]) -> list[tuple[str, str]]:
    return [
        ("File", str(clean.get("file") or DASH)),
        ("Format", str(clean.get("format") or DASH)),
        ("Model", str(clean.get("model") or DASH)),
        ("Operations", count(clean.get("operations"))),
        ("Keys decided", f"{count(keys.get('checked'))}, {count(len(violated))} violated"),
        ("Keys not decided", count(len(unknown))),
        ("Engine", f"{clean.get('engine') or DASH}, {duration(clean.get('seconds'))}"),
    ]


# ------------------------------------------------------------------------------------------------ one key


def _example(violation: Values, *, clock: str, uid: str) -> Values:
    """View values of one violated key: the figure with line numbers, why, the operations as a table."""
    operations = _list(violation.get("operations"))
    drawn = _Drawn(operations, _list(violation.get("edges")), clock=clock)
    number = {index: place + 1 for place, index in enumerate(drawn.chosen)}
    complete = len(drawn.chosen) == len(drawn.timed)
    orders = _list(violation.get("orders"))
    return {
        "key": _key(violation.get("key")),
        "id": uid,
        "engine": violation.get("engine") or "",
        "reason": violation.get("reason") or "No order explains the answers on this key.",
        "reasons": _list(violation.get("reasons")),
        "rejudged": violation.get("rejudged"),
        "minimal": violation.get("minimal"),
        "prefix": _prefix(violation),
        "figures": drawn.figures(uid, _key(violation.get("key"))),
        "shown": len(drawn.chosen),
        "total": len(drawn.timed),
        "orders": [_order(order, number) for order in orders] if complete and len(orders) <= _ORDERS_MAX else [],
        "precedences": _list(violation.get("precedences")),
        "operations": [_row(one, number.get(index), clock) for index, one in enumerate(operations)],
    }


def _prefix(violation: Values) -> str:
    """How far one order explains the key's operations; empty when that is not known."""
    operations = violation.get("prefix_operations")
    if not is_number(operations):
        return ""
    line = violation.get("prefix_end_line")
    where = f" The answer in line {count(line)} is the first that no order explains." if is_number(line) else ""
    return f"One order explains the first {plural(operations, 'answer')} on this key.{where}"


def _order(order: Values, number: dict[int, int]) -> Values:
    return {
        "order": [number.get(index, "at first") for index in _list(order.get("order"))],
        "ruled_out_by": number.get(order.get("ruled_out_by", -1), DASH),
        "why": order.get("why") or "",
    }


def _row(operation: Values, number: int | None, clock: str) -> Values:
    return {
        "number": DASH if number is None else number,
        "lines": _lines(operation) or "before all",
        "process": _process(operation),
        "text": operation_text(operation),
        "outcome": operation.get("outcome") or "",
        "took": _took(operation, clock),
        "note": operation.get("note") or "",
    }


def _process(operation: Values) -> str:
    return DASH if operation.get("line") is None else f"p{operation.get('process')}"


def _lines(operation: Values) -> str:
    """`line 8`, `lines 8 and 10`; empty for what stands in no line."""
    line, end = operation.get("line"), operation.get("end_line")
    if not is_number(line):
        return ""
    return f"line {line}" if end in (None, line) else f"lines {line} and {end}"


def _took(operation: Values, clock: str) -> str:
    start, end = operation.get("start_ns"), operation.get("end_ns")
    if not is_number(start):
        return ""
    if not is_number(end):
        return "never answered"
    if clock == "lines":
        return ""
    scale, unit = _unit(end - start)
    return f"{(end - start) / scale:,.4g} {unit}"


def _unit(length_ns: float) -> tuple[float, str]:
    return next(((scale, unit) for scale, unit in _UNITS if length_ns >= scale), _UNITS[-1])


# ------------------------------------------------------------------------------------------------ figure


class _Drawn:
    """Which operations are drawn, and the figure of them: times from the first of them on, in a unit that fits."""

    def __init__(self, operations: Sequence[Values], edges: Sequence[Values], *, clock: str) -> None:
        self.timed = [index for index, one in enumerate(operations) if is_number(one.get("start_ns"))]
        times = [
            time
            for index in self.timed
            for time in (operations[index]["start_ns"], operations[index].get("end_ns"))
            if is_number(time)
        ]
        first = min(times, default=0)
        busy = max((b - a for a, b in self._answered(operations)), default=0)
        scale, self.unit = (1.0, "lines") if clock == "lines" else _unit(busy or max(times, default=0) - first)
        origin = 0 if clock == "lines" else first
        values = [self._value(operations[index], origin, scale, clock) for index in self.timed]
        place = {index: at for at, index in enumerate(self.timed)}
        tied = [
            {**edge, "from": place[edge["from"]], "to": place[edge["to"]]}
            for edge in edges
            if edge.get("from") in place and edge.get("to") in place
        ]
        picked = chosen_operations(values, tied)
        self.chosen = [self.timed[at] for at in picked]
        number = {at: rank + 1 for rank, at in enumerate(picked)}
        self._values = [{**values[at], "number": number[at]} for at in picked]
        self._edges = [
            {**edge, "from": number[edge["from"]], "to": number[edge["to"]]}
            for edge in tied
            if edge["from"] in number and edge["to"] in number
        ]

    def _answered(self, operations: Sequence[Values]) -> list[tuple[float, float]]:
        pairs = [(operations[index]["start_ns"], operations[index].get("end_ns")) for index in self.timed]
        return [(start, end) for start, end in pairs if is_number(end)]

    @staticmethod
    def _value(operation: Values, origin: float, scale: float, clock: str) -> Values:
        end = operation.get("end_ns")
        return {
            **operation,
            "text": shorten(operation_text(operation), 40),
            "start_s": (operation["start_ns"] - origin) / scale,
            "end_s": (end - origin) / scale if is_number(end) else None,
            "took": ", ".join(filter(None, [_lines(operation), _took(operation, clock)])),
        }

    def figures(self, uid: str, key: str) -> list[Any]:
        return figures(self._values, self._edges, [], uid, key, unit=self.unit) if self._values else []


# ------------------------------------------------------------------------------------------------ sessions


def _sessions(found: Any, clock: str) -> Values | None:
    """View values of the session guarantees; None when they were not judged."""
    if not isinstance(found, dict):
        return None
    rows = [
        {
            "title": _sentence(one.get("guarantee")).rstrip("."),
            "state": state_of(one.get("verdict")),
            "word": {"pass": "Held", "fail": "Broken", "unknown": "Not decided"}[state_of(one.get("verdict"))],
            "reason": _sentence(one.get("reason")),
        }
        for one in _list(found.get("guarantees"))
    ]
    examples = [
        {
            "title": " and ".join(map(str, _list(one.get("guarantees")))),
            "key": _key(one.get("key")),
            "reason": one.get("reason") or "",
            "figures": _Drawn(_list(one.get("operations")), [], clock=clock).figures(
                f"se{index}", _key(one.get("key"))
            ),
            "shown": min(OPERATIONS_MAX, len(_list(one.get("operations")))),
            "operations": [_row(op, place, clock) for place, op in enumerate(_list(one.get("operations")), start=1)],
        }
        for index, one in enumerate(_list(found.get("counterexamples")))
    ]
    state = state_of(found.get("verdict"))
    return {"state": state, "reason": _sentence(found.get("reason")), "rows": rows, "examples": examples}
