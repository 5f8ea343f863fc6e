"""A client's services, in an asyncio task beside the user's code: ready before the first call, and a failure is never
silent.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio

from yadtq.errors import ServiceFailed, YadtqError
from yadtq.runtime.service import first_cause, start_services

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yadtq.runtime.service import Service

__all__ = ["Background"]


class Background:
    """Call `start` once, and `aclose` always. `runtime/restarting.py` handles a service that ends in between."""

    def __init__(self, services: Sequence[Service]) -> None:
        self._services = services
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    async def start(self, within_s: float) -> None:
        """Returns when all are ready. Raises what the first to fail raises, or `ServiceFailed`; then none runs any
        more.
        """
        ready = asyncio.Event()
        self._task = asyncio.create_task(self._run(ready), name="yadtq-client")
        waiting = asyncio.create_task(ready.wait())
        try:
            await asyncio.wait({self._task, waiting}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
            if not ready.is_set():
                raise self._failure(within_s)
        except BaseException:  # also a cancelled start must leave nothing that runs
            await self.aclose(0.0)
            raise
        finally:
            waiting.cancel()

    def _failure(self, within_s: float) -> YadtqError:
        if self._task is None or not self._task.done() or self._task.cancelled():
            return ServiceFailed("client", f"not ready within {within_s:g} s")
        error = self._task.exception()
        cause = first_cause(error) if isinstance(error, BaseExceptionGroup) else error
        return cause if isinstance(cause, YadtqError) else ServiceFailed("client", f"{type(cause).__name__}: {cause}")

    async def _run(self, ready: asyncio.Event) -> None:
        async with anyio.create_task_group() as group:
            await start_services(group, self._services, lambda: self._closing)
            ready.set()

    async def aclose(self, within_s: float) -> None:
        """Stop all, give them `within_s` to finish what they hold, then cancel them."""
        self._closing = True
        task = self._task
        if task is None:
            return
        for service in self._services:
            service.stop()
        if not task.done():
            await asyncio.wait([task], timeout=within_s)
        task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task], timeout=1.0)
        if task.done() and not task.cancelled():
            task.exception()  # was raised by `start`, or logged by the services' runner
