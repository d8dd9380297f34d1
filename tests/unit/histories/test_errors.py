"""Every mistake in a file is told with the file, the line, what was found, and what was expected."""

from __future__ import annotations

import re

import pytest
from aftershock.harness.errors import UsageError
from aftershock.harness.histories import read_history

GOOD = '{"process": 1, "f": "write", "key": "x", "value": 7, "start_ns": 10, "end_ns": 25, "outcome": "ok"}'


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


JSONL = [
    (changed('"outcome": "ok"', '"outcome": "maybe"'), "the outcome is 'maybe'; expected ok"),
    (changed('"write"', '"wirte"'), "`f` is 'wirte'; expected one of read, write"),
    (changed('"end_ns": 25', '"end_ns": null'), "is ok, and has no end_ns"),
    (changed('"end_ns": 25', '"end_ns": 9'), "ends at 9, before it starts at 10: the clock was set back"),
    (changed('"start_ns": 10', '"start_ns": 10.5'), "start_ns is 10.5; expected a whole number"),
    (changed('"start_ns": 10', '"start_ns": null'), "start_ns is None; expected a whole number"),
    (changed('"process": 1', '"process": "a"'), "process is 'a'; expected a whole number"),
    (changed('"process": 1, ', ""), "has no process; expected the fields"),
    (changed('"value": 7, ', ""), "this write has no value"),
    (changed('"key": "x"', '"key": "x", "key": "y"'), "the field 'key' is there twice"),
    (changed('"value": 7', '"value": NaN'), "NaN is not JSON"),
    (GOOD[:50], "is not JSON"),
    ("[1]", "expected an object"),
    (changed('"ok"', '"ok", "result": "mismatch"'), "a write cannot have the result mismatch"),
    (changed('"ok"', '"ok", "result": "huh"'), "the result is 'huh'; expected one of"),
]


@pytest.mark.parametrize(("line", "said"), JSONL)
def test_json_lines(write, line: str, said: str) -> None:
    later = [GOOD.replace("10,", "100,").replace("25,", "125,"), line]
    path = write("h.jsonl", GOOD, *later)

    with pytest.raises(UsageError, match=re.escape(said)) as raised:
        read_history(path)

    assert str(raised.value).startswith(f"{path}:3: ")


def test_a_file_that_is_cut_off_says_so(tmp_path) -> None:
    path = tmp_path / "h.jsonl"
    path.write_text(f"{GOOD}\n{GOOD[:40]}", encoding="utf-8")

    with pytest.raises(UsageError, match=r"h.jsonl:2: is not JSON .* the file seems cut off"):
        read_history(path)


def test_two_operations_of_a_process_at_once_name_both_lines(write) -> None:
    path = write("h.jsonl", GOOD, GOOD.replace("10,", "20,").replace("25,", "30,"))

    with pytest.raises(UsageError, match=r"h.jsonl:2: process 1 starts this write at 20, while its write \(line 1\)"):
        read_history(path)


def test_a_process_may_go_on_after_an_unknown_operation(write) -> None:
    open_ = changed('"end_ns": 25, "outcome": "ok"', '"end_ns": null, "outcome": "unknown"')
    path = write("h.jsonl", open_, GOOD.replace("10,", "20,"))

    assert read_history(path).frame.height == 2


HEADER = "process,f,key,value,start_ns,end_ns,outcome"
CSV = [
    ("1,write,x,7,10,25", "has 6 cells, the first line names 7 columns"),
    ("1,write,x,7,ten,25,ok", "start_ns is 'ten'; expected a whole number"),
    ("1,write,x,7,10,,ok", "is ok, and has no end_ns"),
    ("1,write,x,7,10,5,ok", "the clock was set back"),
    ("1,cas,x,[1, 2],10,25,ok", "A cell with a comma in it needs quotes"),
]


@pytest.mark.parametrize(("line", "said"), CSV)
def test_csv(write, line: str, said: str) -> None:
    path = write("h.csv", HEADER, "2,read,x,,1,2,ok", line)

    with pytest.raises(UsageError, match=re.escape(said)) as raised:
        read_history(path)

    assert str(raised.value).startswith(f"{path}:3: ")


def test_csv_without_a_column(write) -> None:
    path = write("h.csv", "process,f,value,start_ns,end_ns", "1,write,7,10,25")

    with pytest.raises(UsageError, match=r"h.csv:1: .*missing: outcome"):
        read_history(path)


def entry(kind: str, f: str = ":write", value: str = "1", process: str = "0", **more: int) -> str:
    extra = "".join(f", :{name} {number}" for name, number in more.items())
    return f"{{:type :{kind}, :f {f}, :value {value}, :process {process}{extra}}}"


EDN = [
    ([entry("invoke"), entry("invoke")], "process 0 invokes a write while its write of line 1 is open"),
    ([entry("invoke", process="1"), entry("ok")], "completes a write (ok) that it did not invoke"),
    ([entry("invoke"), entry("ok", ":read")], "completes a read, but what it has open is the write of line 1"),
    ([entry("invoke"), entry("ok", value="2")], "was invoked with 1 (line 1) and is ok with 2"),
    ([entry("invoke", time=9), entry("ok", time=5)], "the clock was set back"),
    ([entry("invoke"), entry("done")], "the :type is 'done'; expected :invoke"),
    ([entry("invoke"), entry("invoke", ":txn", "[[:r 1 nil]]")], "is a transaction; transactions are not judged here"),
    ([entry("invoke"), entry("invoke", ":drain")], "the function is :drain; expected one of"),
    ([entry("invoke"), "{:type :ok, :f :write}"], "this map has no :process"),
    ([entry("invoke"), "17"], "found a int; expected a map"),
    ([entry("invoke"), "{:type :ok, :f"], "is never closed; the file is cut off"),
    ([entry("invoke"), '{:type "ok'], "has no closing quote; the file is cut off"),
    ([entry("invoke"), "{:type :ok]"], "found ']'; expected '}'"),
    ([entry("invoke"), "{:type :ok :f}"], "a name without a value"),
    ([entry("invoke", time=1), "{:type :ok, :f :write, :process 0, :time 1.5}"], "the :time is 1.5"),
]


@pytest.mark.parametrize(("lines", "said"), EDN)
def test_edn(write, lines: list[str], said: str) -> None:
    path = write("history.edn", *lines)

    with pytest.raises(UsageError, match=re.escape(said)) as raised:
        read_history(path)

    assert str(raised.value).startswith(f"{path}:2: ")


LOG = "INFO  jepsen.util - 0\t:invoke\t:write\t4"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("INFO  jepsen.util - 0\t:ok\t:wri", "expected :read, :write or :cas"),
        ("INFO  jepsen.util - 0\t:o", "Is the line cut off?"),
        ("INFO  jepsen.util - 0\t:ok\t:write\tx", "expected an integer"),
        ("INFO  jepsen.util - 0\t:ok\t:swap\t4", "found the function :swap"),
        (LOG, "process 0 invokes a write while its write of line 1 is open"),
    ],
)
def test_jepsen_log(write, line: str, said: str) -> None:
    path = write("etcd.log", LOG, line)
    if "wri" in line and line.endswith(":wri"):
        said = "Is the line cut off?"  # without a value it is no whole line

    with pytest.raises(UsageError, match=re.escape(said)) as raised:
        read_history(path)

    assert str(raised.value).startswith(f"{path}:2: ")


def test_porcupine_kv(write) -> None:
    path = write(
        "kv.txt", '{:process 9, :type :invoke, :f :append, :key "0", :value "x"}', "{:process 9, :type :ok, :f"
    )

    with pytest.raises(UsageError, match=r"kv.txt:2: .*Is the line cut off"):
        read_history(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("hello\n", "which is no format that is known here"),
        ('[{"process": 1}]\n', "jq -c '.[]'"),
        ("{:type :info, :f :kill, :process :nemesis, :value nil}\n", "holds no operation of a client"),
    ],
)
def test_what_is_no_history(tmp_path, text: str, said: str) -> None:
    path = tmp_path / "file"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(UsageError, match=re.escape(said)):
        read_history(path)


def test_a_file_that_is_not_there(tmp_path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_history(tmp_path / "none.jsonl")


def test_a_folder_that_is_no_run(tmp_path) -> None:
    with pytest.raises(UsageError, match=r"holds no run.json"):
        read_history(tmp_path)
