"""Calls that meet become one: the whole of D9 in one class.

Items given to `MicroBatch` while nothing is under way leave together at the end of this event-loop tick; items given
while a call is under way wait for its answer and then leave together, as TCP's Nagle algorithm does with small segments
(RFC 896). So an idle system has no added latency, and a busy one makes batches as large as its load asks for.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

__all__ = ["MicroBatch"]

T = TypeVar("T")
R = TypeVar("R")


class MicroBatch(Generic[T, R]):
    """Collects items, sends them by `send`, and gives each caller its own answer.

    send: takes up to `limit` items and returns as many answers in the same order; its exception goes to every caller of
    that batch. at_once: how many calls may be under way.
    """

    def __init__(
        self, send: Callable[[Sequence[T]], Awaitable[Sequence[R]]], *, limit: int = 500, at_once: int = 1
    ) -> None:
        self._send = send
        self._limit = limit
        self._at_once = at_once
        self._items: list[T] = []
        self._answers: list[asyncio.Future[R]] = []
        self._flushes: set[asyncio.Task[None]] = set()
        self._scheduled = False

    def add(self, item: T) -> asyncio.Future[R]:
        """Queue one item; the future is its answer. Cancelling the future does not take the item back."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[R] = loop.create_future()
        self._items.append(item)
        self._answers.append(answer)
        if not self._scheduled and len(self._flushes) < self._at_once:
            self._scheduled = True
            loop.call_soon(self._flush)
        return answer

    def _flush(self) -> None:
        self._scheduled = False
        while self._items and len(self._flushes) < self._at_once:
            items, self._items = self._items[: self._limit], self._items[self._limit :]
            answers, self._answers = self._answers[: self._limit], self._answers[self._limit :]
            task = asyncio.get_running_loop().create_task(self._call(items, answers))
            self._flushes.add(task)
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._flushes.discard(task)
        self._flush()

    async def _call(self, items: list[T], answers: list[asyncio.Future[R]]) -> None:
        try:
            for answer, value in zip(answers, await self._send(items), strict=True):
                if not answer.done():
                    answer.set_result(value)
        except BaseException as error:
            for answer in answers:
                if not answer.done():
                    if isinstance(error, Exception):
                        answer.set_exception(error)
                        answer.exception()  # marks it as seen: a caller may have given up waiting
                    else:
                        answer.cancel()
            if not isinstance(error, Exception):
                raise

    async def aclose(self) -> None:
        """Wait for what is under way. Give it a deadline."""
        while self._flushes or self._items:
            await asyncio.wait(self._flushes) if self._flushes else await asyncio.sleep(0)
