"""A stand-in for the tool: impairs a flow of packets in every way, says `ready`, and waits to be ended.

packet_tool.py RUN_FOLDER STATE_FOLDER BRIDGE SECONDS watched|alone NAME=PID=ADDRESS...
"""

import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from aftershock.harness.backends.packet_network import PacketNetwork
from aftershock.harness.impairment import Bandwidth, Block, Delay, Duplicate, Loss, Reorder, Reset
from aftershock.harness.interfaces import Flow
from aftershock.harness.journal import RunJournal
from aftershock.harness.watchdog import start_watchdog

EVERY = (
    Block(),
    Loss(percent=40),
    Delay(latency_ms=80),
    Duplicate(percent=40),
    Reorder(percent=20, hold_ms=10),
    Bandwidth(kbit_per_s=800),
    Reset(),
)


def event(kind: str, /, **fields: object) -> None:
    print("event", kind, fields, file=sys.stderr, flush=True)


def main(run_folder: Path, state_folder: Path, bridge: str, seconds: float, mode: str, members: list[str]) -> None:
    known = {name: (int(pid), address) for name, pid, address in (each.split("=") for each in members)}
    with ExitStack() as stack:
        journal = stack.enter_context(RunJournal.open(run_folder, run_folder.name, state_folder))
        if mode == "watched":
            stack.enter_context(start_watchdog(journal))
        network = PacketNetwork(
            run_id=run_folder.name,
            bridge=bridge,
            address=lambda name: known[name][1],
            pid=lambda name: known[name][0],
            journal=journal,
            events=event,
        )
        stack.callback(network.close)
        network.link("n1", "n2")
        expires_ns = time.monotonic_ns() + int(seconds * 1e9)
        for impairment in EVERY:
            network.impair([Flow("n1", "n2")], impairment, expires_ns=expires_ns)
        print("ready", flush=True)
        threading.Event().wait()


main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], float(sys.argv[4]), sys.argv[5], sys.argv[6:])
