"""How much one load process can record: `python benchmarks/recording.py`. What it costs: `recording_slices.py`.

Needs the package importable (installed, or PYTHONPATH=.ns) and about a minute. The stub service of the tests runs on
one core and the load process on another, where there are two.

1. **Writing** an invocation and a completion by itself, which noise from other programs disturbs least.
2. **Most that one load process records.** The rate is raised step by step; a step holds when at least 99 % of the
   planned operations started within 50 ms of their time and all were answered. Latencies are from the schedule.
3. **Conversion** of a million slots to Arrow.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from aftershock.harness.interfaces import Address, ClientSpec
from aftershock.harness.operation import Outcome
from aftershock.harness.scenario import LoadPlan, WorkloadPlan
from aftershock.workloads.convert import convert
from aftershock.workloads.launcher import LoadSpec, start_load
from aftershock.workloads.outcomes import Completion
from aftershock.workloads.page import Counter, Page
from aftershock.workloads.recorder import NullRecorder, Recorder
from aftershock.workloads.requests import Request
from aftershock.workloads.slots import HEADER_BYTES, SLOT, State, header
from aftershock.workloads.spec import SPEC_FILE

STUB = Path(__file__).resolve().parent.parent / "tests" / "processes" / "stub_service.py"
WORKLOADS = (WorkloadPlan(name="cas-register", share=0.5), WorkloadPlan(name="insert-only", share=0.5))


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One run of the load."""

    answered: int
    cpu_us_per_operation: float
    cpu_share: float
    on_time_ratio: float | None
    p50_ms: float | None
    p99_ms: float | None


@contextmanager
def stub(folder: Path) -> Iterator[Address]:
    """The service of the tests, on the last core."""
    port_file = folder / "port"
    process = subprocess.Popen([sys.executable, str(STUB), str(port_file), "--uvloop"], stdin=subprocess.PIPE)
    try:
        os.sched_setaffinity(process.pid, {max(os.sched_getaffinity(0))})
        while not port_file.exists():
            if process.poll() is not None:
                raise SystemExit(f"the stub service ended with status {process.returncode}")
            time.sleep(0.01)
        yield Address("127.0.0.1", int(port_file.read_text()))
    finally:
        process.kill()
        process.wait()


def reference_clients(*groups: str, address: Address) -> ClientSpec:
    """Clients of the reference cluster's API, which the stub speaks."""
    return ClientSpec(
        client="aftershock.workloads.clients.reference:ReferenceClient",
        groups={group: {"router": address} for group in groups},
    )


def run(address: Address, *, rate_per_s: float, duration_s: float, record: bool) -> Measured:
    """One load process, on the first core, against a service that answers at once."""
    with tempfile.TemporaryDirectory(prefix="aftershock-benchmark-") as name:
        folder = Path(name) / "load"
        load = LoadPlan(rate_per_s=rate_per_s, duration_s=duration_s, record=record)
        clients = reference_clients("clients-r1", "clients-r2", address=address)
        spec = LoadSpec(seed=7, load=load, workloads=WORKLOADS, clients=clients, folder=folder)
        with start_load(spec) as handle:
            for pid in handle.pids:
                os.sched_setaffinity(pid, {min(os.sched_getaffinity(0))})
            handle.begin(time.monotonic_ns() + 100_000_000)
            if not handle.wait(duration_s + 30) or handle.alive() is not None:
                raise SystemExit(f"the load did not come to its end: {handle.alive()}")
            answered = handle.progress().ok
            if not answered:
                raise SystemExit("the stub service answered nothing; see what it printed above")
        page = Page(folder / "load-0.page")
        cpu_ns = page[Counter.CPU_NOW_NS] - page[Counter.CPU_BEGIN_NS]
        clock_ns = page[Counter.CLOCK_NOW_NS] - page[Counter.CLOCK_BEGIN_NS]
        page.close()
        on_time = p50_ms = p99_ms = None
        if record:
            history = Path(name) / "history"
            on_time = convert(folder, history, shard_of=lambda key: None)["on_time_ratio"]
            ok = pl.read_ipc_stream(history / "load-0.arrow").filter(pl.col("outcome") == "ok")
            latency_ms = (ok["end_ns"] - ok["intended_ns"]) / 1e6
            p50_ms, p99_ms = latency_ms.quantile(0.5), latency_ms.quantile(0.99)
    return Measured(
        answered=answered,
        cpu_us_per_operation=cpu_ns / 1e3 / max(1, answered),
        cpu_share=cpu_ns / clock_ns,
        on_time_ratio=on_time,
        p50_ms=p50_ms,
        p99_ms=p99_ms,
    )


def most(address: Address, *, duration_s: float) -> None:
    """Print the steps of the rate until the load process has no CPU left."""
    print(f"\n2. Most that one load process records, steps of {duration_s:g} s")
    print("   planned/s   answered/s   on time    CPU   p50 ms   p99 ms   holds")
    highest = 0
    for rate in (500, 1000, 2000, 4000, 6000, 8000, 10_000, 12_000, 15_000, 20_000):
        m = run(address, rate_per_s=rate, duration_s=duration_s, record=True)
        holds = (m.on_time_ratio or 0) >= 0.99 and m.answered >= 0.999 * rate * duration_s
        highest = rate if holds else highest
        print(
            f"   {rate:9}   {m.answered / duration_s:10.0f}   {m.on_time_ratio:7.2%}   {m.cpu_share:4.0%}"
            f"   {m.p50_ms:6.2f}   {m.p99_ms:6.1f}   {'yes' if holds else 'no'}",
            flush=True,
        )
        if m.cpu_share > 0.95 or m.answered < 0.9 * rate * duration_s:
            break
    print(f"   highest step that held: {highest} operations/s")


def alone(*, operations: int = 200_000) -> None:
    """Print what writing an invocation and a completion takes by itself."""
    done = Completion(Outcome.OK, "done", version=7)
    request = Request("write", 3, 5_000_001)
    where = {"space": 0, "group": 0, "worker": 1, "process": 5, "sequence": 1, "intended_ns": 1}
    per_operation_us: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="aftershock-benchmark-") as name:
        recorder = Recorder(Path(name), "alone", slots_per_file=operations)
        for what, candidate in (("recorded", recorder), ("unrecorded", NullRecorder())):
            began_ns = time.process_time_ns()
            for _ in range(operations):
                slot, start_ns = candidate.invoke(request, **where)
                candidate.complete(slot, start_ns, done)  # type: ignore[arg-type]
            per_operation_us[what] = (time.process_time_ns() - began_ns) / 1e3 / operations
    print("\n1. Writing an invocation and a completion, in a loop")
    print(
        f"   recorded {per_operation_us['recorded']:.2f} us, unrecorded {per_operation_us['unrecorded']:.2f} us of CPU"
    )


def conversion(address: Address) -> None:
    """Print how long a million slots take."""
    with tempfile.TemporaryDirectory(prefix="aftershock-benchmark-") as name:
        folder = Path(name) / "load"
        clients = reference_clients("clients-r1", address=address)
        spec = LoadSpec(seed=7, load=LoadPlan(), workloads=WORKLOADS, clients=clients, folder=folder)
        with start_load(spec):
            pass
        slots = np.zeros(1_000_000, dtype=SLOT)
        slots["state"] = State.COMPLETE
        slots["f"] = slots["space"] = np.arange(len(slots)) % 2
        slots["f"] *= 3  # half reads of 20 keys, half inserts of a key each
        slots["key"] = np.where(slots["space"] == 1, np.arange(len(slots)) + 5_000_000, np.arange(len(slots)) % 20)
        (folder / "load-0-000000.slots").write_bytes(header(len(slots)).ljust(HEADER_BYTES, b"\0") + slots.tobytes())
        assert (folder / SPEC_FILE).exists()
        began = time.monotonic()
        convert(folder, Path(name) / "history", shard_of=lambda key: hash(key) % 16)
        took_s = time.monotonic() - began
        size = (Path(name) / "history" / "load-0.arrow").stat().st_size
    print(
        f"\n3. Conversion of {len(slots):,} slots: {took_s:.2f} s, {size / len(slots):.1f} bytes an operation in Arrow"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--duration", type=float, default=5, help="seconds of each run")
    arguments = parser.parse_args()
    cores, busy = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    print(f"Python {sys.version.split()[0]}, {cores} cores, load average {busy:.1f} before the start")
    with tempfile.TemporaryDirectory(prefix="aftershock-benchmark-") as name, stub(Path(name)) as address:
        alone()
        most(address, duration_s=arguments.duration)
        conversion(address)


if __name__ == "__main__":
    main()
