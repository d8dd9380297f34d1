"""Counters and gauges, and their Prometheus text form (exposition format 0.0.4)."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path


class Metrics:
    """Named numbers of one member. Label sets are part of the key, written as in the text form."""

    def __init__(self, *, member: str) -> None:
        self._member = member
        self._counters: dict[tuple[str, str], float] = {}
        self._gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        self._help: dict[str, str] = {}

    def describe(self, name: str, text: str) -> None:
        """Help text of a counter; also makes it appear at 0."""
        self._help[name] = text

    def count(self, name: str, labels: str = "", amount: float = 1) -> None:
        """Add to a counter. `labels` is text such as `kind="get",outcome="ok"`."""
        key = (name, labels)
        self._counters[key] = self._counters.get(key, 0) + amount

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Register a number that is read when it is asked for."""
        self._gauges[name] = (text, read)

    def render(self) -> str:
        """The text form, with what the operating system knows of this process."""
        lines: list[str] = []
        names = sorted(self._help.keys() | {name for name, _ in self._counters})
        for name in names:
            lines += [f"# HELP {name} {self._help.get(name, name)}", f"# TYPE {name} counter"]
            values = sorted((labels, value) for (owner, labels), value in self._counters.items() if owner == name)
            lines += [self._line(name, labels, value) for labels, value in values or [("", 0)]]
        for name, (text, read) in sorted(self._gauges.items()):
            lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge", self._line(name, "", read())]
        lines += self._process()
        return "\n".join(lines) + "\n"

    def _line(self, name: str, labels: str, value: float) -> str:
        inner = f'member="{self._member}"' + (f",{labels}" if labels else "")
        return f"{name}{{{inner}}} {value:g}" if value != int(value) else f"{name}{{{inner}}} {int(value)}"

    def _process(self) -> list[str]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return [
            "# HELP process_cpu_seconds_total User and system CPU time.",
            "# TYPE process_cpu_seconds_total counter",
            self._line("process_cpu_seconds_total", "", usage.ru_utime + usage.ru_stime),
            "# HELP process_resident_memory_bytes Resident memory.",
            "# TYPE process_resident_memory_bytes gauge",
            self._line("process_resident_memory_bytes", "", pages * resource.getpagesize()),
            "# HELP process_open_fds Open file descriptors.",
            "# TYPE process_open_fds gauge",
            self._line("process_open_fds", "", sum(1 for _ in Path("/proc/self/fd").iterdir())),
        ]
