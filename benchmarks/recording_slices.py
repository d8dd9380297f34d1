"""What recording costs, without the noise of comparing runs: `python benchmarks/recording_slices.py [--pairs N]`.

One load process (Locust's users, sockets, schedule, everything) drives the stub service of the tests at a fixed rate,
and its recorder is exchanged every half second: a slice is recorded, the next is not. Between slices it waits until
no operation is in flight. Compared is the CPU time of the process per operation, slice by slice with its neighbour, so
whatever else the machine does in that second disturbs both alike. The figure is the median of the neighbours' ratios
with a 95 % interval (order statistics of the binomial distribution, which assume nothing about the noise).
"""

from gevent import monkey

monkey.patch_all()

# ruff: noqa: E402  # gevent must have patched the interpreter before anything imports sockets or ssl

import argparse
import math
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import gevent
from aftershock.harness.interfaces import Address
from aftershock.harness.scenario import LoadPlan
from aftershock.workloads.arrivals import Lane, worker_count
from aftershock.workloads.launcher import LoadSpec, specification
from aftershock.workloads.locustfile import Fleet
from aftershock.workloads.page import Page
from aftershock.workloads.recorder import NullRecorder, Recorder
from aftershock.workloads.worker import Shared, make_workloads
from recording import WORKLOADS, reference_clients, stub


def slice_us(fleet: Fleet, lanes: list[Lane], *, rate_per_s: float, operations: int) -> float:
    """Play one slice of the schedule to its last answer. Returns CPU microseconds of this process per operation."""
    began_ns, cpu_ns = time.monotonic_ns(), time.process_time_ns()
    fleet.shared.recorder.allocate()
    for number in range(operations):
        due_ns = began_ns + round(number * 1e9 / rate_per_s)
        wait_ns = due_ns - time.monotonic_ns()
        gevent.sleep(max(0.0, wait_ns / 1e9))
        fleet.dispatch(lanes[number % len(lanes)], due_ns)
    while fleet.idle_clients < fleet.clients:
        gevent.sleep(0.001)
    return (time.process_time_ns() - cpu_ns) / 1e3 / operations


def interval(values: list[float]) -> tuple[float, float]:
    """95 % interval of the median: the ranks between which it lies with that probability, whatever the distribution."""
    n = len(values)
    below, rank = 0.0, 0
    while below + math.comb(n, rank) / 2**n <= 0.025:
        below += math.comb(n, rank) / 2**n
        rank += 1
    ordered = sorted(values)
    return ordered[max(0, rank - 1)], ordered[min(n - 1, n - rank)]


def measure(
    address: Address, folder: Path, *, pairs: int, rate_per_s: float, operations: int
) -> list[tuple[float, float]]:
    """(recorded, unrecorded) CPU microseconds per operation of each pair of neighbouring slices."""
    clients = reference_clients("clients-r1", "clients-r2", address=address)
    load = LoadPlan(rate_per_s=rate_per_s)
    spec = specification(LoadSpec(seed=7, load=load, workloads=WORKLOADS, clients=clients, folder=folder))
    lanes = list(spec.lanes())
    recorder = Recorder(folder, "load-0", slots_per_file=65_536)
    shared = Shared(
        spec=spec,
        recorder=recorder,
        page=Page(folder / "load-0.page", seconds=600),
        workers=worker_count(spec.lanes()) + spec.final_workers,
        workloads=make_workloads(spec),
    )

    def crash(error: Exception) -> None:
        raise SystemExit(f"a client failed: {error!r}")

    fleet = Fleet(shared, lanes, crash=crash)
    fleet.start()
    for _ in range(2):  # connections, caches, the interpreter's specialisation
        slice_us(fleet, lanes, rate_per_s=rate_per_s, operations=operations)
    found = []
    for pair in range(pairs):
        us: dict[bool, float] = {}
        # Which comes first changes from pair to pair, so that a drift favours neither.
        for record in (True, False) if pair % 2 == 0 else (False, True):
            shared.recorder = recorder if record else NullRecorder()
            us[record] = slice_us(fleet, lanes, rate_per_s=rate_per_s, operations=operations)
        found.append((us[True], us[False]))
    if fleet.stopped is not None:
        raise SystemExit(f"the load stopped: {fleet.stopped}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--rate", type=float, default=2000, help="operations a second")
    parser.add_argument("--operations", type=int, default=1000, help="operations of a slice")
    arguments = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, load average {os.getloadavg()[0]:.1f} before the start")
    with tempfile.TemporaryDirectory(prefix="aftershock-benchmark-") as name, stub(Path(name)) as address:
        folder = Path(name) / "load"
        folder.mkdir()
        found = measure(
            address, folder, pairs=arguments.pairs, rate_per_s=arguments.rate, operations=arguments.operations
        )
    recorded, unrecorded = (statistics.median(side) for side in zip(*found, strict=True))
    ratios = [with_it / without for with_it, without in found]
    low, high = interval(ratios)
    print(f"{len(found)} pairs of slices of {arguments.operations} operations at {arguments.rate:g}/s")
    print(f"CPU per operation: recorded {recorded:.1f} us, unrecorded {unrecorded:.1f} us (medians)")
    print(f"ratio: median {statistics.median(ratios):.4f}, 95 % interval {low:.4f} to {high:.4f}", flush=True)
    os._exit(0)  # users still wait for arrivals that will not come


if __name__ == "__main__":
    main()
