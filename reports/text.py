"""Text that is safe to show anywhere, and figures with their units.

Everything in a verdict that came from outside (keys, values, node names, log lines) passes through `clean_tree` once,
before any template sees it. Escaping for HTML, XML or Markdown is still the renderer's own duty.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

__all__ = [
    "DASH",
    "Values",
    "clean",
    "clean_tree",
    "count",
    "duration",
    "goal",
    "is_number",
    "measure",
    "milliseconds",
    "numbers",
    "percent",
    "plural",
    "shorten",
    "span_text",
    "time_text",
]

Values = dict[str, Any]

DASH = "\u2013"  # a missing measurement is a dash, never 0
_THIN = "\u2009"
_TEXT_LIMIT = 2000

# Control characters (XML forbids most, ANSI codes hide text), bidirectional and zero-width marks (they reorder or hide
# what a person reads), lone surrogates (they cannot be encoded) and non-characters.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff]"
    "|[\ud800-\udfff]"
)


def _visible(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def clean(text: str, *, limit: int = _TEXT_LIMIT) -> str:
    """Return `text` with every invisible or reordering character written out, cut after `limit` characters."""
    cut = len(text) > limit
    shown = _UNSAFE.sub(_visible, text[:limit])
    return f"{shown}\u2026 ({len(text):,} characters)" if cut else shown


def clean_tree(value: Any, *, keep: frozenset[str] = frozenset({"heat"})) -> Any:
    """Return a copy of a JSON value in which every string is clean and no number is NaN or infinite.

    Strings under a key of `keep` are machine data (base64) that must not be cut; the page decodes them itself.
    """
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, bool | int) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {
            clean(str(key)): entry if key in keep and isinstance(entry, str) else clean_tree(entry, keep=keep)
            for key, entry in value.items()
        }
    if isinstance(value, Sequence):
        # Plain integers are by far the most (bins, single operations): they need no call each.
        return [entry if type(entry) is int else clean_tree(entry, keep=keep) for entry in value]
    return clean(str(value))


def shorten(text: str, limit: int) -> str:
    """Cut a label after `limit` characters, with an ellipsis."""
    return text if len(text) <= limit else text[: max(1, limit - 1)].rstrip() + "\u2026"


def is_number(value: object) -> TypeGuard[float]:
    """Whether `value` is a finite number (a bool is not)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def numbers(value: object) -> list[float]:
    """The finite numbers of a list, so that a malformed span cannot break the page."""
    return [entry for entry in value if is_number(entry)] if isinstance(value, list | tuple) else []


def count(value: Any) -> str:
    """A whole number with separators; a dash when it was not measured."""
    if not is_number(value):
        return DASH if value is None else str(value)
    return f"{round(value):,}"


def plural(value: Any, one: str, many: str | None = None) -> str:
    """`1 write`, `12 writes`."""
    return f"{count(value)} {one if value == 1 else many or one + 's'}"


def percent(ratio: Any, *, digits: int = 2) -> str:
    """A ratio in percent. What is below 1 never reads as 100, and what is above 0 never as 0: digits are added."""
    if not is_number(ratio):
        return DASH
    if ratio in (0, 1):
        return f"{ratio * 100:.0f}{_THIN}%"
    for places in range(digits, 7):
        text = f"{ratio * 100:.{places}f}"
        if float(text) not in (0.0, 100.0):
            return f"{text}{_THIN}%"
    return f"{'<' if ratio < 1 else '>'}{_THIN}100{_THIN}%" if ratio > 0.5 else f">{_THIN}0{_THIN}%"


def milliseconds(value: Any) -> str:
    """Milliseconds with a unit that fits: `3.1 ms`, `900 ms`, `1.10 s`."""
    if not is_number(value):
        return DASH
    if abs(value) < 100:
        return f"{value:.1f} ms"
    return f"{value:.0f} ms" if abs(value) < 1000 else f"{value / 1000:.2f} s"


def duration(value: Any) -> str:
    """Seconds as a length of time: `0.152 s`, `1.21 s`, `17.9 s`."""
    if not is_number(value):
        return DASH
    size = abs(value)
    return f"{value:.{3 if 0 < size < 1 else 2 if size < 10 else 1}f} s" if size else "0 s"


def time_text(value: Any, *, places: int = 2) -> str:
    """A moment in seconds from the start of the load, without unit."""
    return f"{value:.{places}f}" if is_number(value) else DASH


def span_text(start: float, end: float) -> str:
    """`44.87\u201345.02 s`; a moment when both ends read the same."""
    first, last = time_text(start), time_text(end)
    return f"{first} s" if first == last else f"{first}\u2013{last} s"


def measure(value: Any, unit: str) -> str:
    """A target's figure with its unit (`ratio`, `s`, `ms`, or a noun such as `writes`)."""
    if value is None:
        return DASH
    if not is_number(value):
        return str(value)
    known: dict[str, Callable[[Any], str]] = {"ratio": percent, "s": duration, "ms": milliseconds, "": count}
    if unit in known:
        return known[unit](value)
    text = count(value) if float(value).is_integer() else f"{value:,.4g}"
    return f"{text} {unit}"


def goal(value: Any, unit: str) -> str:
    """A limit that somebody wrote down: like `measure`, without zeros that nobody wrote (`5 s`, `99.9` percent)."""
    text = measure(value, unit)
    return re.sub(r"\.(\d*?)0+(?=\D*$)", lambda match: f".{match.group(1)}" if match.group(1) else "", text)
