"""Mends one defect of the Toxiproxy that we bundle, while it is built: the module itself is used as it is published.

When a connection's receiver is gone, `ToxicLink.write` ends and nobody reads the link any more. A toxic that is still
passing a chunk on then waits for ever, `RemoveToxic` waits for that toxic while it holds the collection's lock, and
`write` waits for the same lock in `RemoveLink`: that proxy's toxics can never be taken off again (seen when a partition
was healed under a delay). Reading on, into nothing, lets all three go. What is compiled is a copy with that one line.
"""

from __future__ import annotations

import shutil
from pathlib import Path

__all__ = ["mended_copy"]

_FILE = "link.go"
_BEFORE = "\tdest.Close()\n\tlogger.Trace().Msgf("
_AFTER = (
    "\tdest.Close()\n"
    "\tgo func() { _, _ = io.Copy(io.Discard, link.output) }() // Aftershock: see build_backend/toxiproxy_mend.py\n"
    "\tlogger.Trace().Msgf("
)


def mended_copy(module: Path, folder: Path) -> None:
    """Copy the module's source to `folder` (which must not exist) and mend it there.

    Raises ValueError when the source is not the one that was mended: whoever changes the version must look again.
    """
    shutil.copytree(module, folder, ignore=shutil.ignore_patterns("*_test.go", "testhelper", ".github"))
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)  # the module cache is read-only, also for whoever cleans up
    file = folder / _FILE
    text = file.read_text(encoding="utf-8")
    if text.count(_BEFORE) != 1:
        raise ValueError(f"{module / _FILE} is not what {Path(__file__).name} mends; see whether that is needed still")
    file.write_text(text.replace(_BEFORE, _AFTER), encoding="utf-8")
