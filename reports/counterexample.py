"""Counterexamples: which operations to show, and the same as text and tables beside the figure."""

from __future__ import annotations

from typing import Any

from .counterexample_figure import end_of, figures, operation_text
from .links import jump
from .text import DASH, Values, is_number, milliseconds, numbers, shorten, time_text

__all__ = ["OPERATIONS_MAX", "chosen_operations", "counterexample"]

OPERATIONS_MAX = 12
_ORDERS_MAX = 6
_EVENTS_MAX = 4


def counterexample(example: Values, *, faults: list[Values], shards: list[Values], uid: str) -> Values:
    """View values of one counterexample: figures, sentence, reasons, orders or precedences, operations as a table."""
    operations = [entry for entry in example.get("operations") or [] if is_number(entry.get("start_s"))]
    chosen = chosen_operations(operations, example.get("edges") or [])
    number_of = {index: place + 1 for place, index in enumerate(chosen)}
    shown = [{**operations[index], "number": number_of[index]} for index in chosen]
    edges = [
        {**edge, "from": number_of[edge["from"]], "to": number_of[edge["to"]]}
        for edge in example.get("edges") or []
        if edge.get("from") in number_of and edge.get("to") in number_of
    ]
    orders = example.get("orders") or []
    complete = len(chosen) == len(operations)
    span = numbers(example.get("span_s"))
    events = _events(shown, faults, shards, example.get("shard"))
    return {
        "key": example.get("key", ""),
        "uid": uid,
        "reason": example.get("reason") or "",
        "reasons": example.get("reasons") or [],
        "rejudged": example.get("rejudged"),
        "jump": jump(span),
        "figures": figures(shown, edges, events, uid, str(example.get("key", ""))) if shown else [],
        "shown": len(shown),
        "total": len(operations),
        "orders": [_order(order, number_of) for order in orders] if complete and len(orders) <= _ORDERS_MAX else [],
        "precedences": example.get("precedences") or [],
        "operations": [_operation_row(operation) for operation in shown],
    }


def chosen_operations(operations: list[Values], edges: list[Values]) -> list[int]:
    """Indices of the operations to show, by start: all, or the `OPERATIONS_MAX` nearest to the contradiction.

    First the impossible operations, then what an edge ties to one already chosen, then the nearest in time.
    """
    everything = range(len(operations))
    if len(operations) > OPERATIONS_MAX:
        wrong = [index for index in everything if operations[index].get("role") == "impossible"] or [
            len(operations) - 1
        ]
        picked = list(wrong)
        for index in picked:  # grows while it is walked: what is tied to the tied ones follows
            for edge in edges:
                ends = (edge.get("from"), edge.get("to"))
                if index in ends:
                    other = ends[1] if ends[0] == index else ends[0]
                    if isinstance(other, int) and other in everything and other not in picked:
                        picked.append(other)
        centre = operations[wrong[0]]["start_s"]
        near = sorted(everything, key=lambda index: abs(operations[index]["start_s"] - centre))
        picked = list(dict.fromkeys([*picked, *near]))[:OPERATIONS_MAX]
    else:
        picked = list(everything)
    return sorted(picked, key=lambda index: (operations[index]["start_s"], index))


def _order(order: Values, number_of: dict[int, int]) -> Values:
    return {
        "order": [number_of.get(index, "?") for index in order.get("order") or []],
        "ruled_out_by": number_of.get(order.get("ruled_out_by", -1), DASH),
        "why": order.get("why") or "",
    }


def _operation_row(operation: Values) -> Values:
    start, end = operation["start_s"], operation.get("end_s")
    return {
        "number": operation["number"],
        "process": f"p{operation.get('process')}",
        "client": operation.get("client") or "",
        "text": operation_text(operation),
        "result": operation.get("result") or "",
        "outcome": operation.get("outcome") or "",
        "start": jump([start, end if is_number(end) else start], label=time_text(start, places=3), margin_s=0.1),
        "took": milliseconds((end - start) * 1000) if is_number(end) else "never answered",
        "note": operation.get("note") or "",
    }


def _events(shown: list[Values], faults: list[Values], shards: list[Values], shard: Any) -> list[tuple[float, str]]:
    """What happened to the system between the first and the last operation: injections and new primaries."""
    if not shown:
        return []
    first = shown[0]["start_s"]
    last = max(end_of(operation) for operation in shown)
    found = []
    for fault in faults:
        for moment, word in ((fault.get("injected_s"), ""), (fault.get("healed_s"), " healed")):
            if is_number(moment) and first < moment < last:
                found.append((moment, shorten(str(fault.get("title") or fault.get("name")), 34) + word))
    for entry in shards:
        if entry.get("shard") == shard and shard is not None:
            for segment in (entry.get("segments") or [])[1:]:
                if len(segment) >= 3 and segment[2] and is_number(segment[0]) and first < segment[0] < last:
                    found.append((segment[0], f"{segment[2]} is the primary"))
    return sorted(found)[:_EVENTS_MAX]
