"""A value of somebody's history as text: JSON in one canonical form, so that equal values have equal texts."""

from __future__ import annotations

import json
import math
from typing import Any, Final

__all__ = ["NULL", "canonical", "parsed", "refuse_constant", "shown", "text_of"]

NULL: Final = "null"
"""Text of the value that stands for absence in JSON."""


def text_of(value: Any) -> str | None:
    """Canonical text of a JSON value; None for null. Raises ValueError for what JSON cannot say, such as NaN.

    Numbers that are equal have the same text (1.0 is 1), as JSON knows one kind of number only. Members of an object
    are in order of their names.
    """
    if value is None:
        return None
    kind = type(value)
    if kind is int:
        return str(value)
    if kind is float or kind in (list, tuple, dict):
        value = _plain(value)
    return _ENCODER.encode(value)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is not a value that can be compared")
        return int(value) if value.is_integer() else value
    if isinstance(value, list | tuple):
        return [_plain(member) for member in value]
    if isinstance(value, dict):
        return {name: _plain(member) for name, member in value.items()}
    return value


def canonical(text: str) -> str | None:
    """The canonical form of a JSON text; None for null. Raises ValueError when it is not JSON."""
    return text_of(parsed(text))


def parsed(text: str) -> Any:
    """The value of a JSON text. Raises ValueError when it is not JSON, or says NaN or Infinity."""
    return _DECODER.decode(text)


def refuse_constant(name: str) -> Any:
    """For `parse_constant` of a decoder."""
    raise ValueError(f"{name} is not JSON")


# Made once: `json.loads` and `json.dumps` would make one for every value.
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False)
_DECODER: Final = json.JSONDecoder(parse_constant=refuse_constant)


def shown(text: str | None) -> Any:
    """The value behind a canonical text, for output."""
    return None if text is None else json.loads(text)
