"""The state machine of a shard: operations, versions, and the bounded table of answered requests."""

from __future__ import annotations

from typing import Any

import pytest
from aftershock.systems_under_test.reference.messages import Entry, Kind, ReplyKind
from aftershock.systems_under_test.reference.state_machine import Cell, StateMachine, extend_chain, malformed


def _entry(index: int, kind: Kind, *args: Any, key: str = "k", number: int | None = None, born: int = 0) -> Entry:
    return Entry(index, 1, kind, ("c", index if number is None else number), born, key, args)


def _machine(*entries: Entry, dedupe_entries: int = 100) -> StateMachine:
    machine = StateMachine(dedupe_entries=dedupe_entries)
    for entry in entries:
        machine.apply(entry)
    return machine


def test_a_version_is_the_index_of_the_last_change_and_survives_deletion() -> None:
    machine = _machine(_entry(1, Kind.PUT, "a"), _entry(2, Kind.DELETE))
    assert machine.get("k") == Cell(False, None, 2)
    assert machine.get("never") == Cell(False, None, 0)


@pytest.mark.parametrize(
    ("expect", "kind"),
    [
        (["value", "a"], ReplyKind.OK),
        (["value", "b"], ReplyKind.CAS_FAILED),
        (["version", 1], ReplyKind.OK),
        (["version", 0], ReplyKind.CAS_FAILED),
        (["absent"], ReplyKind.CAS_FAILED),
        (("value", "a"), ReplyKind.OK),
    ],
)
def test_compare_and_set_is_evaluated_when_applied(expect: Any, kind: ReplyKind) -> None:
    machine = _machine(_entry(1, Kind.PUT, "a"))
    result = machine.apply(_entry(2, Kind.CAS, expect, "z"))
    assert result.kind is kind
    assert result.cell == (Cell(True, "z", 2) if kind is ReplyKind.OK else Cell(True, "a", 1))


def test_insert_is_compare_and_set_on_absence() -> None:
    machine = _machine(_entry(1, Kind.PUT, "a"), _entry(2, Kind.DELETE))
    assert machine.apply(_entry(3, Kind.CAS, ["absent"], "b")).kind is ReplyKind.OK


def test_incr_counts_from_zero_and_leaves_other_values_alone() -> None:
    machine = _machine(_entry(1, Kind.INCR, 2), _entry(2, Kind.INCR, 3), _entry(3, Kind.PUT, "text", key="t"))
    assert machine.get("k").value == 5
    assert machine.apply(_entry(4, Kind.INCR, 1, key="t")).kind is ReplyKind.CAS_FAILED
    assert machine.get("t") == Cell(True, "text", 3)


def test_a_repeated_request_gets_the_first_result_and_has_no_effect() -> None:
    machine = _machine()
    first = machine.apply(_entry(1, Kind.INCR, 1, number=7))
    machine.apply(_entry(2, Kind.INCR, 10))
    assert machine.apply(_entry(3, Kind.INCR, 1, number=7)) == first
    assert machine.get("k") == Cell(True, 11, 2)


def test_a_forgotten_request_is_too_old_and_a_new_one_is_not() -> None:
    machine = _machine(*(_entry(index, Kind.INCR, 1, born=index - 1) for index in range(1, 6)), dedupe_entries=3)
    assert machine.floor == 2
    assert machine.apply(_entry(6, Kind.INCR, 1, number=1, born=0)).kind is ReplyKind.TOO_OLD
    assert machine.get("k").value == 5
    assert machine.apply(_entry(7, Kind.INCR, 1, number=99, born=2)).kind is ReplyKind.OK


def test_digest_and_chain_do_not_depend_on_tuples_or_lists() -> None:
    one = [_entry(1, Kind.CAS, ("absent",), {"b": 1, "a": [1, 2]})]
    other = [_entry(1, Kind.CAS, ["absent"], {"a": (1, 2), "b": 1})]
    assert _machine(*one).digest() == _machine(*other).digest()
    assert extend_chain(b"", one) == extend_chain(b"", other)


def test_the_chain_tells_equal_states_of_different_logs_apart() -> None:
    one, other = [_entry(1, Kind.PUT, "a")], [_entry(1, Kind.PUT, "a", number=5)]
    assert _machine(*one).digest() == _machine(*other).digest()
    assert extend_chain(b"", one) != extend_chain(b"", other)


@pytest.mark.parametrize(
    ("kind", "args"),
    [
        ("put", ()),
        ("delete", (1,)),
        ("incr", ("1",)),
        ("incr", (True,)),
        ("cas", ("v", "w")),
        ("cas", (["value"], "w")),
        ("cas", ([], "w")),
        ("cas", (["newest", 1], "w")),
        ("noop", ()),
        ("get", ()),
    ],
)
def test_what_could_not_be_applied_is_named_before_it_is_logged(kind: str, args: tuple[Any, ...]) -> None:
    assert malformed(kind, args)


@pytest.mark.parametrize(
    ("kind", "args"),
    [("put", (None,)), ("delete", ()), ("incr", (0.5,)), ("cas", (("absent",), 1)), ("cas", (["version", 3], 1))],
)
def test_what_can_be_applied_is_not_refused(kind: str, args: tuple[Any, ...]) -> None:
    assert malformed(kind, args) is None
