"""From waiting to running: claims as many tasks as there are free slots, a batch a call, and starts what is granted.

Two claims may be on their way at once, each for up to half of the slots: while Redis answers one, the tasks of the other
run. With one claim for all slots, worker and Redis take turns and each of them idles half the time.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import anyio

from yadtq.errors import StoreUnavailable
from yadtq.runtime.service import Service
from yadtq.store.tasks.verbs import ENDED, SUSPECT, WAIT, Claim

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from yadtq.delivery.delivery import Delivery
    from yadtq.delivery.waiting import Intake
    from yadtq.execution.executor import Executor
    from yadtq.runtime.clock import Clock
    from yadtq.store.tasks.verbs import ClaimReply, Tasks

__all__ = ["Claimer"]

log = logging.getLogger("yadtq.worker")

_LANES = 2
_MOST = 500
_OUTAGE_RETRY_S = 0.25
#: A task that another worker runs is looked at again after so long, then after twice as long, and so on. Most end soon:
#: after a rebalance as many as the other has slots are waited for, and they hold the watermark back.
_FIRST_LOOK_S = 0.1
_LOOK_CAP_S = 5.0


class Claimer(Service):
    """A service. `wake()` whenever something waits that may be claimed, or a slot is free again."""

    name = "claimer"

    def __init__(self, worker_id: str, store: Tasks, intake: Intake, executor: Executor, clock: Clock) -> None:
        self._worker_id = worker_id
        self._store = store
        self._intake = intake
        self._executor = executor
        self._clock = clock
        self._share = min(_MOST, -(-executor.concurrency // _LANES))
        self._woken = asyncio.Event()
        self._suspect_asked = False
        self._stopped = False

    def wake(self) -> None:
        self._woken.set()

    def stop(self) -> None:
        """No claim after those on their way."""
        self._stopped = True
        self._woken.set()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        async with anyio.create_task_group() as group:
            for _ in range(_LANES):
                group.start_soon(self._claim_on)

    async def _claim_on(self) -> None:
        while not self._stopped:
            if not await self._claim_some():
                await self._wait()

    async def _wait(self) -> None:
        self._woken.clear()
        due = self._intake.next_due()
        if due is None:
            await self._woken.wait()
        else:
            with anyio.move_on_after(max(0.0, due - self._clock.monotonic())):
                await self._woken.wait()

    async def _claim_some(self) -> bool:
        """False: nothing to do until woken."""
        executor = self._executor
        most = min(executor.free, self._share)
        if most <= 0 or self._stopped:
            return False
        suspect = self._intake.take_suspect() if executor.suspect is None and not self._suspect_asked else None
        batch = [suspect] if suspect is not None else self._intake.take(most)
        if not batch:
            return False
        batch = [delivery for delivery in batch if not self._runs_here(delivery)]
        if batch:
            executor.reserve(len(batch))
            self._suspect_asked = self._suspect_asked or suspect is not None
            try:
                await self._claim(batch, suspects=1 if suspect is not None else 0)
            finally:
                if suspect is not None:
                    self._suspect_asked = False
        return True

    async def _claim(self, batch: list[Delivery], suspects: int) -> None:
        claims = [Claim(delivery.envelope.id, delivery.nonce) for delivery in batch]
        try:
            replies = await self._store.claim(self._worker_id, claims, suspects)
        except StoreUnavailable as error:
            # The claim may have been made: it goes again with the same nonces and is answered as if for the first time.
            log.warning("claiming stops: %s", error)
            self._executor.unreserve(len(batch))
            if suspects:
                self._intake.park_suspect(batch[0])
            else:
                self._intake.put_first(batch)
            await anyio.sleep(_OUTAGE_RETRY_S)
            return
        now = self._clock.monotonic()
        for delivery, reply in zip(batch, replies, strict=True):
            self._settle(delivery, reply, now)

    def _settle(self, delivery: Delivery, reply: ClaimReply, now: float) -> None:
        verdict = reply.verdict
        if verdict > 0:
            delivery.attempt, delivery.crashes, delivery.failures = verdict, reply.crashes, reply.failures
            delivery.lease_at = now
            self._executor.start(delivery)
            return
        self._executor.unreserve(1)
        if verdict == ENDED:
            delivery.done()
        elif verdict == WAIT:
            if not self._runs_here(delivery):  # it may since this claim was sent: then its end is heard of at once
                delivery.parked_s = min(max(_FIRST_LOOK_S, 2 * delivery.parked_s), _LOOK_CAP_S)
                self._intake.park(delivery, min(reply.wait_ms / 1000 + 0.005, delivery.parked_s))
        elif verdict == SUSPECT:
            log.warning("%r has ended %d workers: it runs with no other suspect beside it", delivery, reply.crashes)
            self._intake.park_suspect(delivery)

    def _runs_here(self, delivery: Delivery) -> bool:
        if delivery.envelope.id in self._executor.running:
            self._intake.park_double(delivery)
            return True
        return False
