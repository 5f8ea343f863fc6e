"""Writes QUEUED for tasks that Kafka has accepted: in the background, one batch for all submits of a few milliseconds.

Kafka decides whether a task exists (D1); QUEUED in Redis is the view of it. Waiting for that view in every submit would
cost a third of the submit and add no information to the acknowledgement. So a submit returns when Kafka has
acknowledged it, the record follows within `LINGER_S` (`BUSY_LINGER_S` while submits follow each other), and this client
never notices the delay: it flushes before it reads. While Redis is away the records are kept, and new submits are
refused: their status could not be read.

A record names the data set that Redis held when its task was submitted. If Redis has lost that one meanwhile, the task may
have ended before the loss, and QUEUED would stay for ever. So what was submitted before a loss is left to the workers,
which register again what Kafka holds as unfinished (delivery/rebuilder.py).
"""

from __future__ import annotations

import asyncio
import copy
import logging
from contextlib import suppress
from itertools import repeat
from typing import TYPE_CHECKING

import anyio

from yadtq.errors import StoreUnavailable
from yadtq.runtime.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anyio.abc import TaskStatus as Started

    from yadtq.errors import YadtqError
    from yadtq.runtime.clock import Clock
    from yadtq.store.verbs import Store

__all__ = ["BUSY_LINGER_S", "LINGER_S", "Registrar"]

log = logging.getLogger("yadtq.store")

LINGER_S = 0.01
BUSY_LINGER_S = 0.05
_MOST = 1_000
_OUTAGE_RETRY_S = 0.25
#: The name of no data set.
_UNKNOWN = "?"


class Registrar(Service):
    """A service.

    timeout_s: of one write to Redis; a `flush` fails if no write ends for this long. on_left: called when tasks are left
    to the workers, because Redis has lost data.
    """

    name = "registrar"

    def __init__(
        self, store: Store, clock: Clock, timeout_s: float, *, on_left: Callable[[], None] = lambda: None
    ) -> None:
        self._store = store
        self._clock = clock
        self._timeout_s = timeout_s
        self._on_left = on_left
        #: Parallel lists: ids, their homes, and when each was sent (monotonic).
        self._pending: list[str] = []
        self._homes: list[str] = []
        self._since: list[float] = []
        #: The data set in which all of them were submitted.
        self._data_set = _UNKNOWN
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

    def add(self, task_ids: Sequence[str], sent_at: float, homes: Sequence[str] = ()) -> None:
        """To be registered soon. sent_at: monotonic, a moment before they went to Kafka. homes: see `Tasks.register`."""
        count = len(task_ids)
        self._pending.extend(task_ids)
        self._homes.extend(homes or repeat("", count))
        self._since.extend(repeat(sent_at, count))
        self._added += count
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
        await self._find_data_set()
        task_status.started()
        while self._pending or not self._stopped:
            if not self._pending:
                await self._woken.wait()
                self._woken.clear()
                continue
            await self._linger()
            self._flush_now.clear()
            if not await self._write(self._pending[:_MOST], self._homes[:_MOST]) and self._stopped:
                return

    async def _find_data_set(self) -> None:
        """Before the first submit: then all of them are surely later than this data set."""
        if not self._added:
            with suppress(StoreUnavailable):  # the first write finds out
                self._data_set = (await self._store.data_set()).name

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

    async def _write(self, task_ids: list[str], homes: list[str]) -> bool:
        try:
            if await self._store.tasks.register(task_ids, self._data_set, homes):
                del self._pending[: len(task_ids)], self._homes[: len(task_ids)], self._since[: len(task_ids)]
                self._written += len(task_ids)
            else:
                await self._leave_lost()
        except StoreUnavailable as error:
            if self._outage is None:
                log.warning("submits are refused until Redis answers: %s", error)
            self._outage = error
            self._tell_end()
            await anyio.sleep(_OUTAGE_RETRY_S)
            return False
        self._outage = None
        self._tell_end()
        return True

    async def _leave_lost(self) -> None:
        """Redis holds another data set: this client registers only what it surely sent after the birth of that one."""
        self._data_set, age_s = await self._store.data_set()
        # The birth was no later than this. What was sent while the answer was on its way is left to the workers, too.
        born = self._clock.monotonic() - age_s
        kept = [at for at, sent_at in enumerate(self._since) if sent_at >= born]
        if lost := len(self._since) - len(kept):
            log.warning("Redis lost its data before it was told of %d tasks: workers register what is unfinished", lost)
            self._pending = [self._pending[at] for at in kept]
            self._homes = [self._homes[at] for at in kept]
            self._since = [self._since[at] for at in kept]
            self._written += lost
            self._on_left()

    def _tell_end(self) -> None:
        self._wrote.set()
        self._wrote = asyncio.Event()
