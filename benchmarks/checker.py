"""The unique-value decider against Porcupine on the same generated histories, in one run.

    python benchmarks/checker.py [--large] [--limit-s 20]

Both run in the native program, through the binding, so both figures hold everything a user waits for. A search that
does not end within the limit is shown as such, and its ratio is a lower bound.

The figures in docs/checker.md are from here.
"""

from __future__ import annotations

import argparse
import random
import time

import numpy as np
from aftershock.harness.porcupine import ABSENT, NO_VERSION, OPEN_NS, CheckOutcome, Engine, F, Model, Operations, check
from aftershock.harness.verdict import Verdict

MEMORY_LIMIT_BYTES = 6 << 30


def generate(
    *,
    seed: int,
    operations: int,
    clients: int,
    keys: int = 1,
    unknown: float = 0.0,
    cas: float = 0.1,
    stale: bool = False,
) -> Operations:
    """A linearizable history with unique values: each operation takes effect at a random instant of its interval.

    `unknown` is the share of writes that were never answered; half of them took effect. `stale` replaces the value of
    one late read by one that was overwritten long before.
    """
    rng = random.Random(seed)
    free = [(rng.random(), client) for client in range(clients)]
    planned: list[tuple[float, float, float]] = []
    while len(planned) < operations:
        at, client = min(free)
        took = rng.expovariate(1.0)
        planned.append((at + rng.random() * took, at, at + took))
        free[client] = (at + took + rng.expovariate(5.0), client)
    planned.sort()
    columns = {name: np.full(operations, 0, dtype=np.int64) for name in Operations.__dataclass_fields__}
    columns["version"][:] = NO_VERSION
    states: dict[int, list[int]] = {}
    for row, (_, start, end) in enumerate(planned):
        key = rng.randrange(keys)
        past = states.setdefault(key, [ABSENT])
        kind = rng.random()
        columns["key"][row] = key
        columns["process"][row] = row
        columns["start_ns"][row], columns["end_ns"][row] = int(start * 1e6), int(end * 1e6)
        if kind < 0.5:
            late = stale and row > operations * 0.9 and len(past) > 8
            columns["value"][row] = past[len(past) // 2] if late else past[-1]
            stale = stale and not late
            continue
        columns["f"][row] = F.CAS if kind < 0.5 + cas else F.WRITE
        columns["value"][row] = row + 1
        columns["expected"][row] = past[-1]
        lost = rng.random() < unknown
        columns["unknown"][row] = lost
        if lost:
            columns["end_ns"][row] = OPEN_NS
        if not lost or rng.random() < 0.5:
            past.append(row + 1)
    return Operations(**{**columns, "unknown": columns["unknown"].astype(np.bool_)})  # type: ignore[arg-type]


CASES: dict[str, dict[str, float | int | bool]] = {
    "1 key, 10 clients": {"operations": 1_000, "clients": 10},
    "1 key, 10 clients, more": {"operations": 10_000, "clients": 10},
    "1 key, 20 clients": {"operations": 2_000, "clients": 20},
    "1 key, 5 % unknown": {"operations": 2_000, "clients": 10, "unknown": 0.05},
    "1 key, 5 % unknown, stale": {"operations": 300, "clients": 5, "unknown": 0.05, "stale": True},
    "20 keys, stale": {"operations": 20_000, "clients": 20, "keys": 20, "unknown": 0.02, "stale": True},
    "7220 keys (a demo run)": {"operations": 18_000, "clients": 10, "keys": 7_220, "unknown": 0.01},
    "100 keys": {"operations": 100_000, "clients": 20, "keys": 100},
    "1000 keys": {"operations": 1_000_000, "clients": 50, "keys": 1_000, "unknown": 0.05},
    "1 key, a million": {"operations": 1_000_000, "clients": 50, "unknown": 0.05},
    "1 key, a million, stale": {"operations": 1_000_000, "clients": 50, "unknown": 0.05, "stale": True},
}


def judge(history: Operations, engine: Engine, limit_s: float) -> CheckOutcome:
    return check(
        history, model=Model.CAS_REGISTER, engine=engine, deadline_s=limit_s, memory_limit_bytes=MEMORY_LIMIT_BYTES
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--large", action="store_true", help="the cases of a million operations too")
    parser.add_argument("--limit-s", type=float, default=20.0, help="deadline of one search (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(f"seed {options.seed}, limit {options.limit_s} s, {MEMORY_LIMIT_BYTES >> 30} GiB")
    print(f"{'history':28} {'operations':>10} {'verdict':>8} {'unique s':>9} {'porcupine s':>12} {'ratio':>9}")
    for name, settings in CASES.items():
        if settings["operations"] >= 1_000_000 and not options.large:
            continue
        history = generate(seed=options.seed, **settings)  # type: ignore[arg-type]
        quick = min((judge(history, Engine.UNIQUE, 120.0) for _ in range(3)), key=lambda outcome: outcome.seconds)
        started = time.perf_counter()
        searched = judge(history, Engine.PORCUPINE, options.limit_s)
        took = time.perf_counter() - started
        ended = searched.keys_unknown == 0
        if ended and searched.verdict is not quick.verdict:
            raise SystemExit(f"{name}: unique says {quick.verdict}, porcupine says {searched.verdict}")
        assert quick.verdict is not Verdict.UNKNOWN
        mark = " " if ended else ">"
        print(
            f"{name:28} {len(history):>10,} {quick.verdict:>8} {quick.seconds:>9.3f} {mark}{took:>11.2f} "
            f"{mark}{took / quick.seconds:>8,.0f}",
            flush=True,
        )
        if not ended:
            print(f"{'':28} {searched.reason}")


if __name__ == "__main__":
    main()
