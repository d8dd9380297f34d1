"""Values are unique by construction, and processes are never shared."""

from __future__ import annotations

import pytest
from aftershock.harness.errors import InternalError
from aftershock.workloads.values import OPERATIONS_PER_PROCESS, Identity, decode_value, encode_value


def test_a_value_says_who_wrote_it_and_when() -> None:
    assert encode_value(5, 3) == 5_000_003
    assert decode_value(5_000_003) == (5, 3)


@pytest.mark.parametrize(("process", "sequence"), [(-1, 1), (0, 0), (0, OPERATIONS_PER_PROCESS), (2**53, 1)])
def test_a_value_that_would_not_be_unique_or_exact_is_refused(process: int, sequence: int) -> None:
    with pytest.raises(InternalError, match=r"2\^53"):
        encode_value(process, sequence)


def test_workers_never_share_a_process_however_often_they_renew() -> None:
    workers = [Identity(worker=number, workers=7) for number in range(7)]
    seen = set()
    for _ in range(50):
        for worker in workers:
            seen.add(worker.process)
            worker.renew()

    assert len(seen) == 7 * 50


def test_a_renewed_process_starts_a_new_sequence() -> None:
    identity = Identity(worker=2, workers=10)
    identity.begin()
    first = identity.value()
    identity.renew()
    identity.begin()

    assert (identity.process, identity.sequence) == (12, 1)
    assert identity.value() != first


def test_a_second_value_in_one_operation_is_refused() -> None:
    identity = Identity(worker=0, workers=1)
    identity.begin()
    identity.value()

    with pytest.raises(InternalError, match="second value"):
        identity.value()


def test_a_used_up_process_is_renewed() -> None:
    identity = Identity(worker=0, workers=3)
    identity.sequence = OPERATIONS_PER_PROCESS - 1
    identity.begin()

    assert (identity.process, identity.sequence) == (3, 1)
