"""What a history says about the order of the writes of each key, as chains: input of `sessions.check_sessions`.

A *node* is one write of a key (or the state before the first one, or the unknown writer of a value that somebody saw).
A *chain* is a list of events, each at a node, in an order that somebody vouches for: the operations of one process on
one key, or the versions of a key. An event may *enter* (its node comes before what leaves later in the chain), *leave*
(its node comes after all that entered earlier), or both. All constraints have this shape, so they take linear space,
although each stands for a quadratic number of pairs.

A ranking of the nodes that no chain contradicts is a witness: every guarantee holds. Where the first guess, a ranking
by time, does not fit and small repairs do not help, the stretches of ranks that are left over are searched exactly
(`session_cycles.py`).
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .porcupine import ABSENT, NO_VERSION, F, Model, Operations

__all__ = ["Chains", "Kind", "build_chains"]

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Kind(enum.IntEnum):
    """Who vouches for the order of a chain. The first three are facts, the others guarantees that may be broken."""

    INITIAL = 0
    REPLACED = 1
    VERSIONS = 2
    READ_YOUR_WRITES = 3
    MONOTONIC_READS = 4
    MONOTONIC_WRITES = 5
    WRITES_FOLLOW_READS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Chains:
    """Events sorted by chain and, within one, in order; an event leaves before it enters. `row` is the operation.

    Nodes 0 … keys - 1 are the initial states. `lost` holds, by key, why some of its answers could not be used.
    """

    kind: Ints
    chain: Ints
    node: Ints
    row: Ints
    enters: Mask
    leaves: Mask
    key_of_node: Ints
    value_of_node: Ints
    writer_of_node: Ints  # row, -1 where there is none
    guess: Ints  # a time for each node, by which they are ranked at first
    keys: Ints  # the key's number in the operations, by index
    lost: dict[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """The operations that say something, by (key, process, time). `seen` and `written` are nodes, -1 for none."""

    row: Ints
    key: Ints
    session: Ints
    seen: Ints
    written: Ints
    acknowledged: Mask


def build_chains(
    operations: Operations, *, model: Model, absent_is_initial: bool = True, say: Callable[[int], str] = str
) -> Chains:
    """Derive the chains of a register's history. `absent_is_initial`: nobody else can have deleted a key.

    `say` puts a value into words.
    """
    f, unknown = operations.f, operations.unknown
    idle = (f == F.CAS) & (operations.value == operations.expected)  # replaced a value by itself: it is a read
    f = np.where(idle, int(F.READ), f)
    kept = np.flatnonzero(~(unknown & ((f == F.READ) | (f == F.UNEQUAL))))
    kept = kept[np.lexsort(tuple(c[kept] for c in _session_order(operations)))]
    f, unknown = f[kept], unknown[kept]
    keys, key = np.unique(operations.key[kept], return_inverse=True)
    lost: dict[int, str] = {}

    writes = np.isin(f, (F.WRITE, F.CAS, F.DELETE))
    written_value = np.where(f == F.DELETE, ABSENT, operations.value[kept])
    seen_value = np.where(f == F.CAS, operations.expected[kept], operations.value[kept])
    nodes = _Nodes(keys=len(keys), key=key, row=kept, writes=writes, value=written_value)
    sees = (f == F.READ) | (f == F.CAS)
    deleted = np.zeros(len(keys), dtype=np.bool_)
    deleted[key[f == F.DELETE]] = True
    ambiguous_absence = deleted | (not absent_is_initial)
    version = np.where(unknown | (model is not Model.KEY_VALUE), NO_VERSION, operations.version[kept])
    seen = nodes.seen(sees=sees, value=seen_value, version=version, reads=f == F.READ, ambiguous=ambiguous_absence)

    session = _session_numbers(key, operations.process[kept])
    alone = np.bincount(session)[session] == 1 if len(session) else np.zeros(0, dtype=np.bool_)
    _note_lost(lost, key, sees & (seen == -1) & ~(alone & (f == F.READ)), seen_value, _REPEATED, say)
    _note_lost(lost, key, (f == F.UNEQUAL) & ~alone, operations.expected[kept], _UNEQUAL, say)
    _note_lost(lost, key, seen >= nodes.first_foreign, seen_value, _UNWRITTEN, say)
    overlapping = _overlapping(session, operations.start_ns[kept], operations.end_ns[kept], unknown)
    _note_lost(lost, key, overlapping, operations.process[kept], _OVERLAP, str)

    rows = _Rows(row=kept, key=key, session=session, seen=seen, written=nodes.of_row, acknowledged=~unknown)
    parts = [_replaced(rows), _versions(rows, nodes, version, f == F.READ, lost), *_sessions(rows, ~overlapping)]
    return _joined(parts, rows, nodes, operations, keys, lost)


_REPEATED: Final = "a value was seen that more than one operation may have written ({})"
_UNEQUAL: Final = "a compare-and-set did not match {}, and what it saw instead is not known"
_UNWRITTEN: Final = "a value was seen that nobody is known to have written ({})"
_OVERLAP: Final = "process {} had two operations under way at a time, so their order is not known"
_CONTRADICTING: Final = "its versions contradict each other (version {})"


def _session_order(operations: Operations) -> tuple[Ints, ...]:
    """Sort keys, the last one first."""
    return operations.end_ns, operations.start_ns, operations.process, operations.key


def _session_numbers(key: Ints, process: Ints) -> Ints:
    """0, 1, … for each run of one process on one key; the rows are sorted."""
    new = np.ones(len(key), dtype=np.int64)
    new[1:] = (key[1:] != key[:-1]) | (process[1:] != process[:-1])
    return np.cumsum(new) - 1


def _note_lost(
    lost: dict[int, str], key: Ints, wrong: Mask, values: Ints, text: str, say: Callable[[int], str]
) -> None:
    where = np.flatnonzero(wrong)
    found, first = np.unique(key[where], return_index=True)
    for one, at in zip(found.tolist(), where[first].tolist(), strict=True):
        lost.setdefault(one, text.format(say(int(values[at]))))


def _overlapping(session: Ints, start_ns: Ints, end_ns: Ints, unknown: Mask) -> Mask:
    """Rows of sessions in which an operation began before the one before it had ended, or at the same instant."""
    same = session[1:] == session[:-1]
    over = (end_ns[:-1] > start_ns[1:]) & ~unknown[:-1]
    instant = (start_ns[:-1] == start_ns[1:]) & ((end_ns[:-1] == end_ns[1:]) | unknown[:-1] | unknown[1:])
    bad = np.zeros(int(session[-1]) + 1 if len(session) else 0, dtype=np.bool_)
    bad[session[1:][same & (over | instant)]] = True
    return bad[session]


# ------------------------------------------------------------------------------------------------ nodes


def _codes(*columns: Ints) -> Ints:
    """A number for each distinct row of the columns."""
    found = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        distinct, inverse = np.unique(column, return_inverse=True)
        found = found * max(1, len(distinct)) + inverse
    return found


def _find(wanted: Ints, known: Ints) -> tuple[Ints, Ints]:
    """For each wanted number where it stands in `known` (the first of them), and how often."""
    order = np.argsort(known, kind="stable")
    ordered = known[order]
    low, high = np.searchsorted(ordered, wanted, "left"), np.searchsorted(ordered, wanted, "right")
    count = high - low
    return np.where(count > 0, order[np.minimum(low, max(0, len(order) - 1))] if len(order) else -1, -1), count


class _Nodes:
    """Numbers the nodes: initial states, then writes, then values of nobody."""

    def __init__(self, *, keys: int, key: Ints, row: Ints, writes: Mask, value: Ints) -> None:
        self.writers = np.flatnonzero(writes)
        self.first_foreign = keys + len(self.writers)
        self.of_row = np.full(len(key), -1, dtype=np.int64)
        self.of_row[self.writers] = keys + np.arange(len(self.writers))
        self._key, self._value, self._keys = key, value, keys
        self.key_of_node = np.concatenate([np.arange(keys), key[self.writers]])
        self.value_of_node = np.concatenate([np.full(keys, ABSENT), value[self.writers]])
        self.writer_of_node = np.concatenate([np.full(keys, -1), row[self.writers]])

    def seen(self, *, sees: Mask, value: Ints, version: Ints, reads: Mask, ambiguous: Mask) -> Ints:
        """The node that each row saw: -1 where it saw none, or where that is not known."""
        found = np.full(len(sees), -1, dtype=np.int64)
        at = np.flatnonzero(sees)
        code = _codes(np.r_[self._key[at], self._key[self.writers]], np.r_[value[at], self._value[self.writers]])
        wanted, known = code[: len(at)], code[len(at) :]
        writer, count = _find(wanted, known)
        absent = value[at] == ABSENT
        open_absence = absent & ambiguous[self._key[at]]
        found[at] = np.where((count == 1) & ~open_absence, self._keys + writer, -1)
        found[at[absent & ~open_absence]] = self._key[at[absent & ~open_absence]]
        self._by_version(found, at, (wanted, known), absent, version, reads)
        foreign = (count == 0) & ~absent
        distinct, number = np.unique(wanted[foreign], return_inverse=True)
        found[at[foreign]] = self.first_foreign + number
        first = at[foreign][np.unique(number, return_index=True)[1]] if len(number) else at[:0]
        self.key_of_node = np.r_[self.key_of_node, self._key[first]]
        self.value_of_node = np.r_[self.value_of_node, value[first]]
        self.writer_of_node = np.r_[self.writer_of_node, np.full(len(distinct), -1)]
        return found

    def _by_version(
        self, found: Ints, at: Ints, codes: tuple[Ints, Ints], absent: Mask, version: Ints, reads: Mask
    ) -> None:
        """What a value alone does not tell, value and version may. Version 0 is that of a key never written."""
        wanted, known = codes
        told = (found[at] == -1) & reads[at] & (version[at] != NO_VERSION)
        if not told.any():
            return
        with_version = version[self.writers] != NO_VERSION
        code = _codes(
            np.r_[wanted[told], known[with_version]],
            np.r_[version[at[told]], version[self.writers[with_version]]],
        )
        writer, count = _find(code[: told.sum()], code[told.sum() :])
        places = at[told]
        node = self._keys + np.flatnonzero(with_version)[writer] if with_version.any() else writer
        never_written = absent[told] & (version[places] == 0)
        found[places] = np.where(count == 1, node, np.where(never_written, self._key[places], -1))


# ------------------------------------------------------------------------------------------------ events

# kind, chain (from 0 within the part), node, row, enters, leaves
_Part = tuple[Kind, Ints, Ints, Ints, Mask, Mask]


def _part(kind: Kind, chain: Ints, node: Ints, row: Ints, enters: Mask, leaves: Mask, keep: Mask) -> _Part:
    return kind, chain[keep], node[keep], row[keep], enters[keep], leaves[keep]


def _two(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Two columns as one, in turn."""
    return np.stack([first, second], axis=1).reshape(-1)


def _replaced(rows: _Rows) -> _Part:
    """A compare-and-set saw what it replaced: that came before what it wrote."""
    at = np.flatnonzero((rows.seen >= 0) & (rows.written >= 0))
    chain = np.repeat(np.arange(len(at)), 2)
    node, row = _two(rows.seen[at], rows.written[at]), np.repeat(rows.row[at], 2)
    enters = _two(np.ones(len(at), dtype=np.bool_), np.zeros(len(at), dtype=np.bool_))
    return Kind.REPLACED, chain, node, row, enters, ~enters


def _versions(rows: _Rows, nodes: _Nodes, version: Ints, reads: Mask, lost: dict[int, str]) -> _Part:
    """A larger version came later. Where versions contradict each other, they are not used."""
    node = np.where(reads, rows.seen, rows.written)
    at = np.flatnonzero((version != NO_VERSION) & (node >= 0))
    order = np.lexsort((node[at], version[at], rows.key[at]))
    at = at[order]
    key, number, of = rows.key[at], version[at], node[at]
    wrong = np.zeros(len(at), dtype=np.bool_)
    # One version, two nodes; or one node, two versions (its rows are not neighbours, so it is looked for by itself).
    wrong[1:] = (key[1:] == key[:-1]) & (number[1:] == number[:-1]) & (of[1:] != of[:-1])
    _, first, inverse = np.unique(of, return_index=True, return_inverse=True)
    wrong |= number != number[first][inverse]
    _note_lost(lost, key, wrong, number, _CONTRADICTING, str)
    keep = ~np.isin(key, key[wrong])
    both = np.ones(len(at), dtype=np.bool_)
    return _part(Kind.VERSIONS, key, of, rows.row[at], both, both, keep)


def _sessions(rows: _Rows, ordered: Mask) -> list[_Part]:
    """The four guarantees. An unknown write was not promised to anybody, so nothing has to come after it."""
    saw = (rows.seen >= 0) & rows.acknowledged & ordered
    wrote = (rows.written >= 0) & ordered
    done = wrote & rows.acknowledged
    none = np.zeros(len(saw), dtype=np.bool_)
    chain, row = np.repeat(rows.session, 2), np.repeat(rows.row, 2)
    # A compare-and-set reads and then writes; of itself it makes no promise to itself beyond `_replaced`.
    read_first, write_first = _two(rows.seen, rows.written), _two(rows.written, rows.seen)
    return [
        _part(Kind.READ_YOUR_WRITES, chain, read_first, row, _two(none, done), _two(saw, none), _two(saw, done)),
        _part(Kind.MONOTONIC_READS, rows.session, rows.seen, rows.row, saw, saw, saw),
        _part(Kind.MONOTONIC_WRITES, rows.session, rows.written, rows.row, done, wrote, wrote),
        _part(Kind.WRITES_FOLLOW_READS, chain, write_first, row, _two(none, saw), _two(wrote, none), _two(wrote, saw)),
    ]


def _joined(
    parts: list[_Part], rows: _Rows, nodes: _Nodes, operations: Operations, keys: Ints, lost: dict[int, str]
) -> Chains:
    chains, base = [], 0
    for _, chain, *_ in parts:
        chains.append(chain + base)
        base += int(chain[-1]) + 1 if len(chain) else 0
    return Chains(
        kind=np.concatenate([np.full(len(part[1]), int(part[0]), dtype=np.int64) for part in parts]),
        chain=np.concatenate(chains),
        node=np.concatenate([part[2] for part in parts]),
        row=np.concatenate([part[3] for part in parts]),
        enters=np.concatenate([part[4] for part in parts]),
        leaves=np.concatenate([part[5] for part in parts]),
        key_of_node=nodes.key_of_node,
        value_of_node=nodes.value_of_node,
        writer_of_node=nodes.writer_of_node,
        guess=_guess(rows, nodes, operations),
        keys=keys,
        lost=lost,
    )


def _guess(rows: _Rows, nodes: _Nodes, operations: Operations) -> Ints:
    """When each value was surely there: the earlier of its first end and its last start (Golab et al., ICDCS 2013).

    In a linearizable history without compare-and-set this is an order that explains it; here it is only a guess.
    """
    count = len(nodes.key_of_node)
    first_end, last_start = np.full(count, np.iinfo(np.int64).max), np.full(count, np.iinfo(np.int64).min)
    for node in (rows.seen, rows.written):
        at = np.flatnonzero(node >= 0)
        np.minimum.at(first_end, node[at], operations.end_ns[rows.row[at]])
        np.maximum.at(last_start, node[at], operations.start_ns[rows.row[at]])
    guess: Ints = np.minimum(first_end, last_start)
    return guess
