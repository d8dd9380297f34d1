"""The Compose tool that is installed: which one, its version, what it makes of a file, and making containers with it.

Two are in use: `docker compose` (v2, a plugin of the docker client) and `docker-compose` (v1, Debian's 1.29). Both are
given the endpoint of the run, so neither follows a docker context.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from ..errors import SetupError

__all__ = ["ComposeTool", "find_tool", "why_no_tool"]

_ASK_TIMEOUT_S: Final = 30.0
_BUILD_TIMEOUT_S: Final = 1800.0
_SAID_CHARACTERS: Final = 1500


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeTool:
    """One installed tool. `argv` is how it is called."""

    argv: tuple[str, ...]
    version: str

    @property
    def words(self) -> str:
        return f"{' '.join(self.argv)} {self.version}"

    def resolve(self, files: Sequence[Path], *, endpoint: str) -> dict[str, Any]:
        """The files as the tool understands them: merged, variables and `extends` filled in. Raises SetupError."""
        options = [part for file in files for part in ("-f", str(file))]
        said = self._run([*options, "config"], endpoint=endpoint, cwd=files[0].parent, what="read the Compose file")
        try:
            found = yaml.safe_load(said)
        except yaml.YAMLError as error:
            raise SetupError(f"{self.words} says what is no YAML when asked for `config`: {error}") from error
        if not isinstance(found, dict) or not isinstance(found.get("services"), dict) or not found["services"]:
            raise SetupError(f"{', '.join(map(str, files))}: has no services")
        return found

    def create(self, text: str, *, project: str, folder: Path, endpoint: str, build: bool) -> None:
        """Make the containers of a resolved project, and start none. The text goes in by standard input: it may hold
        secrets, and is on no disk because of us.
        """
        options = ["-p", project, "--project-directory", str(folder), "-f", "-"]
        making = ["up", "--no-start", *(["--build"] if build else [])]
        self._run(
            [*options, *making],
            endpoint=endpoint,
            cwd=folder,
            what="make the containers",
            text=text,
            timeout_s=_BUILD_TIMEOUT_S,
        )

    def _run(
        self,
        arguments: Sequence[str],
        *,
        endpoint: str,
        cwd: Path,
        what: str,
        text: str = "",
        timeout_s: float = _ASK_TIMEOUT_S,
    ) -> str:
        try:
            done = subprocess.run(
                [*self.argv, *arguments],
                cwd=cwd,
                env=_environment(endpoint),
                input=text,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise SetupError(f"{self.words} did not {what} within {timeout_s:g} s") from None
        except OSError as error:
            raise SetupError(f"{self.words} could not be started: {error}") from error
        if done.returncode != 0:
            raise SetupError(
                f"{self.words} would not {what}: {(done.stderr or done.stdout).strip()[-_SAID_CHARACTERS:]}"
            )
        return done.stdout


def find_tool() -> ComposeTool | None:
    """The v2 plugin where there is one, else docker-compose, else None."""
    for argv in (("docker", "compose"), ("docker-compose",)):
        if shutil.which(argv[0]) is None:
            continue
        try:
            done = subprocess.run(
                [*argv, "version", "--short"], capture_output=True, text=True, timeout=_ASK_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        version = done.stdout.strip()
        # A docker client without the plugin answers with its own help.
        if done.returncode == 0 and version.removeprefix("v")[:1].isdigit():
            return ComposeTool(argv=argv, version=version)
    return None


def why_no_tool() -> str:
    return (
        "there is no Compose tool: neither `docker compose` nor `docker-compose` answers; install the "
        "docker-compose-v2 plugin, or on Debian: apt-get install docker-compose"
    )


def _environment(endpoint: str) -> Mapping[str, str]:
    inherited = {key: value for key, value in os.environ.items() if key not in ("DOCKER_CONTEXT", "COMPOSE_FILE")}
    return {**inherited, "DOCKER_HOST": endpoint}
