"""Reads EDN (github.com/edn-format/edn), as far as Jepsen's histories need it, and tells lines.

nil, booleans and numbers become Python's own; strings too. A keyword is a `Keyword`, a symbol or a character its text.
Vectors, lists and sets become lists; maps dicts where all names are texts, else lists of pairs. A tag, such as
`#jepsen.history.Op`, is dropped, and what it stands before is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NoReturn

__all__ = ["EdnError", "Form", "Keyword", "forms"]

Form = tuple[int, Any]
"""Line on which it begins, and value."""

_TOKEN: Final = re.compile(
    r"""(?P<space>[\s,]+|;[^\n]*)
      |(?P<open>\#\{|[\[({])
      |(?P<close>[\])}])
      |(?P<string>"(?:[^"\\]|\\.)*")
      |(?P<discard>\#_)
      |(?P<constant>\#\#[A-Za-z]+)
      |(?P<tag>\#[^\s,"()\[\]{};]+)
      |(?P<character>\\(?:[A-Za-z0-9]+|.))
      |(?P<atom>[^\s,"()\[\]{};\\\#][^\s,"()\[\]{};\\]*)""",
    re.VERBOSE | re.DOTALL,
)
_INTEGER: Final = re.compile(r"([+-]?\d+)N?")
_FLOAT: Final = re.compile(r"([+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)M?")
_ESCAPE: Final = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_ESCAPED: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "\\": "\\"}
_CLOSING: Final = {"[": "]", "(": ")", "{": "}", "#{": "}"}
_CONSTANTS: Final = {"nil": None, "true": True, "false": False}
_DEEPEST: Final = 64


class Keyword(str):
    """A keyword, without its colon."""

    __slots__ = ()


class EdnError(Exception):
    """Text that is no EDN. `line` says where."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line
        self.text = text


def forms(text: str, *, unwrap: bool = True) -> Iterator[Form]:
    """Every top-level form; those within a top-level vector or list when `unwrap`. Raises EdnError."""
    reader = _Reader(text)
    while (opened := reader.next()) is not None:
        kind, token, line = opened
        if unwrap and kind == "open" and token in "[(":
            yield from _within(reader, token, line)
            continue
        value = reader.form(kind, token, line, 0)
        if value is not _NOTHING:
            yield line, value


def _within(reader: _Reader, bracket: str, begun: int) -> Iterator[Form]:
    while True:
        following = reader.next()
        if following is None:
            reader.cut_off(begun, bracket)
        kind, token, line = following
        if kind == "close":
            reader.match(bracket, token, line, begun)
            return
        value = reader.form(kind, token, line, 0)
        if value is not _NOTHING:
            yield line, value


_NOTHING: Final = object()  # what a discarded form leaves


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1

    def next(self) -> tuple[str, str, int] | None:
        """The next token that is no space: kind, text, line. None at the end."""
        while self._at < len(self._text):
            found = _TOKEN.match(self._text, self._at)
            if found is None:
                self._no_token()
            token, line = found[0], self._line
            self._at = found.end()
            self._line += token.count("\n")
            if found.lastgroup != "space":
                assert found.lastgroup is not None
                return found.lastgroup, token, line
        return None

    def _no_token(self) -> NoReturn:
        if self._text[self._at] == '"':
            raise EdnError(self._line, "the text that begins here has no closing quote; the file is cut off")
        rest = self._text[self._at : self._at + 20].split("\n")[0]
        raise EdnError(self._line, f"found {rest!r}, which is no EDN")

    def cut_off(self, begun: int, bracket: str) -> NoReturn:
        raise EdnError(
            begun, f"the {bracket!r} that opens here is never closed; the file is cut off, or a bracket is lacking"
        )

    def match(self, bracket: str, token: str, line: int, begun: int) -> None:
        if _CLOSING[bracket] != token:
            raise EdnError(line, f"found {token!r}; expected {_CLOSING[bracket]!r} for the {bracket!r} of line {begun}")

    def form(self, kind: str, token: str, line: int, depth: int) -> Any:
        """The form that begins with this token."""
        if kind == "atom":
            return _atom(token, line)
        if kind == "string":
            return _string(token, line) if "\\" in token else token[1:-1]
        if kind == "open":
            return self._collection(token, line, depth)
        if kind == "character":
            return token
        if kind == "close":
            raise EdnError(line, f"found {token!r}, which nothing opened")
        if kind == "constant":
            return token
        following = self._following(line, token, depth)
        return _NOTHING if kind == "discard" else following

    def _following(self, line: int, after: str, depth: int) -> Any:
        """The form after a tag or a discard."""
        while True:
            following = self.next()
            if following is None:
                raise EdnError(line, f"nothing follows {after!r}; the file is cut off")
            value = self.form(*following, depth)
            if value is not _NOTHING:
                return value

    def _collection(self, bracket: str, begun: int, depth: int) -> Any:
        if depth >= _DEEPEST:
            raise EdnError(begun, f"more than {_DEEPEST} brackets within each other; no history has that")
        members: list[Any] = []
        while True:
            following = self.next()
            if following is None:
                self.cut_off(begun, bracket)
            kind, token, line = following
            if kind == "close":
                self.match(bracket, token, line, begun)
                break
            value = self.form(kind, token, line, depth + 1)
            if value is not _NOTHING:
                members.append(value)
        if bracket != "{":
            return members
        if len(members) % 2:
            raise EdnError(begun, "this map has a name without a value")
        names = members[::2]
        if len({str(name) for name in names}) != len(names):
            raise EdnError(begun, "this map has a name twice")
        if all(isinstance(name, str) for name in names):
            return dict(zip(names, members[1::2], strict=True))
        return [list(pair) for pair in zip(names, members[1::2], strict=True)]


def _atom(token: str, line: int) -> Any:
    if token[0] == ":":
        if len(token) == 1:
            raise EdnError(line, "found ':', a keyword without a name")
        return Keyword(token[1:])
    if token in _CONSTANTS:
        return _CONSTANTS[token]
    if token[0].isdigit() or (token[0] in "+-" and len(token) > 1 and token[1].isdigit()):
        if found := _INTEGER.fullmatch(token):
            return int(found[1])
        if found := _FLOAT.fullmatch(token):
            return float(found[1])
        if "/" not in token:
            raise EdnError(line, f"found {token!r}, which is no number")
    return token


def _string(token: str, line: int) -> str:
    def one(found: re.Match[str]) -> str:
        name = found[1]
        if name[0] == "u" and len(name) == 5:
            return chr(int(name[1:], 16))
        if name not in _ESCAPED:
            raise EdnError(line, f"found the escape \\{name} in a text, which EDN has not")
        return _ESCAPED[name]

    return _ESCAPE.sub(one, token[1:-1])
