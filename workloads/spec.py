"""What a load process is told: everything, in one JSON file beside its slots, which also names what slots number."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from ..harness.errors import UsageError
from ..harness.interfaces import Address
from .arrivals import Lane, lanes, planned_count
from .cas_register import CasRegister
from .client import Client, ClientSetup
from .http_requests import HttpRequests
from .insert_only import InsertOnly
from .requests import KeyedWorkload

__all__ = [
    "BUILT_IN",
    "SPEC_FILE",
    "Group",
    "LoadFile",
    "Space",
    "client_class",
    "make_space",
    "read_spec",
    "workload_class",
]

SPEC_FILE: Final = "load-spec.json"

BUILT_IN: Final[Mapping[str, type[KeyedWorkload]]] = {
    CasRegister.name: CasRegister,
    InsertOnly.name: InsertOnly,
    HttpRequests.name: HttpRequests,
}


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Group(_Model):
    """A client group and the addresses that it may use, by name."""

    name: str
    addresses: dict[str, Address]


class Space(_Model):
    """A key space: its workload's class as `module:name`, and the share of arrivals it gets. With `key_names`, key
    number i is the i-th of them, and the prefix plus the number otherwise."""

    name: str
    key_prefix: str
    share: float
    workload: str
    settings: dict[str, Any]
    key_names: tuple[str, ...] | None = None


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
    client: str = Field(description="class of the system's clients, module:name")
    client_settings: dict[str, Any] = Field(default_factory=dict)
    groups: tuple[Group, ...]
    spaces: tuple[Space, ...]

    def lanes(self) -> tuple[Lane, ...]:
        return lanes(groups=len(self.groups), processes=self.processes, in_flight=self.in_flight)

    @property
    def planned(self) -> int:
        return planned_count(rate_per_s=self.rate_per_s, duration_s=self.duration_s)

    def make_client(self, group: int) -> Client:
        """A client of that group. Raises UsageError when its class cannot be imported."""
        setup = ClientSetup(addresses=self.groups[group].addresses, settings=self.client_settings)
        return client_class(self.client)(setup)


def read_spec(folder: Path) -> LoadFile:
    """The specification of the load whose slots are in this folder."""
    return LoadFile.model_validate_json((folder / SPEC_FILE).read_bytes())


def make_space(plan_name: str, share: float, settings: Mapping[str, Any], workload: type[KeyedWorkload]) -> Space:
    """A space for a workload class, its settings validated. Raises UsageError when the class cannot be imported."""
    validated = workload.settings.model_validate(dict(settings))
    path = f"{workload.__module__}:{workload.__qualname__}"
    if workload_class(path) is not workload:
        raise UsageError(f"workload {plan_name!r}: {path} does not lead back to the class; define it in a module")
    names = getattr(workload, "key_names", None)
    return Space(
        name=plan_name,
        key_prefix=workload.key_prefix,
        share=share,
        workload=path,
        settings=validated.model_dump(mode="json"),
        key_names=tuple(names(validated)) if names is not None else None,
    )


def workload_class(path: str) -> type[KeyedWorkload]:
    """The workload class at `module:name`. Raises UsageError when there is none."""
    found: type[KeyedWorkload] = _imported(path, "workload")
    return found


def client_class(path: str) -> type[Client]:
    """The client class at `module:name`. Raises UsageError when there is none."""
    found: type[Client] = _imported(path, "client")
    if not isinstance(getattr(found, "functions", None), frozenset):
        raise UsageError(f"client {path}: lacks `functions`, the frozenset of what it can carry out")
    return found


@cache
def _imported(path: str, what: str) -> Any:
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except (ImportError, ValueError) as error:
        raise UsageError(f"{what} {path}: cannot be imported: {error}") from error
    if not isinstance(found, type):
        raise UsageError(f"{what} {path}: expected module:Class, found {found!r} there")
    return found
