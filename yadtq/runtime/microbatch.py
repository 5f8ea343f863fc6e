"""Concurrent calls become one: the only implementation of D9.

Items given to `MicroBatch` while no call is in flight are sent together at the end of this event-loop tick. Items given
while a call is in flight wait for its answer and are then sent together, as TCP's Nagle algorithm does with small
segments (RFC 896). So an idle system has no added latency, and the batches of a busy one grow with its load.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

__all__ = ["MicroBatch"]

T = TypeVar("T")
R = TypeVar("R")
#: An item, its answer, and the loop time until which that must be there. A plain tuple: one a submit.
_Entry: TypeAlias = tuple[T, asyncio.Future[R], float]


class MicroBatch(Generic[T, R]):
    """Collects items, sends them by `send`, and gives each caller its own answer.

    send: takes up to `limit` items and returns as many answers in the same order; its exception goes to every caller of
    that batch. at_once: how many calls may be in flight. timeout_s: an item without an answer this long after it was
    added gets a `TimeoutError`, whether it is queued or in flight; one timer serves all of them.
    """

    def __init__(
        self,
        send: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        *,
        timeout_s: float,
        limit: int = 500,
        at_once: int = 1,
    ) -> None:
        self._send = send
        self._timeout_s = timeout_s
        self._limit = limit
        self._at_once = at_once
        self._waiting: deque[_Entry[T, R]] = deque()
        #: In the order in which they were sent. Answered items are removed with their call: futures kept until their
        #: deadline would be half a million at full speed, and the garbage collector would visit all of them.
        self._under_way: dict[asyncio.Task[None], list[_Entry[T, R]]] = {}
        self._scheduled = False
        self._direct = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> bool:
        """Whether an item has to wait for its turn."""
        return bool(self._waiting) or len(self._under_way) + self._direct >= self._at_once

    async def run(self, item: T) -> R:
        """The answer to one item. If nothing is in flight it is sent at once, in the caller's own task: no future, no
        timer, no delay of a tick.

        Then `send` keeps its own deadline. Raises as `send` does, or `TimeoutError` after `timeout_s` in the queue.
        """
        return await (self.add(item) if self.busy else self.run_now(item))

    async def run_now(self, item: T) -> R:
        """`run`, for a caller that has seen that nothing is `busy`."""
        self._direct += 1
        try:
            (value,) = await self._send((item,))
            return value
        finally:
            self._direct -= 1
            if self._waiting:
                self._flush()

    def add(self, item: T) -> asyncio.Future[R]:
        """Queue one item; the future is its answer. Cancelling the future takes a queued item back, not a sent one."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[R] = loop.create_future()
        self._waiting.append((item, answer, loop.time() + self._timeout_s))
        if not self._scheduled and len(self._under_way) + self._direct < self._at_once:
            self._scheduled = True
            loop.call_soon(self._flush)
        if self._timer is None:
            self._timer = loop.call_later(self._timeout_s, self._expire)
        return answer

    def _flush(self) -> None:
        self._scheduled = False
        loop = asyncio.get_running_loop()
        while self._waiting and len(self._under_way) + self._direct < self._at_once:
            batch: list[_Entry[T, R]] = []
            while self._waiting and len(batch) < self._limit:
                entry = self._waiting.popleft()
                if not entry[1].done():  # cancelled while it was queued: nobody waits for its effect
                    batch.append(entry)
            if batch:
                task = loop.create_task(self._call(batch))
                self._under_way[task] = batch
                task.add_done_callback(self._flushed)

    def _flushed(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        self._flush()

    async def _call(self, batch: list[_Entry[T, R]]) -> None:
        try:
            values = await self._send([entry[0] for entry in batch])
            for (_, answer, _), value in zip(batch, values, strict=True):
                if not answer.done():
                    answer.set_result(value)
        except Exception as error:
            for _, answer, _ in batch:
                if not answer.done():
                    answer.set_exception(error)
                    answer.exception()  # marks it as seen: its caller may have been cancelled meanwhile
        finally:
            for _, answer, _ in batch:
                answer.cancel()  # only has an effect if this call itself was cancelled

    def _pending(self) -> Iterator[_Entry[T, R]]:
        """Those without an answer, oldest first. That is the order of their deadlines: all have the same timeout."""
        for entries in (*self._under_way.values(), self._waiting):
            for entry in entries:
                if not entry[1].done():
                    yield entry

    def _expire(self) -> None:
        """Fail what is overdue, and set the timer for the first that is not."""
        loop = asyncio.get_running_loop()
        self._timer = None
        for _, answer, deadline in self._pending():
            if deadline > loop.time():
                self._timer = loop.call_at(deadline, self._expire)
                return
            answer.set_exception(TimeoutError(f"no answer within {self._timeout_s:g} s"))
            answer.exception()

    async def aclose(self) -> None:
        """Wait for all items that were added, `timeout_s` at most; then nothing is left."""
        while pending := [answer for _, answer, _ in self._pending()]:
            await asyncio.wait(pending)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
