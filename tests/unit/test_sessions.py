"""Session guarantees: hand-made histories for each, and the meaning itself, tried on every order of the writes."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
from aftershock.harness import sessions
from aftershock.harness.porcupine import ABSENT, NO_VERSION, OPEN_NS, F, Model, Operations
from aftershock.harness.sessions import Guarantee, SessionOutcome, check_sessions
from aftershock.harness.verdict import Verdict

RYW, MR, MW, WFR = Guarantee


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    process: int
    f: F
    value: int
    expected: int = ABSENT
    version: int = NO_VERSION
    unknown: bool = False
    key: int = 0
    start_ns: int = 0
    end_ns: int = 0


def operations(ops: list[Op]) -> Operations:
    columns = {field.name: np.array([getattr(op, field.name) for op in ops]) for field in fields(Op)}
    return Operations(**columns)


def parse(text: str) -> Operations:
    """`1 write 5; 2 cas 5>9; 2 read -; 3 write 4 ?; 1 read 5 v3`: process, function, value; one after the other."""
    ops = []
    for number, line in enumerate(text.split(";")):
        process, f, *words = line.split()
        op = Op(process=int(process), f=F[f.upper()], value=ABSENT, start_ns=10 * number, end_ns=10 * number + 5)
        for word in words:
            if word == "?":
                op = replace(op, unknown=True)
            elif word.startswith("v"):
                op = replace(op, version=int(word[1:]))
            elif word != "-":
                expected, _, value = word.rpartition(">")
                op = replace(op, value=int(value), expected=int(expected) if expected.strip("-") else ABSENT)
        ops.append(op)
    return operations(ops)


def judged(text: str, model: Model = Model.CAS_REGISTER) -> SessionOutcome:
    return check_sessions(parse(text), model=model)


def verdicts(outcome: SessionOutcome) -> dict[Guarantee, str]:
    return {result.guarantee: str(result.verdict) for result in outcome.results}


def not_passed(outcome: SessionOutcome) -> dict[Guarantee, str]:
    return {guarantee: verdict for guarantee, verdict in verdicts(outcome).items() if verdict != "pass"}


# ------------------------------------------------------------------------------------------------ by hand


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("1 write 5; 1 read -", RYW),
        ("1 write 5; 1 read 9; 2 write 9; 2 read 5", RYW),
        ("1 cas ->5; 2 cas 5>9; 2 read 5", RYW),
        ("1 write 5; 2 read 5; 2 read -", MR),
        ("1 write 5; 2 write 9; 3 read 5; 3 read 9; 3 read 5", MR),
        ("1 write 5; 2 write 9; 3 read 5; 3 read 9; 4 read 9; 4 read 5", MR),
        ("1 cas ->5; 2 cas 5>9; 3 read 9; 3 read 5", MR),
        ("1 write 5; 1 write 9; 2 cas 9>5", None),
        ("1 write 5 v7; 1 write 9 v4", MW),
        ("1 write 5; 2 read 5; 2 write 9; 3 cas 9>7; 3 read 7", None),
        ("1 write 5 v7; 2 read 5 v7; 2 write 9 v4", WFR),
    ],
)
def test_each_guarantee_fails_where_it_alone_cannot_be_kept(text: str, broken: Guarantee | None) -> None:
    outcome = judged(text, Model.KEY_VALUE)
    if broken is None:
        assert Verdict.FAIL not in {result.verdict for result in outcome.results}
        return
    assert outcome.verdict is Verdict.FAIL
    assert outcome.keys_violated == (0,)
    assert verdicts(outcome)[broken] == "fail"
    found = next(result.counterexample for result in outcome.results if result.guarantee is broken)
    assert found is not None
    assert found.guarantees == (broken,)


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("1 write 5; 1 write 9; 1 read 5", (RYW, MW)),
        ("1 write 5; 1 write 9; 2 read 9; 2 read 5", (MR, MW)),
        ("1 write 5; 2 read 5; 2 write 9; 2 read 5", (RYW, WFR)),
        ("1 write 5; 2 read 5; 2 write 9; 3 read 9; 3 read 5", (MR, WFR)),
    ],
)
def test_what_only_two_together_rule_out_is_unknown_for_each_and_a_fail_in_all(
    text: str, pair: tuple[Guarantee, Guarantee]
) -> None:
    outcome = judged(text)
    assert outcome.verdict is Verdict.FAIL
    assert not_passed(outcome) == dict.fromkeys(pair, "unknown")
    (found,) = outcome.counterexamples
    assert found.guarantees == pair
    assert all("this or" in result.reason for result in outcome.results if result.verdict is Verdict.UNKNOWN)


@pytest.mark.parametrize(
    "text",
    [
        "1 write 5; 2 read -",  # stale, but not to a session that knew better
        "1 write 5; 2 write 9; 3 read 5",
        "1 write 5; 2 write 9; 3 read 9; 4 read 5",
        "1 cas ->5; 2 cas ->9",  # both inserted: no atomicity, yet no session saw anything wrong
        "1 cas ->5; 2 cas 5>7; 3 cas 5>9",
    ],
)
def test_what_is_not_linearizable_may_keep_all_of_them(text: str) -> None:
    from aftershock.harness.porcupine._brute import legal
    from aftershock.harness.porcupine._check import item

    given = parse(text)
    assert not legal([item(given, row) for row in range(len(given))], Model.CAS_REGISTER)
    outcome = judged(text)
    assert outcome.verdict is Verdict.PASS
    assert not_passed(outcome) == {}


def test_an_unanswered_write_binds_nobody() -> None:
    assert judged("1 write 5 ?; 1 read -").verdict is Verdict.PASS
    assert judged("1 write 5 ?; 1 write 9; 2 read 9; 2 read 5").verdict is Verdict.PASS
    # But what came after an acknowledged write in its session still came after it.
    assert judged("1 write 5; 1 write 9 ?; 2 read 9; 2 read 5").verdict is Verdict.FAIL


def test_the_sentence_names_processes_and_values() -> None:
    (found,) = judged("1 write 5; 1 write 9; 1 read 5").counterexamples
    assert found.reason == (
        "Process 1 wrote 5, then wrote 9, then read 5: no order of these writes keeps read your writes and "
        "monotonic writes."
    )
    assert found.rows == (0, 1, 2)
    (found,) = judged("4 write 5; 2 read 5; 2 read -").counterexamples
    assert found.reason == (
        "Process 2 read 5, then read nothing; the key held nothing only before the first write, as nobody deleted "
        "it: no order of these writes keeps monotonic reads."
    )
    assert (found.rows, found.writers) == ((1, 2), (0,))


def test_values_can_be_said_in_the_words_of_whoever_brought_them() -> None:
    words = {ABSENT: '"empty"', 5: '"a"'}
    outcome = check_sessions(parse("1 write 5; 1 read -"), model=Model.REGISTER, value_text=words.__getitem__)
    assert outcome.results[0].reason == (
        'Process 1 wrote "a", then read "empty"; the key held "empty" only before the first write, as nobody deleted '
        "it: no order of these writes keeps read your writes."
    )
    outcome = check_sessions(parse("1 read 5; 1 read 5"), model=Model.REGISTER, value_text=words.__getitem__)
    assert outcome.reason.endswith('nobody is known to have written ("a")')


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1 write 5; 2 write 5; 3 read 5; 3 read 5", "more than one operation may have written (5)"),
        ("1 write 5; 2 delete; 3 read -; 3 read 5", "more than one operation may have written (nothing)"),
        ("1 write 5; 2 read 7", "nobody is known to have written (7)"),
        ("1 write 5; 2 unequal 4>0; 2 read 5", "did not match 4"),
        ("1 cas 2>1; 2 cas 1>2", "contradict each other"),
        ("1 write 5 v3; 2 read 5 v4", "versions contradict"),
        ("1 write 5 v3; 2 write 6 v3", "versions contradict"),
    ],
)
def test_what_could_not_be_used_never_passes(text: str, why: str) -> None:
    outcome = judged(text, Model.KEY_VALUE)
    assert outcome.verdict is Verdict.UNKNOWN
    assert why in outcome.reason
    assert outcome.keys_unknown == (0,)
    assert {str(result.verdict) for result in outcome.results} == {"unknown"}


def test_what_is_certain_fails_although_other_answers_could_not_be_used() -> None:
    outcome = judged("1 write 5; 2 write 5; 3 write 7; 4 read 7; 4 read 5; 4 read -")
    assert verdicts(outcome) == {RYW: "unknown", MR: "fail", MW: "unknown", WFR: "unknown"}


def test_versions_tell_which_delete_was_seen() -> None:
    outcome = judged("1 write 5 v1; 2 delete v2; 3 write 6 v3; 4 read 6 v3; 4 read - v2", Model.KEY_VALUE)
    assert verdicts(outcome)[MR] == "fail"
    assert judged("4 read - v0; 1 write 5 v1; 2 delete v2; 4 read - v2", Model.KEY_VALUE).verdict is Verdict.PASS


def test_absence_proves_nothing_where_deletes_may_be_missing() -> None:
    given = parse("1 write 5; 1 read -")
    assert check_sessions(given, model=Model.CAS_REGISTER).verdict is Verdict.FAIL
    outcome = check_sessions(given, model=Model.CAS_REGISTER, absent_is_initial=False)
    assert outcome.verdict is Verdict.UNKNOWN


def test_a_process_with_two_operations_at_a_time_is_not_judged() -> None:
    ops = [
        Op(process=1, f=F.WRITE, value=5, start_ns=0, end_ns=20),
        Op(process=1, f=F.READ, value=ABSENT, start_ns=10, end_ns=30),
    ]
    outcome = check_sessions(operations(ops), model=Model.CAS_REGISTER)
    assert outcome.verdict is Verdict.UNKNOWN
    assert "process 1 had two operations under way at a time" in outcome.reason
    in_turn = [ops[0], replace(ops[1], start_ns=20)]  # touching: one process does one thing after the other
    assert check_sessions(operations(in_turn), model=Model.CAS_REGISTER).verdict is Verdict.FAIL


def test_other_models_and_no_operations_are_unknown() -> None:
    outcome = judged("1 add 5", Model.SET)
    assert outcome.verdict is Verdict.UNKNOWN
    assert "not for the model set" in outcome.reason
    assert check_sessions(operations([]), model=Model.REGISTER).verdict is Verdict.UNKNOWN


def test_keys_are_judged_apart() -> None:
    ops = [
        Op(process=1, f=F.WRITE, value=5, key=70, start_ns=0, end_ns=1),
        Op(process=1, f=F.READ, value=ABSENT, key=-3, start_ns=2, end_ns=3),
        Op(process=2, f=F.WRITE, value=5, key=-3, start_ns=4, end_ns=5),
        Op(process=1, f=F.READ, value=ABSENT, key=70, start_ns=6, end_ns=7),
        Op(process=1, f=F.WRITE, value=1, key=9, start_ns=8, end_ns=9),
        Op(process=2, f=F.WRITE, value=1, key=9, start_ns=8, end_ns=9),
        Op(process=2, f=F.READ, value=1, key=9, start_ns=10, end_ns=11),
    ]
    outcome = check_sessions(operations(ops), model=Model.REGISTER)
    assert (outcome.keys_violated, outcome.keys_unknown, outcome.keys_checked) == ((70,), (9,), 2)
    assert outcome.results[0].keys_violated == (70,)
    assert outcome.results[0].keys_unknown == (9,)
    (found,) = outcome.counterexamples
    assert (found.key, found.rows) == (70, (0, 3))


# ------------------------------------------------------------------------------------------------ the meaning itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One write of the key, or an unknown writer's. `row` is -1 for the latter."""

    row: int
    value: int


def keepable(ops: list[Op], chosen: frozenset[Guarantee], versions: bool) -> bool:
    """Whether some total order of the writes, and some set of writes that each read sees, keep all of `chosen`.

    Shares nothing with the checker: it looks for the sets themselves. Values are unique and nobody deletes.
    """
    events = [Event(row=row, value=op.value) for row, op in enumerate(ops) if op.f in (F.WRITE, F.CAS)]
    seen = {op.value if op.f is F.READ else op.expected for op in ops if op.f in (F.READ, F.CAS)}
    events += [Event(row=-1, value=value) for value in sorted(seen - {e.value for e in events} - {ABSENT})]
    return any(
        _facts(ops, order, versions) and all(_session(ops, session, order, chosen) for session in _sessions_of(ops))
        for order in itertools.permutations(events)
    )


def _sessions_of(ops: list[Op]) -> Iterator[list[int]]:
    for process in {op.process for op in ops}:
        yield sorted((row for row, op in enumerate(ops) if op.process == process), key=lambda row: ops[row].start_ns)


def _facts(ops: list[Op], order: tuple[Event, ...], versions: bool) -> bool:
    place = {event.value: i for i, event in enumerate(order)} | {ABSENT: -1}
    for op in ops:
        if op.f is F.CAS and place[op.expected] >= place[op.value]:
            return False
    told = {}
    for op in ops:
        if versions and op.version != NO_VERSION and not op.unknown:
            told[op.value] = op.version
    return all((told[a] < told[b]) == (place[a] < place[b]) for a, b in itertools.permutations(told, 2))


def _session(ops: list[Op], session: list[int], order: tuple[Event, ...], chosen: frozenset[Guarantee]) -> bool:
    place = {event.value: i for i, event in enumerate(order)}
    subsets = [frozenset(s) for size in range(len(order) + 1) for s in itertools.combinations(range(len(order)), size)]
    own: list[int] = []  # places of acknowledged writes
    read: list[int] = []  # places of what was read, -1 for the initial state
    possible = {frozenset[int]()}  # what the latest read may have seen
    for row in session:
        op = ops[row]
        if op.f in (F.READ, F.CAS) and not op.unknown:
            value = op.value if op.f is F.READ else op.expected
            last = place.get(value, -1)
            possible = {
                now
                for now in subsets
                if max(now, default=-1) == last
                and (RYW not in chosen or now.issuperset(own))
                and (MR not in chosen or any(before <= now for before in possible))
            }
            if not possible:
                return False
            if op.f is F.READ:
                read.append(last)
        if op.f in (F.WRITE, F.CAS):
            at = place[op.value]
            if MW in chosen and any(earlier >= at for earlier in own):
                return False
            if WFR in chosen and any(earlier >= at for earlier in read):
                return False
            if not op.unknown:
                own.append(at)
            if op.f is F.CAS and not op.unknown:
                read.append(place.get(op.expected, -1))
    return True


def random_history(rng: random.Random) -> list[Op]:
    """A tiny history of one key: unique values, no deletes; mostly nonsense, as it should be."""
    processes, values = rng.randint(1, 3), rng.sample(range(1, 9), rng.randint(1, 4))
    unwritten, ops = list(values), []
    with_versions = rng.random() < 0.3
    version = {value: rng.randint(1, 4) * 10 + value for value in values}
    if rng.random() < 0.6:
        version = {value: 10 * place for place, value in enumerate(values, start=1)}
    clock = dict.fromkeys(range(processes), 0)
    for _ in range(rng.randint(2, 7)):
        process = rng.randrange(processes)
        start = clock[process] + rng.randint(0, 3)
        end = start + rng.randint(1, 4)
        clock[process] = end
        writes = unwritten and rng.random() < 0.5
        value = unwritten.pop(0) if writes else rng.choice([*values, ABSENT])
        f = F.READ if not writes else F.CAS if rng.random() < 0.35 else F.WRITE
        expected = rng.choice([ABSENT, *(v for v in values if v != value)]) if f is F.CAS else ABSENT
        unknown = f is not F.READ and rng.random() < 0.15
        told = with_versions and value != ABSENT and rng.random() < 0.8
        ops.append(
            Op(
                process=process,
                f=f,
                value=value,
                expected=expected,
                version=version[value] if told else NO_VERSION,
                unknown=unknown,
                start_ns=start,
                end_ns=OPEN_NS if unknown else end,
            )
        )
    return rng.sample(ops, len(ops))  # the order of rows means nothing


def subsets() -> list[frozenset[Guarantee]]:
    return [frozenset(s) for size in range(1, 5) for s in itertools.combinations(Guarantee, size)]


def minimal_broken(ops: list[Op], versions: bool) -> set[frozenset[Guarantee]] | None:
    """By brute force. None: the facts alone contradict each other."""
    if not keepable(ops, frozenset(), versions):
        return None
    found: set[frozenset[Guarantee]] = set()
    for chosen in subsets():
        if not any(smaller <= chosen for smaller in found) and not keepable(ops, chosen, versions):
            found.add(chosen)
    return found


def agree(ops: list[Op], model: Model) -> str:
    """Compare checker and meaning; returns what kind of history it was."""
    outcome = check_sessions(operations(ops), model=model)
    broken = minimal_broken(ops, model is Model.KEY_VALUE)
    seen = {op.value if op.f is F.READ else op.expected for op in ops if op.f in (F.READ, F.CAS)}
    unwritten = seen - {op.value for op in ops if op.f is not F.READ} - {ABSENT}
    if broken is None:
        assert outcome.verdict is Verdict.UNKNOWN, outcome
        return "contradictory"
    assert (outcome.verdict is Verdict.FAIL) == bool(broken), (outcome, broken)
    for result in outcome.results:
        own = [chosen for chosen in broken if result.guarantee in chosen]
        alone = frozenset({result.guarantee}) in broken
        wanted = Verdict.FAIL if alone else Verdict.UNKNOWN if own or unwritten else Verdict.PASS
        assert result.verdict is wanted, (result, broken)
        assert (result.counterexample is not None) == bool(own)
        if result.counterexample is not None:
            assert frozenset(result.counterexample.guarantees) in own
    for found in outcome.counterexamples:
        minimal_and_still_broken(ops, found.rows, frozenset(found.guarantees), model)
    return "broken" if broken else "kept"


def minimal_and_still_broken(ops: list[Op], rows: tuple[int, ...], chosen: frozenset[Guarantee], model: Model) -> None:
    versions = model is Model.KEY_VALUE
    assert not keepable([ops[row] for row in rows], chosen, versions)
    for left_out in rows:
        assert keepable([ops[row] for row in rows if row != left_out], chosen, versions), (rows, left_out)


def sweep(count: int, seed: int) -> dict[str, int]:
    rng = random.Random(seed)
    kinds: dict[str, int] = {}
    for number in range(count):
        ops = random_history(rng)
        model = rng.choice([Model.CAS_REGISTER, Model.KEY_VALUE])
        try:
            kind = agree(ops, model)
        except AssertionError:
            print(f"seed {seed}, history {number}, {model}:", *ops, sep="\n")
            raise
        kinds[kind] = kinds.get(kind, 0) + 1
    return kinds


@pytest.mark.parametrize("repairs", [0, 12])
@pytest.mark.parametrize("seed", range(2))
def test_agrees_with_its_meaning_on_small_histories(seed: int, repairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without repairs everything that the first guess does not explain goes to the exact search."""
    monkeypatch.setattr(sessions, "_REPAIRS", repairs)
    kinds = sweep(60, seed)
    assert kinds["broken"] > 10
    assert kinds["kept"] > 10


def linearizable(rng: random.Random, *, count: int, processes: int) -> list[Op]:
    """A history that one register made: every operation takes effect at a moment of its own interval."""
    ops: list[Op] = []
    stored, written = ABSENT, 0
    clock = [rng.randrange(10) for _ in range(processes)]
    moments = []
    for _ in range(count):
        process = min(range(processes), key=lambda p: (clock[p], p))
        start = clock[process] + rng.randint(1, 3)
        end = start + rng.randint(2, 20)
        clock[process] = end
        moments.append((rng.uniform(start, end), process, start, end))
    for _, process, start, end in sorted(moments):
        f = rng.choice([F.READ, F.WRITE, F.CAS])
        written += f is not F.READ
        value = stored if f is F.READ else written
        ops.append(Op(process=process, f=f, value=value, expected=stored, version=written, start_ns=start, end_ns=end))
        stored = value
    return rng.sample(ops, len(ops))


@pytest.mark.parametrize("model", [Model.CAS_REGISTER, Model.KEY_VALUE])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_linearizable_keeps_all_of_them(seed: int, model: Model) -> None:
    ops = linearizable(random.Random(seed), count=1500, processes=12)
    outcome = check_sessions(operations(ops), model=model)
    assert outcome.verdict is Verdict.PASS, outcome.reason
    reads = [row for row, op in enumerate(ops) if op.f is F.READ and op.start_ns > 500]
    ops[reads[0]] = replace(ops[reads[0]], value=ABSENT, version=0)
    broken = check_sessions(operations(ops), model=model)
    assert broken.verdict is Verdict.FAIL
    assert all(reads[0] in found.rows for found in broken.counterexamples)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_agrees_with_its_meaning_on_many_histories() -> None:
    seed = int(os.environ.get("AFTERSHOCK_SEED", random.SystemRandom().randrange(2**32)))
    count = int(os.environ.get("AFTERSHOCK_FUZZ", "100000"))
    print(f"seed {seed}")
    kinds = sweep(count, seed)
    print(kinds)
    assert min(kinds["broken"], kinds["kept"]) > count // 20
