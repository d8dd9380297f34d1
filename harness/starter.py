"""The scenario that `aftershock init` writes: commented, valid, and short enough to read before running it."""

from __future__ import annotations

__all__ = ["STARTER"]

STARTER = """\
# An Aftershock scenario: what to deploy, what load to drive, what to break, and what is promised.
#   aftershock validate scenario.toml      every mistake at once, with the nearest valid name
#   aftershock run scenario.toml --dry-run what would be broken, when, and how it is undone
#   aftershock run scenario.toml           run it; exit code 0 pass, 1 fail, 3 unknown
# `aftershock list` names the systems, backends, faults and workloads that are installed, with their settings.
schema = 1
name = "first"
description = "One partition under load."
# seed = 7                  # the same seed gives the same schedule and the same operations; default: a new one

[system]
name = "reference"          # the key-value cluster that comes with Aftershock
nodes = 3
routers = 2
shards = 8
# ack = "primary"           # unsafe: acknowledge before any backup has the write; watch the data loss check find it

[backend]
name = "process"            # child processes on loopback; needs neither root nor Docker

[load]
rate_per_s = 200            # arrivals keep to this schedule whether or not answers come back
duration_s = 30
timeout_s = 2.0

[[workload]]
name = "cas-register"       # few hot keys: reads, writes, compare-and-set; judged for linearizability
share = 0.6                 # shares add up to 1
keys = 20

[[workload]]
name = "insert-only"        # a fresh key for every write, read back at the end; judged for data loss
share = 0.4

[[fault]]
name = "noop"               # the control arm: nothing is broken, so nothing may be missed
start_s = 3
duration_s = 4
expect = "available"

[[fault]]
name = "partition"
start_s = 10
duration_s = 8
shape = "isolate"           # the target with one router and its clients, against all others
target = "primary"
expect = "recovers"         # or "available", "unavailable"
rto_s = 5                   # back within 5 s of the injection, although the fault is still on
# every_s = 10              # again so long after its last start; times = 2 says how often
# overlap = true            # it may be on while another window is; docs/scenarios.md has the rest of it, and [random]

[targets]
success_ratio = 0.999       # of the operations that are owed service, outside recovery windows
# latency_p99_ms = 100      # from the schedule, so that a stalled service cannot hide its stall
# advisory = ["latency_p99_ms"]

# [on_unknown]
# then = "warn"             # exit 0 with a warning instead of 3 when the record does not allow a decision
"""
