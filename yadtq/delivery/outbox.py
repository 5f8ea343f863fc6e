"""What must be in Kafka before something else may happen: dead letters, copies of stragglers, what follows a task.

An entry never waits in the way of others: it holds no slot, and `put` returns at once. What depends on it (an offset
that is released, an outcome that is stored) is done when all in-sync replicas have its records, and not before. While
Kafka is away the entries are kept; their number is bounded by what the worker may have in flight.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import anyio

from yadtq.errors import BrokerUnavailable
from yadtq.runtime.service import Service, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anyio.abc import TaskStatus as Started

    from yadtq.runtime.seams import OutRecord, Producer

__all__ = ["Outbox"]

log = logging.getLogger("yadtq.worker")

_RETRY_S = 0.5
#: Records in one append, at most. They may be a megabyte each.
_MOST = 100


class _Entry(NamedTuple):
    records: Sequence[OutRecord]
    then: Callable[[], None]


class Outbox(Service):
    """A service. It appends in the order of `put`, many entries an append."""

    name = "outbox"
    stage = Stage.OUTBOX

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._entries: deque[_Entry] = deque()
        self._woken = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._stopped = False

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, records: Sequence[OutRecord], then: Callable[[], None]) -> None:
        """Append all of `records`, then call `then`, once. It must not wait, and must not raise."""
        self._entries.append(_Entry(records, then))
        self._empty.clear()
        self._woken.set()

    def stop(self) -> None:
        """`run` returns when everything is appended, or Kafka has refused once more."""
        self._stopped = True
        self._woken.set()

    async def drained(self) -> None:
        await self._empty.wait()

    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while self._entries or not self._stopped:
            if not self._entries:
                self._empty.set()
                await self._woken.wait()
                self._woken.clear()
            elif not await self._append() and self._stopped:
                log.error(
                    "%d entries of the outbox are given up: their records will be delivered again", len(self._entries)
                )
                break
        self._empty.set()

    async def _append(self) -> bool:
        count, records = self._next()
        try:
            await self._producer.append(records)
        except BrokerUnavailable as error:
            log.warning("%d records wait in the outbox until Kafka answers: %s", len(records), error)
            await anyio.sleep(_RETRY_S)
            return False
        for _ in range(count):
            self._entries.popleft().then()
        return True

    def _next(self) -> tuple[int, list[OutRecord]]:
        """Whole entries from the front, as many as fit into an append, one at least."""
        records: list[OutRecord] = []
        for count, entry in enumerate(self._entries):
            if count and len(records) + len(entry.records) > _MOST:
                return count, records
            records += entry.records
        return len(self._entries), records
