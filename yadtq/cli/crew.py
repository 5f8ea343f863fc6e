"""The workers of `yadtq dev`: a supervisor that is started again whenever the code has changed."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from yadtq.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from yadtq.demo.processes import SupervisorProcess

__all__ = ["Crew", "check_reload"]

#: For running tasks after a change; then they are cancelled, and run again with the new code.
_PATIENCE_S = 2.0


def check_reload() -> None:
    """Raises `ConfigError` if the file watcher is not installed."""
    try:
        import watchfiles  # noqa: F401 - only whether it is there
    except ModuleNotFoundError:
        raise ConfigError("--reload needs watchfiles: pip install 'yadtq[cli]'") from None


class Crew:
    """start: makes the supervisor. reload: start it again when a Python file below the current folder has changed, and
    never end because of an error in the code.
    """

    def __init__(self, start: Callable[[], AbstractAsyncContextManager[SupervisorProcess]], *, reload: bool) -> None:
        self._start = start
        self._reload = reload
        self._stopped = asyncio.Event()
        self._changed = asyncio.Event()
        self._supervisor: SupervisorProcess | None = None

    def stop(self) -> None:
        """End. Called again, the supervisor is told again, and stops faster."""
        if self._stopped.is_set() and self._supervisor is not None:
            self._supervisor.signal()
        self._stopped.set()
        self._changed.set()

    async def run(self) -> int:
        """The exit status: the supervisor's, if that ends by itself."""
        watching = asyncio.create_task(self._watch()) if self._reload else None
        try:
            while True:
                self._changed.clear()
                if self._stopped.is_set():
                    return 0
                status = await self._one()
                if self._stopped.is_set():
                    return 0
                if not self._reload:
                    return status
                if not self._changed.is_set():
                    print("yadtq: the workers have ended; they start again after a change", file=sys.stderr)
                    await self._changed.wait()
        finally:
            if watching is not None:
                watching.cancel()
                with suppress(asyncio.CancelledError):
                    await watching

    async def _one(self) -> int:
        """Until the supervisor has ended, or code has changed, or we are stopped."""
        async with self._start() as child:
            self._supervisor = child
            ended, changed = asyncio.create_task(child.wait()), asyncio.create_task(self._changed.wait())
            await asyncio.wait([ended, changed], return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
            if not ended.done() and not self._stopped.is_set():
                child.signal()
                await asyncio.wait([ended], timeout=_PATIENCE_S)
                child.signal()
            if ended.done():
                return await ended
            ended.cancel()
        return 0

    async def _watch(self) -> None:
        from watchfiles import PythonFilter, awatch

        async for changes in awatch(Path.cwd(), watch_filter=PythonFilter(), stop_event=self._stopped):
            names = sorted({Path(path).name for _, path in changes})
            print(f"yadtq: {', '.join(names)} changed", file=sys.stderr)
            self._changed.set()
