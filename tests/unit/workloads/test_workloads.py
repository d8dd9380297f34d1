"""The two workloads: same seed, same stream; values never twice; settings that make sense."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from aftershock.harness.interfaces import Workload
from aftershock.workloads.cas_register import CasRegister, CasRegisterSettings
from aftershock.workloads.insert_only import InsertOnly, InsertOnlySettings
from aftershock.workloads.requests import Request
from aftershock.workloads.spec import LoadFile, make_space
from aftershock.workloads.worker import Stream, make_workloads
from pydantic import ValidationError


def specification(*, seed: int = 7, cas: dict[str, Any] | None = None) -> LoadFile:
    return LoadFile(
        token="test",
        seed=seed,
        rate_per_s=100,
        duration_s=1,
        timeout_s=1,
        in_flight=3,
        processes=1,
        record=True,
        slots_per_file=10,
        final_workers=0,
        client="aftershock.workloads.clients.reference:ReferenceClient",
        groups=(),
        spaces=(
            make_space("cas-register", 0.5, cas or {}, CasRegister),
            make_space("insert-only", 0.5, {}, InsertOnly),
        ),
    )


def requests_of(spec: LoadFile, worker: int, count: int = 200) -> list[tuple[int, Request]]:
    stream = Stream(spec, make_workloads(spec), worker=worker, workers=10)
    return [stream.next() for _ in range(count)]


def test_the_same_seed_gives_the_same_stream_per_worker() -> None:
    assert requests_of(specification(seed=1), 3) == requests_of(specification(seed=1), 3)
    assert requests_of(specification(seed=1), 3) != requests_of(specification(seed=2), 3)


def test_workers_have_streams_of_their_own() -> None:
    shapes = {tuple((space, r.f) for space, r in requests_of(specification(), worker)) for worker in range(10)}

    assert len(shapes) == 10


def test_answers_do_not_shift_a_stream() -> None:
    """What was seen decides only a cas's `expected` and which key is read: neither function, order nor values."""
    spec = specification()
    workloads = make_workloads(spec)
    stream = Stream(spec, workloads, worker=3, workers=10)
    fed = []
    for number in range(200):
        space, request = stream.next()
        fed.append((space, request.value))
        workloads[space].saw(request.key, number)
    unfed = requests_of(spec, 3)

    shifted = [(a, (b, r.value)) for a, (b, r) in zip(fed, unfed, strict=True) if a != (b, r.value)]
    # Only a read of an inserted key may have been an insert, as long as nothing had been inserted.
    assert all(a[0] == b[0] == 1 for a, b in shifted)


def test_no_value_is_ever_used_twice() -> None:
    spec = specification()
    values = [r.value for worker in range(10) for _, r in requests_of(spec, worker) if r.value is not None]

    assert len(values) == len(set(values)) > 1000


def test_cas_expects_what_was_seen_last_and_absence_otherwise() -> None:
    spec = specification(cas={"keys": 1, "read": 0, "write": 0, "cas": 1})
    workload = make_workloads(spec)[0]
    stream = Stream(spec, [workload, workload], worker=0, workers=1)

    assert stream.next()[1].expected is None
    workload.saw(0, 42)
    assert stream.next()[1].expected == 42
    workload.saw(0, None)
    assert stream.next()[1].expected is None


def test_the_mix_is_the_one_that_was_asked_for() -> None:
    counts = Counter(r.f for w in range(10) for space, r in requests_of(specification(), w, 500) if space == 0)
    total = sum(counts.values())

    assert counts["read"] / total == pytest.approx(0.5, abs=0.05)
    assert counts["write"] / total == pytest.approx(0.3, abs=0.05)
    assert counts["cas"] / total == pytest.approx(0.2, abs=0.05)


def test_insert_only_reads_only_keys_that_were_seen_lately() -> None:
    spec = specification()
    workload = InsertOnly(InsertOnlySettings(read=0.9, recent=3))
    stream = Stream(spec, [workload, workload], worker=0, workers=1)
    assert stream.next()[1].f == "insert"  # there is nothing to read yet
    for key in range(10):
        workload.saw(key, key)
        workload.saw(key, key)  # a read of it adds nothing
    reads = {r.key for _, r in (stream.next() for _ in range(100)) if r.f == "read"}

    assert reads == {7, 8, 9}


def test_a_mix_that_does_not_add_up_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"add up to 1\.2, expected 1"):
        CasRegisterSettings(read=0.7)


@pytest.mark.parametrize("kind", [CasRegister, InsertOnly])
def test_built_ins_keep_the_protocol_of_the_seams(kind: Any) -> None:
    assert isinstance(kind(kind.settings()), Workload)


def test_hot_keys_are_those_that_the_stream_uses() -> None:
    settings = CasRegisterSettings(keys=3)
    workload = CasRegister(settings)
    stream = Stream(specification(), [workload, workload], worker=0, workers=1)
    used = {f"{CasRegister.key_prefix}{stream.next()[1].key}" for _ in range(100)}

    assert used == set(CasRegister.hot_keys(settings)) == {"h-0", "h-1", "h-2"}
    assert InsertOnly.hot_keys(InsertOnlySettings()) == ()
