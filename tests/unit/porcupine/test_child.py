"""Whatever the checker program does, `check` answers; and never with a pass."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import aftershock.harness.porcupine._check as binding
import pytest
from aftershock.harness.errors import SetupError
from aftershock.harness.porcupine import CheckOutcome, Model, check, programs
from aftershock.harness.verdict import Verdict

from tests.unit.porcupine.generate import operations, write

pytestmark = pytest.mark.processes

PASS = '{"key":0,"verdict":"pass","engine":"unique"}'
FAIL = '{"key":1,"verdict":"fail","engine":"unique"}'
DONE = '{"done":true,"keys":2,"seconds":0.1}'


@pytest.fixture
def run_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Check two keys with a stand-in for the program, written in Python."""

    def run(body: str, *, deadline_s: float = 30, memory_limit_bytes: int = 1 << 30) -> CheckOutcome:
        program = tmp_path / "checker"
        program.write_text(
            f"#!{sys.executable} -S\nimport os, signal, sys, time\nsay = lambda *a: print(*a, flush=True)\n{body}\n",
            encoding="utf-8",
        )
        program.chmod(0o755)
        monkeypatch.setattr(binding, "checker_path", lambda: program)
        rows = [write(1, 0, 1, key=0), write(1, 0, 1, key=1)]
        return check(
            operations(rows), model=Model.REGISTER, deadline_s=deadline_s, memory_limit_bytes=memory_limit_bytes
        )

    return run


def assert_unknown(outcome: CheckOutcome, *words: str) -> None:
    assert outcome.verdict is Verdict.UNKNOWN
    for word in words:
        assert word in outcome.reason


def test_the_stand_in_can_pass(run_with) -> None:  # type: ignore[no-untyped-def]
    """Otherwise the tests below could not fail."""
    both = f"say('{PASS}'); say('{PASS.replace('0', '1', 1)}'); say('{DONE}')"
    assert run_with(both).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed by signal 9"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "killed by signal 11"),
        ("sys.exit('out of luck')", "failed with status 1: out of luck"),
        ("pass", "without saying that it was done"),
        ("say('nonsense')", "malformed line"),
        ("say('[1]')", "malformed line"),
        ("sys.stdout.buffer.write(b'\\xff\\xfe\\n')", "malformed line"),
        (f"say('{DONE}'); print('torn', end='')", "without saying that it was done"),
        (f"say('{PASS.replace('pass', 'great')}'); say('{DONE}')", "makes no sense"),
        (f"say('{PASS.replace('0', '7', 1)}'); say('{DONE}')", "makes no sense"),
        (f"say('{PASS[:-1]}, \"counterexample\": {{\"rows\": [1]}}}}'); say('{DONE}')", "makes no sense"),
        (f"say('{PASS}'); say('{DONE}')", "the deadline passed before it was reached"),
    ],
)
def test_a_program_that_misbehaves_leaves_unknown(run_with, body: str, word: str) -> None:  # type: ignore[no-untyped-def]
    assert_unknown(run_with(body), word)


def test_every_key_decided_is_no_pass_when_the_program_crashed(run_with) -> None:  # type: ignore[no-untyped-def]
    both = f"say('{PASS}'); say('{PASS.replace('0', '1', 1)}')"
    assert_unknown(run_with(f"{both}; sys.exit(3)"), "status 3")
    assert_unknown(run_with(both), "without saying that it was done")


def test_a_hanging_program_is_ended_and_its_words_count(run_with, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    pid_file = tmp_path / "pid"
    body = f"open({str(pid_file)!r}, 'w').write(str(os.getpid())); say('{FAIL}'); time.sleep(600)"
    outcome = run_with(body, deadline_s=1)
    assert outcome.verdict is Verdict.FAIL
    assert [r.verdict for r in outcome.results] == [Verdict.UNKNOWN, Verdict.FAIL]
    assert "ended at its deadline" in outcome.results[0].reason
    assert not Path(f"/proc/{pid_file.read_text()}").exists()


def test_a_program_that_closes_its_output_and_stays_is_ended(run_with) -> None:  # type: ignore[no-untyped-def]
    outcome = run_with("os.close(1); os.close(2); time.sleep(600)", deadline_s=1)
    assert_unknown(outcome, "ended at its deadline")


def test_a_program_that_grows_is_ended(run_with) -> None:  # type: ignore[no-untyped-def]
    outcome = run_with(
        f"say('{FAIL}'); x = bytearray(os.urandom(1)) * (200 << 20); time.sleep(600)", memory_limit_bytes=100 << 20
    )
    assert outcome.verdict is Verdict.FAIL
    assert "limit is 100 MiB" in outcome.results[0].reason


def test_a_violation_that_brute_force_does_not_confirm_is_no_violation(run_with) -> None:  # type: ignore[no-untyped-def]
    wrong = f'{FAIL[:-1]},"counterexample":{{"rows":[1],"weakened":[],"minimal":true}}}}'
    assert_unknown(run_with(f"say('{PASS}'); say('{wrong}'); say('{DONE}')"), "does not confirm", "report")


def test_a_program_that_cannot_be_started_leaves_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding, "checker_path", lambda: tmp_path)
    assert_unknown(check(operations([write(1, 0, 1)]), model=Model.REGISTER), "could not be started")


def test_a_program_that_was_not_built_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_FOLDER", tmp_path)
    monkeypatch.setattr(binding, "checker_path", programs.checker_path)  # whatever AFTERSHOCK_CHECKER says
    with pytest.raises(SetupError, match="pip install"):
        check(operations([write(1, 0, 1)]), model=Model.REGISTER)
    (tmp_path / "aftershock-checker").touch(mode=0o644)
    if os.geteuid() != 0 or not os.access(tmp_path / "aftershock-checker", os.X_OK):
        with pytest.raises(SetupError, match="chmod"):
            programs.checker_path()
    with pytest.raises(SetupError, match="toxiproxy-server is missing"):
        programs.toxiproxy_path()


def test_nothing_is_left_open(run_with) -> None:  # type: ignore[no-untyped-def]
    before = len(list(Path("/proc/self/fd").iterdir()))
    run_with("sys.exit(1)")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
