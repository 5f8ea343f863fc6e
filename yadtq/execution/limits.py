"""Time limits of running attempts, all on one timer: one timer each would cost every task two operations on the loop's
heap.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from itertools import count
from typing import TYPE_CHECKING

from yadtq.execution.attempt import StopReason

if TYPE_CHECKING:
    from yadtq.execution.attempt import Attempt
    from yadtq.runtime.clock import Clock

__all__ = ["Limits"]


class Limits:
    """Call `start` when the function of an attempt begins; attempts that have ended are removed automatically."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._dues: list[tuple[float, int, Attempt]] = []
        self._serial = count()
        self._timer: asyncio.TimerHandle | None = None
        self._clean_at = 64

    def __len__(self) -> int:
        return len(self._dues)

    def start(self, attempt: Attempt, seconds: float) -> None:
        """Cancel it for TIMEOUT if it has not ended after this many seconds."""
        if not seconds < math.inf:  # NaN, which another client may send, would break the order of all other entries
            return
        if len(self._dues) >= self._clean_at:
            # Most attempts end long before their limit; without this the heap would hold all of the last `seconds`.
            self._dues = [due for due in self._dues if due[2].running is not None]
            heapq.heapify(self._dues)
            self._clean_at = 2 * len(self._dues) + 64
        heapq.heappush(self._dues, (self._clock.monotonic() + seconds, next(self._serial), attempt))
        if self._dues[0][2] is attempt:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._dues and self._dues[0][2].running is None:
            heapq.heappop(self._dues)
        if self._dues:
            delay = max(0.0, self._dues[0][0] - self._clock.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        while self._dues and self._dues[0][0] <= now:
            heapq.heappop(self._dues)[2].cancel(StopReason.TIMEOUT)
        self._set_timer()
