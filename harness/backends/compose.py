"""The compose backend: the user's Compose project, started as a project of this run, on a network of this run.

The Compose tool that is installed reads the file and makes the containers; starting, watching, breaking and ending them
is as on the docker backend, whose stage this is one of (DESIGN section 5). docs/own-system.md is for whoever uses it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import ClassVar, Final, Self

from pydantic import Field, model_validator

from .. import images
from ..errors import SetupError
from ..identity import TOKEN_VARIABLE, run_token
from ..interfaces import Address, EventSink, Journal, Limits, ProcessSpec, Settings, Stage
from ..inverses.containers import TOKEN_LABEL
from .compose_project import Project, parse_project
from .compose_tool import ComposeTool, find_tool, why_no_tool
from .docker import DockerStage, equip, removing, run_network, the_engine
from .docker_engine import Engine
from .docker_exec import run_inside
from .docker_network import RUN_LABEL
from .docker_settings import DockerBackendSettings
from .requirements import why_no_containers, why_no_linux

__all__ = ["ComposeBackend", "ComposeBackendSettings", "ComposeStage"]

_START_DEADLINE_S: Final = 60.0
_POLL_S: Final = 0.1


class ComposeBackendSettings(DockerBackendSettings):
    """Which Compose file, and where the engine is. Limits of members are the file's own."""

    file: str | tuple[str, ...] = Field(description="as for the tool's -f; relative to the current folder")
    join_networks: bool = Field(default=False, description="put services of several networks on one")

    @model_validator(mode="after")
    def _limits_are_the_files(self) -> Self:
        for name in ("cpus", "memory_mb", "disk_mb"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name}: the limits of a Compose project's services are those of its file")
        return self

    @property
    def files(self) -> list[Path]:
        return [Path(each).absolute() for each in ([self.file] if isinstance(self.file, str) else self.file)]


class ComposeStage(DockerStage):
    """One run's project. Keeps interfaces.Stage and interfaces.Hosting; made by `ComposeBackend.open`."""

    backend = "compose"

    def offer(self, project: Project, tool: ComposeTool, settings: ComposeBackendSettings, name: str) -> None:
        """What this stage can bring up."""
        self._project = project
        self._tool = tool
        self._compose = settings
        self._project_name = name
        self._ids: dict[str, str] = {}
        self._its_limits: dict[str, Limits] = {}

    def services(self) -> Mapping[str, Mapping[str, str]]:
        return {name: self._project.labels(name) for name in self._project.services}

    def host(self, service: str) -> str:
        return self.address(service)

    def place(self, member: str, port: str, address: Address, *, of: str | None = None) -> None:
        self._roster.insist(member)
        self._listening[member, port] = address

    def run(self, spec: ProcessSpec) -> None:
        raise SetupError(
            f"backend 'compose' starts what its Compose file has, so it cannot run {spec.member.name}: it is for "
            "system 'compose'"
        )

    def limits(self, member: str) -> Limits:
        self._roster.insist(member)
        if member not in self._project.services:
            return Limits(cpus=0.0, memory_bytes=0)  # clients' place of entry is no container, and takes nothing
        return self._its_limits.get(member, Limits(cpus=None, memory_bytes=None))

    def bring_up(self) -> None:
        """See interfaces.Hosting. In the order of `depends_on`, whose conditions are waited for."""
        absent = [name for name in self._project.services if name not in self._roster.members]
        if absent:
            raise SetupError(f"services that are no members: {', '.join(absent)}")
        self._groups.begin()
        labels = {RUN_LABEL: self._run_id, TOKEN_LABEL: self._token}
        folder = self._compose.files[0].parent
        text = self._project.for_run(
            network=self._bridge.name,
            address=self.address,
            labels=labels,
            environment={TOKEN_VARIABLE: self._token},
            folder=folder,
        )
        self._tool.create(
            text,
            project=self._project_name,
            folder=folder,
            endpoint=self._engine.endpoint,
            build=self._project.builds,
        )
        self._find_containers()
        for name in self._project.order():
            for other, condition in self._project.conditions(name).items():
                self._wait_for(name, other, condition)
            self.containers.launch(name, lambda name=name: self._ids[name])  # type: ignore[misc]
            self.containers.container(name)  # raises when it could not be started

    def unhealthy(self, service: str) -> str | None:
        with self._engine.asked_to(f"look at the container of {service}"):
            state = self._engine.api.inspect_container(self._ids[service])["State"]
        health = (state.get("Health") or {}).get("Status", "none")
        return None if health in ("none", "healthy", "") else f"its health check says {health!r}"

    def command(self, service: str, argv: Sequence[str], *, timeout_s: float) -> str | None:
        return run_inside(self._engine, self._ids[service], argv, timeout_s=timeout_s)

    def _find_containers(self) -> None:
        wanted = {"label": [f"{TOKEN_LABEL}={self._token}", f"com.docker.compose.project={self._project_name}"]}
        with self._engine.asked_to("list the containers of the project"):
            found = self._engine.api.containers(all=True, filters=wanted)
        self._ids = {each["Labels"]["com.docker.compose.service"]: each["Id"] for each in found}
        missing = sorted(set(self._project.services) - set(self._ids))
        if missing:
            raise SetupError(f"{self._tool.words} made no container for {', '.join(missing)}")
        for name, identifier in self._ids.items():
            with self._engine.asked_to(f"look at the container of {name}"):
                host = self._engine.api.inspect_container(identifier)["HostConfig"]
            cpus, memory = host.get("NanoCpus") or 0, host.get("Memory") or 0
            self._its_limits[name] = Limits(cpus=cpus / 1e9 if cpus else None, memory_bytes=memory or None)

    def _wait_for(self, name: str, other: str, condition: str) -> None:
        """Raises SetupError when what a service depends on does not come about."""
        until = time.monotonic() + _START_DEADLINE_S
        while True:
            status = self.containers.exit_status(other)
            if condition == "service_completed_successfully":
                missing = None if status == 0 else "has not ended with 0" + ("" if status is None else f" but {status}")
            elif condition == "service_healthy":
                missing = self.unhealthy(other)
            else:
                missing = None
            if missing is None:
                return
            if status is not None or time.monotonic() > until:
                raise SetupError(f"{name} is not started: it depends on {other} ({condition}), and {missing}")
            time.sleep(_POLL_S)


class ComposeBackend:
    """Keeps interfaces.Backend."""

    name: ClassVar[str] = "compose"
    settings: ClassVar[type[Settings]] = ComposeBackendSettings

    def __init__(self, settings: ComposeBackendSettings) -> None:
        self._settings = settings

    def available(self) -> str | None:
        reason = why_no_linux()
        if reason is not None:
            return reason
        absent = [str(file) for file in self._settings.files if not file.is_file()]
        if absent:
            return f"there is no Compose file {', '.join(absent)} (backend.file is relative to the current folder)"
        return why_no_containers(self._settings.endpoint) or (why_no_tool() if find_tool() is None else None)

    @contextmanager
    def open(self, *, run_id: str, run_folder: Path, journal: Journal, events: EventSink) -> Iterator[Stage]:
        """See interfaces.Backend. Raises UsageError for a file that a run must not start, before anything is made."""
        for folder in (run_folder / "logs", run_folder / "data"):
            folder.mkdir(parents=True, exist_ok=True)
        token, settings = run_token(run_folder), self._settings
        tool = find_tool()
        if tool is None:
            raise SetupError(why_no_tool())
        project = parse_project(
            tool.resolve(settings.files, endpoint=settings.endpoint), join_networks=settings.join_networks
        )
        with ExitStack() as stack:
            engine = stack.enter_context(the_engine(settings.endpoint, events))
            _insist_on_images(engine, project)
            bridge = stack.enter_context(run_network(engine, run_id, token, settings, journal))
            name = "aftershock" + hashlib.sha256(token.encode()).hexdigest()[:12]
            events(
                "backend",
                name="compose",
                endpoint=engine.endpoint,
                engine_version=engine.version,
                tool=tool.words,
                network=bridge.name,
                subnet=str(bridge.subnet),
                text=f"{tool.words} made project {name} of {', '.join(map(str, settings.files))}; Docker engine "
                f"{engine.version} at {engine.endpoint}, network {bridge.subnet}; published ports are left out",
            )
            # Volumes outlive containers and are of no network: removed between them.
            stack.enter_context(removing("remove-volumes", engine, token, journal))
            stage = ComposeStage(
                settings=settings,
                engine=engine,
                bridge=bridge,
                run_id=run_id,
                run_folder=run_folder,
                journal=journal,
                events=events,
            )
            stage.offer(project, tool, settings, name)
            equip(stack, stage, engine, bridge, run_id=run_id, token=token, journal=journal, events=events)
            yield stage


def _insist_on_images(engine: Engine, project: Project) -> None:
    """Raises SetupError for images of ours that are not built yet; others are the tool's to pull."""
    names = [str(service.get("image", "")).removeprefix("aftershock-") for service in project.services.values()]
    ours = [name for name in names if name in images.names() and f"aftershock-{name}" in _told_images(project)]
    reason = images.missing(engine.endpoint, ours) if ours else None
    if reason is not None:
        raise SetupError(reason)


def _told_images(project: Project) -> set[str]:
    return {str(service.get("image", "")) for service in project.services.values()}
