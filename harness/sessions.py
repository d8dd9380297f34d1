"""Session guarantees: what each client may rely on about its own operations, where linearizability does not hold.

The guarantees are those of Terry, Demers, Petersen, Spreitzer, Theimer and Welch, "Session Guarantees for Weakly
Consistent Replicated Data" (PDIS 1994); a session is a process. The meaning here is the one that Viotti and Vukolić
give them ("Consistency in Non-Transactional Distributed Storage Systems", ACM Computing Surveys 49(1), 2016, section
3.5), for one key at a time. Real time plays no part but within a session.

**Definition.** For one key, a *write order* is a total order of its writes in which (the facts)

- the key's initial state, absent, comes before all writes,
- a compare-and-set comes after the write that it replaced,
- a write with a larger version comes later (`Model.KEY_VALUE` only).

Each answered read sees some set of writes and returns the last of them in the write order; an answered
compare-and-set is a read of what it replaced, and then a write. The write order keeps

- *read your writes*, when what a read returns is, or comes after, every write that its session made before and that was
  acknowledged;
- *monotonic reads*, when what a read returns is, or comes after, what its session read before;
- *monotonic writes*, when the acknowledged writes of a session come before its later writes;
- *writes follow reads*, when what a session read comes before what it wrote later (so it never is that).

A set of guarantees *can be kept* when some write order keeps all of it. A write without an answer binds nobody to see
it, and counts as written when somebody saw it. Of a key,

- a guarantee that alone cannot be kept **fails**,
- guarantees that can each be kept, but not together, are **unknown**, and at least one of them is broken: the answers
  do not tell which (a process writes 5, then 9, and reads 5: its own write is missing, or its writes changed places),
- the others pass, if everything that was answered could be used; else they are unknown.

The outcome as a whole is a fail as soon as the four cannot be kept together. A linearizable history keeps them all.

**Why this is exact.** When each value is written once, a read tells which write it returned, so each guarantee is a set
of pairs "x comes before y", or "x is y, or comes before y". Some total order fits all pairs exactly if they close no
circle, but for those that say of one write that it is itself; where one fits, each read may be said to see all writes
up to the one that it returned. Where a value has several
possible writers, the answers that showed it are left out: what fails still fails, and nothing passes.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from .porcupine import Model, Operations
from .session_chains import Chains, Kind, build_chains
from .session_cycles import GUARANTEES, Event, broken_sets, smallest_circle
from .session_words import sentence, value_name
from .verdict import Verdict

__all__ = ["Guarantee", "GuaranteeResult", "SessionCounterexample", "SessionOutcome", "check_sessions"]

_MODELS: Final = (Model.REGISTER, Model.CAS_REGISTER, Model.KEY_VALUE)
_REPAIRS: Final = 12


class Guarantee(enum.StrEnum):
    """The guarantees of one session."""

    READ_YOUR_WRITES = "read your writes"
    MONOTONIC_READS = "monotonic reads"
    MONOTONIC_WRITES = "monotonic writes"
    WRITES_FOLLOW_READS = "writes follow reads"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionCounterexample:
    """A few operations of one key that no write order explains without breaking one of `guarantees`."""

    key: int
    guarantees: tuple[Guarantee, ...]
    rows: tuple[int, ...]
    """Indices into the `Operations`, by start. Without any one of them these guarantees can be kept."""
    writers: tuple[int, ...]
    """Rows of the writes whose values `rows` saw, as far as they are not among them."""
    reason: str
    """One sentence: why it cannot be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuaranteeResult:
    """Verdict on one guarantee. On the keys of `keys_unknown` it may hold or not."""

    guarantee: Guarantee
    verdict: Verdict
    reason: str
    keys_violated: tuple[int, ...]
    keys_unknown: tuple[int, ...]
    counterexample: SessionCounterexample | None
    """Of a fail; or of an unknown, when this or another guarantee is broken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOutcome:
    """Verdict on a history. `keys_violated`: on these at least one guarantee is broken."""

    verdict: Verdict
    reason: str
    keys_checked: int
    keys_violated: tuple[int, ...]
    keys_unknown: tuple[int, ...]
    results: tuple[GuaranteeResult, ...]
    """One for each `Guarantee`, in its order."""

    @property
    def counterexamples(self) -> tuple[SessionCounterexample, ...]:
        """The distinct ones of `results`."""
        return tuple(dict.fromkeys(r.counterexample for r in self.results if r.counterexample is not None))


def check_sessions(
    operations: Operations,
    *,
    model: Model,
    absent_is_initial: bool = True,
    value_text: Callable[[int], str] = value_name,
) -> SessionOutcome:
    """Judge the session guarantees of a register's history, key by key, in the sense of this module.

    `absent_is_initial`: false says that deletes may be missing from the operations, so that an absent key proves
    nothing. `value_text` says a value in the sentences. Histories of other models, and empty ones, are unknown.
    O(n log n) where a ranking by time explains nearly everything; what it does not explain is searched exactly.
    """
    if model not in _MODELS:
        return _undecided(f"session guarantees are judged for registers only, not for the model {model}")
    if len(operations) == 0:
        return _undecided("the history holds no operations")
    chains = build_chains(operations, model=model, absent_is_initial=absent_is_initial, say=value_text)
    broken: dict[int, list[tuple[frozenset[Kind], list[Event]]]] = {}
    contradictory: dict[int, str] = {}
    for events in _unexplained(chains):
        key = int(chains.key_of_node[events[0].node])
        sets = broken_sets(events, [key])
        if sets is None:
            contradictory[key] = "its compare-and-sets or versions contradict each other"
        elif sets:
            broken.setdefault(key, []).extend((one, events) for one in sets)
    for key in broken.keys() & contradictory.keys():
        del broken[key]  # where the facts contradict each other, nothing follows from them
    for key, found in broken.items():
        # Stretches are searched apart: what one leaves open, another may have settled.
        broken[key] = [entry for entry in found if not any(other < entry[0] for other, _ in found)]
    return _outcome(_Found(operations, chains, broken, chains.lost | contradictory, value_text))


# ------------------------------------------------------------------------------------------------ ranking


def _unexplained(chains: Chains) -> Iterator[list[Event]]:
    """The events of each stretch of ranks that no ranking was found to explain; a circle never leaves its stretch.

    An event that contradicts the ranking spans the ranks between the nodes that it ties. A circle that goes up
    must come down again, so each gap between ranks that it crosses lies in such a span.
    """
    guess = chains.guess.copy()
    initial = len(chains.keys)
    guess[:initial] = np.iinfo(np.int64).min
    concerned = np.ones(len(chains.node), dtype=np.bool_)
    for repairs_left in range(_REPAIRS, -1, -1):
        by_rank = np.lexsort((np.arange(len(guess)), guess, chains.key_of_node))
        rank = np.empty_like(by_rank)
        rank[by_rank] = np.arange(len(by_rank))
        at = np.flatnonzero(concerned)
        above = _entered_before(chains, at, rank)
        at_rank = rank[chains.node[at]]
        read_its_future = (above == at_rank) & (chains.kind[at] == Kind.WRITES_FOLLOW_READS)
        wrong = chains.leaves[at] & ((above > at_rank) | read_its_future)
        bad_nodes, above = chains.node[at][wrong], above[wrong]
        if not len(bad_nodes):
            return
        bad_keys = np.zeros(initial, dtype=np.bool_)
        bad_keys[chains.key_of_node[bad_nodes]] = True
        concerned &= bad_keys[chains.key_of_node[chains.node]]
        if not repairs_left:
            yield from _stretches(chains, np.flatnonzero(concerned), rank, rank[bad_nodes], above)
            return
        free = (bad_nodes >= initial) & (above > rank[bad_nodes])
        later = guess[by_rank[above[free]]]
        np.maximum.at(guess, bad_nodes[free], later + (later < np.iinfo(np.int64).max))


def _entered_before(chains: Chains, at: npt.NDArray[np.int64], rank: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """For each event the highest rank that entered its chain before it, -1 where none did."""
    chain = chains.chain[at]
    width = len(rank) + 2
    value = np.where(chains.enters[at], rank[chains.node[at]], -1)
    # Chains ascend, so adding a multiple of the chain's number keeps the running maximum within each.
    running = np.maximum.accumulate(value + 1 + chain * width)
    before = np.full(len(at), -1, dtype=np.int64)
    same = chain[1:] == chain[:-1]
    before[1:] = np.where(same, running[:-1] - chain[1:] * width - 1, -1)
    return before


def _stretches(
    chains: Chains,
    at: npt.NDArray[np.int64],
    rank: npt.NDArray[np.int64],
    low: npt.NDArray[np.int64],
    high: npt.NDArray[np.int64],
) -> Iterator[list[Event]]:
    steps = np.zeros(len(rank) + 1, dtype=np.int64)
    np.add.at(steps, low, 1)
    np.add.at(steps, high, -1)
    # Between two ranks: how many spans cross the gap. A stretch is a run of crossed gaps.
    crossed = np.cumsum(steps)[:-1] > 0
    inside = crossed.copy()
    inside[1:] |= crossed[:-1]
    inside[low] = True
    begins = inside.copy()
    begins[1:] &= ~crossed[:-1]
    stretch = np.where(inside, np.cumsum(begins) - 1, -1)[rank[chains.node[at]]]
    at, stretch = at[stretch >= 0], stretch[stretch >= 0]
    order = np.argsort(stretch, kind="stable")
    at, stretch = at[order], stretch[order]
    for part in np.split(at, np.flatnonzero(np.diff(stretch)) + 1):
        columns = (chains.kind, chains.chain, chains.node, chains.row, chains.enters, chains.leaves)
        yield [Event(*values) for values in zip(*(column[part].tolist() for column in columns), strict=True)]


# ------------------------------------------------------------------------------------------------ outcome

_NAMES: Final[dict[Kind, Guarantee]] = dict(zip(GUARANTEES, Guarantee, strict=True))
_Broken = dict[int, list[tuple[frozenset[Kind], list[Event]]]]


def _undecided(reason: str) -> SessionOutcome:
    results = tuple(
        GuaranteeResult(
            guarantee=guarantee,
            verdict=Verdict.UNKNOWN,
            reason=reason,
            keys_violated=(),
            keys_unknown=(),
            counterexample=None,
        )
        for guarantee in Guarantee
    )
    return SessionOutcome(
        verdict=Verdict.UNKNOWN, reason=reason, keys_checked=0, keys_violated=(), keys_unknown=(), results=results
    )


class _Found(NamedTuple):
    """What came out, by the keys' indices."""

    operations: Operations
    chains: Chains
    broken: _Broken
    lost: dict[int, str]
    say: Callable[[int], str]

    def numbers(self, keys: Iterable[int]) -> tuple[int, ...]:
        """The keys' numbers in the operations."""
        return tuple(int(self.chains.keys[key]) for key in sorted(keys))


def _outcome(found: _Found) -> SessionOutcome:
    shown: dict[frozenset[Kind], SessionCounterexample] = {}
    results = tuple(_result(kind, found, shown) for kind in GUARANTEES)
    violated = found.numbers(found.broken)
    unknown = found.numbers(found.lost.keys() - found.broken.keys())
    verdict = Verdict.FAIL if violated else Verdict.UNKNOWN if unknown else Verdict.PASS
    keys = _keys(len(found.chains.keys))
    if verdict is Verdict.FAIL:
        broken = ", ".join(result.guarantee for result in results if result.verdict is Verdict.FAIL)
        reason = f"on {len(violated):,} of {keys} a session guarantee is broken" + (f" ({broken})" if broken else "")
    elif verdict is Verdict.UNKNOWN:
        reason = f"{len(unknown):,} of {keys} could not be decided: {found.lost[min(found.lost)]}"
    else:
        reason = f"every process could rely on its own operations, on {keys}"
    return SessionOutcome(
        verdict=verdict,
        reason=reason,
        keys_checked=len(found.chains.keys) - len(unknown),
        keys_violated=violated,
        keys_unknown=unknown,
        results=results,
    )


def _keys(count: int) -> str:
    return f"{count:,} {'key' if count == 1 else 'keys'}"


def _result(kind: Kind, found: _Found, shown: dict[frozenset[Kind], SessionCounterexample]) -> GuaranteeResult:
    """`shown` holds the counterexamples so far, so that guarantees that are broken together show the same one."""
    alone = {key for key, sets in found.broken.items() if any(one == {kind} for one, _ in sets)}
    among = {key for key, sets in found.broken.items() if any(kind in one for one, _ in sets)} - alone
    undecided = among | (found.lost.keys() - alone)
    keys = _keys(len(found.chains.keys))
    result = GuaranteeResult(
        guarantee=_NAMES[kind],
        verdict=Verdict.FAIL if alone else Verdict.UNKNOWN if undecided else Verdict.PASS,
        reason=f"kept on {keys}",
        keys_violated=found.numbers(alone),
        keys_unknown=found.numbers(undecided),
        counterexample=None,
    )
    if alone or among:
        key = min(alone or among)
        kinds, events = next(
            entry for entry in found.broken[key] if (entry[0] == {kind} if alone else kind in entry[0])
        )
        if kinds not in shown:
            shown[kinds] = _counterexample(found, key, kinds, events)
        example = shown[kinds]
        others = " or ".join(guarantee for guarantee in example.guarantees if guarantee is not result.guarantee)
        which = "" if alone else f"this or {others} is broken, and the answers do not tell which: "
        return replace(result, reason=f"{which}{example.reason}", counterexample=example)
    if undecided:
        why = found.lost[min(undecided)]
        return replace(result, reason=f"{len(undecided):,} of {keys} could not be decided: {why}")
    return result


def _counterexample(found: _Found, key: int, kinds: frozenset[Kind], events: Sequence[Event]) -> SessionCounterexample:
    operations, chains = found.operations, found.chains
    steps = smallest_circle(events, kinds, [key])
    rows = {row for step in steps for row in (step.source_row, step.target_row) if row >= 0}
    writers = {int(chains.writer_of_node[step.source]) for step in steps} - rows - {-1}

    def by_start(chosen: Iterable[int]) -> tuple[int, ...]:
        return tuple(sorted(chosen, key=lambda row: (int(operations.start_ns[row]), int(operations.end_ns[row]), row)))

    def value_of(node: int) -> int:
        return int(chains.value_of_node[node])

    return SessionCounterexample(
        key=int(chains.keys[key]),
        guarantees=tuple(_NAMES[kind] for kind in GUARANTEES if kind in kinds),
        rows=by_start(rows),
        writers=by_start(writers),
        reason=sentence(operations, steps, by_start(rows), value_of=value_of, say=found.say),
    )
