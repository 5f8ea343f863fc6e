"""Writes QUEUED for tasks that Kafka has accepted: in the background, one batch for all submits of a few milliseconds.

Kafka decides whether a task exists (D1); QUEUED in Redis is the view of it. Waiting for that view in every submit would
cost a third of the submit and add no information to the acknowledgement. So a submit returns when Kafka has
acknowledged it, the record follows within `LINGER_S` (`BUSY_LINGER_S` while submits follow each other), and this client
never notices the delay: it flushes before it reads. While Redis is away the records are kept, and new submits are
refused: their status could not be read.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from typing import TYPE_CHECKING

import anyio

from yadtq.errors import StoreUnavailable
from yadtq.runtime.service import Service

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anyio.abc import TaskStatus as Started

    from yadtq.errors import YadtqError
    from yadtq.store.tasks.verbs import Tasks

__all__ = ["BUSY_LINGER_S", "LINGER_S", "Registrar"]

log = logging.getLogger("yadtq.store")

LINGER_S = 0.01
BUSY_LINGER_S = 0.05
_MOST = 1_000
_OUTAGE_RETRY_S = 0.25


class Registrar(Service):
    """A service.

    timeout_s: of one write to Redis; a `flush` fails if no write ends for this long.
    """

    name = "registrar"

    def __init__(self, tasks: Tasks, timeout_s: float) -> None:
        self._tasks = tasks
        self._timeout_s = timeout_s
        self._pending: list[str] = []
        self._added = 0
        self._written = 0
        self._woken = asyncio.Event()
        self._flush_now = asyncio.Event()
        #: Set and replaced when a write has ended, successful or not.
        self._wrote = asyncio.Event()
        self._stopped = False
        self._outage: YadtqError | None = None

    def check(self) -> None:
        """Raises `StoreUnavailable` while Redis is away."""
        if self._outage is not None:
            raise StoreUnavailable(f"nothing was sent: {self._outage}")

    def add(self, task_ids: Iterable[str]) -> None:
        """To be registered soon."""
        before = len(self._pending)
        self._pending.extend(task_ids)
        self._added += len(self._pending) - before
        self._woken.set()

    def is_pending(self, task_id: str) -> bool:
        """Whether it was added but is not registered yet."""
        return task_id in self._pending

    async def flush(self) -> None:
        """Returns when everything added so far is registered.

        Raises `StoreUnavailable` if Redis is away, and `ServiceFailed` if this service failed.
        """
        wanted = self._added
        while self._written < wanted:
            self._flush_now.set()
            self._woken.set()
            try:
                async with asyncio.timeout(self._timeout_s):
                    await self._wrote.wait()
            except TimeoutError:
                raise StoreUnavailable(f"Redis: no task was registered within {self._timeout_s:g} s") from None
            self._raise_outage()
        self._raise_outage()

    def _raise_outage(self) -> None:
        if self._outage is not None:
            raise copy.copy(self._outage)  # a new one for each caller: a raised exception collects tracebacks

    def fail(self, error: YadtqError) -> None:
        """The service has failed: those who wait for a flush get `error`, and submits are refused until a write
        succeeds.
        """
        self._outage = error
        self._tell_end()

    def stop(self) -> None:
        """`run` returns when everything is registered, or Redis has refused once more."""
        self._stopped = True
        self._flush_now.set()
        self._woken.set()

    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while self._pending or not self._stopped:
            if not self._pending:
                await self._woken.wait()
                self._woken.clear()
                continue
            await self._linger()
            self._flush_now.clear()
            if not await self._write(self._pending[:_MOST]) and self._stopped:
                return

    async def _linger(self) -> None:
        """`LINGER_S`, and, while submits continue, the same again up to `BUSY_LINGER_S`: a write costs as much as about
        20 ids in it.
        """
        for _ in range(round(BUSY_LINGER_S / LINGER_S)):
            before = len(self._pending)
            if before >= _MOST:
                return
            with anyio.move_on_after(LINGER_S):
                await self._flush_now.wait()
                return
            if len(self._pending) == before:
                return

    async def _write(self, task_ids: list[str]) -> bool:
        try:
            await self._tasks.register(task_ids)
        except StoreUnavailable as error:
            if self._outage is None:
                log.warning("submits are refused until Redis answers: %s", error)
            self._outage = error
            self._tell_end()
            await anyio.sleep(_OUTAGE_RETRY_S)
            return False
        self._outage = None
        del self._pending[: len(task_ids)]
        self._written += len(task_ids)
        self._tell_end()
        return True

    def _tell_end(self) -> None:
        self._wrote.set()
        self._wrote = asyncio.Event()
