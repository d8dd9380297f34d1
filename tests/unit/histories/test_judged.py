"""What is made of a history under each model: one that must pass, and one that must fail, in the user's words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from aftershock.harness.errors import UsageError
from aftershock.harness.histories import read_history
from aftershock.harness.histories.judged import Asked, judge_history

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "histories"


def rows(*operations: dict) -> list[str]:
    """Operations one after the other, each by a process of its own unless it says otherwise."""
    made = []
    for i, one in enumerate(operations):
        base = {"process": i, "key": "k", "value": None, "start_ns": 10 * i, "end_ns": 10 * i + 5, "outcome": "ok"}
        if one.get("outcome") == "unknown":
            base["end_ns"] = None
        made.append(json.dumps(base | one))
    return made


def op(f: str, value=None, **more) -> dict:
    return {"f": f, "value": value, **more}


def judge(write, model: str, operations: list[dict], **asked) -> dict:
    return judge_history(read_history(write("h.jsonl", *rows(*operations))), Asked(model=model, **asked))


CASES = [
    ("register", [op("write", "a"), op("read", "a")], [op("write", "a"), op("read")], {}),
    ("register", [op("write", 1), op("delete"), op("read")], [op("write", 1), op("delete"), op("read", 1)], {}),
    ("cas-register", [op("write", 1), op("cas", [1, 2]), op("read", 2)], [op("write", 1), op("cas", [3, 2])], {}),
    ("cas-register", [op("insert", "a"), op("read", "a")], [op("write", "b"), op("insert", "a")], {}),
    ("cas-register", [op("read", 0), op("write", 1)], [op("read"), op("write", 1)], {"initial": "0"}),
    ("cas-register", [op("write", 1), op("cas", [1, 0]), op("read", 0)], [op("cas", [1, 0])], {"initial": "0"}),
    ("cas-register", [op("write", 1), op("write", 0), op("read", 0)], [op("write", 1), op("read", 0)],
     {"initial": "0"}),
    ("cas-register", [op("write", "a"), op("cas", ["a", None]), op("read")], [op("write", "a"), op("read")], {}),
    ("key-value", [op("write", 1, version=3), op("read", 1, version=3)],
     [op("write", 1, version=3), op("read", 1, version=2)], {}),
    ("set", [op("add", "a"), op("read", ["a"])], [op("add", "a"), op("read-all", [])], {}),
    ("set", [op("contains", 1, result="not-found"), op("add", 1), op("contains", 1, result="found")],
     [op("add", 1), op("contains", 1, result="not-found")], {}),
    ("queue", [op("enqueue", "a"), op("enqueue", "b"), op("dequeue", "a"), op("dequeue", "b"), op("dequeue")],
     [op("enqueue", "a"), op("enqueue", "b"), op("dequeue", "b"), op("dequeue", "a")], {}),
    ("counter", [op("increment"), op("increment", 4), op("read", 5)], [op("increment"), op("add", 1), op("read", 1)],
     {}),
    ("fetch-and-increment", [op("increment", 1), op("increment", 2)], [op("increment", 1), op("increment", 1)], {}),
    ("mutex", [op("acquire", process=1), op("acquire", result="held"), op("release", process=1), op("acquire")],
     [op("acquire", 4), op("acquire", 5)], {}),
    ("list-append", [op("append", "a"), op("append", "b"), op("read", ["a", "b"])],
     [op("append", "a"), op("append", "b"), op("read", ["b", "a"])], {}),
    ("bank", [op("transfer", {"from": "a", "to": "b", "amount": 5}), op("read", {"a": 5, "b": 5})],
     [op("transfer", ["a", "b", 5]), op("read", {"a": 10, "b": 5})], {"initial": "a=10,b=0"}),
    ("text", [op("write", "a"), op("append", "b"), op("read", "ab")],
     [op("append", "a"), op("append", "b"), op("read", "ba")], {}),
]  # fmt: skip


@pytest.mark.parametrize(("model", "good", "bad", "asked"), CASES)
def test_each_model_passes_what_is_right_and_fails_what_is_wrong(write, model, good, bad, asked) -> None:
    right = judge(write, model, good, **asked)
    assert (right["verdict"], right["keys"]["violated"]) == ("pass", [])

    wrong = judge(write, model, bad, **asked)
    (violation,) = wrong["keys"]["violated"]
    assert wrong["verdict"] == "fail"
    assert violation["key"] == "k"
    assert violation["operations"]
    assert violation["rejudged"]
    assert all(one["line"] in range(1, len(bad) + 1) for one in violation["operations"] if one["process"] >= 0)


def test_sentences_speak_the_words_of_the_file(write) -> None:
    judged = judge(write, "register", [op("write", "tea"), op("write", [1, "x"]), op("read", "tea")])

    (violation,) = judged["keys"]["violated"]
    assert 'found "tea"' in violation["reason"]
    assert [one["text"] for one in violation["operations"]] == ['write "tea"', 'write [1, "x"]', 'read -> "tea"']


def test_a_number_and_its_text_are_two_values(write) -> None:
    assert judge(write, "register", [op("write", 1), op("read", "1")])["verdict"] == "fail"
    assert judge(write, "register", [op("write", 1), op("read", 1.0)])["verdict"] == "pass"
    assert judge(write, "register", [op("write", True), op("read", 1)])["verdict"] == "fail"


def test_failed_compare_and_sets_are_answers_only_when_asked_for(write) -> None:
    operations = [op("write", 1), op("cas", [1, 2], outcome="fail")]

    ignored = judge(write, "cas-register", operations)
    assert ignored["verdict"] == "pass"
    assert "--failed-cas observe" in ignored["notes"][0]
    assert judge(write, "cas-register", operations, failed_cas="observe")["verdict"] == "fail"
    operations[1]["result"] = "not-compared"
    assert judge(write, "cas-register", operations, failed_cas="observe")["verdict"] == "pass"


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ({"result": "mismatch"}, "fail"),
        ({"result": "mismatch", "observed": 3}, "fail"),
        ({"result": "not-found"}, "fail"),
    ],
)
def test_a_mismatch_is_an_observation(write, answer: dict, verdict: str) -> None:
    assert judge(write, "cas-register", [op("write", 1), op("cas", [1, 2], **answer)])["verdict"] == verdict
    assert judge(write, "cas-register", [op("write", 4), op("cas", [1, 2], result="mismatch")])["verdict"] == "pass"
    assert judge(write, "cas-register", [op("cas", [1, 2], result="not-found")])["verdict"] == "pass"


def test_an_observed_value_that_is_the_one_asked_for_is_refused(write) -> None:
    with pytest.raises(UsageError, match=r"h.jsonl:2: .*the very value that it asked for"):
        judge(write, "cas-register", [op("write", 1), op("cas", [1, 2], result="mismatch", observed=1)])


@pytest.mark.parametrize(
    ("model", "operation", "said"),
    [
        ("queue", op("write", 1), "the model queue has no 'write'"),
        ("cas-register", op("cas", 5), r"the value of this cas is 5; expected \[FROM, TO\]"),
        ("counter", op("read", "a"), "expected a whole number"),
        ("fetch-and-increment", op("increment"), "expected a whole number"),
        ("set", op("read", 5), "expected a list"),
        ("set", op("contains", 5), "expected found or not-found"),
        ("queue", op("enqueue"), "means that a queue was empty"),
        ("mutex", op("acquire", "a"), "expected a whole number"),
        ("text", op("write", 5), "the model text has texts only"),
    ],
)
def test_what_does_not_fit_a_model_is_refused_with_its_line(write, model: str, operation: dict, said: str) -> None:
    with pytest.raises(UsageError, match=rf"h.jsonl:1: .*{said}"):
        judge(write, model, [operation])


@pytest.mark.parametrize(
    ("model", "initial", "said"),
    [("queue", "1", "starts empty"), ("bank", None, "needs the balance"), ("bank", "a=x", "is not ACCOUNT=BALANCE")],
)
def test_initial_values_that_make_no_sense(write, model: str, initial, said: str) -> None:
    operation = op("enqueue", 1) if model == "queue" else op("transfer", ["a", "b", 1])
    with pytest.raises(UsageError, match=said):
        judge(write, model, [operation], initial=initial)


def test_a_history_of_which_nothing_can_be_judged_is_unknown(write) -> None:
    assert judge(write, "register", [op("read", outcome="unknown")])["verdict"] == "unknown"


def test_a_deadline_that_is_too_short_is_unknown(write) -> None:
    assert judge(write, "register", [op("write", 1)], deadline_s=1e-9)["verdict"] == "unknown"


def test_jepsens_history_is_explained() -> None:
    judged = judge_history(read_history(EXAMPLES / "stale-read.edn"), Asked(model="cas-register"))

    (violation,) = judged["keys"]["violated"]
    assert (judged["verdict"], judged["clock"], judged["keys"]["checked"]) == ("fail", "ns", 2)
    assert violation["key"] == "x"
    assert violation["reason"].endswith("yet that read found 1, which was older.")
    assert [(one["line"], one["end_line"], one["text"]) for one in violation["operations"]] == [
        (3, 4, "write 1"),
        (8, 10, "cas 1 to 3"),
        (14, 15, "read -> 1"),
    ]
    assert {one["guarantee"] for one in judged["sessions"]["guarantees"]} >= {"read your writes", "monotonic reads"}


def test_the_other_examples() -> None:
    lost = judge_history(read_history(EXAMPLES / "lost-write.jsonl"), Asked(model="cas-register"))
    queue = judge_history(read_history(EXAMPLES / "queue.csv"), Asked(model="queue"))

    assert (lost["verdict"], lost["keys"]["violated"][0]["key"]) == ("fail", "cart-17")
    assert queue["verdict"] == "pass"


def test_times_that_do_not_rise_leave_the_order_of_the_entries(write) -> None:
    lines = [
        "{:type :invoke, :f :write, :value 1, :process 0, :time 5}",
        "{:type :ok, :f :write, :value 1, :process 0, :time 9}",
        "{:type :invoke, :f :read, :value nil, :process 1, :time 8}",
        "{:type :ok, :f :read, :value nil, :process 1, :time 12}",
    ]
    history = read_history(write("history.edn", *lines))

    assert history.clock == "lines"
    assert "the order of the entries is the clock" in history.notes[0]
    assert judge_history(history, Asked(model="register"))["verdict"] == "fail"


def test_an_invocation_without_completion_is_unknown(write) -> None:
    lines = [
        "{:type :invoke, :f :write, :value 1, :process 0}",
        "{:type :invoke, :f :read, :value nil, :process 1}",
        "{:type :ok, :f :read, :value 1, :process 1}",
    ]
    history = read_history(write("history.edn", *lines))

    assert history.frame["outcome"].to_list() == ["unknown", "ok"]
    assert judge_history(history, Asked(model="register"))["verdict"] == "pass"
