"""One cluster per backend, for all tests that break it; and what the machine has before and after all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from aftershock.harness.backends.docker import DockerBackend, DockerBackendSettings
from aftershock.harness.backends.process import ProcessBackend, ProcessBackendSettings
from aftershock.harness.interfaces import Backend, Cluster
from aftershock.harness.journal import RunJournal
from aftershock.systems_under_test.reference_system import ReferenceSettings, ReferenceSystem

from tests.fakes import RecordedEvents

READY_S = 120.0
# With limits and a disk for each member, which the faults of resources and disks need.
CONFINED = {"cpus": 0.4, "memory_mb": 128, "disk_mb": 32}


def backend_named(name: str) -> Backend:
    if name == "docker":
        return DockerBackend(DockerBackendSettings.model_validate(CONFINED))
    return ProcessBackend(ProcessBackendSettings())


@contextmanager
def deployed(backend: str, folder: Path, *, run_id: str) -> Iterator[Cluster]:
    """Three nodes, two routers, a controller, ready."""
    run_folder = folder / run_id
    run_folder.mkdir(parents=True)
    with ExitStack() as stack:
        journal = stack.enter_context(RunJournal.open(run_folder, run_id, folder / "state"))
        opened = backend_named(backend).open(
            run_id=run_id, run_folder=run_folder, journal=journal, events=RecordedEvents()
        )
        stage = stack.enter_context(opened)
        cluster = stack.enter_context(ReferenceSystem().deploy(stage, ReferenceSettings(nodes=3, shards=4), seed=7))
        cluster.wait_ready(deadline_s=READY_S)
        yield cluster


@pytest.fixture(params=["process", pytest.param("docker", marks=pytest.mark.docker)], scope="module")
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name
