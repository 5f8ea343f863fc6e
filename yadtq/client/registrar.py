"""Writes QUEUED for what Kafka has accepted: behind the submits, a batch for all that a few milliseconds bring.

Kafka decides whether a task exists (D1); QUEUED in Redis is the view of it. To wait for that view in every submit would
cost a third of the submit and say nothing that the acknowledgement does not. So a submit returns on Kafka's word, the
record follows within `LINGER_S`, and this client never sees the difference: it flushes before it reads.
While Redis is away the records are kept, and submits are refused at the door: nobody could follow those tasks.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import anyio

from yadtq.errors import StoreUnavailable
from yadtq.runtime.service import Service

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anyio.abc import TaskStatus

    from yadtq.store.tasks.verbs import Tasks

__all__ = ["LINGER_S", "Registrar"]

log = logging.getLogger("yadtq.store")

LINGER_S = 0.01
_MOST = 1_000
_OUTAGE_RETRY_S = 0.25


class Registrar(Service):
    """A service."""

    name = "registrar"

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._pending: list[str] = []
        self._woken = asyncio.Event()
        self._flush_now = asyncio.Event()
        self._flushed = asyncio.Event()
        self._flushed.set()
        self._stopped = False
        self._outage: StoreUnavailable | None = None

    def check(self) -> None:
        """Raises `StoreUnavailable` while Redis is away."""
        if self._outage is not None:
            raise StoreUnavailable(f"nothing was sent: {self._outage}")

    def add(self, task_ids: Iterable[str]) -> None:
        """To be registered soon."""
        self._pending.extend(task_ids)
        self._flushed.clear()
        self._woken.set()

    async def flush(self) -> None:
        """Returns when everything added so far is registered. Raises `StoreUnavailable` if Redis is away."""
        while not self._flushed.is_set():
            self._flush_now.set()
            self._woken.set()
            await self._flushed.wait()
        if self._outage is not None:
            raise StoreUnavailable(str(self._outage))

    def stop(self) -> None:
        """`run` returns when everything is registered, or Redis has refused once more."""
        self._stopped = True
        self._flush_now.set()
        self._woken.set()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while self._pending or not self._stopped:
            if not self._pending:
                await self._woken.wait()
                self._woken.clear()
                continue
            if len(self._pending) < _MOST:
                with anyio.move_on_after(LINGER_S):
                    await self._flush_now.wait()
            self._flush_now.clear()
            if not await self._write(self._pending[:_MOST]) and self._stopped:
                return

    async def _write(self, task_ids: list[str]) -> bool:
        try:
            await self._tasks.register(task_ids)
        except StoreUnavailable as error:
            if self._outage is None:
                log.warning("submits are refused until Redis answers: %s", error)
            self._outage = error
            self._flushed.set()  # whoever waits is told
            await anyio.sleep(_OUTAGE_RETRY_S)
            return False
        self._outage = None
        del self._pending[: len(task_ids)]
        if not self._pending:
            self._flushed.set()
        return True
