"""What a load process is told: everything, in one JSON file beside its slots, which also names what slots number."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from ..harness.errors import InternalError, UsageError
from ..harness.interfaces import Address
from .arrivals import Lane, lanes, planned_count
from .cas_register import CasRegister
from .insert_only import InsertOnly
from .requests import KeyedWorkload

__all__ = ["BUILT_IN", "SPEC_FILE", "Group", "LoadFile", "Space", "load_class", "make_space", "read_spec"]

SPEC_FILE: Final = "load-spec.json"

BUILT_IN: Final[Mapping[str, type[KeyedWorkload]]] = {
    CasRegister.name: CasRegister,
    InsertOnly.name: InsertOnly,
}


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Group(_Model):
    """A client group and its router's address."""

    name: str
    host: str
    port: int

    @property
    def address(self) -> Address:
        return Address(self.host, self.port)


class Space(_Model):
    """A key space: its workload's class as `module:name`, and the share of arrivals it gets."""

    name: str
    key_prefix: str
    share: float
    workload: str
    settings: dict[str, Any]


class LoadFile(_Model):
    """The whole of it."""

    version: int = Field(default=1, ge=1, le=1)
    seed: int
    # Makes request ids new with every load: a service that outlives a run remembers the old ones.
    token: str
    rate_per_s: float
    duration_s: float
    timeout_s: float
    in_flight: int
    processes: int
    record: bool
    slots_per_file: int
    final_workers: int = Field(ge=0, description="workers of the final reads, numbered after all others")
    groups: tuple[Group, ...]
    spaces: tuple[Space, ...]

    def lanes(self) -> tuple[Lane, ...]:
        return lanes(groups=len(self.groups), processes=self.processes, in_flight=self.in_flight)

    @property
    def planned(self) -> int:
        return planned_count(rate_per_s=self.rate_per_s, duration_s=self.duration_s)

    @property
    def deadline_ms(self) -> int:
        """What the service is told: a tenth less than the client waits, so that its own answer still arrives."""
        return max(1, int(self.timeout_s * 900))


def read_spec(folder: Path) -> LoadFile:
    """The specification of the load whose slots are in this folder."""
    return LoadFile.model_validate_json((folder / SPEC_FILE).read_bytes())


def make_space(plan_name: str, share: float, settings: Mapping[str, Any], workload: type[KeyedWorkload]) -> Space:
    """A space for a workload class, its settings validated. Raises UsageError when the class cannot be imported."""
    validated = workload.settings.model_validate(dict(settings))
    path = f"{workload.__module__}:{workload.__qualname__}"
    if load_class(path) is not workload:
        raise UsageError(f"workload {plan_name!r}: {path} does not lead back to the class; define it in a module")
    return Space(
        name=plan_name,
        key_prefix=workload.key_prefix,
        share=share,
        workload=path,
        settings=validated.model_dump(mode="json"),
    )


def load_class(path: str) -> type[KeyedWorkload]:
    """The workload class at `module:name`."""
    module, _, name = path.partition(":")
    found = getattr(importlib.import_module(module), name, None)
    if not isinstance(found, type):
        raise InternalError(f"{path}: expected a workload class, found {found!r}")
    return found
