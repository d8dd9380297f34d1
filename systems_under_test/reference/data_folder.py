"""A member's data folder: its lock, and the store id of a node.

A store id names the *disk*, not the node (docs/replication.md section 2): it is made when the folder is initialised
and never again, so an emptied disk comes back as another store, which is in no in-sync set.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from pathlib import Path

STORE_FILE = "store.json"
DAMAGED_FILE = "damaged"
LOCK_FILE = "lock"


class DataFolderError(Exception):
    """The data folder cannot be used. The message says which folder, why, and what to do; a person must act."""


class FolderLock:
    """Exclusive lock on a data folder for the life of the process: two members on one folder are impossible."""

    def __init__(self, folder: Path) -> None:
        """Make the folder if need be and lock it. Raises DataFolderError when another process holds it."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise DataFolderError(f"data folder {folder}: cannot be made or opened: {error.strerror}") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            raise DataFolderError(
                f"data folder {folder} is in use by another process; stop that one, or give this member its own folder"
            ) from error

    def release(self) -> None:
        """Unlock. The file stays: removing it would let two processes lock two different files."""
        os.close(self._fd)


def sync_folder(folder: Path) -> None:
    """Make creations and renames in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_durably(path: Path, content: bytes) -> None:
    """Replace a small file so that after a crash it is there whole, old or new."""
    temporary = path.with_name(path.name + ".new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    temporary.replace(path)
    sync_folder(path.parent)


def read_store(folder: Path, node: str) -> str | None:
    """Store id of an initialised folder, None for a fresh one. Raises DataFolderError if it belongs to another node."""
    path = folder / STORE_FILE
    try:
        content = json.loads(path.read_bytes())
        store, owner = str(content["store"]), str(content["node"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataFolderError(
            f"{path} cannot be read ({error}); it names this disk. Empty {folder} to let the node come back as a new "
            "store, which copies everything from the other replicas"
        ) from error
    if owner != node:
        raise DataFolderError(f"data folder {folder} belongs to node {owner}, not to {node}; give {node} its own")
    return store


def write_store(folder: Path, node: str) -> str:
    """Initialise: make a new store id and write it. The log must be in place already (see `log.open_log`)."""
    store = f"{node}:{secrets.token_hex(4)}"
    write_durably(folder / STORE_FILE, json.dumps({"store": store, "node": node}).encode())
    return store
