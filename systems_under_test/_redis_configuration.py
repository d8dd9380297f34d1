"""What Redis and its sentinels are told: a scenario's settings, as redis.conf and sentinel.conf."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import Field, model_validator

from ..harness.interfaces import Address, Settings

__all__ = ["SERVICE", "RedisSentinelSettings", "configuration"]

SERVICE: Final = "aftershock"  # what the sentinels call the primary


class RedisSentinelSettings(Settings):
    """Shape, and what decides how much is lost. The defaults are Redis' own, but for faster detection."""

    nodes: int = Field(default=3, ge=2, le=7)
    sentinels: int = Field(default=3, ge=1, le=7)
    wait: int = Field(default=0, ge=0, description="replicas that must confirm a write (WAIT) before it counts")
    wait_timeout_ms: int = Field(default=500, ge=1)
    min_replicas_to_write: int = Field(default=0, ge=0)
    min_replicas_max_lag_s: int = Field(default=10, ge=1)
    down_after_ms: int = Field(default=1000, ge=100, description="silence after which a sentinel takes a node for dead")
    failover_timeout_ms: int = Field(default=2000, ge=1000, description="half of what a failed election waits for")
    fsync: Literal["always", "everysec", "no"] = "everysec"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for name in ("wait", "min_replicas_to_write"):
            if getattr(self, name) >= self.nodes:
                raise ValueError(f"{name} is {getattr(self, name)}, but there are {self.nodes - 1} replicas")
        return self


def configuration(settings: RedisSentinelSettings, port: str, *, own: Address, first: Address, folder: Path) -> str:
    """The file of one member whose `port` (redis, sentinel) is at `own`; `first` begins as the primary."""
    lines: dict[str, Any] = {"bind": own.host, "port": own.port, "protected-mode": "no", "dir": folder}
    if port == "sentinel":
        lines |= {
            "sentinel monitor": f"{SERVICE} {first.host} {first.port} {settings.sentinels // 2 + 1}",
            "sentinel down-after-milliseconds": f"{SERVICE} {settings.down_after_ms}",
            "sentinel failover-timeout": f"{SERVICE} {settings.failover_timeout_ms}",
            "sentinel parallel-syncs": f"{SERVICE} {settings.nodes}",
        }
    else:
        lines |= {
            "appendonly": "yes",
            "appendfsync": settings.fsync,
            "save": '""',
            "repl-diskless-sync-delay": 0,
            "min-replicas-to-write": settings.min_replicas_to_write,
            "min-replicas-max-lag": settings.min_replicas_max_lag_s,
            "enable-debug-command": "yes",  # for DEBUG DIGEST, by which replicas are compared
        }
        if own != first:
            lines["replicaof"] = f"{first.host} {first.port}"
    return "".join(f"{name} {value}\n" for name, value in lines.items())
