"""Writing the three reports: whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aftershock.reports import render_html, render_junit, render_markdown, write_reports


def test_three_files_with_what_the_renderers_say(examples: Any, tmp_path: Path) -> None:
    verdict = examples.failing()
    paths = write_reports(verdict, tmp_path)
    assert [path.name for path in paths] == ["report.html", "junit.xml", "summary.md"]
    assert [path.read_text(encoding="utf-8") for path in paths] == [
        render(verdict) for render in (render_html, render_junit, render_markdown)
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["junit.xml", "report.html", "summary.md"]
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o644}


def test_a_failed_write_leaves_the_old_report_and_nothing_else(
    examples: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "report.html").write_text("old", encoding="utf-8")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("aftershock.harness.files.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_reports(examples.passing(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == "old"


def test_a_missing_folder_is_an_error_of_the_caller(examples: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_reports(examples.passing(), tmp_path / "nowhere")
