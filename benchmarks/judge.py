"""Seconds from a finished run folder to its verdict.json, for 100,000 operations (docs/checks.md gives the figures).

    PYTHONPATH=.ns python benchmarks/judge.py [--operations 100000] [--repeat 5]

The run is made up: a perfect store, twenty hot keys and insert-only keys as in the demo, one kill. Everything that
`aftershock check` does is measured, the native checker and the write of verdict.json included.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
from aftershock.harness.history import empty_history
from aftershock.harness.judge import check_folder

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.runs import ORIGIN_NS, Run, healthy, write_table

RATE_PER_S = 500.0
SHARDS = 16
HOT_KEYS = 20


def history(operations: int, seed: int) -> pl.DataFrame:
    """A linearizable history, made column by column: half inserts, a quarter writes and reads of hot keys each."""
    rng = np.random.default_rng(seed)
    number = np.arange(operations)
    start_ns = ORIGIN_NS + (number / RATE_PER_S * 1e9).astype(np.int64)
    # Every process is idle again before its turn comes, and hot keys are touched one operation at a time.
    took_ns = (rng.exponential(1.2, operations) * 1e6 + 4e5).clip(max=1.5e6).astype(np.int64)
    kind = number % 4  # 0, 2: insert; 1: write; 3: read of the same hot key
    hot = (number // 4) % HOT_KEYS
    insert = kind % 2 == 0
    key = np.where(insert, np.char.add("i-", number.astype(str)), np.char.add("h-", hot.astype(str)))
    value = np.where(kind == 3, number - 2, number)
    load = pl.DataFrame(
        {
            "process": number % 64,
            "key": key,
            "f": np.select([insert, kind == 1], ["insert", "write"], "read"),
            "value": value,
            "start_ns": start_ns,
            "end_ns": start_ns + took_ns,
            "final": np.zeros(operations, dtype=bool),
        }
    )
    written = load.filter(pl.col("f") != "read").group_by("key").agg(pl.col("value").last())
    after_ns = int(load["end_ns"].max()) + 3_000_000_000  # type: ignore[arg-type]
    final = written.select(
        pl.lit(9_000_000).alias("process"),
        "key",
        pl.lit("read").alias("f"),
        "value",
        (after_ns + pl.int_range(pl.len()) * 1000).alias("start_ns"),
        (after_ns + pl.int_range(pl.len()) * 1000 + 500).alias("end_ns"),
        pl.lit(value=True).alias("final"),
    )
    both = pl.concat([load, final], how="vertical_relaxed")
    return (
        both.with_columns(
            worker=pl.col("process"),
            client=pl.format("clients-r{}", 1 + pl.col("process") % 2),
            space=pl.when(pl.col("key").str.starts_with("i-"))
            .then(pl.lit("insert-only"))
            .otherwise(pl.lit("cas-register")),
            shard=pl.col("key").hash(0) % SHARDS,
            expected=None,
            observed=None,
            version=None,
            intended_ns=pl.col("start_ns"),
            outcome=pl.lit("ok"),
            result=pl.when(pl.col("f") == "read").then(pl.lit("found")).otherwise(pl.lit("done")),
            error=pl.lit(""),
            attempts=1,
        )
        .select(empty_history().columns)
        .cast(dict(empty_history().schema))
    )


def make_run(folder: Path, operations: int) -> Run:
    run = healthy(folder, rate_per_s=RATE_PER_S, duration_s=operations / RATE_PER_S)
    run.write()
    write_table(folder / "history" / "load-0.arrow", history(operations, seed=1))
    return run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--operations", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help="where the time goes, of one more call")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aftershock-judge-") as folder:
        path = Path(folder) / "run"
        make_run(path, options.operations)
        seconds = []
        for _ in range(options.repeat):
            began_s = time.perf_counter()
            verdict, _ = check_folder(path)
            seconds.append(time.perf_counter() - began_s)
        size_mb = (path / "verdict.json").stat().st_size / 1e6
        print(
            f"{options.operations:,} operations, {verdict['run']['operations']:,} with final reads, verdict "
            f"{verdict['verdict']}: median {statistics.median(seconds):.2f} s, best {min(seconds):.2f} s, worst "
            f"{max(seconds):.2f} s of {len(seconds)}; verdict.json {size_mb:.1f} MB; "
            f"{verdict['linearizability']['cross_check']}"
        )
        if options.profile:
            profile = cProfile.Profile()
            profile.runcall(check_folder, path)
            pstats.Stats(profile).sort_stats("cumulative").print_stats(35)
    return 0


if __name__ == "__main__":
    sys.exit(main())
