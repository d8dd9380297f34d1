"""Services of somebody's own for the nightly tests: a Compose project, and containers that are only attached to.

Three equal application servers and one in front that clients enter by; all of them answer by themselves.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import docker
from aftershock.harness import images
from aftershock.harness.backends.compose import ComposeBackend, ComposeBackendSettings
from aftershock.harness.backends.url import UrlBackend, UrlBackendSettings
from aftershock.harness.interfaces import Backend, System
from aftershock.systems_under_test.compose_system import ComposeSystem
from aftershock.systems_under_test.url_system import UrlSystem

from tests.docker.stages import engine

__all__ = ["PORT", "SERVICES", "Theirs", "own_system", "theirs", "write_project"]

APP = Path(__file__).resolve().parents[2] / "examples" / "own-system" / "app.py"
PORT = 8000
SERVICES = ("web", "n1", "n2", "n3")
_LABELS = {"aftershock.port": str(PORT), "aftershock.path": "/health"}
_COMMAND = ["python3", "-u", "/app.py"]


def write_project(folder: Path) -> Path:
    """A Compose file with limits, so that every fault that needs them can be there."""
    lines = ['version: "2.4"', "services:"]  # version 3 leaves limits to a swarm, unless it is told not to
    for name in SERVICES:
        lines += [
            f"  {name}:",
            "    image: aftershock-nginx",
            f"    command: {_COMMAND}",
            f'    volumes: ["{APP}:/app.py:ro"]',
            f"    labels: {{{', '.join(f'{key}: {value!r}' for key, value in _LABELS.items())}}}",
            "    cpus: 0.4",
            "    mem_limit: 128M",
        ]
    path = folder / "docker-compose.yml"
    path.write_text("\n".join(lines).replace("'", '"') + "\n")
    return path


class Theirs:
    """The same services, started by somebody before any run, with a restart policy, on a network of their own."""

    def __init__(self, key: str) -> None:
        self.names = [f"{key}-{name}" for name in SERVICES]
        self.network = key

    @property
    def url(self) -> str:
        with engine() as api:
            networks = api.inspect_container(self.names[0])["NetworkSettings"]["Networks"]
        return f"http://{networks[self.network]['IPAddress']}:{PORT}"

    def seen(self) -> list[tuple[str, str, bool, bool]]:
        """Id, name, and whether it runs and is paused."""
        found = []
        with engine() as api:
            for name in self.names:
                each = api.inspect_container(name)
                found.append((each["Id"], name, each["State"]["Running"], each["State"]["Paused"]))
        return found


@contextlib.contextmanager
def theirs() -> Iterator[Theirs]:
    made = Theirs(f"as-nightly-{os.getpid()}")
    labels = {**_LABELS, "aftershock.test.nightly": str(os.getpid())}
    mounts = [docker.types.Mount(target="/app.py", source=str(APP), type="bind", read_only=True)]
    with engine() as api:
        try:
            api.create_network(made.network, driver="bridge", internal=True, labels=labels)
            for name in made.names:
                api.create_container(
                    images.tag("nginx"),
                    command=_COMMAND,
                    name=name,
                    labels=labels,
                    host_config=api.create_host_config(mounts=mounts, restart_policy={"Name": "always"}),
                    networking_config=api.create_networking_config({made.network: api.create_endpoint_config()}),
                )
                api.start(name)
            yield made
        finally:
            for name in made.names:
                with contextlib.suppress(docker.errors.NotFound):
                    api.remove_container(name, force=True, v=True)
            with contextlib.suppress(docker.errors.NotFound):
                api.remove_network(made.network)


def own_system(backend: str, folder: Path, attached: Theirs | None) -> tuple[Backend, System, dict[str, object]]:
    """Backend, system and the system's settings, for `compose` or, with what is attached, for `url`."""
    if attached is None:
        made = ComposeBackend(ComposeBackendSettings(file=str(write_project(folder))))
        return made, ComposeSystem(), {"entry": f"{SERVICES[0]}:{PORT}", "ready_path": "/health"}
    url = UrlBackend(UrlBackendSettings(containers=tuple(attached.names)))
    roles = {name: {"role": "node"} for name in attached.names}
    return url, UrlSystem(), {"url": attached.url, "ready_path": "/health", "services": roles}
