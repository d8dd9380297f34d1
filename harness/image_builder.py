"""Builds the images of `images` on an engine, each once: what is present under its tag is left as it is.

Builds use the engine's default network, since they fetch Debian packages; containers of a run never do.
"""

from __future__ import annotations

import fcntl
import io
import tarfile
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import docker.errors

from . import base_image
from .backends.docker_engine import Engine
from .errors import SetupError
from .image_errors import streamed, told
from .images import BASE, BASE_TAG, LABEL, Image, is_ours

__all__ = ["Outcome", "Pruned", "build", "inspected", "listed", "one_at_a_time", "prune"]

Note = Callable[[str], None]

# Packages are fetched within a step, and apt says something all along: a build that is silent for so long hangs.
_SILENCE_S: Final = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an image stands on the engine. `state` is "present", "built", "pulled" or "missing"."""

    name: str
    tag: str
    state: str
    size_bytes: int | None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """Tags that were removed, and tags that were left because a container uses the image."""

    removed: tuple[str, ...]
    in_use: tuple[str, ...]


def inspected(engine: Engine, image_tag: str) -> Mapping[str, Any] | None:
    """What the engine says of an image; None when it has none of that tag or id."""
    api: Any = engine.api  # the SDK's stubs leave this call untyped
    with engine.asked_to(f"look at image {image_tag}"):
        try:
            found: Mapping[str, Any] = api.inspect_image(image_tag)
        except docker.errors.NotFound:
            return None
    return found


def listed(engine: Engine, wanted: Iterable[Image]) -> list[Outcome]:
    """How each image stands, with nothing built."""
    return [_outcome(engine, image, "present", 0.0) for image in wanted]


def build(engine: Engine, wanted: Iterable[Image], *, rebuild: bool, note: Note) -> Iterator[Outcome]:
    """Build what is missing, in this order, the base before the first that starts from it; yields as each is there.

    `rebuild` makes all of them again without the engine's cache, so that they get Debian's updates. Raises SetupError
    saying what to do.
    """
    replaced: list[str] = []
    for image in wanted:
        began = time.monotonic()
        before = inspected(engine, image.tag)
        if before is not None and not rebuild:
            yield _outcome(engine, image, "present", 0.0)
            continue
        if image.on_base and inspected(engine, BASE_TAG) is None:
            base_image.make(engine, note=note)
        if image.name == BASE:
            state = base_image.make(engine, note=note)
        else:
            note(f"building {image.tag}")
            _build_one(engine, image, cached=not rebuild, note=note)
            state = "built"
        if before is not None:
            replaced.append(str(before["Id"]))
        yield _outcome(engine, image, state, time.monotonic() - began)
    _remove_replaced(engine, replaced, note=note)


def _outcome(engine: Engine, image: Image, state: str, seconds: float) -> Outcome:
    found = inspected(engine, image.tag)
    size = int(found["Size"]) if found is not None else None
    return Outcome(
        name=image.name,
        tag=image.tag,
        state=state if found is not None else "missing",
        size_bytes=size,
        seconds=round(seconds, 1),
    )


def _build_one(engine: Engine, image: Image, *, cached: bool, note: Note) -> None:
    said: list[str] = []
    with tempfile.TemporaryFile() as context:
        _pack(image, context)
        context.seek(0)
        with engine.asked_to(f"build {image.tag}"):
            answer = engine.api.build(
                fileobj=context,
                custom_context=True,
                tag=image.tag,
                labels={LABEL: image.name},
                nocache=not cached,
                rm=True,
                forcerm=True,
                timeout=_SILENCE_S,
                decode=True,
            )
            for entry in streamed(answer):
                line = str(entry.get("error") or entry.get("stream") or "").strip()
                said += line.splitlines()
                if line.startswith("Step "):
                    note(f"  {line.splitlines()[0]}")
                if "error" in entry:
                    raise SetupError(told(f"image {image.name} could not be built", said))


def _pack(image: Image, into: IO[bytes]) -> None:
    """The build context. Nothing in it depends on when or by whom, so that the engine finds its layers again."""
    with tarfile.open(fileobj=into, mode="w") as archive:
        for path, file in image.context.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(file.content)
            entry.mode = file.mode
            archive.addfile(entry, io.BytesIO(file.content))


def _remove_replaced(engine: Engine, ids: Iterable[str], *, note: Note) -> None:
    """Take away what lost its tag to a rebuilt image. The engine refuses what is used: that stays, and is told."""
    for image_id in reversed(list(ids)):
        found = inspected(engine, image_id)
        if found is None or found.get("RepoTags"):
            continue
        with engine.asked_to(f"remove image {image_id}"):
            try:
                engine.api.remove_image(image_id)
            except docker.errors.APIError as error:
                if error.status_code != 409:
                    raise
                note(f"the earlier image {image_id} is still used and stays; later: docker rmi {image_id}")


def prune(engine: Engine, *, keep: Collection[str], only: Collection[str] | None = None) -> Pruned:
    """Remove images of ours whose tag is not in `keep`: earlier contents. Never one that a container uses.

    `only` limits it to images of these names. The base is left: others may build on that name.
    """
    with engine.asked_to("list images"):
        found = engine.api.images(filters={"label": LABEL})
        used = {container["ImageID"] for container in engine.api.containers(all=True)}
    removed, in_use = [], []
    for image in found:
        labels = image["Labels"] or {}
        for image_tag in image["RepoTags"] or []:
            if not is_ours(image_tag, labels) or image_tag in keep or (only is not None and labels[LABEL] not in only):
                continue
            if image["Id"] in used:
                in_use.append(image_tag)
                continue
            with engine.asked_to(f"remove image {image_tag}"):
                try:
                    engine.api.remove_image(image_tag)
                except docker.errors.NotFound:
                    continue  # somebody else removed it in the same moment
                removed.append(image_tag)
    return Pruned(removed=tuple(sorted(removed)), in_use=tuple(sorted(in_use)))


@contextmanager
def one_at_a_time(state_folder: Path, *, note: Note) -> Iterator[None]:
    """Hold the lock of this user's `aftershock images`; waits, and says so, while another one builds.

    Two builds at once would do no harm, but each would fetch and build the same. The kernel lets go when we die.
    """
    path = state_folder / "aftershock" / "images.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        raise SetupError(
            f"{path} cannot be written ({error.strerror}); name another folder in XDG_STATE_HOME"
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note("another `aftershock images` is building; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
