"""What `doctor.examine` found, for a person: facts, then a table of faults and backends, then the reasons as notes."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["render"]

_WIDTH: Final = 100
_LABEL: Final = 12


def render(found: Mapping[str, Any]) -> str:
    """At most 100 columns; long reasons are numbered notes below the table, each told once."""
    notes: dict[str, int] = {}
    lines = [
        *_wrapped("machine", _machine(found["environment"])),
        *_wrapped("privileges", _privileges(found["privileges"])),
        *_wrapped("programs", _programs(found["programs"])),
        *_wrapped("kernel", _kernel(found["kernel"], notes)),
        *_wrapped("engine", _engine(found["engine"])),
        *_wrapped("images", _images(found["engine"])),
        "",
        *_table(found, notes),
    ]
    if notes:
        lines.append("")
        for text, number in notes.items():
            mark = f"{number:>3}  "
            lines += textwrap.wrap(text, _WIDTH, initial_indent=mark, subsequent_indent=" " * len(mark))
    if not found["usable"]:
        lines += ["", "No backend can run a fault on this machine; the notes say what mends it."]
    return "\n".join(lines)


def _wrapped(label: str, text: str) -> list[str]:
    if not text:
        return []
    return textwrap.wrap(text, _WIDTH, initial_indent=f"{label:<{_LABEL}}", subsequent_indent=" " * _LABEL)


def _table(found: Mapping[str, Any], notes: dict[str, int]) -> list[str]:
    backends = list(found["backends"])
    first = max([len("fault"), *(len(name) for name in found["faults"])]) + 2
    width = max([len("yes (99)"), *(len(name) for name in backends)]) + 2
    # As many backends beside each other as fit; the rest follow in a table of their own.
    across = max(1, (_WIDTH - first) // width)
    lines: list[str] = []
    for begin in range(0, len(backends), across):
        shown = backends[begin : begin + across]
        lines += [""] * bool(lines)
        lines.append(_row("fault", shown, first, width))
        lines.append("-" * len(_row("-", ["-" * (width - 2)] * len(shown), first, width)))
        whole = [_cell({"available": r is None, "reason": r}, notes) for r in (found["backends"][n] for n in shown)]
        lines.append(_row("(backend)", whole, first, width))
        for fault, row in found["faults"].items():
            usable = [found["backends"][name] is None for name in shown]
            # The row above says already why nothing works on a backend that cannot be used.
            cells = [_cell(row[name], notes) if can else "-" for name, can in zip(shown, usable, strict=True)]
            lines.append(_row(fault, cells, first, width))
    return lines


def _row(name: str, cells: list[str], first: int, width: int) -> str:
    return (f"{name:<{first}}" + "".join(f"{cell:<{width}}" for cell in cells)).rstrip()


def _cell(answer: Mapping[str, Any], notes: dict[str, int]) -> str:
    word = "yes" if answer["available"] else "no"
    return word if answer["reason"] is None else f"{word} ({_note(answer['reason'], notes)})"


def _note(text: str, notes: dict[str, int]) -> int:
    return notes.setdefault(text, len(notes) + 1)


def _machine(facts: Mapping[str, Any]) -> str:
    return (
        f"Aftershock {facts['tool']} on {facts['system']}, kernel {facts['kernel']}, {facts['cpus']} processors, "
        f"{facts['memory_gib']:g} GiB, Python {facts['python']}"
    )


def _privileges(facts: Mapping[str, Any]) -> str:
    held, missing, cgroups = facts["capabilities"], facts["missing"], facts["cgroups"]
    who = "root" if facts["root"] else "not root"
    if not held:
        what = "no capabilities"
    elif not missing:
        what = "all capabilities"
    elif len(missing) <= len(held):
        what = f"all capabilities but {', '.join(missing)}"
    else:
        what = f"capabilities {', '.join(held)}"
    limits = (
        f"cgroup v{cgroups['version']} ({', '.join(cgroups['controllers'])})" if cgroups["version"] else "no cgroups"
    )
    return f"{who}; {what}; {limits}"


def _programs(facts: Mapping[str, Any]) -> str:
    there = [name for name, program in facts.items() if program["path"] is not None]
    absent = {name: program for name, program in facts.items() if program["path"] is None}
    parts = [f"found {', '.join(there)}"] if there else []
    parts += [f"no {name} (for {p['needed_for']}: apt-get install {p['package']})" for name, p in absent.items()]
    return "; ".join(parts)


def _kernel(facts: Mapping[str, str | None], notes: dict[str, int]) -> str:
    works = [name for name, reason in facts.items() if reason is None]
    fails = [f"{name} ({_note(reason, notes)})" for name, reason in facts.items() if reason is not None]
    parts = [f"tried and works: {', '.join(works)}"] if works else []
    return "; ".join([*parts, *([f"does not: {', '.join(fails)}"] if fails else [])])


def _engine(facts: Mapping[str, Any]) -> str:
    if facts.get("problem") is not None:
        return str(facts["problem"])
    text = f"Docker {facts['version']} at {facts['endpoint']} (cgroup driver {facts['cgroup_driver']})"
    return f"{text}; {facts['note']}" if facts["note"] is not None else text


def _images(facts: Mapping[str, Any]) -> str:
    images = facts.get("images") or {}
    there = [name for name, image in images.items() if image["problem"] is None]
    parts = [f"present {', '.join(there)}"] if there else []
    return "; ".join([*parts, *(f"{name} {i['problem']}" for name, i in images.items() if i["problem"] is not None)])
