"""The one thing in chaos runs that lets time pass on purpose: the pace of faults and of load, on a clock given to it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Pace:
    """now: monotonic seconds. sleep: what waits; a test gives both, and no time passes."""

    def __init__(
        self,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.now = now
        self._sleep = sleep

    async def pause(self, seconds: float) -> None:
        """A stretch of the plan: how long a fault lasts, or the quiet between two."""
        await self._sleep(max(0.0, seconds))

    async def until(self, moment: float) -> None:
        """At once if the moment has passed."""
        await self.pause(moment - self.now())
