"""The packages as a user gets them: sdist and wheel of both distributions, and an environment with nothing else in it."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

from tests.site.contents import ROOT

__all__ = ["build_packages", "fresh_environment", "problems"]

_BUILD_S, _INSTALL_S = 600, 300


def build_packages(folder: Path) -> list[Path]:
    """All files of both distributions. The wheels are made from the sdists, as an installer would do it."""
    for source in (ROOT, ROOT / "devbroker"):
        _run(sys.executable, "-m", "build", "--outdir", folder, source, timeout=_BUILD_S)
    return sorted(folder.iterdir())


def fresh_environment(folder: Path, packages: list[Path], extras: str = "cli,embedded") -> Path:
    """The folder of its executables. What the wheels need comes from the registry."""
    venv.create(folder, with_pip=True, clear=True)
    wheels = {path.name.partition("-")[0]: path for path in packages if path.suffix == ".whl"}
    python = folder / "bin" / "python"
    wanted = [str(wheels["yadtq_devbroker"]), f"{wheels['yadtq']}[{extras}]"]
    _run(python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", *wanted, timeout=_INSTALL_S)
    _run(python, "-m", "pip", "--disable-pip-version-check", "check", timeout=_INSTALL_S)
    return folder / "bin"


def problems(packages: list[Path]) -> list[str]:
    """What should not be in a package, and what should."""
    found = []
    for path in packages:
        names = _names(path)
        found += [f"{path.name}: {name}" for name in names if "__pycache__" in name or name.endswith((".pyc", ".so"))]
        found += [f"{path.name}: no licence" for _ in range(not any("LICENSE" in name for name in names))]
        if path.suffix == ".whl":
            typed = any(name.endswith("py.typed") for name in names)
            found += [f"{path.name}: no py.typed"] * (not typed)
            found += [f"{path.name}: {name}" for name in names if name.startswith("tests")]
    return found


def _names(path: Path) -> list[str]:
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            return wheel.namelist()
    with tarfile.open(path) as archive:
        return archive.getnames()


def _run(*command: object, timeout: float) -> None:
    run = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=timeout, check=False)
    if run.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {(run.stdout + run.stderr)[-2000:]}")
