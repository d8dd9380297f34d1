"""What goes into the checker and what comes out of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..verdict import Verdict

__all__ = [
    "ABSENT",
    "NO_VERSION",
    "OPEN_NS",
    "CheckOutcome",
    "Counterexample",
    "Edge",
    "Engine",
    "F",
    "KeyResult",
    "Model",
    "Operations",
    "Order",
]

ABSENT: Final = -(2**63)
"""Value of a key that holds nothing. Every key starts absent."""

OPEN_NS: Final = 2**63 - 1
"""End of an operation that was never answered, or whose answer left it unknown."""

NO_VERSION: Final = -1
"""Version of an operation whose answer told none."""

Int64Array = npt.NDArray[np.int64]


class Model(enum.StrEnum):
    """Sequential specification of one key."""

    REGISTER = "register"
    """Read, write, delete. Versions are ignored."""
    CAS_REGISTER = "cas-register"
    """The register with compare-and-set. Versions are ignored."""
    KEY_VALUE = "key-value"
    """The same, and each change makes a larger version, which answers tell (docs/reference-http-api.md)."""
    SET = "set"
    """Grow-only set: add, contains, read-all. Empty at first, as all that follow."""
    QUEUE = "queue"
    """First in, first out: enqueue, dequeue."""
    COUNTER = "counter"
    """Increment by an amount, read. Zero at first."""
    FETCH_AND_INCREMENT = "fetch-and-increment"
    """Increment that answers the number it made (1 first), read (0 before that)."""
    MUTEX = "mutex"
    """Acquire when free, release by the holder. Free at first. Fencing tokens, where answers tell them, grow with every
    acquisition, so that one which was not told takes up a number as well."""
    LIST_APPEND = "list-append"
    """Append, read-all in order."""
    BANK = "bank"
    """Transfers between accounts, read-all of balances. No balance is ever below zero. Starts with what is given."""


class Engine(enum.StrEnum):
    """Who decides. docs/checker.md compares them."""

    AUTO = "auto"
    """For every key the first of the others that decides it."""
    UNIQUE = "unique"
    """O(n log n), exact, where answers say which operation they saw: every value is written once, or has a version."""
    FRONTIER = "frontier"
    """Registers with any values: just-in-time search, exponential in writes that are open at the same time only."""
    PORCUPINE = "porcupine"
    """Search: every model and any values, but exponential in the worst case."""


class F(enum.IntEnum):
    """Function of an operation. An insert is `CAS` from `ABSENT`; a CAS that did not match is a `READ`, or `UNEQUAL`.

    What the columns hold, where it is not `value` alone, is said of each.
    """

    READ = 0
    WRITE = 1
    CAS = 2
    """`value` took the place of `expected`."""
    DELETE = 3
    UNEQUAL = 4
    """A compare-and-set that did not match, of which no more is known: `expected` was not there."""
    ADD = 5
    CONTAINS = 6
    """`expected` is 1 when `value` was in the set, 0 when not."""
    READ_ALL = 7
    """`items`: members of a set (in any order, one that is repeated counts once), elements of a list in order, or
    account and balance in turn."""
    ENQUEUE = 8
    DEQUEUE = 9
    """`value` is `ABSENT` when the queue was empty."""
    INCREMENT = 10
    """`value`: by how much (counter), or the number that it made (fetch-and-increment)."""
    ACQUIRE = 11
    """`value` is the fencing token, or `ABSENT`. `process` holds the lock from then on."""
    RELEASE = 12
    HELD = 13
    """An attempt to acquire that found the lock taken, by whomever, at some instant between its start and its end."""
    APPEND = 14
    TRANSFER = 15
    """`value` goes from account `expected` to account `version`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operations:
    """Columns of equal length, a row an operation. Leave out those that certainly did not happen.

    `key` is any number per key. `value` is what was written, or read (`ABSENT` for an absent key); ignored for deletes
    and unknown reads. `expected` counts for CAS only. Times are CLOCK_MONOTONIC nanoseconds, intervals closed.
    `unknown` marks operations that may take effect at any time from their start on, or never: their end becomes
    `OPEN_NS` whatever is given. Row r's list, where `F` has one, is `items_count[r]` of `items` from `items_first[r]`
    (a count of -1: none). Raises ValueError when the columns contradict each other.
    """

    key: Int64Array
    process: Int64Array
    f: Int64Array
    value: Int64Array
    expected: Int64Array
    version: Int64Array
    start_ns: Int64Array
    end_ns: Int64Array
    unknown: npt.NDArray[np.bool_]
    items: Int64Array | None = None
    items_first: Int64Array | None = None
    items_count: Int64Array | None = None

    def __post_init__(self) -> None:
        rows = len(np.atleast_1d(self.key))
        for name in ("key", "process", "f", "value", "expected", "version", "start_ns", "end_ns"):
            object.__setattr__(self, name, _column(getattr(self, name), name=name, rows=rows, kind="iu"))
        unknown = _column(self.unknown, name="unknown", rows=rows, kind="b").astype(np.bool_)
        object.__setattr__(self, "unknown", unknown)
        object.__setattr__(self, "end_ns", np.where(unknown, OPEN_NS, self.end_ns))
        self._check_items(rows)
        writes = np.isin(self.f, (F.WRITE, F.CAS, F.ADD, F.ENQUEUE, F.APPEND))
        self._refuse((self.f < min(F)) | (self.f > max(F)), "has an `f` that is none of `F`")
        self._refuse(~unknown & (self.end_ns == OPEN_NS), "has no end although it is not unknown")
        self._refuse(self.start_ns > self.end_ns, "ends before it starts")
        self._refuse(writes & (self.value == ABSENT), "writes the value that means absent; deletes are `F.DELETE`")
        self._refuse(self.version < NO_VERSION, "has a negative version; none is `NO_VERSION`")

    def _check_items(self, rows: int) -> None:
        if self.items is None:
            if self.items_first is not None or self.items_count is not None:
                raise ValueError("columns `items_first` and `items_count` need `items`")
            self._refuse(self.f == F.READ_ALL, "reads all, and there is no column `items`")
            return
        object.__setattr__(self, "items", _column(self.items, name="items", rows=len(self.items), kind="iu"))
        for name in ("items_first", "items_count"):
            object.__setattr__(self, name, _column(getattr(self, name), name=name, rows=rows, kind="iu"))
        assert self.items_first is not None
        assert self.items_count is not None
        beyond = (self.items_first < 0) | (self.items_first + self.items_count > len(self.items))
        self._refuse((self.items_count >= 0) & beyond, "has a list that is not within `items`")
        self._refuse(self.items_count < -1, "has a negative `items_count`; none is -1")

    def list_of(self, row: int) -> tuple[int, ...] | None:
        """A row's list, None where it has none."""
        if self.items is None or self.items_first is None or self.items_count is None or self.items_count[row] < 0:
            return None
        first = int(self.items_first[row])
        return tuple(self.items[first : first + int(self.items_count[row])].tolist())

    def __len__(self) -> int:
        return len(self.key)

    def _refuse(self, wrong: npt.NDArray[np.bool_], what: str) -> None:
        if wrong.any():
            row = int(wrong.argmax())
            raise ValueError(f"row {row} of {len(self)} operations {what}")


def _column(given: Any, *, name: str, rows: int, kind: str) -> npt.NDArray[Any]:
    column = np.asarray(given)
    if column.ndim != 1 or len(column) != rows:
        raise ValueError(f"column `{name}` has shape {column.shape}; expected ({rows},) as `key` has")
    if rows and column.dtype.kind not in kind:
        wanted = "booleans" if kind == "b" else "integers"
        raise ValueError(f"column `{name}` holds {column.dtype}; expected {wanted}")
    return np.ascontiguousarray(column, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """From one operation of a counterexample to another, by position. `kind` is `seen` or `contradicts`."""

    source: int
    target: int
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One order of all operations that their times allow, by position, and the first that it gives a wrong answer."""

    order: tuple[int, ...]
    ruled_out_by: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counterexample:
    """A few operations of one key that no order explains. All tuples but `rows` speak of positions in `rows`."""

    rows: tuple[int, ...]
    """Indices into the `Operations`, by start."""
    roles: tuple[str, ...]
    """`write` (whatever changes something), `read` (whatever only looks), `lost` (acknowledged, then not there) or
    `impossible` (an answer that cannot be)."""
    notes: tuple[str, ...]
    """What to know of each; mostly empty."""
    reason: str
    """One sentence: why it cannot be."""
    reasons: tuple[str, ...]
    """The same in steps."""
    edges: tuple[Edge, ...]
    orders: tuple[Order, ...]
    """Every order that the times allow, when there are at most 6; otherwise empty, see `precedences`."""
    precedences: tuple[str, ...]
    """Which operation ended before which began, without those that follow from others."""
    rejudged: bool
    """A brute-force search, independent of the engines, found it illegal too; another engine, beyond 10 operations."""
    minimal: bool
    """Leaving out any one operation, with what must go along (those that saw its value), makes it legal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyResult:
    """Verdict on one key. `engine` is None when no engine reached it."""

    key: int
    verdict: Verdict
    engine: Engine | None
    reason: str
    counterexample: Counterexample | None = None
    prefix_operations: int | None = None
    """How many operations, by the time of their answers, one order still explains, where not all; None: not known."""
    prefix_end_ns: int | None = None
    """When the first answer came that no order explains any more, whatever came after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOutcome:
    """Verdict on a history: the worst of its keys; unknown when any was not decided and none failed."""

    verdict: Verdict
    reason: str
    engine: Engine
    seconds: float
    keys_checked: int
    """Keys that were decided, violated ones among them."""
    keys_violated: int
    keys_unknown: int
    results: tuple[KeyResult, ...]
    """By key, ascending."""
    decide_s: float | None = None
    """Seconds of `seconds` that deciding took, from columns in memory to verdicts; None unless the checker finished."""
