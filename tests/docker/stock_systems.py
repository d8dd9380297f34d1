"""What the tests of stock systems in containers share: a deployed cluster, and one fault that must take and heal."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from aftershock.harness import images
from aftershock.harness.backends.docker_engine import DEFAULT_ENDPOINT
from aftershock.harness.interfaces import Cluster, FaultContext, Injection
from aftershock.workloads.client import Client, ClientSetup
from aftershock.workloads.requests import Request
from aftershock.workloads.spec import client_class

from tests.docker.stages import left_behind, open_stage
from tests.fakes import FakeJournal, RecordedEvents
from tests.unit.faults.support import fault

__all__ = ["client_of", "deployed", "execute", "injected", "soon"]

READY_S = 90.0
_open: dict[int, ExitStack] = {}


@contextmanager
def deployed(folder: Path, system: Any, image: str, **settings: Any) -> Iterator[Cluster]:
    """A ready cluster; afterwards nothing of it is left."""
    reason = images.missing(DEFAULT_ENDPOINT, [image])
    if reason is not None:
        pytest.skip(reason)
    name = f"{image}-{folder.name}"  # two clusters at once must not have one name
    with (
        open_stage(folder, RecordedEvents(), name=name) as stage,
        system().deploy(stage, system.settings(**settings), seed=7) as cluster,
    ):
        cluster.wait_ready(deadline_s=READY_S)
        with ExitStack() as clients:
            _open[id(cluster)] = clients
            yield cluster
    assert left_behind(folder / name) == []


@contextmanager
def injected(cluster: Cluster, name: str, **settings: Any) -> Iterator[Injection]:
    """One fault: proven at once, still on at the end, healed and verified afterwards."""
    context = FaultContext(
        cluster=cluster,
        rng=random.Random(7),
        journal=FakeJournal(),
        events=RecordedEvents(),
        fault_id="f1",
        duration_s=5.0,
        expires_ns=time.monotonic_ns() + 120 * 10**9,
        hot_key="h-1",
    )
    with fault(name, **settings).inject(context) as injection:
        evidence = injection.prove()
        assert evidence.proven, evidence.facts
        yield injection
        still_on = injection.still_on() if injection.still_on is not None else None
        assert still_on is None or still_on.proven, still_on.facts
    healed = injection.verify_healed()
    assert healed.proven, healed.facts


def client_of(cluster: Cluster, group: str, kind: type[Client] | None = None, **settings: Any) -> Client:
    """A client of this group, as the load would make it, or of another kind; closed with the cluster."""
    spec = cluster.clients()
    made = (kind or client_class(spec.client))(
        ClientSetup(addresses=spec.groups[group], settings={**spec.settings, **settings})
    )
    _open[id(cluster)].callback(made.close)
    return made


def execute(client: Client, f: str, value: int | None = None, *, key: int = 1, deadline_s: float = 5.0) -> Any:
    """How one operation ended."""
    request = Request(f, key, value)
    return client.execute(request, key=f"i-{key}", request_id="t", deadline_ns=soon(deadline_s)).completion


def soon(seconds: float = 5.0) -> int:
    return time.monotonic_ns() + round(seconds * 1e9)
