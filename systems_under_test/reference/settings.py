"""Settings of the reference cluster. The defaults are safe; each unsafe value breaks one promise in a known way.

The unsafe ones exist to prove that the checks catch what they must (DESIGN section 6). They live on the shared code
path, and every process of a cluster that has one says so in its log.
"""

from __future__ import annotations

from dataclasses import dataclass

MS = 1_000_000  # nanoseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """Shape, unsafe switches and timing; one value for all members of a cluster (docs/replication.md section 10)."""

    shards: int = 16
    replicas: int = 3
    min_in_sync: int = 2

    # Unsafe when changed.
    ack: str = "all"  # "primary": acknowledge when the primary alone has it (removes C2 but for the own fsync)
    lease: bool = True  # False: removes Q3 and P1
    fencing: bool = True  # False: removes R2, R3, ack epochs, step-down by data messages, the assert in F3
    read_from: str = "primary"  # "any": any replica answers from what it has applied (removes Q1 and Q3)

    beacon_ns: int = 100 * MS
    lease_ns: int = 700 * MS  # L
    drift: float = 0.02  # rho
    heartbeat_ns: int = 100 * MS
    suspect_ns: int = 600 * MS
    controller_tick_ns: int = 50 * MS
    warm_ns: int = 800 * MS
    router_attempt_ns: int = 250 * MS
    deadline_ns: int = 1_800 * MS
    dedupe_entries: int = 200_000

    @property
    def grant_ns(self) -> int:
        """G = L * (1 + drift) / (1 - drift) + 1 ms: how long a member promises not to open as primary."""
        return int(self.lease_ns * (1 + self.drift) / (1 - self.drift)) + MS

    def unsafe(self) -> list[str]:
        """Names and values of the settings that break a promise."""
        found = []
        if self.ack != "all":
            found.append(f'ack = "{self.ack}"')
        if not self.lease:
            found.append("lease = false")
        if not self.fencing:
            found.append("fencing = false")
        if self.read_from != "primary":
            found.append(f'read_from = "{self.read_from}"')
        if self.min_in_sync < 2:
            found.append(f"min_in_sync = {self.min_in_sync}")
        return found
