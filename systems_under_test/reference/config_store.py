"""The controller's configuration store: SQLite with compare-and-set on the epoch (docs/replication.md section 9).

`synchronous=FULL` with write-ahead logging: NORMAL may lose the last commits on power loss; then an epoch is given out
twice and two primaries get one term.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from .messages import Config
from .wire import pack_config, unpack_config


class ConfigStore:
    """One row a shard. Linearizable: one process holds the file, and every change is one immediate transaction."""

    def __init__(self, path: Path) -> None:
        """Open or make the store. Raises sqlite3.Error."""
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS configs "
            "(shard INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, config BLOB NOT NULL)"
        )

    def load(self) -> dict[int, Config]:
        """All configurations."""
        return {shard: unpack_config(blob) for shard, blob in self._db.execute("SELECT shard, config FROM configs")}

    def get(self, shard: int) -> Config | None:
        row = self._db.execute("SELECT config FROM configs WHERE shard = ?", (shard,)).fetchone()
        return None if row is None else unpack_config(row[0])

    def compare_and_set(self, expected_epoch: int, config: Config) -> bool:
        """Write `config` if the stored epoch is `expected_epoch` (0: no row yet); durable when it returns True.

        Raises sqlite3.Error; whether it was written is then unknown, so read again.
        """
        self._db.execute("BEGIN IMMEDIATE")
        try:
            if expected_epoch == 0:
                changed = self._db.execute(
                    "INSERT INTO configs VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                    (config.shard, config.epoch, pack_config(config)),
                ).rowcount
            else:
                changed = self._db.execute(
                    "UPDATE configs SET epoch = ?, config = ? WHERE shard = ? AND epoch = ?",
                    (config.epoch, pack_config(config), config.shard, expected_epoch),
                ).rowcount
            self._db.execute("COMMIT")
        except sqlite3.Error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        return changed == 1

    def close(self) -> None:
        self._db.close()
