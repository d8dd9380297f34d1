"""`aftershock check` on a file of somebody's own, and `aftershock convert`: options, output and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from aftershock.harness import cli

from tests.unit.histories.conftest import chosen_checker

__all__ = ["chosen_checker"]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
STALE = str(EXAMPLES / "histories" / "stale-read.edn")
QUEUE = str(EXAMPLES / "histories" / "queue.csv")


@pytest.fixture
def run(capsys, monkeypatch):
    """Call the command; returns exit code, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["aftershock", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capsys.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return call


def test_a_violation_is_explained_and_exits_1(run) -> None:
    code, out, err = run("check", STALE, "--model", "cas-register")

    assert (code, err) == (1, "")
    assert out.startswith("FAIL  1 of 2 keys cannot be linearized\n")
    assert 'Key "x": The compare-and-set from 1 to 3 by process 1 was acknowledged before the read by process 2' in out
    assert "14, 15  process 2  read -> 1" in out


def test_json_is_one_object_of_the_documented_shape(run) -> None:
    code, out, _ = run("check", STALE, "--model", "cas-register", "--json")
    judged = json.loads(out)
    page = (EXAMPLES.parent / "docs" / "your-own-history.md").read_text(encoding="utf-8")

    assert code == 1
    assert (judged["schema"], judged["verdict"], judged["engine"], judged["keys"]["checked"]) == (1, "fail", "auto", 2)
    (violation,) = judged["keys"]["violated"]
    # One write and one compare-and-set; then the stale read was answered.
    assert (violation["prefix_operations"], violation["prefix_end_line"]) == (2, 15)
    for name in (*judged, *violation, *violation["operations"][0]):
        assert f"`{name}" in page or f".{name}`" in page, f"docs/your-own-history.md does not name {name}"


def test_a_pass_exits_0_and_an_undecided_history_3(run) -> None:
    assert run("check", QUEUE, "--model", "queue")[0] == 0
    code, out, _ = run("check", QUEUE, "--model", "queue", "--deadline", "0.000000001")
    assert code == 3
    assert out.startswith("UNKNOWN  ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", STALE], "models that have its functions: cas-register, key-value"),
        (["check", STALE, "--model", "registre"], "--model registre: expected one of register"),
        (["check", STALE, "--model", "cas-register", "--engine", "fast"], "--engine fast: expected one of"),
        (["check", STALE, "--model", "cas-register", "--deadline", "0"], "--deadline 0: expected more"),
        (["check", STALE, "--model", "cas-register", "--memory-limit", "much"], "--memory-limit much: expected a size"),
        (["check", STALE, "--model", "cas-register", "--failed-cas", "maybe"], "expected ignore or observe"),
        (["check", STALE, "--model", "cas-register", "--format", "xml"], "--format xml: expected one of jsonl"),
        (["check", STALE, "--model", "none.py:Model"], "expected FILE.py:NAME or package.module:NAME"),
        (["check", str(EXAMPLES), "--deadline", "5"], "these options are for a history"),
        (["check", "nowhere.jsonl", "--model", "register"], "cannot be read"),
    ],
)
def test_mistakes_exit_2_and_say_what_to_do(run, arguments: list[str], said: str) -> None:
    code, out, err = run(*arguments)

    assert (code, out) == (2, "")
    assert said in err


def test_a_model_of_the_users_own(run, tmp_path) -> None:
    history = tmp_path / "stack.jsonl"
    operations = [("push", 5, "ok"), ("pop", None, 6)]
    lines = [
        {
            "process": i,
            "f": f,
            "key": "s",
            "value": value,
            "start_ns": i,
            "end_ns": i,
            "outcome": "ok",
            "result": result,
        }
        for i, (f, value, result) in enumerate(operations)
    ]
    history.write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    model = f"{EXAMPLES / 'user-model' / 'bounded_stack.py'}:BoundedStack"

    code, out, _ = run("check", history, "--model", model)
    assert code == 1
    assert "pop() → 6" in out
    lines[1]["result"] = 5
    history.write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    assert run("check", history, "--model", model)[0] == 0


def test_a_page_is_written(run, tmp_path) -> None:
    code, out, _ = run("check", STALE, "--model", "cas-register", "--html", tmp_path / "page.html")

    assert code == 1
    assert str(tmp_path / "page.html") in out
    assert "that read found 1, which was older" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_convert_and_check_again(run, tmp_path) -> None:
    out_file = tmp_path / "history.jsonl"
    code, out, _ = run("convert", STALE, out_file)

    assert code == 0
    assert out == f"Wrote 8 operations to {out_file}\n"
    assert json.loads(out_file.read_text(encoding="utf-8").splitlines()[0]) == {
        "process": 0,
        "f": "write",
        "key": "x",
        "value": 1,
        "start_ns": 1000000,
        "end_ns": 3000000,
        "outcome": "ok",
    }
    assert run("check", out_file, "--model", "cas-register")[0] == 1
    assert run("convert", STALE, out_file)[0] == 2
