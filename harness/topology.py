"""What a system says of itself: who leads which shard, and what each replica holds. Values only."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ReplicaState", "ShardState", "Topology"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardState:
    """Configuration of one shard as its controller has it. Names are member names."""

    shard: int
    epoch: int
    primary: str | None
    in_sync: tuple[str, ...]
    learners: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """Which members hold which shard; `shards` is empty for a system without them."""

    shards: tuple[ShardState, ...] = ()
    controllers: tuple[str, ...] = ()

    def primaries(self) -> dict[str, list[int]]:
        """Member -> shards of which it is the primary now."""
        found: dict[str, list[int]] = {}
        for shard in self.shards:
            if shard.primary is not None:
                found.setdefault(shard.primary, []).append(shard.shard)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaState:
    """What one replica holds after healing, for replica agreement. `digest` covers content, `chain` the log."""

    shard: int
    member: str
    in_sync: bool
    last_index: int
    commit_index: int
    chain: str  # running hash over (index, term, entry) up to commit_index
    digest: str  # hash of the key-value state at commit_index
