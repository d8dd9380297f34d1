"""The nft program: one transaction in, tables as JSON out. Standard library only: the watchdog imports this.

All functions work in the network namespace of the calling thread (`network_namespace.inside` for another one).
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

from .programs_here import ask

__all__ = ["NftError", "apply", "delete_table", "list_table"]


class NftError(RuntimeError):
    """nft, or the kernel behind it, refused. The message has its own words."""


def apply(text: str, *, check: bool = False) -> None:
    """Carry out one transaction: all of it or, raising NftError, nothing. `check` tries it without doing it."""
    done = _run(["-c", "-f", "-"] if check else ["-f", "-"], text)
    if done.returncode != 0:
        raise NftError(f"nft refused: {_first_line(done.stderr)}")


def list_table(family: str, name: str) -> list[dict[str, Any]] | None:
    """Objects of a table as `nft -j` gives them ({"set": ...}, {"chain": ...}); None when there is no such table."""
    done = _run(["-j", "list", "table", family, name], "")
    if done.returncode != 0:
        if "No such file or directory" in done.stderr:
            return None
        raise NftError(f"nft cannot list table {family} {name}: {_first_line(done.stderr)}")
    objects: list[dict[str, Any]] = json.loads(done.stdout)["nftables"]
    return objects


def delete_table(family: str, name: str) -> bool:
    """Delete one table, whatever is in it, and see that it is gone. False when it was not there."""
    done = _run(["delete", "table", family, name], "")
    if done.returncode != 0 and "No such file or directory" not in done.stderr:
        raise NftError(f"nft cannot delete table {family} {name}: {_first_line(done.stderr)}")
    if list_table(family, name) is not None:
        raise NftError(f"nft table {family} {name} is still there after its deletion")
    return done.returncode == 0


def _run(arguments: list[str], text: str) -> subprocess.CompletedProcess[str]:
    return ask("nft", *arguments, package="nftables", problem=NftError, text=text)


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0] or "it did not say why"
