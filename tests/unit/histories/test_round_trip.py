"""Converting loses nothing, and the fast readers read what the exact ones do."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from aftershock.harness.errors import UsageError
from aftershock.harness.histories import csv_columns, jsonl, read_history
from aftershock.harness.histories.judged import Asked, judge_history
from aftershock.harness.histories.written import write_history

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "histories"
ODD = [None, 0, -3, 10**18, 2**70, 0.5, 1e300, 1e17, True, "", "5", "null", "a b", 'q"uote', "comma,", "é", "\n", " x ",
       "[1]", "back\\slash", [1, 2], ["a", None], {"a": 1}, "NaN", "'", "1e5", "-0"]  # fmt: skip


def random_history(random_: random.Random, values: list, keys: list) -> list[dict]:
    made = []
    for i in range(random_.randrange(1, 12)):
        f = random_.choice(["read", "write", "cas", "insert", "delete"])
        value = random_.choice(values)
        one = {"process": random_.randrange(50), "f": f, "key": random_.choice(keys), "value": value}
        if f == "cas":
            one["value"] = [random_.choice(values), value]
        if f == "delete":
            one["value"] = None
        one |= {"start_ns": 100 * i, "end_ns": 100 * i + random_.randrange(100), "outcome": "ok"}
        if random_.random() < 0.3:
            one |= {"outcome": "unknown", "end_ns": None}
        elif f == "cas" and random_.random() < 0.5:
            one["result"] = random_.choice(["mismatch", "not-found"])
        if random_.random() < 0.1:
            one["version"] = random_.randrange(9)
        made.append(one)
    return made


def same(a, b) -> bool:
    return a.frame.drop("line", "end_line").equals(b.frame.drop("line", "end_line"))


@pytest.mark.parametrize("seed", range(40))
def test_what_is_written_is_read_back(tmp_path, seed: int) -> None:
    random_ = random.Random(seed)
    plain = random_.random() < 0.5
    history = random_history(random_, [1, 2, 3] if plain else ODD, [1, 2] if plain else ODD)
    first = tmp_path / "first.jsonl"
    first.write_text("".join(json.dumps(one) + "\n" for one in history), encoding="utf-8")
    read = read_history(first)
    for name in ("again.jsonl", "again.csv"):
        write_history(read, tmp_path / name)
        assert same(read_history(tmp_path / name), read), name


@pytest.mark.parametrize("seed", range(60))
def test_the_fast_readers_read_what_the_exact_ones_do(tmp_path, seed: int) -> None:
    random_ = random.Random(seed)
    kinds = [
        [1, 2, 3, None, 2**70, 10**17, -4],
        ["a", "b", "5", "é", ""],
        [[1], [2, 3], 7, None],
        ODD[:-13],
        [0.5, 1e17, 3],
    ]
    history = random_history(random_, random_.choice(kinds), random_.choice(kinds))
    lines, table = tmp_path / "h.jsonl", tmp_path / "h.csv"
    separators = random_.choice([(", ", ": "), (",", ":")])
    lines.write_text(
        "".join(json.dumps(one, ensure_ascii=False, separators=separators) + "\n" for one in history), encoding="utf-8"
    )
    exact = jsonl._line_by_line(lines)
    fast = jsonl._at_once(lines)
    assert fast is None or fast.equals(exact)

    write_history(read_history(lines), table)
    header = csv_columns._header(table)
    fast = csv_columns._at_once(table, header)
    assert fast is None or fast.equals(csv_columns._line_by_line(table, header))


def test_the_fast_readers_read_ordinary_files(tmp_path) -> None:
    """Otherwise the comparison above would compare nothing, and a large file would take minutes."""
    lines, table = tmp_path / "h.jsonl", tmp_path / "h.csv"
    write_history(read_history(EXAMPLES / "stale-read.edn"), lines)
    write_history(read_history(EXAMPLES / "stale-read.edn"), table)

    assert jsonl._at_once(lines) is not None
    assert csv_columns._at_once(table, csv_columns._header(table)) is not None


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
@pytest.mark.parametrize(("example", "model"), [("stale-read.edn", "cas-register"), ("queue.csv", "queue")])
def test_a_converted_history_has_the_same_verdict(tmp_path, name: str, example: str, model: str) -> None:
    history = read_history(EXAMPLES / example)
    write_history(history, tmp_path / name)

    verdicts = [judge_history(h, Asked(model=model))["verdict"] for h in (history, read_history(tmp_path / name))]
    assert verdicts[0] == verdicts[1]


def test_nothing_is_overwritten(tmp_path) -> None:
    history = read_history(EXAMPLES / "queue.csv")
    (tmp_path / "out.csv").write_text("mine", encoding="utf-8")

    with pytest.raises(UsageError, match="exists already"):
        write_history(history, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text(encoding="utf-8") == "mine"
    with pytest.raises(UsageError, match=r"ends in \.jsonl"):
        write_history(history, tmp_path / "out.parquet")
