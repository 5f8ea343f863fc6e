"""Threads for sync tasks, a bounded number of them: one that can't be ended keeps its place until its function returns.

A thread can't be interrupted. A task that is stopped (time-out, drain, lost lease) is therefore left to itself: its result
is not taken, but its thread counts for as long as it runs. Otherwise retries of a call that hangs would pile up threads
without limit (G5), as they do with anyio's own limiter, which gives the place back as soon as nobody waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from yadtq.delivery.delivery import Delivery

__all__ = ["Threads"]


class Threads:
    """`limit` functions at once; further ones wait for a place."""

    def __init__(self, limit: int) -> None:
        self._places = anyio.CapacityLimiter(limit)
        self._unlimited = anyio.CapacityLimiter(math.inf)  # ours is the limit; anyio's would be a second one
        self._busy: dict[object, Delivery] = {}

    @property
    def busy(self) -> set[Delivery]:
        """Whose functions run, those left to themselves among them."""
        return set(self._busy.values())

    async def run(self, delivery: Delivery, call: Callable[[], Any]) -> Any:
        """What `call` returns. If this is cancelled, `call` goes on, or is not begun any more."""
        place = object()  # not the delivery: it may be tried again while an earlier attempt's thread still runs
        await self._places.acquire_on_behalf_of(place)
        loop = asyncio.get_running_loop()
        lock = threading.Lock()
        begun = given_up = False

        def in_thread() -> Any:
            nonlocal begun
            with lock:
                if given_up:
                    return None
                begun = True
                self._busy[place] = delivery
            try:
                return call()
            finally:
                with contextlib.suppress(RuntimeError):  # the loop is closed: the process is ending
                    loop.call_soon_threadsafe(self._leave, place)

        try:
            return await anyio.to_thread.run_sync(in_thread, abandon_on_cancel=True, limiter=self._unlimited)
        finally:
            with lock:
                given_up = True
                if not begun:
                    self._leave(place)

    def _leave(self, place: object) -> None:
        self._busy.pop(place, None)
        self._places.release_on_behalf_of(place)
