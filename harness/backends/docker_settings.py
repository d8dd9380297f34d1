"""Settings of the docker backend: where the engine is, and what each member may use."""

from __future__ import annotations

from ipaddress import IPv4Network

from pydantic import Field, field_validator

from ..interfaces import Settings
from .docker_engine import DEFAULT_ENDPOINT

__all__ = ["DockerBackendSettings"]


class DockerBackendSettings(Settings):
    """Where the engine is, and what each member may use."""

    endpoint: str = Field(default=DEFAULT_ENDPOINT, description="of the Docker engine; no other is ever used")
    cpus: float | None = Field(default=None, gt=0, description="CPUs of each member; none: as many as there are")
    memory_mb: int | None = Field(default=None, ge=8, description="memory of each member, without swap")
    disk_mb: int | None = Field(default=None, ge=16, description="each member's data as a file system of this size")
    parallel: int = Field(default=4, ge=1, le=32, description="containers that are made at once")
    address_range: IPv4Network | None = Field(default=None, description="of the run's network; none: one that is free")

    @field_validator("endpoint")
    @classmethod
    def _is_a_socket_here(cls, value: str) -> str:
        if not value.startswith("unix:///"):
            raise ValueError(f"expected unix:///PATH (members' processes must be on this machine), found {value!r}")
        return value

    @field_validator("address_range")
    @classmethod
    def _has_room(cls, value: IPv4Network | None) -> IPv4Network | None:
        if value is not None and not (value.is_private and value.prefixlen <= 26):
            raise ValueError(f"expected a private range of at least 64 addresses (A.B.C.0/26), found {value}")
        return value
