"""The figure of a counterexample: one row per process, time to scale, with what was seen and what contradicts it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from .charts import element
from .text import Values, duration, is_number, milliseconds, shorten, time_text
from .time_axis import TimeAxis, make_axis

__all__ = ["end_of", "figure", "figures", "operation_text"]

_WIDE, _NARROW = 730, 352
_BEND = 44.0  # width of the bend of an arrow between two rows, px
_ROLES = ("write", "read", "lost", "impossible")


def operation_text(operation: Values) -> str:
    """`write 8812`, `read \u2192 8790`, `cas 3 \u2192 4`; an absent key is `nothing`. `text`, if given."""
    if operation.get("text"):
        return str(operation["text"])
    f = str(operation.get("f", ""))
    value, expected, observed = (_value(operation.get(name)) for name in ("value", "expected", "observed"))
    mismatch = operation.get("result") == "mismatch"
    if f == "read":
        return f"read \u2192 {value if operation.get('outcome') == 'ok' else '?'}"
    if f == "cas":
        return f"cas {expected} \u2192 {value}" + (f", saw {observed}" if mismatch else "")
    if f == "delete":
        return "delete"
    return f"{f} {value}" + (f", saw {observed}" if mismatch else "")


def _value(value: Any) -> str:
    return "nothing" if value is None else shorten(str(value), 20)


def end_of(operation: Values) -> float:
    """When an operation ended, in seconds; its start when it was never answered."""
    end = operation.get("end_s")
    return float(end) if is_number(end) else float(operation["start_s"])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Canvas:
    """Measures of one figure. The narrow one is for phones and leaves the notes to the table."""

    width: int
    cut_idle: bool
    uid: str
    unit: str  # of all times

    @property
    def narrow(self) -> bool:
        return self.width < 600

    @property
    def left(self) -> int:
        return 40 if self.narrow else 52

    @property
    def right(self) -> int:
        return self.width - (10 if self.narrow else 22)


@dataclass(slots=True)
class _Label:
    """A bar's text: where it starts, how wide it is, on which line above its row."""

    operation: Values
    main: str
    note: str
    x: float
    width: float
    end_anchored: bool
    level: int = 0


def figures(
    shown: list[Values], edges: list[Values], events: list[tuple[float, str]], uid: str, key: str, *, unit: str = "s"
) -> list[Markup]:
    """The same figure four times: wide and narrow, idle time cut and full scale. `uid` keeps their ids apart.

    Times are seconds, or what `unit` says; an operation may say itself how long it `took`.
    """
    canvases = [
        _Canvas(width=width, cut_idle=cut, uid=f"{uid}{'w' if width == _WIDE else 'n'}{'c' if cut else 'f'}", unit=unit)
        for width in (_WIDE, _NARROW)
        for cut in (True, False)
    ]
    return [figure(canvas, shown, edges, events, key) for canvas in canvases]


def figure(
    canvas: _Canvas, shown: list[Values], edges: list[Values], events: list[tuple[float, str]], key: str
) -> Markup:
    """One row per process, bars from call to reply to scale, arrows from a write to the read that saw it."""
    axis = make_axis(
        [(operation["start_s"], end_of(operation)) for operation in shown],
        left=canvas.left,
        right=canvas.right,
        cut_px=84 if canvas.narrow else 120,
        cut_idle=canvas.cut_idle,
    )
    top = 24
    rows, y = {}, float(top)
    labels: list[_Label] = []
    for process in dict.fromkeys(operation.get("process") for operation in shown):
        own = [_label(operation, axis, canvas) for operation in shown if operation.get("process") == process]
        levels = _stack(own)
        labels += own
        y += 17 * levels + 8
        rows[process] = y + 9  # the middle of the row's bars
        y += 18 + 12
    bottom = y
    height = bottom + 24 + 17 * len(events)
    parts = [
        _markers(canvas),
        *_axis_parts(axis, canvas, top=top, bottom=bottom),
        *_event_parts(axis, events, canvas, top=top, bottom=bottom),
        *(
            element("line", class_="row", x1=canvas.left, x2=canvas.right, y1=middle, y2=middle)
            for middle in rows.values()
        ),
        *(element("text", f"p{process}", class_="proc", x=0, y=middle + 5) for process, middle in rows.items()),
        *(
            element("path", class_=f"arrow {kind}", d=path, marker_end=f"url(#{canvas.uid}-{kind})")
            for kind, path in _edge_parts(axis, shown, edges, rows, labels)
        ),
        *(_bar(axis, label, rows[label.operation.get("process")], canvas) for label in labels),
    ]
    return element(
        "svg",
        Markup("").join(parts),
        class_=f"ce-svg {'ce-narrow' if canvas.narrow else 'ce-wide'} {'ce-cut' if canvas.cut_idle else 'ce-full'}",
        viewBox=f"0 0 {canvas.width} {height:g}",
        role="img",
        aria_label=f"{len(shown)} operations on key {shorten(key, 60)}, drawn to scale. The table below lists them.",
    )


def _markers(canvas: _Canvas) -> Markup:
    arrows = [
        element(
            "marker",
            element("path", class_=f"arrowhead {kind}", d="M0 .6 7.4 4 0 7.400z"),
            id=f"{canvas.uid}-{kind}",
            viewBox="0 0 8 8",
            refX=7,
            refY=4,
            markerWidth=7,
            markerHeight=7,
            orient="auto",
        )
        for kind in ("seen", "contradicts")
    ]
    return element("defs", Markup("").join(arrows))


def _label(operation: Values, axis: TimeAxis, canvas: _Canvas) -> _Label:
    main = f"{operation['number']}  {operation_text(operation)}"
    end = operation.get("end_s")
    took = milliseconds((end - operation["start_s"]) * 1000) if is_number(end) else "never answered"
    took = str(operation.get("took") or took)
    note = took if canvas.narrow else ", ".join(filter(None, [took, shorten(str(operation.get("note") or ""), 44)]))
    main = shorten(main, 30 if canvas.narrow else 44)
    width = 7.4 * len(main) + 8 + 6.3 * len(note)
    x = axis.x(operation["start_s"])
    end_anchored = x + width > canvas.right
    if end_anchored:
        x = max(canvas.left + width, min(canvas.right, max(x + 4, axis.x(end_of(operation)))))
    return _Label(operation=operation, main=main, note=note, x=x, width=width, end_anchored=end_anchored)


def _stack(labels: list[_Label]) -> int:
    """Give labels of one row that would overlap a line each; returns the number of lines."""
    ends: list[float] = []
    for label in sorted(labels, key=lambda each: each.x - (each.width if each.end_anchored else 0)):
        start = label.x - (label.width if label.end_anchored else 0)
        level = next((index for index, end in enumerate(ends) if end + 8 <= start), len(ends))
        ends[level : level + 1] = [start + label.width]
        label.level = level
    return max(1, len(ends))


def _bar(axis: TimeAxis, label: _Label, middle: float, canvas: _Canvas) -> Markup:
    operation = label.operation
    role = (
        operation.get("role")
        if operation.get("role") in _ROLES
        else "read"
        if operation.get("f") == "read"
        else "write"
    )
    x0 = axis.x(operation["start_s"])
    answered = is_number(operation.get("end_s"))
    x1 = max(x0 + 4, axis.x(operation["end_s"])) if answered else float(canvas.right)
    bar = element("rect", x=x0, y=middle - 9, width=x1 - x0, height=18, rx=3)
    title = element(
        "title",
        f"{operation_text(operation)}, {label.note}, from {time_text(operation['start_s'], places=4)} {canvas.unit}",
    )
    text = element(
        "text",
        Markup("").join([element("tspan", label.main), element("tspan", label.note, class_="dim", dx=8)]),
        class_="lab",
        x=label.x,
        y=middle - 15 - 17 * label.level,
        text_anchor="end" if label.end_anchored else "start",
    )
    return element("g", Markup("").join([title, bar, text]), class_=f"op {role}{'' if answered else ' open'}")


def _axis_parts(axis: TimeAxis, canvas: _Canvas, *, top: float, bottom: float) -> list[Markup]:
    parts = []
    ticks = axis.ticks(apart_px=58 if canvas.narrow else 72)
    for index, (moment, text) in enumerate(ticks):
        x = axis.x(moment)
        anchor = "end" if x > canvas.width - 24 else "middle"
        unit = f" {canvas.unit}" if index == len(ticks) - 1 else ""
        parts.append(element("line", class_="grid", x1=x, x2=x, y1=top - 6, y2=bottom))
        parts.append(element("text", text + unit, class_="tick", x=x, y=bottom + 17, text_anchor=anchor))
    for piece in axis.pieces:
        if not piece.cut:
            continue
        parts.append(
            element(
                "rect", class_="cutbg", x=piece.left, y=top - 6, width=piece.right - piece.left, height=bottom - top + 6
            )
        )
        for x in (piece.left, piece.right):
            teeth = "".join(
                f"L{x + (4 if step % 2 else -4):.1f} {top - 6 + step * 8:.1f}"
                for step in range(1, int((bottom - top + 6) // 8) + 1)
            )
            parts.append(element("path", class_="cut", d=f"M{x - 4:.1f} {top - 6:.1f}{teeth}"))
        length = piece.end_s - piece.start_s
        text = f"{duration(length) if canvas.unit == 's' else f'{length:,.4g} {canvas.unit}'} cut"
        parts.append(
            element("text", text, class_="cutt", x=(piece.left + piece.right) / 2, y=top - 11, text_anchor="middle")
        )
    return parts


def _event_parts(
    axis: TimeAxis, events: list[tuple[float, str]], canvas: _Canvas, *, top: float, bottom: float
) -> list[Markup]:
    parts = []
    for index, (moment, what) in enumerate(events):
        x, y = axis.x(moment), bottom + 34 + 17 * index
        text = f"{time_text(moment, places=3)} s  {what}"
        half = 3.2 * len(text)
        anchor, at = (
            ("start", float(canvas.left))
            if x - half < canvas.left
            else ("end", float(canvas.right))
            if x + half > canvas.right
            else ("middle", x)
        )
        parts.append(element("line", class_="evl", x1=x, x2=x, y1=top - 6, y2=y - 12))
        parts.append(element("text", text, class_="ev", x=at, y=y, text_anchor=anchor))
    return parts


def _edge_parts(
    axis: TimeAxis, shown: list[Values], edges: list[Values], rows: dict[Any, float], labels: list[_Label]
) -> list[tuple[str, str]]:
    """Kind and path of each arrow: along the source's row, down where the least text is crossed, along the target's."""
    by_number = {operation["number"]: operation for operation in shown}
    parts = []
    for edge in edges:
        source, target = by_number[edge["from"]], by_number[edge["to"]]
        kind = "contradicts" if edge.get("kind") == "contradicts" else "seen"
        x0 = max(axis.x(source["start_s"]) + 4, axis.x(end_of(source)))
        x1 = axis.x(target["start_s"]) - 1
        y0, y1 = rows[source.get("process")], rows[target.get("process")]
        if x1 - x0 < _BEND:  # overlapping in time: a loop from the end of one to the start of the other
            path = f"M{x0:.1f} {y0:.1f}C{x0 + 24:.1f} {y0:.1f} {x1 - 24:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
        else:
            crossed = [_extent(label, rows) for label in labels if label.operation is not source]
            x = min(
                (x0 + (x1 - x0 - _BEND) * step / 24 for step in range(25)),
                key=lambda left: (
                    _overlap(left, min(y0, y1), max(y0, y1), crossed),
                    abs(left + _BEND / 2 - (x0 + x1) / 2),
                ),
            )
            bend = f"C{x + _BEND * 0.7:.1f} {y0:.1f} {x + _BEND * 0.3:.1f} {y1:.1f} {x + _BEND:.1f} {y1:.1f}"
            path = f"M{x0:.1f} {y0:.1f}H{x:.1f}{bend}H{x1:.1f}"
        parts.append((kind, path))
    return parts


def _extent(label: _Label, rows: dict[Any, float]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a label's text."""
    base = rows[label.operation.get("process")] - 15 - 17 * label.level
    left = label.x - label.width if label.end_anchored else label.x
    return left, base - 12, left + label.width, base + 4


def _overlap(left: float, top: float, bottom: float, boxes: list[tuple[float, float, float, float]]) -> int:
    return sum(box[0] < left + _BEND and box[2] > left and box[1] < bottom and box[3] > top for box in boxes)
