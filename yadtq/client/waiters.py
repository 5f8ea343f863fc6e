"""Whoever waits for a task to end, told by push (D8): one subscription, any number of waiters, no polling in the path.

A waiter registers and reads in one script, so nothing falls between; a small result comes with the push. Pub/sub may
lose a message, so every gap and, slowly, every few seconds, all waiters are looked at again.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import anyio

from yadtq.errors import ConfigError, ResultLost, StoreUnavailable
from yadtq.runtime.microbatch import MicroBatch
from yadtq.runtime.service import Service, start_services

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyio.abc import TaskStatus as Started

    from yadtq.errors import YadtqError
    from yadtq.outside import Outside
    from yadtq.settings import Settings
    from yadtq.store.tasks.verbs import Snapshot
    from yadtq.store.verbs import News

__all__ = ["Waiters"]

log = logging.getLogger("yadtq.store")

_RECHECK_S = 4.0
_BATCH = 500
_CLOSED = "the client was closed: ask for results inside `async with app.client() as client`"


class Waiters(Service):
    """A service. `final(id)` returns when the task has ended."""

    name = "waiters"

    def __init__(self, outside: Outside, settings: Settings) -> None:
        self._store = outside.store
        self._clock = outside.clock
        self._chance = outside.chance
        self._channel = f"{self._chance.getrandbits(72):018x}"
        self._waiting: dict[str, asyncio.Future[Snapshot]] = {}
        self._users: dict[str, int] = {}
        self._registrations = MicroBatch(self._register, limit=_BATCH, at_once=2, timeout_s=settings.redis_timeout_s)
        self._recheck_now = asyncio.Event()
        self._stopped = False
        self._incarnation: str | None = None
        self._has_lost = False
        #: Since when Redis has known nothing of a task, by its own answers.
        self._unknown_since: dict[str, float] = {}
        # After a total loss workers write anew what they hold within two heartbeats, and what they claim next as soon
        # as leases and sessions allow. What is still unknown then had ended before the loss.
        self._lost_after_s = settings.lease_s + settings.session_timeout_s + 2 * settings.heartbeat_s
        self._subscription = self._store.hear_ends(self._channel, self._hear, self._recheck_now.set)

    def __len__(self) -> int:
        return len(self._waiting)

    def stop(self) -> None:
        """Whoever still waits gets a `ConfigError`: nobody is left to tell him."""
        self._stopped = True
        self._subscription.stop()
        self._recheck_now.set()
        self.fail(ConfigError(_CLOSED))

    def fail(self, error: YadtqError) -> None:
        """All who wait now get `error`."""
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)
                future.exception()

    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
        async with anyio.create_task_group() as group:
            await start_services(group, [self._subscription], lambda: self._stopped)
            task_status.started()
            while not self._stopped:
                with anyio.move_on_after(_RECHECK_S * self._chance.uniform(0.75, 1.25)):
                    await self._recheck_now.wait()
                self._recheck_now.clear()
                await self._recheck()

    async def final(self, task_id: str) -> Snapshot:
        """The final state of a task. Waits as long as it takes; to be used under a deadline.

        Raises `ResultLost` if Redis lost its data meanwhile and nobody runs the task again, `ConfigError` if the
        client is closed.
        """
        if self._stopped:
            raise ConfigError(_CLOSED)
        future = self._waiting.get(task_id)
        if future is None:
            future = self._waiting[task_id] = asyncio.get_running_loop().create_future()
        self._users[task_id] = self._users.get(task_id, 0) + 1
        try:
            try:
                snapshot = await self._registrations.run(task_id)
                if snapshot is not None and snapshot.status.final:
                    return snapshot
            except (StoreUnavailable, TimeoutError) as error:
                # The re-check registers it as soon as Redis answers again; the caller's deadline bounds the wait.
                log.warning("waiting for task %s though Redis is away: %s", task_id, error)
            # Shielded: another waiter for the same task may live longer than this one.
            snapshot = await asyncio.shield(future)
        finally:
            self._users[task_id] -= 1
            if not self._users[task_id]:
                self._unknown_since.pop(task_id, None)
                del self._users[task_id]
                self._waiting.pop(task_id).cancel()
        if snapshot.payload.startswith(b"@"):
            whole = (await self._store.tasks.fetch_large([task_id], [snapshot]))[0]
            if whole is None:
                raise ResultLost(task_id)
            return whole
        return snapshot

    async def _register(self, task_ids: Sequence[str]) -> list[Snapshot | None]:
        return await self._store.tasks.wait(self._channel, task_ids)

    def _hear(self, news: Sequence[News]) -> None:
        for task_id, snapshot in news:
            self._resolve(task_id, snapshot)

    def _resolve(self, task_id: str, snapshot: Snapshot) -> None:
        future = self._waiting.get(task_id)
        if future is not None and not future.done():
            future.set_result(snapshot)

    async def _recheck(self) -> None:
        """Look at everything once; also the only reader of Redis's incarnation on the client side."""
        task_ids = [task_id for task_id, future in self._waiting.items() if not future.done()]
        if not task_ids:
            return
        try:
            self._notice_loss(await self._store.incarnation())
            for at in range(0, len(task_ids), _BATCH):
                part = task_ids[at : at + _BATCH]
                for task_id, snapshot in zip(part, await self._register(part), strict=True):
                    if snapshot is not None and snapshot.status.final:
                        self._resolve(task_id, snapshot)
                    elif snapshot is None:
                        self._give_up_lost(task_id)
                    else:
                        self._unknown_since.pop(task_id, None)
        except StoreUnavailable as error:
            log.warning("waiters can't be looked at: %s", error)

    def _notice_loss(self, incarnation: str) -> None:
        if self._incarnation not in (None, incarnation):
            log.error("Redis has lost its data (incarnation %s is now %s)", self._incarnation, incarnation)
            self._has_lost = True
        self._incarnation = incarnation

    def _give_up_lost(self, task_id: str) -> None:
        """Not by the age of the loss: a task submitted long after it, in another outage, is unknown for a while, too."""
        now = self._clock.monotonic()
        if self._has_lost and now - self._unknown_since.setdefault(task_id, now) > self._lost_after_s:
            future = self._waiting.get(task_id)
            if future is not None and not future.done():
                future.set_exception(ResultLost(task_id))
                future.exception()
