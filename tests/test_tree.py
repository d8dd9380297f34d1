"""The house rules, as far as a program can hold them (docs/HACKING.md)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("harness", "faults", "workloads", "reports", "systems_under_test")
OURS = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
DOCS = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md"]
MAX_FUNCTION_LINES = 70
MAX_FILE_LINES = 600


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Absolute imports: name and line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module, node.lineno


@pytest.mark.parametrize("path", OURS, ids=name_of)
def test_source_keeps_the_house_rules(path: Path) -> None:
    """One pass over a file: short functions, why it is there, relative imports, Locust in one place, no bare print."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    problems = []
    if path.name != "__main__.py" and text.strip() and ast.get_docstring(tree) is None:
        problems.append("line 1: the module has no docstring that says what it is for")
    if len(text.splitlines()) > MAX_FILE_LINES:
        problems.append(f"{len(text.splitlines())} lines; split it, {MAX_FILE_LINES} is what a person can hold")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                problems.append(f"line {node.lineno}: {node.name} has {length} lines, {MAX_FUNCTION_LINES} at most")
        # A program of its own (watchdog, cluster member) has standard error and nobody to pass it a console.
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "print"
            and not any(keyword.arg == "file" for keyword in node.keywords)
        ):
            problems.append(f"line {node.lineno}: print; write to the console or the log that was passed in")
    for name, line in imports(tree):
        top = name.partition(".")[0]
        if top in FOLDERS or top == "aftershock":
            problems.append(f"line {line}: import {name}; inside the five folders imports are relative")
        if top == "locust" and path.parent.name != "workloads":
            problems.append(f"line {line}: Locust patches the interpreter; only workloads/ may import it")

    assert not problems, "\n".join(f"{name_of(path)}: {problem}" for problem in problems)


def test_locust_is_imported_in_one_file_only() -> None:
    files = {p for p in OURS for name, _ in imports(ast.parse(p.read_text())) if name.partition(".")[0] == "locust"}

    assert len(files) == 1, sorted(name_of(p) for p in files)


@pytest.mark.parametrize("path", DOCS, ids=name_of)
def test_links_in_docs_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8"))
    broken = [t for t in targets if "://" not in t and not (path.parent / t).exists()]

    assert not broken, f"{name_of(path)}: {broken}"


def test_every_page_is_reachable_from_the_reading_order() -> None:
    page = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {p.name for p in (ROOT / "docs").glob("*.md")} - {"README.md"}
    missing = {name for name in pages if f"]({name}" not in page}

    assert not missing, f"docs/README.md does not link {sorted(missing)}"


def test_leftover_marks_are_gone() -> None:
    marks = re.compile(r"\b(FIX" + r"ME|XX" + r"X|TO" + r"DO)\b")
    found = [name_of(p) for p in OURS if marks.search(p.read_text(encoding="utf-8"))]

    assert not found
