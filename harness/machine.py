"""What this machine has that faults need: privileges, cgroups, programs, kernel features, a Docker engine, images.

Asked by trying where that is harmless; nothing is changed. Whatever cannot be asked is told as a problem in words.
"""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from . import images
from .errors import AftershockError
from .impairment import IMPAIRMENTS

__all__ = ["engine", "kernel", "privileges", "programs"]

# Program -> Debian package that has it, and what needs it.
_PROGRAMS: Final = {
    "nft": ("nftables", "network faults between containers"),
    "iptables": ("iptables", "a Docker engine's own networks"),
    "ip": ("iproute2", "bandwidth and duplicate faults between containers"),
    "tc": ("iproute2", "bandwidth faults between containers"),
    "ss": ("iproute2", "reset faults between containers"),
    "mkfs.ext4": ("e2fsprogs", "disk faults in containers"),
    "mount": ("mount", "disk faults in containers"),
    "dockerd": ("docker.io", "the backend docker"),
    "mmdebstrap": ("mmdebstrap", "building images where no registry answers"),
}
# capabilities(7), by bit.
_CAPABILITIES: Final = (
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
)


def privileges() -> dict[str, Any]:
    """`root`, the capabilities that are in effect and those that even root lacks here, and the cgroup version."""
    status = _status()
    last = int(_read("/proc/sys/kernel/cap_last_cap") or len(_CAPABILITIES) - 1)
    known = {bit: name for bit, name in enumerate(_CAPABILITIES) if bit <= last}
    effective = [name for bit, name in known.items() if status.get("CapEff", 0) >> bit & 1]
    return {
        "root": os.geteuid() == 0,
        "capabilities": effective,
        "missing": [name for name in known.values() if name not in effective],
        "cgroups": _cgroups(),
    }


def _status() -> dict[str, int]:
    lines = (_read("/proc/self/status") or "").splitlines()
    pairs = (line.split(":", 1) for line in lines if line.startswith("Cap"))
    return {name: int(value.strip(), 16) for name, value in pairs}


def _cgroups() -> dict[str, Any]:
    """Version 1, 2, or null where none is mounted, and the controllers that can be used."""
    unified = _read("/sys/fs/cgroup/cgroup.controllers")
    if unified is not None:
        return {"version": 2, "controllers": unified.split()}
    # mountinfo: the type stands behind a lone dash, the controllers among the options of the file system at the end.
    mounts = (line.split() for line in (_read("/proc/self/mountinfo") or "").splitlines())
    options = {option for words in mounts if "cgroup" in words[words.index("-") :] for option in words[-1].split(",")}
    enabled = {line.split()[0] for line in (_read("/proc/cgroups") or "").splitlines()[1:]}
    controllers = sorted(options & enabled)
    return {"version": 1 if controllers else None, "controllers": controllers}


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return None


def programs() -> dict[str, dict[str, str | None]]:
    """For each program: its path or null, the Debian package that has it, and what it is for."""
    return {
        name: {"path": _which(name), "package": package, "needed_for": purpose}
        for name, (package, purpose) in _PROGRAMS.items()
    }


def _which(name: str) -> str | None:
    # Where administrators' programs are, which an ordinary user's PATH may leave out.
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]))


def kernel() -> dict[str, str | None]:
    """For each feature null when it works, otherwise why not: impairments of packets are tried in a namespace apart."""
    found: dict[str, str | None] = {
        "pidfd": None if hasattr(os, "pidfd_open") else "needs Linux 5.3 or newer, and a Python that was built on it",
        "loop devices": None if Path("/dev/loop-control").exists() else "/dev/loop-control is missing: modprobe loop",
    }
    try:
        from .backends.packet_trials import reason_against

        found |= {kind.kind: reason_against(kind) for kind in IMPAIRMENTS}
    except Exception as error:  # a trial that crashes is a feature that does not work, and the rest is still asked
        found["packets"] = f"cannot be tried: {type(error).__name__}: {error}"
    return found


def engine() -> dict[str, Any]:
    """The Docker engine at the endpoint that runs use by default, and which of our images it has.

    `problem` is null when it answers; `note` says when another engine is named by the environment and not followed.
    """
    from .backends.docker_engine import DEFAULT_ENDPOINT, Engine, not_followed

    found: dict[str, Any] = {
        "endpoint": DEFAULT_ENDPOINT,
        "version": None,
        "cgroup_driver": None,
        "problem": None,
        "note": not_followed(DEFAULT_ENDPOINT),
        "images": {},
    }
    try:
        with closing(Engine.open(DEFAULT_ENDPOINT)) as opened:
            found["version"] = opened.version
            with opened.asked_to("say what it is"):
                found["cgroup_driver"] = str(opened.api.info().get("CgroupDriver"))
            found["images"] = {name: _image(opened, name) for name in images.names()}
    except AftershockError as error:
        found["problem"] = str(error)
    return found


def _image(opened: Any, name: str) -> dict[str, Any]:
    """Its tag, and null when it is there, else the command that builds it."""
    from .image_builder import inspected

    tag = None
    try:
        tag = images.tag(name)
        present = inspected(opened, tag) is not None
    except AftershockError as error:
        return {"tag": tag, "problem": str(error)}
    return {"tag": tag, "problem": None if present else f"not built: aftershock images {name}"}
