"""Where the two bundled native programs are.

They are built into the wheel (`build_backend/native_programs.py`) and never downloaded.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import SetupError

__all__ = ["checker_path", "toxiproxy_path"]

_FOLDER = Path(__file__).parent / "_bin"


def checker_path() -> Path:
    """Path of the history checker. Raises SetupError, saying what to do, when it was not built."""
    return _program("aftershock-checker")


def toxiproxy_path() -> Path:
    """Path of the Toxiproxy server. Raises SetupError, saying what to do, when it was not built."""
    return _program("toxiproxy-server")


def _program(name: str) -> Path:
    path = _FOLDER / name
    if not path.is_file():
        raise SetupError(
            f"The bundled program {name} is missing from {_FOLDER}: install Aftershock again (`pip install .` builds "
            "it), or in a checkout run `python build_backend/native_programs.py`."
        )
    if not os.access(path, os.X_OK):
        raise SetupError(f"The bundled program {path} is not executable: `chmod +x {path}`, or install it again.")
    return path
