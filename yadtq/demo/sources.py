"""The demo's input: files that every machine with Python has."""

from __future__ import annotations

import hashlib
import sysconfig
from pathlib import Path

__all__ = ["digests", "standard_library"]


def standard_library(limit: int | None = None) -> list[str]:
    """Python's own modules, without what is installed beside them. limit: so many, spread evenly over all."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(
        str(path)
        for path in root.rglob("*.py")
        if not {"site-packages", "dist-packages"}.intersection(path.relative_to(root).parts) and path.is_file()
    )
    if limit is None or limit >= len(files):
        return files
    return [files[number * len(files) // limit] for number in range(limit)]


def digests(paths: list[str]) -> dict[str, str]:
    """The SHA-256 of each file, computed here: what the workers' reports must say."""
    return {path: hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in paths}
