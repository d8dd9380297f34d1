"""summary.md as GitHub-like renderers read it: verdict first, and text of the record cannot leave its place."""

from __future__ import annotations

from typing import Any

import pytest
from aftershock.reports import render_markdown
from aftershock.reports.markdown import escape_markdown
from markdown_it import MarkdownIt
from markdown_it.token import Token


def parse(text: str) -> list[Token]:
    return MarkdownIt("commonmark", {"html": True}).enable("table").enable("strikethrough").parse(text)


def inline(tokens: list[Token]) -> list[Token]:
    return [child for token in tokens for child in token.children or []]


@pytest.mark.parametrize(
    ("name", "word"), [("pass", "Pass"), ("fail", "Fail"), ("unknown", "Unknown"), ("not-started", "Unknown")]
)
def test_the_verdict_is_the_first_line(examples: Any, name: str, word: str) -> None:
    verdict = examples.EXAMPLES[name]()
    first = render_markdown(verdict).splitlines()[0]
    assert first.startswith("## ")
    assert f"{word}: {verdict['headline']}" in first


def test_findings_checks_targets_faults_and_command(examples: Any) -> None:
    text = render_markdown(examples.failing())
    assert "12 writes" in text
    assert "35.87\u201336.00 s" in text
    assert "**Faults:** 5 of 5 proven, 5 healed." in text
    assert "```sh\naftershock run demo.toml \\\n  --seed 7 --set system.ack=primary\n```" in text
    assert len(text) < 6000


def test_an_unproven_fault_is_named(examples: Any) -> None:
    assert "- Pause n2 past its lease: **not proven**." in render_markdown(examples.unknown())


def test_heal_failed_and_incomplete_come_before_the_tables(examples: Any) -> None:
    healed = render_markdown(examples.heal_failed())
    assert healed.index("Heal failed") < healed.index("### Findings")
    assert "Incomplete run" in render_markdown(examples.incomplete())


def test_every_table_row_has_the_columns_of_its_head(examples: Any) -> None:
    for verdict in (examples.failing(), examples.hostile()):
        tokens = parse(render_markdown(verdict))
        columns = cells = 0
        for token in tokens:
            if token.type == "thead_open":
                columns = 0
            elif token.type == "th_open":
                columns += 1
            elif token.type == "tr_open":
                cells = 0
            elif token.type == "td_open":
                cells += 1
            elif token.type == "tr_close" and cells:
                assert cells == columns
        assert sum(token.type == "table_open" for token in tokens) == 3


ATTACKS = [
    "| a | b |\n|---|---|\n| x | y |",
    "</td></tr></table><script>alert(1)</script>",
    "[click](javascript:alert(1)) ![x](y)",
    "`` ` `code` ```",
    "**bold** _it_ ~~gone~~",
    "\n\n# heading\n\n- item",
    "<!-- comment",
    "&lt;b&gt; &copy;",
    "\\| \\\\",
    "1. one",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_text_reads_as_itself(attack: str) -> None:
    tokens = parse(f"| head |\n|---|\n| {escape_markdown(attack)} |")
    assert {token.type for token in inline(tokens)} <= {"text", "text_special", "softbreak"}
    shown = "".join(token.content for token in inline(tokens)).removeprefix("head")
    assert shown == " ".join(attack.split())


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_text_adds_no_block_to_the_summary(examples: Any, attack: str) -> None:
    def shape(verdict: Any) -> list[str]:
        return [
            token.type for token in parse(render_markdown(verdict)) if token.nesting >= 0 and token.type != "inline"
        ]

    assert shape(examples.hostile(text=attack)) == shape(examples.failing())
    assert not [
        token
        for token in inline(parse(render_markdown(examples.hostile(text=attack))))
        if token.type in ("html_inline", "link_open", "image")
    ]


@pytest.mark.parametrize(
    ("text", "never"),
    [
        ("@everyone", "@everyone"),
        ("see #12", "#12"),
        ("https://evil.example", "https://"),
        ("WWW.evil.example", "WWW."),
    ],
)
def test_nothing_is_linked_or_mentioned(text: str, never: str) -> None:
    shown = "".join(token.content for token in inline(parse(escape_markdown(text))))
    assert never not in shown
    assert shown.replace("\u2060", "") == text
