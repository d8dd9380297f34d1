"""A whole system on a backend, with all that every fault needs there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from aftershock.harness.backends.docker import DockerBackend, DockerBackendSettings
from aftershock.harness.backends.process import ProcessBackend, ProcessBackendSettings
from aftershock.harness.interfaces import Backend, Cluster, System
from aftershock.harness.journal import RunJournal
from aftershock.harness.watchdog import start_watchdog
from aftershock.systems_under_test.reference_system import ReferenceSystem

from tests.fakes import RecordedEvents
from tests.nightly.own_services import own_system, theirs

__all__ = ["READY_S", "deployed"]

READY_S = 120.0
# With limits and a disk for each member, which the faults of resources and disks need.
CONFINED = {"cpus": 0.4, "memory_mb": 128, "disk_mb": 32}


@contextmanager
def deployed(backend: str, folder: Path, *, run_id: str) -> Iterator[Cluster]:
    """A whole system, ready, with a journal and a watchdog, as a run has them.

    On `process` and `docker` the reference cluster of three nodes, two routers and a controller; on the others
    somebody's own services.
    """
    run_folder = folder / run_id
    run_folder.mkdir(parents=True)
    with ExitStack() as stack:
        chosen, system, settings = _chosen(backend, folder, stack)
        reason = chosen.available()
        assert reason is None, reason
        journal = stack.enter_context(RunJournal.open(run_folder, run_id, folder / "state"))
        stack.enter_context(start_watchdog(journal))
        opened = chosen.open(run_id=run_id, run_folder=run_folder, journal=journal, events=RecordedEvents())
        stage = stack.enter_context(opened)
        cluster = stack.enter_context(system.deploy(stage, system.settings.model_validate(settings), seed=7))
        cluster.wait_ready(deadline_s=READY_S)
        yield cluster


def _chosen(backend: str, folder: Path, stack: ExitStack) -> tuple[Backend, System, dict[str, object]]:
    reference = {"nodes": 3, "shards": 4}
    match backend:
        case "process":
            return ProcessBackend(ProcessBackendSettings()), ReferenceSystem(), dict(reference)
        case "docker":
            return DockerBackend(DockerBackendSettings.model_validate(CONFINED)), ReferenceSystem(), dict(reference)
        case "url":
            return own_system(backend, folder, stack.enter_context(theirs()))
        case _:
            return own_system(backend, folder, None)
