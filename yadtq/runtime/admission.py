"""Back-pressure: a bounded number of requests in progress; the others wait in order of arrival."""

from __future__ import annotations

import asyncio
from collections import deque

__all__ = ["Admission"]


class Admission:
    """Admits up to `limit` at once. Call `leave` after every `enter` that returned and every `enter_now` that was true,
    with the same count.

    A request larger than the limit waits until nothing else is in progress.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()
        #: How many are in progress.
        self.pending = 0

    def enter_now(self, count: int) -> bool:
        """False if there is no room, or others are waiting for it."""
        if self._queue or not self._fits(count):
            return False
        self.pending += count
        return True

    async def enter(self, count: int, timeout_s: float) -> None:
        """Returns when there is room. Raises `TimeoutError` after `timeout_s`, or what `refuse` was told."""
        if self.enter_now(count):
            return
        turn = asyncio.get_running_loop().create_future()
        self._queue.append((count, turn))
        try:
            async with asyncio.timeout(timeout_s):
                await turn
        except BaseException:  # timed out, cancelled or refused
            # Admitted and cancelled in the same tick: the room goes to the next one. One that is still in the queue was
            # cancelled with us, and is skipped.
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.leave(count)
            else:
                self._let_in()
            raise

    def leave(self, count: int) -> None:
        self.pending -= count
        if self._queue:
            self._let_in()

    def refuse(self, error: Exception) -> None:
        """All who wait get this exception."""
        while self._queue:
            _, turn = self._queue.popleft()
            if not turn.done():
                turn.set_exception(error)

    def _fits(self, count: int) -> bool:
        return not self.pending or self.pending + count <= self._limit

    def _let_in(self) -> None:
        # Only those that fit: waking all who wait each time one leaves would cost n² wake-ups for n submits.
        while self._queue:
            count, turn = self._queue[0]
            if not turn.done():
                if not self._fits(count):
                    return
                self.pending += count
                turn.set_result(None)
            self._queue.popleft()
