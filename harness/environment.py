"""Facts on the machine for the report: an allow-list, so that no secret can slip in with an environment variable."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["facts", "tool_version"]

# Versions that can change a verdict or a figure.
_PACKAGES = (
    "gevent",
    "httptools",
    "locust",
    "msgpack",
    "numpy",
    "polars",
    "pyarrow",
    "pydantic",
    "toxiproxy-python",
    "uvicorn",
    "uvloop",
)


def tool_version() -> str:
    """Version of the installed distribution; `0+unknown` when run from a tree that was never installed."""
    try:
        return version("aftershock")
    except PackageNotFoundError:
        return "0+unknown"


def facts() -> dict[str, Any]:
    """Facts that explain a figure; values are strings and numbers only."""
    return {
        "schema": 1,
        "tool": tool_version(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "system": _os_name(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_average_1min": round(os.getloadavg()[0], 2),
        "packages": {name: _version_of(name) for name in _PACKAGES},
    }


def _version_of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _os_name() -> str:
    try:
        lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.system()
    names = [line.partition("=")[2].strip('"') for line in lines if line.startswith("PRETTY_NAME=")]
    return names[0] if names else platform.system()
