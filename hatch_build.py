"""A wheel with kernels that come compiled, where FASTMLP_BUILD_KERNELS=1 asks for one.

Without it the wheel is pure Python, and building needs neither Numba nor a C compiler.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_INSIDE = "fastmlp/backends/numba_backend/libraries"
#: What a wheel for a machine has libraries for.
_TARGETS = {
    "x86_64": ("x86-64-v3", "x86-64-v4"),
    "amd64": ("x86-64-v3", "x86-64-v4"),
    "aarch64": ("aarch64",),
    "arm64": ("aarch64",),
}


def _is_wanted() -> bool:
    return os.environ.get("FASTMLP_BUILD_KERNELS", "") not in ("", "0")


class KernelsHook(BuildHookInterface):
    """Builds the libraries of this machine's levels and puts them into the wheel."""

    def dependencies(self) -> list[str]:
        """Return what building needs beside Hatch."""
        return list(self.metadata.core.dependencies) if _is_wanted() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build, and mark the wheel as one for this platform and any Python."""
        if not _is_wanted() or version == "editable":
            return
        machine = platform.machine().lower()
        if machine not in _TARGETS:
            raise RuntimeError(f"FASTMLP_BUILD_KERNELS: there are no kernels for {machine}")
        self._folder = tempfile.TemporaryDirectory()
        targets = [f"--target={target}" for target in _TARGETS[machine]]
        command = [sys.executable, "-m", "fastmlp.build_kernels", "--out", self._folder.name]
        subprocess.run([*command, *targets], cwd=self.root, check=True)
        for path in Path(self._folder.name).iterdir():
            build_data["force_include"][str(path)] = f"{_INSIDE}/{path.name}"
        system = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"], build_data["tag"] = False, f"py3-none-{system}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was built outside of the wheel."""
        if hasattr(self, "_folder"):
            self._folder.cleanup()
