"""Notifies callers that wait for tasks to end, by push (D8): one subscription, any number of waiters, no polling.

A waiter registers and reads in one script, so no final state is missed; a small result comes with the push. Pub/sub may
lose a message, so all waiters are checked again after every gap, and every few seconds in any case. No wait is endless:
for a task that stays unknown a typed error is raised (doubts.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from itertools import islice
from typing import TYPE_CHECKING

import anyio

from yadtq.client.doubts import Doubts
from yadtq.errors import ConfigError, ResultLost, ResultUnreadable, StoreUnavailable
from yadtq.runtime.microbatch import MicroBatch
from yadtq.runtime.service import Service, start_services
from yadtq.store.tasks.verbs import Snapshot, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from anyio.abc import TaskStatus as Started

    from yadtq.errors import YadtqError
    from yadtq.outside import Outside
    from yadtq.settings import Settings
    from yadtq.store.tasks.verbs import Found
    from yadtq.store.verbs import News

__all__ = ["Waiters"]

log = logging.getLogger("yadtq.store")

_RECHECK_S = 4.0
_LEAST_WAIT_S = 0.2
_BATCH = 500
_CLOSED = "the client was closed: ask for results inside `async with app.client() as client`"


class Waiters(Service):
    """A service. `final(id)` returns when the task has ended.

    is_pending: whether this client has submitted a task whose registration has not reached Redis yet.
    """

    name = "waiters"

    def __init__(
        self, outside: Outside, settings: Settings, *, is_pending: Callable[[str], bool] = lambda task_id: False
    ) -> None:
        self._is_pending = is_pending
        self._store = outside.store
        self._clock = outside.clock
        self._chance = outside.chance
        self._channel = f"{self._chance.getrandbits(72):018x}"
        self._waiting: dict[str, asyncio.Future[Snapshot]] = {}
        self._users: dict[str, int] = {}
        #: Tasks that no caller here waits for any more, but for which Redis still has our channel.
        #: In order: what is sent must not depend on the hash seed of the process.
        self._left: dict[str, None] = {}
        self._registrations = MicroBatch(self._register, limit=_BATCH, at_once=2, timeout_s=settings.redis_timeout_s)
        self._recheck_now = asyncio.Event()
        self._stopped = False
        self._doubts = Doubts(outside.clock, settings)
        self._subscription = self._store.hear_ends(self._channel, self._hear, self._recheck_now.set)

    def __len__(self) -> int:
        return len(self._waiting)

    def stop(self) -> None:
        """Calls that still wait raise a `ConfigError`: no result can reach them any more."""
        self._stopped = True
        self._subscription.stop()
        self._recheck_now.set()
        self.fail(ConfigError(_CLOSED))

    def fail(self, error: YadtqError) -> None:
        """All calls that wait now raise `error`."""
        for task_id in self._waiting:
            self._fail(task_id, error)

    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
        async with anyio.create_task_group() as group:
            await start_services(group, [self._subscription], lambda: self._stopped)
            # Read at the start: a loss between now and the first wait must be noticed.
            await self._look_for_loss()
            task_status.started()
            next_all = 0.0
            while not self._stopped:
                now = anyio.current_time()
                if self._recheck_now.is_set() or now >= next_all:
                    self._recheck_now.clear()
                    next_all = now + _RECHECK_S * self._chance.uniform(0.75, 1.25)
                    await self._recheck()
                else:
                    await self._recheck(self._doubts.overdue())
                await self._wait(next_all - anyio.current_time())

    async def _wait(self, most_s: float) -> None:
        """Wait until there is something to check."""
        due = self._doubts.next_due()
        if due is not None:
            most_s = min(most_s, due - self._clock.monotonic())
        # At least a short wait: while Redis is away, due checks stay due.
        with anyio.move_on_after(max(_LEAST_WAIT_S, most_s)):
            await self._recheck_now.wait()

    def loss(self) -> None:
        """Redis has lost data: what is unknown now may be written again by the workers."""
        self._doubts.loss()

    async def final(self, task_id: str) -> Snapshot:
        """The final state of a task. Waits without a limit; use it under a deadline.

        Raises `TaskNotFound` if Redis knows nothing of it for longer than its registration can take, `ResultLost` if
        Redis has lost data and nobody runs the task again, `ResultUnreadable` if what Redis holds of it is damaged,
        `ConfigError` if the client is closed.
        """
        if self._stopped:
            raise ConfigError(_CLOSED)
        future = self._waiting.get(task_id)
        if future is None:
            future = self._waiting[task_id] = asyncio.get_running_loop().create_future()
        self._users[task_id] = self._users.get(task_id, 0) + 1
        try:
            # Redis is away, or there are more waiters than it serves in time: the next re-check registers this one, and
            # the caller's deadline bounds the wait.
            with contextlib.suppress(StoreUnavailable, TimeoutError):
                self._judge(task_id, await self._registrations.run(task_id))
            # Shielded: another waiter for the same task may live longer than this one.
            snapshot = await asyncio.shield(future)
        finally:
            self._users[task_id] -= 1
            if not self._users[task_id]:
                self._forget(task_id)
        if snapshot.payload.startswith(b"@"):
            whole = (await self._store.tasks.fetch_large([task_id], [snapshot]))[0]
            if isinstance(whole, Unreadable):
                raise ResultUnreadable(task_id, whole.problem)
            if whole is None:
                raise ResultLost(task_id)
            return whole
        return snapshot

    def _forget(self, task_id: str) -> None:
        """No caller here waits for it any more."""
        self._doubts.clear(task_id)
        del self._users[task_id]
        future = self._waiting.pop(task_id)
        if not future.done():
            future.cancel()
            self._left[task_id] = None

    async def _register(self, task_ids: Sequence[str]) -> list[Found]:
        for task_id in task_ids:
            # Asked before: its registration may come between this question and the answer, which then says nothing.
            if self._is_pending(task_id):
                self._doubts.clear(task_id)
        return await self._store.tasks.wait(self._channel, task_ids)

    def _hear(self, news: Sequence[News]) -> None:
        for task_id, snapshot in news:
            self._resolve(task_id, snapshot)

    def _resolve(self, task_id: str, snapshot: Snapshot) -> None:
        future = self._waiting.get(task_id)
        if future is not None and not future.done():
            future.set_result(snapshot)

    def _fail(self, task_id: str, error: YadtqError) -> None:
        future = self._waiting.get(task_id)
        if future is not None and not future.done():
            future.set_exception(error)
            future.exception()

    def _judge(self, task_id: str, found: Found) -> None:
        """Pass Redis's answer about a task to the calls that wait for it."""
        if isinstance(found, Snapshot):
            if found.status.final:
                self._resolve(task_id, found)
            else:
                self._doubts.clear(task_id)
        elif task_id in self._waiting and (error := self._doubts.doubt(task_id, found)) is not None:
            if found is None and self._is_pending(task_id):
                self._doubts.clear(task_id)  # Kafka has it: a gap in Redis can't make it unknown
            else:
                self._fail(task_id, error)

    async def _recheck(self, task_ids: Iterable[str] | None = None) -> None:
        """Check these tasks or all, and the data set, and remove our channel from tasks that no caller waits for any
        more.
        """
        if task_ids is None:
            task_ids = self._waiting
        wanted = [task_id for task_id in task_ids if task_id in self._waiting and not self._waiting[task_id].done()]
        if (wanted or self._left) and await self._look_for_loss():
            try:
                await self._look_at(wanted)
                await self._unwait()
            except StoreUnavailable as error:
                self._doubts.outage()
                log.debug("waiters can't be checked: %s", error)  # the store says it

    async def _look_at(self, task_ids: list[str]) -> None:
        for at in range(0, len(task_ids), _BATCH):
            part = task_ids[at : at + _BATCH]
            for task_id, found in zip(part, await self._register(part), strict=True):
                self._judge(task_id, found)

    async def _unwait(self) -> None:
        while self._left and not self._stopped:
            # A task that is waited for again meanwhile may be removed, too: then its next re-check finds the final
            # state.
            part = list(islice(self._left, _BATCH))
            for task_id in part:
                del self._left[task_id]
            await self._store.tasks.unwait(self._channel, [task_id for task_id in part if task_id not in self._waiting])

    async def _look_for_loss(self) -> bool:
        """Whether Redis answers."""
        try:
            self._doubts.notice((await self._store.data_set()).name)
        except StoreUnavailable as error:
            self._doubts.outage()
            log.debug("the data set can't be checked: %s", error)
            return False
        return True
