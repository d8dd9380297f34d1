"""Which container images there are, what each is built from, its tag by content, and which of them an engine lacks.

An image is a folder in `systems_under_test/images/` with a Dockerfile; what else goes into its build context is named
here. The tag says the content: where an image of that tag is present there is nothing to build, and nothing to ask a
registry. `image_builder` builds; nothing is changed from here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

from .errors import SetupError, UsageError
from .porcupine.programs import toxiproxy_path

__all__ = [
    "BASE",
    "BASE_TAG",
    "LABEL",
    "ContextFile",
    "Image",
    "from_folder",
    "is_ours",
    "missing",
    "named",
    "names",
    "tag",
]

LABEL: Final = "aftershock.image"
BASE: Final = "base"
# The name under which the world knows Debian's slim image, so that the Dockerfiles build where a registry answers too.
BASE_TAG: Final = "debian:bookworm-slim"

_SYSTEMS: Final = Path(__file__).resolve().parent.parent / "systems_under_test"
_FOLDERS: Final = _SYSTEMS / "images"
_HASH_DIGITS: Final = 12


class ContextFile(NamedTuple):
    """One file of a build context, read once: what is built is what the tag says, whoever edits the tree meanwhile."""

    mode: int
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image of ours. `context` has what goes into its build by path, Dockerfile included; the base has nothing."""

    name: str
    tag: str
    context: Mapping[str, ContextFile]
    on_base: bool  # its Dockerfile starts from BASE_TAG, which must be there before


def names() -> tuple[str, ...]:
    """All images, in an order in which they can be built."""
    return (BASE, *sorted(path.parent.name for path in _FOLDERS.glob("*/Dockerfile")))


def named(name: str) -> Image:
    """The image of this name. Raises UsageError naming those there are; SetupError when a program was not built."""
    if name == BASE:
        return Image(name=BASE, tag=BASE_TAG, context={}, on_base=False)
    folder = _FOLDERS / name
    if name not in names():
        raise UsageError(f"there is no image {name!r}; known: {', '.join(names())}")
    return from_folder(name, folder, _files_from_elsewhere(name))


def tag(name: str) -> str:
    """The tag under which an engine has (or lacks) this image. Raises as `named` does.

    A name with a colon or a slash is somebody else's tag already, and returned as it is.
    """
    return name if _is_foreign(name) else named(name).tag


def missing(endpoint: str, names: Iterable[str]) -> str | None:
    """None when the engine at `endpoint` has all these images, otherwise a sentence: which not, and what mends it.

    Raises SetupError when no engine answers there.
    """
    # The SDK takes 0.2 s to import, which who only wants a tag should not pay.
    from .backends.docker_engine import Engine
    from .image_builder import inspected

    engine = Engine.open(endpoint)
    try:
        lacking = [name for name in dict.fromkeys(names) if inspected(engine, tag(name)) is None]
    finally:
        engine.close()
    foreign = [name for name in lacking if _is_foreign(name)]
    ours = [name for name in lacking if not _is_foreign(name)]
    remedies = [f"aftershock images {' '.join(ours)}"] if ours else []
    remedies += [f"docker pull {name}" for name in foreign]
    if not remedies:
        return None
    which = f"image {lacking[0]} is" if len(lacking) == 1 else f"images {', '.join(lacking)} are"
    return f"the {which} not on the Docker engine at {endpoint} as this version needs it: {'; '.join(remedies)}"


def is_ours(image_tag: str, labels: Mapping[str, str]) -> bool:
    """Whether an image of this tag was built by us, whatever its content.

    The label alone does not say it: an image that somebody builds on our base inherits the label.
    """
    name = labels.get(LABEL)
    return name not in (None, BASE) and image_tag.startswith(f"aftershock-{name}:")


def from_folder(name: str, folder: Path, elsewhere: Mapping[str, Path]) -> Image:
    """An image of a folder with a Dockerfile and other files, and of files from elsewhere by path in the context."""
    own = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    context = {path: _read(file) for path, file in sorted({**own, **elsewhere}.items())}
    on_base = f"FROM {BASE_TAG}" in context["Dockerfile"].content.decode().splitlines()
    digest = hashlib.sha256(BASE_TAG.encode() if on_base else b"")
    for path, (mode, content) in context.items():
        digest.update(f"\n{path}\0{mode:o}\0{hashlib.sha256(content).hexdigest()}".encode())
    tag = f"aftershock-{name}:{digest.hexdigest()[:_HASH_DIGITS]}"
    return Image(name=name, tag=tag, context=context, on_base=on_base)


def _read(file: Path) -> ContextFile:
    # The mode only by whether it can be executed, so that an umask changes no tag.
    return ContextFile(0o755 if file.stat().st_mode & 0o100 else 0o644, file.read_bytes())


def _is_foreign(name: str) -> bool:
    return ":" in name or "/" in name


def _files_from_elsewhere(name: str) -> dict[str, Path]:
    """What an image needs beside its own folder: packages of this installation, the bundled Toxiproxy server."""
    if name == "reference":
        # Debian's uvicorn is too old for the package; it is pure Python, so that of this very installation travels.
        return _modules("reference", _SYSTEMS / "reference") | _modules("uvicorn", _installed("uvicorn"))
    if name == "toxiproxy":
        return {"toxiproxy-server": toxiproxy_path()}
    return {}


def _modules(name: str, package: Path) -> dict[str, Path]:
    return {f"{name}/{path.relative_to(package)}": path for path in package.rglob("*.py")}


def _installed(package: str) -> Path:
    """Folder of an installed package, found without importing it."""
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise SetupError(f"the Python package {package} is not installed: install Aftershock again")
    return Path(found.submodule_search_locations[0])
