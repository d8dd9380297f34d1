"""The model `text` as a register gives the verdict of trying every order, wherever it applies."""

from __future__ import annotations

import itertools
import json
import os
import random

import pytest
from aftershock.harness.histories import read_history
from aftershock.harness.histories.judged import Asked, judge_history
from aftershock.harness.histories.text_columns import columns_of_texts

HISTORIES = int(os.environ.get("AFTERSHOCK_FUZZ_TEXTS", "60"))


def legal(history: list[dict]) -> bool:
    """Every order of every choice of unknown operations, by brute force."""
    certain = [one for one in history if one["outcome"] == "ok"]
    unknown = [one for one in history if one["outcome"] == "unknown" and one["f"] != "read"]
    chosen = itertools.chain.from_iterable(itertools.combinations(unknown, n) for n in range(len(unknown) + 1))
    return any(fits("", [*certain, *some]) for some in chosen)


def fits(state: str, left: list[dict]) -> bool:
    if not left:
        return True
    end = min((one["end_ns"] for one in left if one["outcome"] == "ok"), default=10**9)
    for one in left:
        if one["start_ns"] > end or (one["f"] == "read" and one["value"] != state):
            continue
        after = state if one["f"] == "read" else one["value"] if one["f"] == "write" else state + one["value"]
        if fits(after, [other for other in left if other is not one]):
            return True
    return False


def random_history(random_: random.Random) -> list[dict]:
    """A run of a real text, some answers tampered with."""
    state, made = "", []
    for i in range(random_.randrange(2, 8)):
        f = random_.choice(["read", "read", "append", "append", "write"])
        word = chr(ord("a") + i)
        start = 10 * i - random_.randrange(25)
        one = {
            "process": i,
            "f": f,
            "key": "k",
            "value": word,
            "start_ns": start,
            "end_ns": 10 * i + random_.randrange(25),
        }
        one["outcome"] = "ok"
        if random_.random() < 0.2:
            one |= {"outcome": "unknown", "end_ns": None}
        if f == "read":
            one["value"] = state if random_.random() < 0.8 else "".join(random_.sample("abcdef", random_.randrange(4)))
        elif one["outcome"] == "ok" or random_.random() < 0.5:
            state = word if f == "write" else state + word
        made.append(one)
    return made


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_brute_force(tmp_path, seed: int) -> None:
    """Many histories at once, each a key."""
    random_ = random.Random(seed)
    histories = [random_history(random_) for _ in range(HISTORIES)]
    path = tmp_path / "h.jsonl"
    lines = [one | {"key": key, "process": one["process"] + 100 * key} for key, h in enumerate(histories) for one in h]
    path.write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    history = read_history(path)
    given = columns_of_texts(history)
    assert given is not None, "the texts of this test tell who wrote them"
    judged = judge_history(history, Asked(model="text"))
    violated = {one["key"] for one in judged["keys"]["violated"]}

    expected = {key for key, one in enumerate(histories) if not legal(one)}
    assert violated == expected, f"seed {seed}: differ on {violated ^ expected}"
    assert 0 < len(expected) < len(histories)
    assert not judged["keys"]["unknown"]


def test_texts_that_do_not_tell_go_to_the_search(write) -> None:
    """Twice the same append: which of them a read shows is not known."""
    lines = [
        {"process": i, "f": f, "key": "k", "value": value, "start_ns": 10 * i, "end_ns": 10 * i + 5, "outcome": "ok"}
        for i, (f, value) in enumerate([("append", "a"), ("append", "a"), ("read", "aa"), ("read", "a")])
    ]
    history = read_history(write("h.jsonl", *map(json.dumps, lines)))

    assert columns_of_texts(history) is None
    assert judge_history(history, Asked(model="text"))["verdict"] == "fail"
