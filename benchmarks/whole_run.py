"""From the last operation to the finished report, and what the harness itself costs while load runs.

Runs the demo's cluster in a control arm for as long as 100,000 operations take, and reads the figures from the record:

    seconds from the start of the command to the first operation
    seconds from the last answer of the load to report.html, by phase
    CPU of the harness (the command itself, its load processes, Toxiproxy apart), as a share of one core

Usage: python benchmarks/whole_run.py [--operations 100000] [--rate 500] [--backend docker] [--nodes 13 --routers 5]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl
from aftershock.harness.history import load_history

SCENARIO = """
name = "whole-run"
control = true
[system]
name = "reference"
nodes = {nodes}
routers = {routers}
[load]
rate_per_s = {rate}
duration_s = {duration_s}
[[workload]]
name = "cas-register"
share = 0.6
[[workload]]
name = "insert-only"
share = 0.4
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operations", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("--backend", choices=("process", "docker"), default="process", help="docker: images present")
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--routers", type=int, default=2)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        parent = Path(name)
        scenario = parent / "whole-run.toml"
        shape = {"nodes": chosen.nodes, "routers": chosen.routers}
        scenario.write_text(SCENARIO.format(rate=chosen.rate, duration_s=chosen.operations / chosen.rate, **shape))
        command = [str(Path(sys.executable).with_name("aftershock")), "run", str(scenario), "--seed", "1"]
        command += ["--backend", chosen.backend]
        begun_ns = time.monotonic_ns()
        status = subprocess.run([*command, "--runs", str(parent / "runs")], check=False).returncode
        [folder] = (parent / "runs").iterdir()
        report(folder, status, begun_ns)
    return 0


def report(folder: Path, status: int, command_ns: int) -> None:
    """Print the figures of one run folder; its command was started at `command_ns`."""
    history = load_history(folder / "history").frame
    operations = history.filter(~pl.col("final"))
    last_ns = int(operations["end_ns"].max())
    # report.html's time is wall clock, operations are CLOCK_MONOTONIC: both clocks are read now to join them.
    offset_ns = time.time_ns() - time.monotonic_ns()
    finished_ns = (folder / "summary.md").stat().st_mtime_ns - offset_ns
    say(f"exit code {status}, {operations.height:,} operations of load, {history.height:,} in all")
    say(f"start of the command to first operation: {(int(operations['start_ns'].min()) - command_ns) / 1e9:.2f} s")
    say(f"last operation to finished report: {(finished_ns - last_ns) / 1e9:.2f} s")
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    phases = {event["phase"]: event["t_ns"] for event in events if event["kind"] == "phase"}
    order = [name for name in ("settle", "final", "collect", "done") if name in phases]
    for name, after in zip(order, [*order[1:], None], strict=True):
        until_ns = finished_ns if after is None else phases[after]
        what = "check and report" if name == "done" else name
        say(f"  {what:<17} {(until_ns - phases[name]) / 1e9:6.2f} s")
    begun_ns = json.loads((folder / "run.json").read_text())["origin_ns"]
    samples = pl.read_ndjson(folder / "metrics" / "resources.jsonl").filter(
        pl.col("t_ns").is_between(begun_ns, phases["settle"])
    )
    for (member,), rows in samples.group_by("member", maintain_order=True):
        seconds = (rows["t_ns"].max() - rows["t_ns"].min()) / 1e9
        share = (rows["cpu_s"].max() - rows["cpu_s"].min()) / seconds
        say(f"  {member:<12} {share:6.1%} of a core, {rows['rss_bytes'].max() / 2**20:6.0f} MiB at most")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
