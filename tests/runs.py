"""Makes run folders (docs/run-folder.md) for tests of checks: a healthy run in one line, and every way to spoil it.

`healthy(path)` is a run in which everything held, with one proven and healed fault. A test changes what it is about
and calls `write()`; what it does not mention stays healthy, so a check that fails fails for that one reason.

Histories can also be given as text, one operation a line (see `tests/histories/README.md`):

    p1 write h-1 8812        0.100 0.110 ok
    p2 cas   h-1 8812->8813  0.200 0.210 ok
    p2 cas   h-1 5->6        0.300 0.310 mismatch:8813
    p3 read* h-1 8813        60.0  60.1  ok            # * = a final read
    p4 insert i-1 7          0.400 -     unknown
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
from aftershock.harness.history import SCHEMA_KEY, empty_history
from aftershock.harness.operation import OPERATION_COLUMNS

ORIGIN_NS = 5_000_000_000_000
HISTORIES = Path(__file__).parent / "histories"
SHARDS = 4
HOT_KEYS = ("h-0", "h-1")
_ARROW = {"int64": pa.int64(), "int32": pa.int32(), "string": pa.string(), "bool": pa.bool_()}

# What becomes of an operation: outcome, seconds until its answer, error. (time due, shard, f) -> fate.
Fate = tuple[str, float, str]
OK: Fate = ("ok", 0.004, "")
TIMEOUT: Fate = ("unknown", 2.0, "timeout")
REFUSED: Fate = ("fail", 0.003, "refused")
NOT_SENT: Fate = ("fail", 0.0, "not-sent")


def at(t_s: float) -> int:
    """CLOCK_MONOTONIC nanoseconds of a second of the run."""
    return ORIGIN_NS + round(t_s * 1e9)


def shard_of(key: str) -> int:
    return sum(key.encode()) % SHARDS


@dataclass
class Run:
    """A run folder in the making. Everything is public and may be changed before `write()`."""

    folder: Path
    rate_per_s: float = 100.0
    duration_s: float = 40.0
    control: bool = False
    seed: int = 7
    targets: dict[str, Any] = field(default_factory=dict)
    required: list[str] | None = None
    on_unknown: str = "stop"
    faults: list[dict[str, Any]] = field(default_factory=list)
    operations: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    replicas: list[dict[str, Any]] | None = None
    load: dict[str, Any] | None = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)

    # -------------------------------------------------------------------------------------------- operations

    def operation(self, f: str, key: str, start_s: float, end_s: float | None, **fields: Any) -> dict[str, Any]:
        """Add one operation; columns that are not given are those of an answered one on `clients-r1`."""
        outcome = fields.get("outcome", "ok" if end_s is not None else "unknown")
        row: dict[str, Any] = {
            "process": 1,
            "worker": 0,
            "client": "clients-r1",
            "space": "insert-only" if key.startswith("i-") else "cas-register",
            "f": f,
            "final": False,
            "key": key,
            "shard": shard_of(key),
            "value": None,
            "expected": None,
            "observed": None,
            "version": None,
            "intended_ns": at(start_s),
            "start_ns": at(start_s),
            "end_ns": None if end_s is None else at(end_s),
            "outcome": outcome,
            "result": "",
            "error": "" if outcome == "ok" else "timeout",
            "attempts": 1,
        }
        row |= fields
        if outcome == "ok" and not row["result"]:
            row["result"] = ("found" if row["value"] is not None else "not-found") if f == "read" else "done"
        self.operations.append(row)
        return row

    def steady_load(self, fate: Callable[[float, int, str], Fate] = lambda t_s, shard, f: OK) -> None:
        """Load as planned, on a perfect store: every third operation writes a hot key, reads one, or inserts."""
        # Idle for longest first, so that clients of both routers are always at work.
        free: list[tuple[float, int]] = [(0.0, process) for process in (1, 2, 3, 4)]
        processes = len(free)
        stored: dict[str, int | None] = dict.fromkeys(HOT_KEYS)
        for number in range(round(self.rate_per_s * self.duration_s)):
            due_s = number / self.rate_per_s
            idle = next((p for end_s, p in free if end_s <= due_s), None)
            if idle is None:
                processes += 1
                idle = processes
            f = ("write", "read", "insert")[number % 3]
            key = f"i-{number:06d}" if f == "insert" else HOT_KEYS[(number // 3) % 2]
            outcome, took_s, error = fate(due_s, shard_of(key), f)
            value = stored[key] if f == "read" and outcome == "ok" else None if f == "read" else 1000 + number
            if outcome == "ok" and f == "write":
                stored[key] = value
            end_s = due_s + took_s if outcome != "unknown" else None
            free = [(e, p) for e, p in free if p != idle]
            if outcome != "unknown":
                free.append((due_s + took_s, idle))
            self.operation(
                f,
                key,
                due_s,
                end_s,
                process=idle,
                worker=idle,
                client=f"clients-r{1 + idle % 2}",
                value=value,
                outcome=outcome,
                error=error,
                **({"start_ns": None, "end_ns": None} if error == "not-sent" else {}),
            )

    def final_reads(self, **wrong: int | None) -> None:
        """Read every insert-only key and both hot keys at the end; `wrong` replaces what is found (`i_000002=None`)."""
        start_s = self.duration_s + 3
        stored: dict[str, int | None] = dict.fromkeys(HOT_KEYS)
        for row in list(self.operations):
            if row["f"] in ("insert", "write") and row["outcome"] == "ok" and row["result"] == "done":
                stored[row["key"]] = row["value"]
            elif row["f"] in ("insert", "write", "cas", "delete"):
                stored.setdefault(row["key"], None)  # whatever may have been written is read back
        stored |= {name.replace("_", "-"): value for name, value in wrong.items()}
        for number, (key, value) in enumerate(stored.items()):
            t_s = start_s + number * 1e-4
            self.operation("read", key, t_s, t_s + 5e-5, process=9_000_000, value=value, final=True)

    def text(self, text: str) -> None:
        """Add operations from their text form."""
        self.operations_from(parse_history(text))

    def operations_from(self, rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            fields = dict(row)
            self.operation(fields.pop("f"), fields.pop("key"), fields.pop("start_s"), fields.pop("end_s"), **fields)

    # -------------------------------------------------------------------------------------------- events

    def event(self, kind: str, t_s: float, *, source: str = "harness", **fields: Any) -> None:
        self.events.append({"t_ns": at(t_s), "source": source, "kind": kind, **fields})

    def topology(self, t_s: float, shard: int, epoch: int, primary: str | None, *in_sync: str, **fields: Any) -> None:
        more = {"learners": [], "why": "test", "term": epoch, **fields}
        self.event(
            "topology", t_s, source="c1", shard=shard, epoch=epoch, primary=primary, in_sync=list(in_sync), **more
        )

    def fault(self, fault: str, start_s: float, end_s: float, **fields: Any) -> None:
        """Plan a fault and write all its events, proven and healed. `skip` names events to leave out."""
        skip = set(fields.pop("skip", ()))
        plan = {"id": fault, "name": "kill", "expect": "recovers", "rto_s": 5.0}
        plan |= {name: fields.pop(name) for name in list(fields) if name in plan}
        self.faults.append({**plan, "start_s": start_s, "duration_s": end_s - start_s})
        injected = {
            "targets": ["n1"],
            "description": "n1 was killed",
            "cut_off": {},
            "reaction": {"kind": "new-epoch", "shards": [0]},
        }
        injected |= fields
        steps: list[tuple[str, float, dict[str, Any]]] = [
            (
                "fault.planned",
                -0.5,
                {
                    "name": plan["name"],
                    "fault_kind": fields.pop("fault_kind", "process"),
                    "start_s": start_s,
                    "end_s": end_s,
                    "expect": plan["expect"],
                    "rto_s": plan["rto_s"],
                    "settings": {},
                },
            ),
            ("fault.injected", start_s, {k: v for k, v in injected.items() if k != "fault_kind"}),
            ("fault.proven", start_s + 0.1, {"facts": ["n1 ended with signal 9"]}),
            ("fault.healing", end_s, {}),
            ("fault.healed", end_s + 0.05, {"verified": True, "facts": ["n1 answers again"]}),
        ]
        for kind, t_s, more in steps:
            if kind not in skip:
                self.event(kind, t_s, fault=fault, **more)

    # -------------------------------------------------------------------------------------------- writing

    def write(self) -> Path:
        """Write the folder and return it."""
        (self.folder / "history").mkdir(parents=True, exist_ok=True)
        (self.folder / "logs").mkdir(exist_ok=True)
        self._json("run.json", self._run())
        self._json("environment.json", {"schema": 1, "python": "3.11.7", "kernel": "6.1", "cpus": 2, "memory_gib": 4})
        (self.folder / "scenario.toml").write_text(self._scenario(), encoding="utf-8")
        lines = [json.dumps(event) for event in self.events]
        (self.folder / "events.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        if self.replicas is not None:
            self._json("replicas.json", {"schema": 1, "replicas": self.replicas})
        if self.load is not None:
            planned = round(self.rate_per_s * self.duration_s)
            self._json("history/load.json", {"schema": 1, "planned": planned, "holes": 0, "processes": 1, **self.load})
        for member, text in self.logs.items():
            (self.folder / "logs" / f"{member}.log").write_text(text, encoding="utf-8")
        write_stream(self.folder / "history" / "load-0.arrow", self.operations)
        return self.folder

    def _json(self, name: str, value: Mapping[str, Any]) -> None:
        (self.folder / name).write_text(json.dumps(value), encoding="utf-8")

    def _run(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "run_id": self.folder.name,
            "scenario": "demo",
            "source": "demo.toml",
            "seed": self.seed,
            "backend": "process",
            "system": "reference",
            "tool": "0.1.0",
            "started_utc": "2026-11-21T14:02:11Z",
            "origin_ns": ORIGIN_NS,
            "load_end_ns": at(self.duration_s + 0.5),
            "state": "recorded",
            "problem": None,
            **self.run,
        }

    def _scenario(self) -> str:
        tables: list[tuple[str, Mapping[str, Any]]] = [
            ("[load]", {"rate_per_s": self.rate_per_s, "duration_s": self.duration_s}),
            ("[targets]", self.targets),
            ("[on_unknown]", {"then": self.on_unknown}),
        ]
        if self.required is not None:
            tables.append(("[checks]", {"required": self.required}))
        tables += [("[system]", {"name": "reference", "nodes": 3}), ("[backend]", {"name": "process"})]
        tables += [("[[workload]]", {"name": n, "share": 0.5}) for n in ("cas-register", "insert-only")]
        tables += [("[[fault]]", fault) for fault in self.faults]
        head = f'name = "demo"\nseed = {self.seed}\ncontrol = {json.dumps(self.control)}\n'
        return head + "".join(
            f"\n{title}\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in table.items())
            for title, table in tables
        )


def healthy(folder: Path, **fields: Any) -> Run:
    """A run in which n1 is killed at 10 s and started at 15 s, nobody notices much, and every promise holds."""
    run = Run(folder, **fields)
    bootstrap(run)
    run.fault("f1", 10.0, 15.0)
    run.event("member.exited", 10.0, member="n1", status=-9, expected=True)
    run.event("suspected", 10.4, source="c1", member="n1", why="no heartbeat for 0.4 s")
    for shard in range(SHARDS):
        run.event("decided", 10.5, source="c1", shard=shard, epoch=2, what="promote")
        run.topology(10.5, shard, 2, "n2", "n2", "n3")
        run.event("primary.open", 10.6, source="n2", shard=shard, epoch=2)
    run.event("member.ready", 15.5, member="n1")
    for shard in range(SHARDS):
        run.topology(16.0, shard, 3, "n2", "n1", "n2", "n3")
    run.event("settled", run.duration_s + 2, ok=True, text="every shard is whole again")
    return run


def control(folder: Path, **fields: Any) -> Run:
    """A control run: nothing is broken, and the scenario says so."""
    run = Run(folder, control=True, **fields)
    bootstrap(run)
    return run


def bootstrap(run: Run) -> None:
    """Four shards on three nodes, n1 primary of all, and replicas that agree at the end."""
    for shard in range(SHARDS):
        run.topology(-2.0, shard, 1, "n1", "n1", "n2", "n3")
        run.event("primary.open", -1.9, source="n1", shard=shard, epoch=1)
    run.replicas = [
        {
            "shard": shard,
            "member": member,
            "in_sync": True,
            "last_index": 100,
            "commit_index": 100,
            "chain": f"chain-{shard}",
            "digest": f"digest-{shard}",
        }
        for shard in range(SHARDS)
        for member in ("n1", "n2", "n3")
    ]


def write_stream(path: Path, rows: list[dict[str, Any]], *, batch: int = 500, schema: str = "1") -> None:
    """One Arrow stream, as the load's converter writes it."""
    arrow = pa.schema(
        [
            pa.field(name, _ARROW[kind.rstrip("?")], nullable=kind.endswith("?"))
            for name, kind in OPERATION_COLUMNS.items()
        ],
        metadata={SCHEMA_KEY: schema.encode()},
    )
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, arrow) as writer:
        for begin in range(0, len(rows), batch):
            writer.write_batch(pa.RecordBatch.from_pylist(rows[begin : begin + batch], schema=arrow))


def write_table(path: Path, table: pl.DataFrame) -> None:
    """The same from a table with the right columns; for histories too long to make one operation at a time."""
    arrow = table.to_arrow(compat_level=pl.CompatLevel.oldest())
    types = {name: _ARROW[kind.rstrip("?")] for name, kind in OPERATION_COLUMNS.items()}
    arrow = arrow.cast(pa.schema(list(types.items())))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, arrow.schema) as writer:
        writer.write_table(arrow, max_chunksize=10_000)


def parse_history(text: str) -> list[dict[str, Any]]:
    """Operations of the text form, as fields of `Run.operation` (times in seconds)."""
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split("#")[0].split()
        if not words:
            continue
        if len(words) != 7:
            raise ValueError(f"line {number}: expected process, f, key, value, start, end, outcome; found {line!r}")
        process, f, key, value, start, end, outcome = words
        row: dict[str, Any] = {"process": int(process[1:]), "f": f.rstrip("*"), "final": f.endswith("*"), "key": key}
        expected, arrow, new = value.partition("->")
        row["value"] = _number(new if arrow else value)
        row["expected"] = _number(expected) if arrow else None
        row |= {"start_s": float(start), "end_s": None if end == "-" else float(end)}
        word, colon, observed = outcome.partition(":")
        row["outcome"] = "ok" if word == "mismatch" else word
        if word == "mismatch":
            row |= {"result": "mismatch", "observed": _number(observed) if colon else None}
        rows.append(row)
    return rows


def _number(text: str) -> int | None:
    return None if text == "-" else int(text)


def frame(text: str, folder: Path) -> pl.DataFrame:
    """The text form as the table that `load_history` gives."""
    run = Run(folder)
    run.text(text)
    return pl.DataFrame(run.operations, schema=empty_history().schema)
