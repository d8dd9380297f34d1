"""The engine `frontier`: registers with any values, unknown operations, and compare-and-sets that did not match."""

from __future__ import annotations

import os
import random
from dataclasses import replace

import pytest
from aftershock.harness.porcupine import ABSENT, OPEN_NS, Engine, F, Model, check
from aftershock.harness.porcupine._brute import legal
from aftershock.harness.verdict import Verdict

from tests.unit.porcupine import etcd_logs
from tests.unit.porcupine.agreement import item_of, verdicts
from tests.unit.porcupine.generate import Row, cas, delete, operations, read, write

SEED = os.environ.get("AFTERSHOCK_FUZZ_SEED", "20261123")


def unequal(expected: int, start_ns: int, end_ns: int) -> Row:
    return Row(f=F.UNEQUAL, expected=expected, start_ns=start_ns, end_ns=end_ns)


def judged(*rows: Row, model: Model = Model.CAS_REGISTER) -> bool | None:
    """What the engine says, which brute force must say too."""
    answer = verdicts(operations(rows), model, Engine.FRONTIER)[0]
    assert answer is legal([item_of(row) for row in rows], model)
    return answer


def test_an_unknown_write_may_be_needed_for_a_compare_and_set_not_to_match() -> None:
    seen = write(1, 0, 1), unequal(1, 2, 3)
    assert judged(*seen) is False
    assert judged(*seen, write(2, 0)) is True
    assert judged(*seen, delete(0)) is True
    assert judged(*seen, cas(1, 2, 0)) is True
    assert judged(*seen, write(1, 0)) is False
    assert judged(*seen, cas(3, 2, 0)) is False
    assert judged(*seen, write(2, 4)) is False


def test_unknown_compare_and_sets_are_chained() -> None:
    links = [cas(ABSENT, 1, 0), cas(1, 2, 0), cas(2, 3, 0), cas(3, 4, 0)]
    assert judged(*links, read(4, 9, 9)) is True
    assert judged(*links, read(4, 9, 9), read(2, 10, 10)) is False
    assert judged(*links, write(2, 10), read(4, 9, 9), read(2, 10, 10)) is True
    for missing in range(4):
        assert judged(*(link for link in links if link != links[missing]), read(4, 9, 9)) is False


def test_equal_unknown_operations_count_from_their_starts_on() -> None:
    reads = write(1, 0, 1), read(2, 2, 3), write(1, 4, 5), read(2, 6, 7)
    assert judged(*reads, write(2, 0)) is False
    assert judged(*reads, write(2, 0), write(2, 6)) is True
    assert judged(*reads, write(2, 0), write(2, 8)) is False


def test_of_equal_writes_the_one_that_was_open_is_used() -> None:
    """The write that ends first had not begun when the other one's value was read."""
    longer, shorter = write(2, 0, 20), write(2, 6, 8)
    assert judged(longer, read(2, 4, 5), write(3, 5, 5), shorter, read(2, 9, 9)) is True
    assert judged(longer, read(2, 4, 5), write(3, 9, 9), shorter, read(2, 10, 10)) is False
    assert judged(longer, read(2, 4, 5), write(3, 9, 9), shorter, read(3, 21, 21)) is True


def test_a_write_may_have_been_overwritten_unseen_but_only_while_it_was_open() -> None:
    assert judged(write(1, 0, 9), write(2, 0, 9), read(2, 3, 4), read(2, 10, 11)) is True
    assert judged(write(1, 5, 9), write(2, 0, 9), read(2, 3, 4), read(2, 10, 11)) is False
    assert judged(write(1, 5, 9), write(2, 0, 9), read(2, 3, 4), write(2, 7), read(2, 10, 11)) is True


def test_a_write_may_have_gone_unseen_right_before_an_unknown_one_that_changes_nothing() -> None:
    """The unknown delete finds the key absent, and is still needed: the write has to be somewhere."""
    assert judged(write(2, 5, 7), cas(ABSENT, 3, 6, 6), delete(3), read(3, 8, 9)) is True
    assert judged(write(2, 5, 7), cas(ABSENT, 3, 6, 6), read(3, 8, 9)) is False
    assert judged(write(2, 5, 7), cas(ABSENT, 3, 6, 6), delete(8), read(3, 8, 9)) is False


def test_times_that_touch_are_concurrent() -> None:
    assert judged(write(1, 0, 5), read(ABSENT, 5, 6)) is True
    assert judged(write(1, 0, 5), read(ABSENT, 6, 6)) is False
    assert judged(write(1, 0, 0), write(2, 0, 0), read(1, 0, 0), read(2, 0, 0), read(1, 1, 1)) is True


@pytest.mark.parametrize("count", [63, 64, 65, 200])
def test_any_number_of_operations_may_be_open(count: int) -> None:
    writes = [write(value, 0, 1000 + value) for value in range(count)]
    reads = [read(value, 10 * value, 10 * value + 5) for value in random.Random(SEED).sample(range(count), count)]
    reads = [replace(row, start_ns=10 * at, end_ns=10 * at + 5) for at, row in enumerate(reads)]
    rest = [read(reads[-1].value, 5000, 5001)]
    late = [read(reads[0].value, 5002, 5003)]

    in_time = [row for row in reads if row.end_ns < 1000]
    assert verdicts(operations(writes + in_time), Model.CAS_REGISTER, Engine.FRONTIER) == {0: True}
    assert verdicts(operations(writes + in_time + late + rest), Model.CAS_REGISTER, Engine.FRONTIER) == {0: False}


def test_a_violation_is_shown_with_its_few_operations() -> None:
    rng = random.Random(SEED)
    values = [rng.randint(1, 5) for _ in range(300)]
    pairs = [(write(v, 4 * at, 4 * at + 1), read(v, 4 * at + 2, 4 * at + 3)) for at, v in enumerate(values)]
    rows = [row for pair in pairs for row in pair]
    rows += [unequal(rows[-1].value, 2000, 2001)]

    outcome = check(operations(rows), model=Model.CAS_REGISTER, engine=Engine.FRONTIER)

    assert outcome.results[0].engine is Engine.FRONTIER
    found = outcome.results[0].counterexample
    assert outcome.verdict is Verdict.FAIL
    assert found is not None
    assert found.rejudged
    assert len(found.rows) < 10


def test_it_says_at_once_that_it_cannot_tell() -> None:
    queue = operations([Row(f=F.ENQUEUE, value=1, start_ns=0, end_ns=1)])
    assert verdicts(queue, Model.QUEUE, Engine.FRONTIER) == {0: None}
    versioned = operations([write(1, 0, 1, version=4), read(1, 2, 3, version=4)])
    assert verdicts(versioned, Model.KEY_VALUE, Engine.FRONTIER) == {0: None}
    assert judged(write(1, 0, 1), read(1, 2, 3), model=Model.KEY_VALUE) is True


def test_auto_asks_it_where_values_repeat() -> None:
    rows = [write(1, 0, 1), write(2, 2, 3), write(1, 4, 5), read(2, 6, 7)]
    outcome = check(operations(rows), model=Model.REGISTER)
    assert (outcome.verdict, outcome.results[0].engine) == (Verdict.FAIL, Engine.FRONTIER)
    outcome = check(operations(rows[:3]), model=Model.REGISTER)
    assert (outcome.verdict, outcome.results[0].engine) == (Verdict.PASS, Engine.FRONTIER)


@pytest.mark.skipif(etcd_logs.folder() is None, reason="Porcupine is not in this machine's Go module cache")
@pytest.mark.parametrize("engine", [Engine.FRONTIER, Engine.AUTO])
def test_jepsens_logs_of_etcd_get_their_known_verdicts(engine: Engine) -> None:
    folder = etcd_logs.folder()
    assert folder is not None
    numbers = [number for number in range(103) if number != 95]
    logs = {number: etcd_logs.read_log(folder / f"etcd_{number:03}.log", key=number) for number in numbers}

    found = verdicts(operations(row for rows in logs.values() for row in rows), Model.CAS_REGISTER, engine)

    assert found == {number: number in etcd_logs.LEGAL for number in numbers}
    assert len(found) == 102
    # As many as the logs are known to hold, so that the reader has lost none.
    everything = [row for rows in logs.values() for row in rows]
    assert sum(row.f is F.UNEQUAL for row in everything) == 1748
    assert sum(row.unknown for row in everything) == 1283


def crowded(rng: random.Random, *, key: int, most: int) -> list[Row]:
    """Few values, many overlaps, many unknown operations: what strains every shortcut that the engine takes."""
    count, values, spread = rng.randint(2, most), rng.randint(1, 3), rng.choice((0, 2, 6, 15, 40))
    share = rng.choice((0.0, 0.1, 0.3, 0.5))
    kinds = rng.choices((F.READ, F.WRITE, F.CAS, F.UNEQUAL, F.DELETE), [rng.randint(1, 5) for _ in range(5)], k=count)
    honest = rng.random() < 0.7
    state, point, rows = ABSENT, 0, []
    anything = (ABSENT, *range(1, values + 1))
    for f in kinds:
        point += rng.randint(0, rng.choice((1, 8)))
        unknown = rng.random() < share and f not in (F.READ, F.UNEQUAL)
        value, expected = rng.randint(1, values), state
        if f is F.READ:
            value = state if honest else rng.choice(anything)
        elif f is F.UNEQUAL:
            expected = rng.choice([one for one in anything if one != state or not honest])
        elif f is F.CAS and (unknown or not honest):
            expected = rng.choice(anything)
        if f in (F.WRITE, F.DELETE, F.CAS) and not (unknown and rng.random() < 0.5) and expected == state:
            state = ABSENT if f is F.DELETE else value
        end_ns = OPEN_NS if unknown else point + rng.randint(0, spread)
        start_ns = point - rng.randint(0, spread)
        rows.append(
            Row(key=key, f=f, value=value, expected=expected, start_ns=start_ns, end_ns=end_ns, unknown=unknown)
        )
    for _ in range(rng.choice((0, 0, 1, 2))):
        i = rng.randrange(count)
        rows[i] = replace(rows[i], value=rng.randint(1, values), expected=rng.choice(anything))
    rng.shuffle(rows)
    return rows


def disagreements(seed: str, *, count: int, most: int) -> tuple[list[str], int]:
    """What engines say that brute force does not, and how many histories were illegal."""
    rng = random.Random(seed)
    histories = [crowded(rng, key=key, most=most) for key in range(count)]
    expected = {key: legal([item_of(row) for row in rows], Model.CAS_REGISTER) for key, rows in enumerate(histories)}
    together = operations(row for rows in histories for row in rows)
    wrong = []
    for engine in (Engine.FRONTIER, Engine.PORCUPINE, Engine.AUTO):
        for key, answer in verdicts(together, Model.CAS_REGISTER, engine).items():
            if answer is not expected[key]:
                listed = "\n".join(f"    {row}" for row in histories[key])
                wrong.append(f"seed {seed!r} key {key}: {engine} says {answer}, not {expected[key]}:\n{listed}")
    return wrong, list(expected.values()).count(False)


def test_it_agrees_with_brute_force_on_crowded_histories() -> None:
    wrong, illegal = disagreements(SEED, count=1000, most=8)
    assert not wrong, wrong[0]
    assert 200 < illegal < 800


@pytest.mark.nightly
def test_it_agrees_with_brute_force_on_very_many() -> None:
    """AFTERSHOCK_FUZZ chooses how many, AFTERSHOCK_FUZZ_SEED which."""
    print(f"AFTERSHOCK_FUZZ_SEED={SEED}")
    for batch in range(int(os.environ.get("AFTERSHOCK_FUZZ", "200000")) // 5000):
        wrong, _ = disagreements(f"{SEED} {batch}", count=5000, most=11)
        assert not wrong, wrong[0]
