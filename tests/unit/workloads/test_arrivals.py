"""The schedule is absolute, even and complete."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from aftershock.workloads.arrivals import Lane, arrivals, lanes, planned_count, worker_count


def every_arrival(
    all_lanes: tuple[Lane, ...], processes: int, *, rate_per_s: float, duration_s: float
) -> list[tuple[int, Lane]]:
    found = []
    for process in range(processes):
        mine = list(arrivals(all_lanes, process=process, rate_per_s=rate_per_s, duration_s=duration_s))
        assert [due for due, _ in mine] == sorted(due for due, _ in mine)
        assert all(lane.process == process for _, lane in mine)
        found += mine
    return sorted(found, key=lambda arrival: arrival[0])


@pytest.mark.parametrize(("groups", "processes"), [(1, 1), (2, 1), (2, 2), (3, 4)])
def test_all_processes_together_play_one_even_schedule(groups: int, processes: int) -> None:
    made = lanes(groups=groups, processes=processes, in_flight=10)
    found = every_arrival(made, processes, rate_per_s=1000, duration_s=1.2)

    assert [due for due, _ in found] == [i * 1_000_000 for i in range(1200)]
    per_lane = Counter(lane.number for _, lane in found)
    assert set(per_lane.values()) == {1200 // (groups * processes)}


def test_a_lane_has_the_same_interval_throughout_and_its_own_phase() -> None:
    made = lanes(groups=2, processes=2, in_flight=10)
    found = every_arrival(made, 2, rate_per_s=100, duration_s=2)

    phases = set()
    for lane in made:
        due = [d for d, owner in found if owner == lane]
        phases.add(due[0])
        assert {b - a for a, b in itertools.pairwise(due)} == {40_000_000}
    assert phases == {0, 10_000_000, 20_000_000, 30_000_000}


def test_a_rate_that_divides_badly_does_not_drift() -> None:
    made = lanes(groups=1, processes=1, in_flight=1)
    found = every_arrival(made, 1, rate_per_s=7, duration_s=1000)

    assert len(found) == 7000
    assert found[-1][0] == round(6999 * 1e9 / 7)


@pytest.mark.parametrize(("rate", "duration", "expected"), [(300, 60, 18000), (30, 0.1, 3), (0.3, 1, 1), (3, 1.5, 5)])
def test_planned_count_is_what_is_due_before_the_end(rate: float, duration: float, expected: int) -> None:
    assert planned_count(rate_per_s=rate, duration_s=duration) == expected
    made = lanes(groups=2, processes=2, in_flight=1)
    assert len(every_arrival(made, 2, rate_per_s=rate, duration_s=duration)) == expected


@pytest.mark.parametrize("processes", [1, 3])
def test_clients_of_a_group_add_up_to_the_limit_in_flight(processes: int) -> None:
    made = lanes(groups=2, processes=processes, in_flight=400)

    for group in range(2):
        assert sum(lane.clients for lane in made if lane.group == group) == 400


def test_worker_numbers_do_not_overlap() -> None:
    made = lanes(groups=2, processes=3, in_flight=5)
    numbers = [n for lane in made for n in range(lane.first_worker, lane.overflow_worker + 1)]

    assert numbers == list(range(worker_count(made)))
