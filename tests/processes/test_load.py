"""The load against a stub service: schedule, accounting, renewal, final reads, and no process left behind."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from aftershock.harness.errors import SetupError, UsageError
from aftershock.harness.interfaces import Address
from aftershock.harness.scenario import WorkloadPlan

from .load_support import Service, gone, history_of, listening, loading, serving, wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path) as running:
        yield running


@pytest.fixture
def nobody() -> Address:
    """An address that refuses connections."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return Address(*listener.getsockname())


@contextlib.contextmanager
def few_files_for_children(most: int) -> Iterator[None]:
    """Lower the limit of what is started meanwhile. A shell does it: this process could not raise its own again."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        python = Path(folder) / "python"
        python.write_text(f'#!/bin/sh\nulimit -n {most} || exit 99\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
        patch.setattr(sys, "executable", str(python))
        yield


def assert_processes_are_sequential(history: pl.DataFrame) -> None:
    """No process overlaps itself, and one with an unknown operation did nothing after it."""
    started = history.filter(pl.col("start_ns").is_not_null()).sort("process", "start_ns")
    following = started.with_columns(next_ns=pl.col("start_ns").shift(-1).over("process"))
    overlap = following.filter(
        pl.col("next_ns").is_not_null() & (pl.col("end_ns").is_null() | (pl.col("end_ns") > pl.col("next_ns")))
    )
    assert overlap.is_empty(), overlap


def goes_first(pid: int) -> bool:
    """As root: nice -10, and its session too, where the kernel shares out by sessions."""
    session, wanted = Path(f"/proc/{pid}/autogroup"), -10 if os.geteuid() == 0 else 0
    shared = not session.exists() or session.read_text().endswith(f" nice {wanted}\n")
    return os.getpriority(os.PRIO_PROCESS, pid) == wanted and shared


def test_a_whole_load_is_recorded_and_everybody_agrees_on_it(service: Service, tmp_path: Path) -> None:
    groups = {"clients-r1": service.address, "clients-r2": service.address}
    with loading(tmp_path / "load", groups, rate_per_s=300, duration_s=2, processes=2) as load:
        assert [listening(pid) for pid in load.pids] == [[], []], "Locust must not listen anywhere"
        wait_until(lambda: all(goes_first(pid) for pid in load.pids), "the load processes go before others")
        assert load.wait(60)
        assert load.alive() is None
        progress = load.progress()
        reads = load.final_reads(deadline_s=20)
        assert (reads.failed, reads.problem) == ((), None)
        with pytest.raises(UsageError, match="made once"):
            load.final_reads(deadline_s=1)
    history, summary = history_of(tmp_path / "load")

    planned = history.filter(~pl.col("final"))
    final = history.filter("final")
    assert len(planned) == summary["planned"] == progress.planned == 600
    assert progress.sent == summary["sent"] == planned["start_ns"].is_not_null().sum()
    assert progress.in_flight == summary["holes"] == summary["unplayed"] == 0
    assert summary["generator_cpu"] > 0
    assert summary["died"] is None
    # Every second arrival is a group's, and the schedule is exactly even.
    intended = planned["intended_ns"].sort()
    assert intended.diff().drop_nulls().is_between(3_333_332, 3_333_334).all()
    assert set(planned["client"].value_counts()["count"]) == {300}
    # The service saw each request once, and final reads are requests of several keys.
    sent = planned.filter(pl.col("start_ns").is_not_null())
    final_processes = set(final["process"])
    seen = [who for who in service.seen() if who[0] not in final_processes]
    assert len(seen) == len(set(seen)) == len(sent)
    # Locust's own statistics are those of the same operations.
    locust = [json.loads((tmp_path / "load" / f"locust-{n}.json").read_text()) for n in (0, 1)]
    assert sum(x["requests"] for x in locust) == len(planned)
    assert sum(x["failures"] for x in locust) == (planned["outcome"] != "ok").sum()
    # Every key that anybody tried to write was read in the end, and acknowledged inserts are there.
    attempted = set(sent.filter(pl.col("f") != "read")["key"])
    assert reads.read == len(attempted) == len(final)
    assert set(final.filter(pl.col("outcome") == "ok")["key"]) == attempted
    read = dict(final.select("key", "value").iter_rows())
    inserted = sent.filter((pl.col("f") == "insert") & (pl.col("outcome") == "ok"))
    assert all(read[key] == value for key, value in inserted.select("key", "value").iter_rows())
    values = sent["value"].filter(sent["f"] != "read")
    assert values.n_unique() == len(values)
    results = dict(planned.filter(pl.col("f") == "cas")["result"].value_counts().iter_rows())
    assert results["done"] > len(planned) * 0.02, results
    assert_processes_are_sequential(history)


def test_a_stalled_service_is_seen_from_the_schedule(service: Service, tmp_path: Path) -> None:
    """No coordinated omission: whoever was due during the stall waited from when it was due, and all are there."""
    with loading(tmp_path / "load", {"clients-r1": service.address}, rate_per_s=200, duration_s=3) as load:
        wait_until(lambda: load.progress().ok > 50, "load runs")
        service.pause()
        stopped_ns = time.monotonic_ns()
        time.sleep(1)  # the length of the stall is the subject here, not a wait for something
        resumed_ns = time.monotonic_ns()
        service.resume()
        assert load.wait(60)
        origin_ns = load.origin_ns
        assert load.progress().not_sent == 0, "400 clients are enough for 200 arrivals"
    history, _ = history_of(tmp_path / "load")

    assert len(history) == 600
    stalled = history.filter(pl.col("intended_ns").is_between(stopped_ns, resumed_ns))
    # The schedule has one arrival every 5 ms; not one of those in the stall is missing.
    due = [origin_ns + i * 5_000_000 for i in range(600)]
    assert len(stalled) == sum(stopped_ns <= at <= resumed_ns for at in due) > 100
    latency = stalled["end_ns"] - stalled["intended_ns"]
    assert (latency >= resumed_ns - stalled["intended_ns"]).all()
    assert (stalled["outcome"] == "ok").all()


def test_arrivals_beyond_the_limit_in_flight_are_recorded_as_not_sent(service: Service, tmp_path: Path) -> None:
    with loading(
        tmp_path / "load", {"clients-r1": service.address}, rate_per_s=200, duration_s=2, in_flight=10, timeout_s=10
    ) as load:
        wait_until(lambda: load.progress().ok > 20, "load runs")
        service.pause()
        wait_until(lambda: load.progress().not_sent > 50, "arrivals are refused")
        assert load.progress().in_flight == 10
        service.resume()
        assert load.wait(60)
        assert load.alive() is None
    history, summary = history_of(tmp_path / "load")

    assert len(history) == summary["planned"] == 400
    assert summary["not_sent"] > 50
    refused = history.filter(pl.col("error") == "not-sent")
    assert (refused["outcome"] == "fail").all()
    assert refused["start_ns"].is_null().all()
    sent = history.filter(pl.col("start_ns").is_not_null()).select("process").to_series()
    assert {process for process, _ in service.seen()} == set(sent)


def test_a_process_is_renewed_after_every_unknown_operation(service: Service, tmp_path: Path) -> None:
    with loading(
        tmp_path / "load", {"clients-r1": service.address}, rate_per_s=100, duration_s=2, timeout_s=0.2, in_flight=50
    ) as load:
        wait_until(lambda: load.progress().ok > 20, "load runs")
        service.pause()
        wait_until(lambda: load.progress().unknown > 20, "operations time out")
        service.resume()
        assert load.wait(60)
    history, _ = history_of(tmp_path / "load")

    unknown = history.filter(pl.col("outcome") == "unknown")
    assert set(unknown["error"]) == {"timeout"}
    # When the client stopped waiting; that they stay open for ever is what `outcome` says.
    waited_s = (unknown["end_ns"] - unknown["start_ns"]) / 1e9
    assert waited_s.min() >= 0.2  # type: ignore[operator]
    assert_processes_are_sequential(history)
    # The worker went on under another name, and what was unknown was really sent.
    assert history.group_by("worker").agg(pl.col("process").n_unique())["process"].max() > 1  # type: ignore[operator]
    assert set(unknown["process"]) <= {process for process, _ in service.seen()}


def test_the_same_seed_gives_each_worker_the_same_stream(service: Service, tmp_path: Path) -> None:
    streams = []
    for run in ("a", "b"):
        with loading(
            tmp_path / run, {"clients-r1": service.address}, rate_per_s=150, duration_s=1, in_flight=1, seed=3
        ) as load:
            assert load.wait(60)
        history, _ = history_of(tmp_path / run)
        mine = history.filter(pl.col("worker") == 0).sort("start_ns")
        streams.append(mine.select("space", "f", pl.when(pl.col("f") != "read").then("value"), "process").rows())

    # The stub still holds the first run's data: answers differ, the stream does not. How many of the arrivals found
    # the one client free is a matter of time.
    common = min(map(len, streams))
    assert common >= 10
    assert streams[0][:common] == streams[1][:common]


def test_a_router_that_refuses_is_a_certain_fail_and_final_reads_go_elsewhere(
    service: Service, nobody: Address, tmp_path: Path
) -> None:
    groups = {"clients-r1": service.address, "clients-r2": nobody}
    with loading(tmp_path / "load", groups, rate_per_s=100, duration_s=1) as load:
        assert load.wait(60)
        assert load.alive() is None
        reads = load.final_reads(deadline_s=20)
    history, summary = history_of(tmp_path / "load")

    refused = history.filter((pl.col("client") == "clients-r2") & ~pl.col("final"))
    assert set(refused["error"]) == {"connect-refused"}
    assert set(refused["outcome"]) == {"fail"}
    assert summary["errors"] == {"connect-refused": 50}
    # Keys of refused writes are looked for as well: they must be absent.
    assert reads.failed == ()
    attempted = history.filter(~pl.col("final") & (pl.col("f") != "read"))["key"].n_unique()
    assert reads.read == attempted


def test_final_reads_that_nobody_answers_are_named(service: Service, tmp_path: Path) -> None:
    with loading(tmp_path / "load", {"clients-r1": service.address}, rate_per_s=50, duration_s=0.5) as load:
        assert load.wait(60)
        service.process.kill()
        service.process.wait()
        reads = load.final_reads(deadline_s=0.5)
    assert reads.read == 0
    assert reads.problem is not None
    assert reads.problem.startswith("clients-r1: ")
    history, _ = history_of(tmp_path / "load")
    assert set(reads.failed) == set(history.filter("final")["key"])
    assert_processes_are_sequential(history)


def test_a_service_that_finds_our_requests_malformed_is_reported_loudly(tmp_path: Path) -> None:
    with (
        serving(tmp_path, "--reject") as service,
        loading(tmp_path / "load", {"clients-r1": service.address}, rate_per_s=50, duration_s=0.5) as load,
    ):
        assert load.wait(60)
        problem = load.alive()

    assert problem is not None
    assert "disagree on the API" in problem
    assert "answered with status 400" in problem


def test_a_workload_that_nobody_provides_is_named(service: Service, tmp_path: Path) -> None:
    plan = WorkloadPlan(name="no-such", share=1)
    with (
        pytest.raises(UsageError, match="unknown workload 'no-such'; known: cas-register, http-requests, insert-only"),
        loading(tmp_path / "load", {"clients-r1": service.address}, workloads=(plan,)),
    ):
        pass


def test_a_load_process_without_room_for_its_slots_says_so(service: Service, tmp_path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, limit[1]))
    try:
        with (
            pytest.raises(SetupError, match=r"load process 0 ended with status 74; the end of .*load-0\.log") as caught,
            loading(tmp_path / "load", {"clients-r1": service.address}),
        ):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert "to record operations in: File too large" in str(caught.value)


def test_more_clients_than_files_may_be_open_is_refused_at_the_start(service: Service, tmp_path: Path) -> None:
    """Otherwise the last clients' connections would fail, and the service would be blamed for it."""
    with (
        pytest.raises(SetupError, match=r"needs 2100 open files and may have 1500; raise the limit"),
        few_files_for_children(1500),
        loading(tmp_path / "load", {"clients-r1": service.address}, in_flight=2000),
    ):
        pass


def test_a_folder_that_holds_a_record_is_not_written_over(service: Service, tmp_path: Path) -> None:
    for expected in (contextlib.nullcontext(), pytest.raises(UsageError, match="already holds the record of a load")):
        with expected, loading(tmp_path / "load", {"clients-r1": service.address}, begin=False):
            pass


def test_final_reads_end_a_load_that_still_runs(service: Service, tmp_path: Path) -> None:
    with loading(tmp_path / "load", {"clients-r1": service.address}, rate_per_s=50, duration_s=60) as load:
        wait_until(lambda: load.progress().ok > 20, "load runs")
        reads = load.final_reads(deadline_s=20)
        assert all(gone(pid) for pid in load.pids)
        problem = load.alive()
    assert reads.read > 0
    assert reads.failed == ()
    assert problem is not None
    assert "before its schedule was played" in problem
    _, summary = history_of(tmp_path / "load")
    assert summary["died"] == "load process 0 ended before its schedule was played"


def test_without_record_nothing_is_written_and_nothing_claimed(service: Service, tmp_path: Path) -> None:
    groups = {"clients-r1": service.address}
    with loading(tmp_path / "load", groups, rate_per_s=50, duration_s=0.5, record=False) as load:
        assert load.wait(60)
        assert load.progress().ok == 25
        reads = load.final_reads(deadline_s=1)
    assert (reads.read, reads.problem) == (0, "the load was not recorded (record = false)")
    assert not list((tmp_path / "load").glob("*.slots"))


@pytest.mark.parametrize("begun", [False, True])
def test_leaving_the_block_ends_the_load_processes(service: Service, tmp_path: Path, begun: bool) -> None:
    groups = {"clients-r1": service.address}
    with loading(tmp_path / "load", groups, begin=begun, rate_per_s=50, duration_s=60, processes=2) as load:
        pids = load.pids
        assert not load.finished()
    assert all(gone(pid) for pid in pids)


def test_a_stopped_load_process_is_ended_too(service: Service, tmp_path: Path) -> None:
    with loading(tmp_path / "load", {"clients-r1": service.address}, rate_per_s=50, duration_s=60) as load:
        (pid,) = load.pids
        os.kill(pid, signal.SIGSTOP)
    assert gone(pid)


PARENT = """
import sys, time
from pathlib import Path
from aftershock.harness.interfaces import Address
from aftershock.harness.scenario import LoadPlan
from aftershock.workloads.launcher import LoadSpec, start_load
from tests.processes.load_support import BOTH, reference_clients
spec = LoadSpec(seed=1, load=LoadPlan(rate_per_s=100, duration_s=60), workloads=BOTH,
                clients=reference_clients({"clients-r1": Address("127.0.0.1", int(sys.argv[1]))}),
                folder=Path(sys.argv[2]))
with start_load(spec) as load:
    if sys.argv[3] == "begin":
        load.begin(time.monotonic_ns())
    print(load.pids[0], flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("state", ["wait", "begin"])
def test_load_processes_end_when_the_parent_is_killed(service: Service, tmp_path: Path, state: str) -> None:
    root = Path(__file__).parents[2]
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(service.address.port), str(tmp_path / "load"), state],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{root}"},
    )
    assert parent.stdout is not None
    with parent, parent.stdout:
        pid = int(parent.stdout.readline())
        assert not gone(pid)
        parent.kill()
    wait_until(lambda: gone(pid), "the load process ended with its parent")
