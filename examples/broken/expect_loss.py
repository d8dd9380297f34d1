"""Runs ack-primary.toml and succeeds only if the tool says that acknowledged writes were lost, and shows which.

A detector that has never seen what it must catch proves nothing: this is the broken arm of the demo.
Usage: python examples/broken/expect_loss.py [aftershock run options]
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

SCENARIO = Path(__file__).with_name("ack-primary.toml")


def main() -> int:
    runs = Path("runs")
    runs.mkdir(exist_ok=True)
    # A folder of its own, so that "the run that this made" needs no guessing.
    parent = Path(tempfile.mkdtemp(prefix="broken-", dir=runs))
    command = [str(Path(sys.executable).with_name("aftershock")), "run", str(SCENARIO), "--runs", str(parent)]
    status = subprocess.run([*command, *sys.argv[1:]], check=False).returncode
    folders = sorted(path for path in parent.iterdir() if path.is_dir())
    problems = []
    if status != 1:
        problems.append(f"the tool exited with {status}, expected 1")
    if len(folders) != 1 or not (folders[0] / "verdict.json").is_file():
        problems.append(f"no verdict was written below {parent}")
    else:
        problems += _problems(json.loads((folders[0] / "verdict.json").read_text(encoding="utf-8")))
    if problems:
        sys.stdout.write("The broken arm did NOT show what it must: " + "; ".join(problems) + "\n")
        return 1
    sys.stdout.write("As it must: the unsafe setting was caught, exit code 1, acknowledged writes lost and named.\n")
    return 0


def _problems(verdict: dict) -> list[str]:
    checks = {check["name"]: check["verdict"] for check in verdict["checks"]}
    loss = verdict["data_loss"] or {}
    found = []
    if checks.get("data-loss") != "fail":
        found.append(f"the data loss check says {checks.get('data-loss')!r}, expected 'fail'")
    if not loss.get("lost"):
        found.append("no lost write is named")
    if not loss.get("rpo_writes") or loss.get("rpo_s") is None:
        found.append("RPO is missing")
    if not (verdict["linearizability"] or {}).get("counterexamples"):
        found.append("no counterexample is shown")
    return found


if __name__ == "__main__":
    sys.exit(main())
