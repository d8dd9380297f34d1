"""The reference cluster on a backend, with all that every fault needs there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from aftershock.harness.backends.docker import DockerBackend, DockerBackendSettings
from aftershock.harness.backends.process import ProcessBackend, ProcessBackendSettings
from aftershock.harness.interfaces import Backend, Cluster
from aftershock.harness.journal import RunJournal
from aftershock.harness.watchdog import start_watchdog
from aftershock.systems_under_test.reference_system import ReferenceSettings, ReferenceSystem

from tests.fakes import RecordedEvents

__all__ = ["READY_S", "deployed"]

READY_S = 120.0
# With limits and a disk for each member, which the faults of resources and disks need.
CONFINED = {"cpus": 0.4, "memory_mb": 128, "disk_mb": 32}


def _backend(name: str) -> Backend:
    if name == "docker":
        return DockerBackend(DockerBackendSettings.model_validate(CONFINED))
    return ProcessBackend(ProcessBackendSettings())


@contextmanager
def deployed(backend: str, folder: Path, *, run_id: str) -> Iterator[Cluster]:
    """Three nodes, two routers, a controller, ready; with a journal and a watchdog, as a run has them."""
    run_folder = folder / run_id
    run_folder.mkdir(parents=True)
    with ExitStack() as stack:
        journal = stack.enter_context(RunJournal.open(run_folder, run_id, folder / "state"))
        stack.enter_context(start_watchdog(journal))
        opened = _backend(backend).open(run_id=run_id, run_folder=run_folder, journal=journal, events=RecordedEvents())
        stage = stack.enter_context(opened)
        cluster = stack.enter_context(ReferenceSystem().deploy(stage, ReferenceSettings(nodes=3, shards=4), seed=7))
        cluster.wait_ready(deadline_s=READY_S)
        yield cluster
