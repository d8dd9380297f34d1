"""One Docker engine at one named endpoint: reached, known by its version, and its errors told in sentences.

The endpoint is what the scenario says; DOCKER_HOST and docker contexts are never followed, since a run that breaks
things must not end up on somebody else's machine. Only Unix sockets: members are signalled by their process ids here.
"""

from __future__ import annotations

import errno
import http.client
import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, Self

import docker
import docker.errors
import requests

from ..errors import SetupError
from ..inverses.containers import UnixConnection

__all__ = ["DEFAULT_ENDPOINT", "Engine", "EngineLostError", "not_followed", "why_unreachable"]

DEFAULT_ENDPOINT: Final = "unix:///var/run/docker.sock"

# An engine that needs longer than this to say its version is not fit to be measured on.
_PING_TIMEOUT_S: Final = 5.0
_REQUEST_TIMEOUT_S: Final = 60.0
_CONNECTIONS: Final = 32


class EngineLostError(SetupError):
    """The engine answered before and does not answer any more."""


class Engine:
    """A connection to one engine; threads may share it. `api` is the SDK's own client, pinned to the endpoint."""

    def __init__(self, endpoint: str, api: docker.APIClient, version: str) -> None:
        self.endpoint = endpoint
        self.api = api
        self.version = version

    @classmethod
    def open(cls, endpoint: str) -> Self:
        """Raises SetupError saying what is wrong with the engine and what mends it."""
        reason = why_unreachable(endpoint)
        if reason is not None:
            raise SetupError(reason)
        try:
            api = docker.APIClient(
                base_url=endpoint, version="auto", timeout=int(_REQUEST_TIMEOUT_S), max_pool_size=_CONNECTIONS
            )
            version = str(api.version()["Version"])
        except (docker.errors.DockerException, requests.RequestException, KeyError) as error:
            raise SetupError(f"the Docker engine at {endpoint} answers, but cannot be used: {error}") from error
        return cls(endpoint, api, version)

    def close(self) -> None:
        self.api.close()

    @contextmanager
    def asked_to(self, what: str) -> Iterator[None]:
        """Tell the engine's refusal as SetupError in its own words, its silence as EngineLostError."""
        try:
            yield
        except docker.errors.APIError as error:
            raise SetupError(f"the Docker engine would not {what}: {error.explanation or error}") from error
        except (requests.RequestException, docker.errors.DockerException, OSError) as error:
            reason = why_unreachable(self.endpoint) or f"the Docker engine at {self.endpoint}: {error}"
            raise EngineLostError(f"could not {what}: {reason}") from error


def why_unreachable(endpoint: str) -> str | None:
    """None when an engine answers there; otherwise what is wrong, and the command that mends it."""
    try:
        with closing(UnixConnection(endpoint.removeprefix("unix://"), timeout_s=_PING_TIMEOUT_S)) as connection:
            connection.request("GET", "/version")
            response = connection.getresponse()
            body = response.read()
    except (OSError, http.client.HTTPException) as error:
        return _why(endpoint, error)
    if response.status != 200 or not _is_engine(body):
        return f"what answers at {endpoint} is no Docker engine (HTTP {response.status}: {body[:100]!r})"
    return None


def _why(endpoint: str, error: Exception) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.ENOENT:
        return (
            f"there is no Docker engine at {endpoint}: install one (apt-get install docker.io) or start it "
            "(systemctl start docker), or name its socket with --set backend.endpoint=unix:///PATH"
        )
    if number in (errno.EACCES, errno.EPERM):
        return f"this user may not use the Docker engine at {endpoint}: run it with sudo"
    if number == errno.ECONNREFUSED:
        return f"nobody listens at {endpoint}: the Docker engine is not running; start it: systemctl start docker"
    if isinstance(error, TimeoutError):
        return (
            f"the Docker engine at {endpoint} did not answer within {_PING_TIMEOUT_S:g} s: the machine is too busy, "
            "or the engine hangs; look at it: journalctl -u docker"
        )
    return (
        f"the Docker engine at {endpoint} cannot be reached ({error or type(error).__name__}): systemctl status docker"
    )


def _is_engine(body: bytes) -> bool:
    try:
        return "ApiVersion" in json.loads(body)
    except (ValueError, TypeError):
        return False


def not_followed(endpoint: str) -> str | None:
    """A sentence when the environment or a docker context names another engine than the one that is used."""
    named = _named_elsewhere()
    if named is None or named[1] == endpoint:
        return None
    return f"{named[0]} ({named[1]}) is not followed: this run uses the Docker engine at {endpoint}"


def _named_elsewhere() -> tuple[str, str] | None:
    if os.environ.get("DOCKER_HOST"):
        return "DOCKER_HOST", os.environ["DOCKER_HOST"]
    if os.environ.get("DOCKER_CONTEXT"):
        return "DOCKER_CONTEXT", os.environ["DOCKER_CONTEXT"]
    folder = os.environ.get("DOCKER_CONFIG")
    file = (Path(folder) if folder else Path.home() / ".docker") / "config.json"
    try:
        context = json.loads(file.read_text(encoding="utf-8")).get("currentContext")
    except (OSError, ValueError, AttributeError):
        return None
    return ("the docker context", str(context)) if context not in (None, "", "default") else None
