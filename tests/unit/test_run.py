"""A failed heal outranks whatever else happens on the way out."""

from __future__ import annotations

import errno

import pytest
from aftershock.harness.errors import HealError
from aftershock.harness.run import _heal_error_behind


def _raise_behind_a_failed_heal(second: BaseException) -> None:
    try:
        raise HealError("flow n1 -> n2 is still blocked")
    finally:
        raise second


@pytest.mark.parametrize("second", [OSError(errno.ENOSPC, "full"), RuntimeError("bug"), KeyboardInterrupt()])
def test_a_failed_heal_is_found_behind_what_was_raised_after_it(second: BaseException) -> None:
    with pytest.raises(type(second)) as caught:
        _raise_behind_a_failed_heal(second)

    found = _heal_error_behind(caught.value)
    assert found is not None
    assert "still blocked" in str(found)


def test_nothing_is_made_up() -> None:
    assert _heal_error_behind(RuntimeError("bug")) is None
