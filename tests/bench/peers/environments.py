"""The peers' own virtual environments, under .cache/bench-peers: made when they are missing or their list has changed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from tests.bench.processes import REPOSITORY

_LISTS = {"main": "requirements.txt", "redis5": "requirements-redis5.txt"}


def bin_dir(name: str) -> Path:
    """Where the environment's programs are; installs it first if need be."""
    listed = Path(__file__).with_name(_LISTS[name])
    home = REPOSITORY / ".cache" / "bench-peers" / name
    mark = home / "installed"
    digest = hashlib.sha256(listed.read_bytes()).hexdigest()
    if not mark.exists() or mark.read_text() != digest:
        print(f"installing {listed.name} into {home}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([home / "bin" / "pip", "install", "--quiet", "--requirement", str(listed)], check=True)
        mark.write_text(digest)
    return home / "bin"
