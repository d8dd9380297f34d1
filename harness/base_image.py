"""The base image under the name that the Dockerfiles start from: pulled where a registry answers, else from packages.

From packages means mmdebstrap, which needs nothing but a Debian mirror: this machine's own, as apt names them. Its
archive goes straight into the engine and is given its name only when it is whole.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, Any, Final

import docker
import docker.errors
import requests

from .backends.docker_engine import Engine
from .errors import SetupError
from .image_errors import streamed, told
from .images import BASE, BASE_TAG, LABEL

__all__ = ["chosen_mirrors", "make", "mirrors", "packing_command"]

Note = Callable[[str], None]

_SUITE: Final = "bookworm"
_SUITES: Final = (_SUITE, f"{_SUITE}-updates", f"{_SUITE}-security")
# One question to a registry through the engine: an engine without names or ways out says so in well under a second.
_PROBE_S: Final = 8
_CHUNK_BYTES: Final = 1 << 20
_ENDING_S: Final = 60.0
_HOOKS: Final = "/usr/share/mmdebstrap/hooks"
# Without these a Dockerfile's apt-get leaves packages and caches in the image, 90 MB of them.
_APT_OPTIONS: Final = (
    'APT::Keep-Downloaded-Packages "false";',
    'Acquire::Languages "none";',
    'Dir::Cache::pkgcache "";',
    'Dir::Cache::srcpkgcache "";',
)
# Indices that apt has fetched, one a line. A source that was never fetched has no origin, and is not taken.
_ASKED_OF_APT: Final = "$(ORIGIN)|$(CODENAME)|$(CREATED_BY)|$(COMPONENT)|$(REPO_URI)|$(RELEASE)"


def make(engine: Engine, *, note: Note) -> str:
    """Put the base image onto the engine, in place of what has its name. Returns "pulled" or "built".

    Raises SetupError saying what to do.
    """
    reason = _why_no_registry(engine)
    if reason is None:
        note(f"pulling {BASE_TAG}")
        _pull(engine)
        return "pulled"
    note(f"no registry has {BASE_TAG} for this engine ({reason})")
    note("making it from Debian packages; this takes a minute or two")
    _from_packages(engine)
    return "built"


def _why_no_registry(engine: Engine) -> str | None:
    """None when the engine can pull the base image; otherwise what it, or its silence, says."""
    # The SDK's stubs leave this call untyped.
    client: Any = docker.APIClient(base_url=engine.endpoint, version=engine.api.api_version, timeout=_PROBE_S)
    try:
        client.inspect_distribution(BASE_TAG)
    except docker.errors.APIError as error:
        return str(error.explanation or error).strip()
    except (requests.RequestException, docker.errors.DockerException):
        return f"none answered within {_PROBE_S} s"
    finally:
        client.close()
    return None


def _pull(engine: Engine) -> None:
    repository, tag = BASE_TAG.split(":")
    with engine.asked_to(f"pull {BASE_TAG}"):
        for said in streamed(engine.api.pull(repository, tag=tag, stream=True, decode=True)):
            if "error" in said:
                raise SetupError(told(f"{BASE_TAG} could not be pulled", [str(said["error"])]))


# ------------------------------------------------------------------------------------------------ from packages


def mirrors() -> list[str]:
    """Lines of sources.list for the base image: those of this machine's own apt. Empty when it has none for it."""
    if shutil.which("apt-get") is None:
        return []
    asked = ["apt-get", "indextargets", "--format", _ASKED_OF_APT]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False)
    return chosen_mirrors(answer.stdout)


def chosen_mirrors(indices: str) -> list[str]:
    """Of what apt lists (`ORIGIN|CODENAME|CREATED_BY|COMPONENT|REPO_URI|RELEASE`), Debian's own suites of the base.

    Empty when the suite itself is not among them: updates alone make no system. A mirror on this machine's disk is
    left out, since a build could not reach it.
    """
    chosen: dict[str, str] = {}
    for line in indices.splitlines():
        origin, codename, kind, component, uri, release = (*line.split("|"), *[""] * 6)[:6]
        reachable = uri.startswith(("http://", "https://"))
        if origin == "Debian" and codename in _SUITES and kind == "Packages" and component == "main" and reachable:
            chosen.setdefault(f"deb {uri} {release} main", codename)
    return sorted(chosen, key=lambda line: _SUITES.index(chosen[line])) if _SUITE in chosen.values() else []


def packing_command(sources: list[str]) -> list[str]:
    """mmdebstrap's arguments: a minimal system as an archive on standard output.

    Without `sources` it takes its own defaults for the suite, security updates included.
    """
    hooks = [
        # Some packages' own scripts put links there and fail where the folder is missing (openjdk's does).
        'mkdir -p "$1/usr/share/man/man1"',
        'rm -rf "$1"/var/lib/apt/lists/*',
        'rm -rf "$1"/var/cache/apt/*.bin',
        # Not as mmdebstrap's own options, which would hold for mmdebstrap too: it needs the packages that it fetched.
        f"printf '%s\\n' {shlex.join(_APT_OPTIONS)} > \"$1\"/etc/apt/apt.conf.d/aftershock",
    ]
    return [
        "mmdebstrap",
        "--variant=minbase",
        "--components=main",
        # The merged layout from the start: merging it afterwards would bring in Perl, a third of the image.
        f"--hook-dir={_HOOKS}/merged-usr",
        # The image's own apt must be able to speak to a mirror that wants TLS.
        *(["--include=ca-certificates"] if any(line.startswith("deb https:") for line in sources) else []),
        *(f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "man", "locale")),
        *(f"--customize-hook={hook}" for hook in hooks),
        _SUITE,
        "-",
        *sources,
    ]


def _from_packages(engine: Engine) -> None:
    if shutil.which("mmdebstrap") is None:
        raise SetupError(
            f"the engine at {engine.endpoint} can pull no {BASE_TAG}, and mmdebstrap, which would make it from Debian "
            "packages, is not installed: apt-get install mmdebstrap"
        )
    with tempfile.TemporaryFile() as said:
        # A session of its own, so that Ctrl-C reaches it once, from us: a second one would break its cleaning up.
        packer = subprocess.Popen(
            packing_command(mirrors()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            start_new_session=True,
        )
        assert packer.stdout is not None
        try:
            image = _imported(engine, packer.stdout)
            status = packer.wait()
        finally:
            _end(packer)
        if status != 0:
            if image is not None:
                engine.api.remove_image(image)
            said.seek(0)
            lines = said.read().decode(errors="replace").splitlines()
            raise SetupError(told("mmdebstrap could not make the base image", lines))
    repository, tag = BASE_TAG.split(":")
    with engine.asked_to(f"name the base image {BASE_TAG}"):
        engine.api.tag(image, repository, tag=tag)


def _imported(engine: Engine, archive: IO[bytes]) -> str | None:
    """Import the archive without a name. Returns the image's id; None when there was nothing to import."""
    chunks: Iterator[bytes] = iter(lambda: archive.read(_CHUNK_BYTES), b"")
    first = next(chunks, None)
    if first is None:
        return None

    def whole() -> Iterator[bytes]:
        yield first
        yield from chunks

    changes = ['CMD ["bash"]', f"LABEL {LABEL}={BASE}"]
    with engine.asked_to("import the base image"):
        try:
            answer: Any = engine.api.import_image_from_stream(whole(), changes=changes)
        except docker.errors.APIError as error:
            raise SetupError(told("the engine could not import the base image", [str(error.explanation)])) from error
    return _image_id(str(answer))


def _image_id(answer: str) -> str:
    """The id out of the lines of JSON that an import answers with. Raises SetupError with what they say instead."""
    for line in reversed(answer.splitlines()):
        if '"status":"sha256:' in line:
            return line.split('"status":"')[1].split('"')[0]
    raise SetupError(told("the engine did not import the base image", answer.splitlines()))


def _end(packer: subprocess.Popen[bytes]) -> None:
    """Let mmdebstrap take its half-made system and its mounts away: it does so when asked to end, not when killed.

    Asked is its whole process group, as Ctrl-C in a terminal would: itself it only waits for its children.
    """
    if packer.stdout is not None:
        packer.stdout.close()
    if packer.poll() is None:
        os.killpg(packer.pid, signal.SIGTERM)
        try:
            packer.wait(timeout=_ENDING_S)
        except subprocess.TimeoutExpired:
            # Killing it would leave its mounts behind; left alone it ends at the latest when it writes its archive.
            raise SetupError(
                f"mmdebstrap (pid {packer.pid}) was asked to end and has not within {_ENDING_S:g} s; it is left to "
                "end by itself: `grep mmdebstrap /proc/mounts` is empty when it has"
            ) from None
