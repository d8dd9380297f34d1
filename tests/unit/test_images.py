"""Images without an engine: what a tag stands for, what is built and in which order, what is removed."""

from __future__ import annotations

import os
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker.errors
import pytest
from aftershock.harness import base_image, image_builder, images
from aftershock.harness.backends.docker_engine import Engine
from aftershock.harness.cli import app
from aftershock.harness.errors import SetupError, UsageError
from aftershock.harness.image_errors import told
from aftershock.harness.images import BASE_TAG, LABEL, Image, from_folder
from typer.testing import CliRunner

DOCKERFILES = sorted((Path(images.__file__).resolve().parent.parent / "systems_under_test/images").glob("*/Dockerfile"))


def folder_with(tmp_path: Path, **files: str) -> Path:
    folder = tmp_path / "image"
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def scratch_image(tmp_path: Path, name: str = "x", content: str = "a") -> Image:
    return from_folder(name, folder_with(tmp_path, Dockerfile="FROM scratch\nCOPY file /\n", file=content), {})


def quiet(_: object) -> None:
    """A note that nobody reads."""


# ------------------------------------------------------------------------------------------------ what there is


def test_every_folder_is_an_image_and_the_base_comes_first() -> None:
    assert images.names() == ("base", *(path.parent.name for path in DOCKERFILES))
    assert set(images.names()) >= {"reference", "toxiproxy", "redis", "etcd", "nginx"}


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_dockerfiles_build_with_and_without_a_registry(path: Path) -> None:
    """One base for all, which can be made here; and no command of its own, since members get theirs from the tool."""
    words = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line and line[0].isalpha()]
    assert [line[1:] for line in words if line[0] == "FROM"] in ([BASE_TAG.split()], [["scratch"]])
    assert not [line for line in words if line[0] in ("CMD", "ENTRYPOINT")]


def test_the_reference_image_holds_the_reference_package_and_nothing_else_of_ours() -> None:
    image = images.named("reference")
    package = Path(images.__file__).resolve().parent.parent / "systems_under_test/reference"
    ours = {path for path in image.context if path.startswith("reference/")}
    assert ours == {f"reference/{path.name}" for path in package.glob("*.py")}
    assert {path.split("/")[0] for path in image.context} == {"Dockerfile", "reference", "uvicorn"}
    assert image.on_base


def test_toxiproxy_is_the_bundled_program_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "toxiproxy-server"
    program.write_bytes(b"\x7fELF")
    program.chmod(0o700)
    monkeypatch.setattr(images, "toxiproxy_path", lambda: program)
    image = images.named("toxiproxy")
    assert set(image.context) == {"Dockerfile", "toxiproxy-server"}
    assert image.context["toxiproxy-server"] == (0o755, b"\x7fELF")
    assert not image.on_base


# ------------------------------------------------------------------------------------------------ tags


def test_a_tag_says_the_content(tmp_path: Path) -> None:
    tag = scratch_image(tmp_path).tag
    assert tag.startswith("aftershock-x:")
    assert len(tag.partition(":")[2]) == 12
    file = tmp_path / "image/file"
    os.utime(file, (1, 1))
    file.chmod(0o600)
    assert scratch_image(tmp_path).tag == tag, "neither age nor umask is content"

    others = [scratch_image(tmp_path, content="b").tag]
    scratch_image(tmp_path)
    file.chmod(0o755)
    others.append(from_folder("x", tmp_path / "image", {}).tag)
    file.chmod(0o644)
    others.append(from_folder("x", tmp_path / "image", {"more": file}).tag)
    file.rename(tmp_path / "image/renamed")
    others.append(from_folder("x", tmp_path / "image", {}).tag)
    (tmp_path / "image/renamed").rename(file)
    folder_with(tmp_path, Dockerfile="FROM scratch\nCOPY file /other\n")
    others.append(from_folder("x", tmp_path / "image", {}).tag)
    assert len({tag, *others}) == 6


def test_what_is_built_is_what_the_tag_says(tmp_path: Path) -> None:
    image = scratch_image(tmp_path, content="as tagged")
    (tmp_path / "image/file").write_text("edited meanwhile", encoding="utf-8")
    engine = FakeEngine()
    list(image_builder.build(engine.engine, [image], rebuild=False, note=quiet))
    assert engine.contexts == [{"Dockerfile": b"FROM scratch\nCOPY file /\n", "file": b"as tagged"}]


def test_tags_of_others_are_left_as_they_are() -> None:
    assert images.tag("postgres:16") == "postgres:16"
    assert images.tag("team/service") == "team/service"
    assert images.tag("base") == BASE_TAG


def test_unknown_image_is_told_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="no image 'reddis'; known: base, etcd"):
        images.tag("reddis")


# ------------------------------------------------------------------------------------------------ a made-up engine


class FakeEngine:
    """What the builder sees of an engine: images by tag, containers, and what was asked of it."""

    def __init__(self, *, tags: dict[str, dict[str, str]] | None = None, used: tuple[str, ...] = ()) -> None:
        self.images_by_tag = dict(tags or {})
        self.used = used
        self.built: list[str] = []
        self.contexts: list[dict[str, bytes]] = []
        self.removed: list[str] = []
        self.fails_with: str | None = None
        self.engine = Engine("unix:///fake", self, "0")  # type: ignore[arg-type]

    def inspect_image(self, tag: str) -> dict[str, Any]:
        if tag not in self.images_by_tag:
            raise docker.errors.ImageNotFound("no such image")
        return {"Id": f"id of {tag}", "Size": 5, "RepoTags": [tag]}

    def build(self, **options: Any) -> Iterator[dict[str, str]]:
        assert options["rm"]
        assert options["forcerm"]
        with tarfile.open(fileobj=options["fileobj"]) as archive:
            members = [(entry, archive.extractfile(entry)) for entry in archive]
            assert {entry.mtime for entry, _ in members} == {0}
            self.contexts.append({entry.name: content.read() for entry, content in members if content is not None})
        yield {"stream": "Step 1/1 : FROM scratch\n"}
        if self.fails_with is not None:
            yield {"stream": self.fails_with}
            yield {"error": "returned a non-zero code: 100"}
        self.built.append(options["tag"])
        self.images_by_tag[options["tag"]] = options["labels"]

    def images(self, *, filters: dict[str, str]) -> list[dict[str, Any]]:
        assert filters == {"label": LABEL}
        return [
            {"Id": f"id of {tag}", "RepoTags": [tag], "Labels": labels}
            for tag, labels in self.images_by_tag.items()
            if LABEL in labels
        ]

    def containers(self, *, all: bool) -> list[dict[str, str]]:  # noqa: A002  # the SDK's name
        assert all, "a stopped container uses its image too"
        return [{"ImageID": f"id of {tag}"} for tag in self.used]

    def remove_image(self, tag: str) -> None:
        self.removed.append(tag)
        del self.images_by_tag[tag]


@pytest.fixture
def made_bases(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Engines that a base image was made on, which really is a minute's work."""
    made: list[str] = []

    def make(engine: Any, *, note: Any) -> str:
        made.append(engine.endpoint)
        engine.api.images_by_tag[BASE_TAG] = {}
        return "built"

    monkeypatch.setattr(base_image, "make", make)
    return made


def based(tmp_path: Path, name: str) -> Image:
    return from_folder(name, folder_with(tmp_path, Dockerfile=f"FROM {BASE_TAG}\n"), {})


def test_the_base_is_made_once_before_the_first_that_needs_it(tmp_path: Path, made_bases: list[str]) -> None:
    engine = FakeEngine()
    wanted = [scratch_image(tmp_path), based(tmp_path, "a"), based(tmp_path, "b")]
    built = image_builder.build(engine.engine, wanted, rebuild=False, note=quiet)
    assert next(built).state == "built"
    assert made_bases == [], "an image from scratch needs no base"
    assert [outcome.state for outcome in built] == ["built", "built"]
    assert made_bases == ["unix:///fake"]
    assert engine.built == [image.tag for image in wanted]


def test_what_is_there_is_not_built_again(tmp_path: Path, made_bases: list[str]) -> None:
    engine = FakeEngine(tags={based(tmp_path, "a").tag: {}})
    (outcome,) = image_builder.build(engine.engine, [based(tmp_path, "a")], rebuild=False, note=quiet)
    assert (outcome.state, outcome.size_bytes) == ("present", 5)
    assert engine.built == []
    assert made_bases == [], "the base of an image that is there may be gone"
    assert [one.state for one in image_builder.listed(engine.engine, [based(tmp_path, "b")])] == ["missing"]


def test_rebuild_builds_what_is_there(tmp_path: Path, made_bases: list[str]) -> None:
    image = based(tmp_path, "a")
    engine = FakeEngine(tags={image.tag: {}, BASE_TAG: {}})
    (_, outcome) = image_builder.build(engine.engine, [images.named("base"), image], rebuild=True, note=quiet)
    assert outcome.state == "built"
    assert engine.built == [image.tag]
    assert made_bases == ["unix:///fake"]


def test_a_failed_build_says_what_to_do(tmp_path: Path) -> None:
    engine = FakeEngine()
    engine.fails_with = "W: Failed to fetch: Temporary failure resolving\n\x1b[91mE: Unable to locate package\x1b[0m\n"
    with pytest.raises(SetupError, match=r"image x could not be built: a Debian mirror could not be reached") as raised:
        list(image_builder.build(engine.engine, [scratch_image(tmp_path)], rebuild=False, note=quiet))
    assert "\x1b" not in str(raised.value)
    assert "E: Unable to locate package" in str(raised.value)


def test_prune_removes_earlier_contents_of_ours_only() -> None:
    engine = FakeEngine(
        tags={
            "aftershock-redis:old": {LABEL: "redis"},
            "aftershock-redis:now": {LABEL: "redis"},
            "aftershock-etcd:used": {LABEL: "etcd"},
            "aftershock-gone:old": {LABEL: "gone"},
            BASE_TAG: {LABEL: "base"},
            "somebody/builds-on-our-base:1": {LABEL: "base"},
            "somebody/builds-on-our-redis:1": {LABEL: "redis"},
            "aftershock-redis:without-label": {},
        },
        used=("aftershock-etcd:used",),
    )
    only = image_builder.prune(engine.engine, keep=["aftershock-redis:now"], only=["gone"])
    assert only.removed == ("aftershock-gone:old",)
    pruned = image_builder.prune(engine.engine, keep=["aftershock-redis:now"])
    assert pruned.removed == ("aftershock-redis:old",)
    assert pruned.in_use == ("aftershock-etcd:used",)
    assert engine.removed == ["aftershock-gone:old", "aftershock-redis:old"]


def test_a_second_one_waits_and_says_so(tmp_path: Path) -> None:
    told_lines: list[str] = []
    waiting, entered = threading.Event(), threading.Event()

    def note(line: str) -> None:
        told_lines.append(line)
        waiting.set()

    def second() -> None:
        with image_builder.one_at_a_time(tmp_path, note=note):
            entered.set()

    thread = threading.Thread(target=second)
    with image_builder.one_at_a_time(tmp_path, note=quiet):
        thread.start()
        assert waiting.wait(10)
        assert not entered.is_set()
    thread.join(10)
    assert entered.is_set()
    assert told_lines == ["another `aftershock images` is building; waiting for it"]


# ------------------------------------------------------------------------------------------------ the base


def test_mirrors_are_debians_own_of_this_suite() -> None:
    listed = """\
Debian|bookworm-security|Packages|main|https://mirror.test/security/|stable-security
Debian|bookworm|Packages|main|http://mirror.test/debian/|bookworm
Debian|bookworm|DEP-11|main|http://mirror.test/debian/|bookworm
Debian|bookworm|Packages|contrib|http://mirror.test/debian/|bookworm
Debian|trixie|Packages|main|http://mirror.test/debian/|trixie
Debian|bookworm|Packages|main|file:/srv/mirror/|bookworm
Somebody|bookworm|Packages|main|http://vendor.test/|bookworm
|||$(COMPONENT)
"""
    assert base_image.chosen_mirrors(listed) == [
        "deb http://mirror.test/debian/ bookworm main",
        "deb https://mirror.test/security/ stable-security main",
    ]


def test_updates_alone_are_no_mirror() -> None:
    assert base_image.chosen_mirrors("Debian|bookworm-updates|Packages|main|http://mirror.test/|bookworm-updates") == []
    assert base_image.chosen_mirrors("") == []


def test_a_mirror_with_tls_needs_its_certificates() -> None:
    plain = base_image.packing_command(["deb http://mirror.test/ bookworm main"])
    assert "--include=ca-certificates" not in plain
    assert plain[-2:] == ["-", "deb http://mirror.test/ bookworm main"]
    assert "--include=ca-certificates" in base_image.packing_command(["deb https://mirror.test/ bookworm main"])


def test_without_mmdebstrap_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_image, "_why_no_registry", lambda engine: "no such host")
    monkeypatch.setattr("shutil.which", lambda name: None)
    notes: list[str] = []
    with pytest.raises(SetupError, match="apt-get install mmdebstrap"):
        base_image.make(FakeEngine().engine, note=notes.append)
    assert "no such host" in notes[0]


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("write /x: no space left on device", "the disk is full"),
        ("E: Failed to fetch x  Could not resolve 'mirror'", "mirror could not be reached"),
        ("E: GPG error: NO_PUBKEY 1234", "debian-archive-keyring"),
        ("mmdebstrap: must be root", "sudo"),
    ],
)
def test_known_causes_come_with_a_remedy(said: str, remedy: str) -> None:
    assert remedy in told("it failed", ["before", said, "after"])


def test_an_unknown_cause_is_told_by_its_last_lines() -> None:
    message = told("it failed", [f"line {number}" for number in range(40)])
    assert message.startswith("it failed; the last that it said\n")
    assert message.endswith("  line 39")
    assert "line 5\n" not in message


# ------------------------------------------------------------------------------------------------ the command


@contextmanager
def opened(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[CliRunner]:
    monkeypatch.setattr(Engine, "open", lambda endpoint: engine.engine)
    monkeypatch.setattr(Engine, "close", lambda self: None)
    yield CliRunner()


def test_list_builds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine(tags={images.tag("redis"): {}})
    with opened(engine, monkeypatch) as runner:
        result = runner.invoke(app, ["images", "--list", "redis", "etcd"])
    assert result.exit_code == 0
    rows = [line.split()[:3] for line in result.stdout.splitlines()[1:]]
    assert rows == [["etcd", images.tag("etcd"), "missing"], ["redis", images.tag("redis"), "present"]]
    assert engine.built == []


@pytest.mark.parametrize("arguments", [["--list", "--prune"], ["--rebuild", "--list"], ["no-such-image"]])
def test_mistakes_are_told_before_an_engine_is_asked(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["images", "--endpoint", "unix:///nowhere/docker.sock", *arguments])
    assert isinstance(result.exception, UsageError)


def test_no_engine_is_a_sentence() -> None:
    result = CliRunner().invoke(app, ["images", "--endpoint", "unix:///nowhere/docker.sock", "redis"])
    assert isinstance(result.exception, SetupError)
    assert "there is no Docker engine at unix:///nowhere/docker.sock" in str(result.exception)
