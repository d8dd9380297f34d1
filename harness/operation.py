"""The operation: one request of one process, as it is written to a run folder's `history/`.

Columns of the history, in this order (Arrow IPC stream; one row an operation, in no particular order):

| column | type | meaning |
|---|---|---|
| `process` | int64 | sequential client; renewed after every unknown write, so no process ever overlaps itself |
| `worker` | int32 | the load generator's slot that ran it (stays when the process is renewed) |
| `client` | string | client group (member name, such as `clients-r1`): pinned to one router |
| `space` | string | key space, named after its workload: `cas-register`, `insert-only` |
| `f` | string | `read`, `write`, `cas`, `insert`, `delete`; `request`: one without key and value, of any service |
| `final` | bool | true for the final reads, after everything was healed |
| `key` | string | |
| `shard` | int32? | shard of the key; null for a system without shards |
| `value` | int64? | written value (write, insert, cas: the new one) or value read; null = absent key |
| `expected` | int64? | cas only: the value that it compared with; null = absent |
| `observed` | int64? | cas and insert with result `mismatch`: the value that stood there instead; null = absent |
| `version` | int64? | per-key version that the answer carried; null when there was no answer |
| `intended_ns` | int64 | when the arrival schedule wanted it to start |
| `start_ns` | int64? | just before the request was sent; null for an arrival that was not sent |
| `end_ns` | int64? | when the client stopped waiting, answered or not; null: its process died. Unknown stays open |
| `outcome` | string | `ok`, `fail` (certainly did not happen) or `unknown` (may happen at any later time) |
| `result` | string | for ok: `done`, `found`, `not-found`, `mismatch`; else empty |
| `error` | string | for fail and unknown: one code of `workloads`' table, such as `timeout` or `not-sent`; else empty |
| `attempts` | int32 | attempts below the operation, 1 when it was not retried |

All times are CLOCK_MONOTONIC nanoseconds of the one host. Intervals are closed. A compare-and-set that did not
match is *ok with result mismatch*: an observation of `observed`, read at the moment of the comparison.
"""

from __future__ import annotations

import enum
from typing import Final

__all__ = ["HISTORY_SCHEMA_VERSION", "OPERATION_COLUMNS", "REQUEST", "Outcome"]

HISTORY_SCHEMA_VERSION: Final = 1

# The function of requests that have no value semantics: they are answered or not, and nothing else is judged of them.
REQUEST: Final = "request"


class Outcome(enum.StrEnum):
    """ok: it happened; fail: it certainly did not; unknown: it may happen at any time from its start on."""

    OK = "ok"
    FAIL = "fail"
    UNKNOWN = "unknown"


# Column name -> Arrow type name; "?" marks a column that may hold nulls.
OPERATION_COLUMNS: Final[dict[str, str]] = {
    "process": "int64",
    "worker": "int32",
    "client": "string",
    "space": "string",
    "f": "string",
    "final": "bool",
    "key": "string",
    "shard": "int32?",
    "value": "int64?",
    "expected": "int64?",
    "observed": "int64?",
    "version": "int64?",
    "intended_ns": "int64",
    "start_ns": "int64?",
    "end_ns": "int64?",
    "outcome": "string",
    "result": "string",
    "error": "string",
    "attempts": "int32",
}
