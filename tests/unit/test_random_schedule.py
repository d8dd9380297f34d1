"""Random schedules: every seed's windows fit the load, keep the fault budget, and are replayed from the run's file."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from aftershock.harness.errors import ScenarioError
from aftershock.harness.fault_budget import Away, Cost, FaultBudget, cost_of, disk_losses_allowed
from aftershock.harness.registry import Registry
from aftershock.harness.scenario import Scenario, frame, parse, to_toml
from aftershock.harness.schedule import plan, resolve

from tests.unit.plugins import plugin

TEXT = """
name = "drawn"
[system]
name = "reference"
[load]
rate_per_s = 300
duration_s = 90
[[workload]]
name = "cas-register"
share = 1.0
[[fault]]
name = "noop"
start_s = 2
duration_s = 3
expect = "available"
[random]
gap_s = [1, 6]
duration_s = [2, 5]
[[random.fault]]
name = "kill"
weight = 2
target = "random-node"
[[random.fault]]
name = "pause"
duration_s = [3, 4]
rto_s = 4
[[random.fault]]
name = "partition"
"""
AT_ONCE = (
    TEXT.replace("gap_s = [1, 6]", "gap_s = [0, 3]\nat_once = 3")
    + """
[[random.fault]]
name = "kill"
target = ["n1", "n2"]
[[random.fault]]
name = "pause"
target = "half:node"
weight = 0.5
"""
)
WIPING = (
    AT_ONCE
    + """
[[random.fault]]
name = "wipe"
weight = 5
"""
)


def registry() -> Registry:
    made = Registry()
    made.add("system", plugin("reference", min_in_sync=(int, 2)), origin="test")
    made.add("backend", plugin("process"), origin="test")
    made.add("workload", plugin("cas-register"), origin="test")
    made.add("fault", plugin("noop"), origin="test")
    for name in ("kill", "pause", "partition", "wipe"):
        made.add("fault", plugin(name, target=(Any, "primary"), restart=(bool, True)), origin="test")
    wipe: Any = made.get("fault", "wipe")
    wipe.loses_disk = True
    return made


def parsed(text: str) -> Scenario:
    return parse(text, registry(), where="s.toml")


def problems(text: str) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        parsed(text)
    return caught.value.problems


def away(scenario: Scenario) -> list[Away]:
    drawn = [fault for fault in scenario.faults if fault.id.startswith("random-")]
    return [
        Away(start_s=f.start_s, end_s=f.end_s, cost=cost_of(f.settings, loses_disk=f.name == "wipe")) for f in drawn
    ]


@pytest.mark.parametrize("text", [TEXT, AT_ONCE, WIPING], ids=["one at a time", "three at once", "with lost disks"])
def test_every_seed_fits_the_load_keeps_the_budget_and_is_replayed(text: str) -> None:
    scenario = parsed(text)
    limits = frame(scenario)
    counts = set()
    for seed in range(200):
        resolved = resolve(scenario, seed)
        windows = away(resolved)
        counts.add(len(windows))
        assert windows, seed
        assert resolved.random is None
        for fault in resolved.faults:
            assert fault.start_s >= 2
            assert fault.end_s <= 90 + 1e-9
            assert fault.expect != "recovers" or fault.start_s + fault.rto_s <= 90 + 1e-9
        assert min(w.start_s for w in windows) >= 5, "after the control arm"
        assert limits.budget.broken_by(windows) is None, seed
        # The folder's scenario has every window; to read it and plan it again gives the same windows and choices.
        again = parsed(to_toml(resolved))
        assert again == resolved
        assert plan(again, seed) == plan(scenario, seed)
    assert len(counts) > 3, "seeds draw different schedules"


def test_same_seed_same_windows_and_another_seed_others() -> None:
    assert resolve(parsed(TEXT), 7) == resolve(parsed(TEXT), 7)
    assert resolve(parsed(TEXT), 7).faults != resolve(parsed(TEXT), 8).faults


def test_what_a_seed_draws_never_changes() -> None:
    """Written down once: the same seed must mean the same in every version of Aftershock and Python."""
    drawn = [(f.id, f.name, f.start_s, f.duration_s) for f in resolve(parsed(TEXT), 7).faults[1:4]]

    assert drawn == EXPECTED_OF_SEED_7


# The first numbers of each stream: printf 'aftershock/7/random/1' | sha256sum, sixteen digits, seed the gap and length.
EXPECTED_OF_SEED_7 = [
    ("random-1", "kill", 8.94, 2.17),
    ("random-2", "partition", 12.92, 4.65),
    ("random-3", "partition", 21.98, 4.98),
]


def test_weights_are_kept_and_gaps_and_durations_stay_in_their_ranges() -> None:
    names: dict[str, int] = {}
    for seed in range(200):
        faults = resolve(parsed(TEXT), seed).faults
        for before, fault in itertools.pairwise(faults):
            names[fault.name] = names.get(fault.name, 0) + 1
            assert 1 - 1e-9 <= fault.start_s - before.end_s <= 6.01
            low, high = (3, 4) if fault.name == "pause" else (2, 5)
            assert low <= fault.duration_s <= high
    total = sum(names.values())
    assert names["kill"] / total == pytest.approx(0.5, abs=0.04)
    assert names["pause"] / total == pytest.approx(0.25, abs=0.04)


def test_a_template_that_is_added_takes_windows_over_and_moves_none() -> None:
    more = TEXT + '[[random.fault]]\nname = "kill"\ntarget = "n3"\n'
    taken = 0
    for seed in range(50):
        before, after = resolve(parsed(TEXT.replace("duration_s = [3, 4]\n", "")), seed).faults, None
        after = resolve(parsed(more.replace("duration_s = [3, 4]\n", "")), seed).faults
        for old, new in zip(before, after, strict=False):
            assert (old.start_s, old.duration_s) == (new.start_s, new.duration_s)
            is_new = new.settings.get("target") == "n3"
            taken += is_new
            assert is_new or (old.name, old.settings) == (new.name, new.settings)
    assert taken > 20


def test_explicit_windows_keep_their_choices_whatever_is_drawn() -> None:
    alone = plan(parsed(TEXT.partition("[random]")[0]), 7)

    assert plan(parsed(TEXT), 7).window("f1").rng_seed == alone.window("f1").rng_seed


def test_it_draws_no_more_than_the_targets_can_bear() -> None:
    """At 300/s the ratio 0.9999 needs 10,000 operations outside recovery windows: 33.3 s of the 90."""
    tight = parsed(TEXT.replace("[random]", "[targets]\nsuccess_ratio = 0.9999\n[random]"))
    for seed in range(50):
        resolved = resolve(tight, seed)
        assert parsed(to_toml(resolved)) == resolved, "the drawn scenario is a valid one"
        assert len(resolved.faults) <= len(resolve(parsed(TEXT), seed).faults)


def test_count_limits_how_many() -> None:
    assert len(resolve(parsed(TEXT.replace("gap_s", "count = 2\ngap_s")), 7).faults) == 3


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("gap_s = [1, 6]", "gap = [1, 6]"), "random.gap: unknown key; did you mean 'gap_s'?"),
        (("gap_s = [1, 6]", "gap_s = [6, 1]"), "random.gap_s: value error, a range is two numbers, the smaller first"),
        (("duration_s = [2, 5]", "duration_s = [0, 5]"), "random.duration_s: value error, a window lasts longer"),
        (("weight = 2", "weight = 0"), "random.fault.0.weight: input should be greater than 0, found 0"),
        (('name = "kill"', 'name = "kil"'), "random.fault.0.name: unknown fault 'kil'; did you mean 'kill'?"),
        (("weight = 2", "wieght = 2"), "random.fault.0.wieght: unknown key; did you mean 'weight'?"),
        (("gap_s", "at_once = 0\ngap_s"), "random.at_once: input should be greater than or equal to 1, found 0"),
        (("gap_s", "from_s = 4\ngap_s"), "from 4 to 90 s, and f1 (noop) is on from 2 to 5 s; set random.from_s"),
        (("gap_s", "until_s = 99\ngap_s"), "random.until_s = 99: after the load (90 s)"),
        (("gap_s", "from_s = 80\nuntil_s = 70\ngap_s"), "from 80 s until 70 s, which leaves no time"),
        (("gap_s", "until_s = 14\ngap_s"), "random.fault.0 (kill): a window of up to 5 s (rto_s = 5) after a gap of"),
        (('target = "random-node"', 'target = ["n1", "n2"]'), "it breaks 2 members at once, and at_once = 1"),
        (('name = "partition"', 'name = "wipe"\nrto_s = 1'), None),
        (('name = "noop"', 'name = "noop"\nid = "random-1"'), "fault: the id 'random-1' belongs to the windows"),
        (('name = "drawn"', 'name = "drawn"\ncontrol = true'), "control: a control run may hold no fault but noop"),
        (
            ("[random]", "[targets]\nsuccess_ratio = 0.999962\n[random]"),
            "random.fault.0 (kill): one window already leaves too few operations",
        ),
    ],
)
def test_each_mistake_names_its_key_and_what_was_expected(change: tuple[str, str], expected: str | None) -> None:
    assert change[0] in TEXT
    text = TEXT.replace(*change, 1)
    if expected is None:
        assert parsed(text).random is not None
    else:
        assert any(expected in problem for problem in problems(text)), problems(text)


def test_no_template_and_no_table_are_told() -> None:
    head = TEXT.partition("[random]")[0]

    assert problems(head + "[random]\n") == [
        "random.fault: at least one kind of window is needed, written [[random.fault]]"
    ]
    assert "random: expected a table" in problems("random = 3\n" + head)[0]


def test_a_fault_that_loses_a_disk_needs_a_system_that_can_bear_it() -> None:
    text = WIPING.replace('name = "reference"', 'name = "reference"\nmin_in_sync = 1')

    assert any(
        "random.fault.5 (wipe): can never be drawn, because it loses 1 disk for good, and the fault budget of this "
        "system has room for 0" in problem
        for problem in problems(text)
    )


# ------------------------------------------------------------------------------------------------ the budget


@pytest.mark.parametrize(
    ("settings", "loses_disk", "cost"),
    [
        ({}, False, Cost(members=1)),
        ({"target": "primary:k"}, False, Cost(members=1)),
        ({"target": ["n1", "n2"]}, False, Cost(members=2)),
        ({"target": "half:node"}, False, Cost(members=None)),
        ({"target": ["n1", "40%:node"]}, False, Cost(members=None)),
        ({"restart": False}, False, Cost(members=1, for_good=True)),
        ({}, True, Cost(members=1, for_good=True, disks=1)),
    ],
)
def test_what_a_window_costs(settings: dict[str, Any], loses_disk: bool, cost: Cost) -> None:
    assert cost_of(settings, loses_disk=loses_disk) == cost


def test_lost_disks_that_a_system_can_bear() -> None:
    assert [disk_losses_allowed(s) for s in ({}, {"min_in_sync": 1}, {"min_in_sync": 3}, {"min_in_sync": "x"})] == [
        0, 0, 2, 0,
    ]  # fmt: skip


def test_the_budget_sees_what_breaks_it() -> None:
    """`broken_by` is what the property above rests on, so it must be able to say no."""
    budget = FaultBudget(at_once=2, disks=1)
    one, share = Cost(), Cost(members=None)
    windows = [Away(start_s=0, end_s=10, cost=one), Away(start_s=5, end_s=12, cost=one)]
    lost = [Away(start_s=t, end_s=t + 1, cost=Cost(for_good=True, disks=1)) for t in (20, 30)]

    assert budget.broken_by(windows) is None
    assert (
        budget.broken_by([*windows, Away(start_s=9, end_s=11, cost=one)]) == "3 members are away at 9 s, 2 are allowed"
    )
    assert budget.broken_by([*windows[1:], Away(start_s=11, end_s=13, cost=share)]) is not None
    assert budget.broken_by(lost) == "2 disks are lost for good, 1 are allowed"
    down = Away(start_s=0, end_s=1, cost=Cost(for_good=True))
    assert FaultBudget(at_once=1, disks=0).broken_by([down, Away(start_s=50, end_s=51, cost=one)]) is not None


def test_room_is_found_as_soon_as_there_is_some() -> None:
    budget, rng = FaultBudget(at_once=3, disks=1), random.Random(3)
    for _ in range(300):
        windows: list[Away] = []
        for _ in range(8):
            cost = rng.choice([Cost(), Cost(members=2), Cost(members=None), Cost(for_good=True)])
            from_s = max((w.start_s for w in windows), default=0.0)
            at_s = budget.room_s(windows, cost, from_s=from_s)
            if at_s is None:
                continue
            assert at_s >= from_s
            windows.append(Away(start_s=at_s, end_s=at_s + rng.choice([1.0, 2.0, 5.0]), cost=cost))
            assert budget.broken_by(windows) is None
            if at_s > from_s:
                hair = Away(start_s=at_s - 0.5, end_s=at_s + 9, cost=cost)
                assert budget.broken_by([*windows[:-1], hair]) is not None, "there was room before"
