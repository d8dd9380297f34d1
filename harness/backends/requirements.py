"""What several backends need of the machine: None, or why it is not there and what would mend it."""

from __future__ import annotations

import os
import sys

from .. import images
from ..errors import AftershockError

__all__ = ["why_no_containers", "why_no_linux"]


def why_no_linux() -> str | None:
    if not sys.platform.startswith("linux") or not hasattr(os, "pidfd_open"):
        return "it needs Linux 5.3 or newer (pidfd); run it on such a machine or in a virtual one"
    return None


def why_no_containers(endpoint: str) -> str | None:
    """What members in containers need beyond Linux: root, an engine at this endpoint, the image of client groups."""
    if os.geteuid() != 0:
        return "it needs root, to act on members' processes and packets from outside; run it with sudo"
    try:
        return images.missing(endpoint, ["toxiproxy"])
    except AftershockError as error:
        return str(error)
