"""From waiting to running: claims as many tasks as there are free slots, in one call, and starts what is granted."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import anyio

from yadtq.errors import StoreUnavailable
from yadtq.ports import FINAL, SUSPECT, WAIT, Claim

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from yadtq.clock import Clock
    from yadtq.ports import ClaimReply, Store
    from yadtq.worker.delivery import Delivery
    from yadtq.worker.executor import Executor
    from yadtq.worker.intake import Intake

__all__ = ["Claimer"]

log = logging.getLogger("yadtq.worker")

_MOST = 500
_OUTAGE_RETRY_S = 0.25
#: A lease that its holder keeps renewing is asked about again this often: its end is then seen within as much.
_WAIT_CAP_S = 5.0


class Claimer:
    """A service. `wake()` whenever something waits that may be claimed, or a slot is free again."""

    name = "claimer"

    def __init__(self, worker_id: str, store: Store, intake: Intake, executor: Executor, clock: Clock) -> None:
        self._worker_id = worker_id
        self._store = store
        self._intake = intake
        self._executor = executor
        self._clock = clock
        self._woken = asyncio.Event()
        self._stopped = False

    def wake(self) -> None:
        self._woken.set()

    def stop(self) -> None:
        """No claim after this one."""
        self._stopped = True
        self._woken.set()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while not self._stopped:
            if not await self._claim_some():
                await self._wait()

    async def _wait(self) -> None:
        due = self._intake.next_due()
        delay = None if due is None else max(0.0, due - self._clock.monotonic())
        with anyio.move_on_after(delay):
            await self._woken.wait()
        self._woken.clear()

    async def _claim_some(self) -> bool:
        """False: nothing to do until woken."""
        executor = self._executor
        free = min(executor.free, _MOST)
        if free <= 0:
            return False
        suspect = self._intake.take_suspect() if executor.suspect is None else None
        batch = [suspect] if suspect is not None else self._intake.take(free)
        if not batch:
            return False
        batch = [delivery for delivery in batch if not self._runs_here(delivery)]
        if not batch:
            return True
        executor.reserve(len(batch))
        try:
            replies = await self._store.claim(
                self._worker_id,
                [Claim(delivery.envelope.id, delivery.nonce) for delivery in batch],
                1 if suspect is not None else 0,
            )
        except StoreUnavailable as error:
            # The claim may have been made: it goes again with the same nonces, so it is answered as if for the first time.
            log.warning("claiming stops: %s", error)
            executor.unreserve(len(batch))
            if suspect is not None:
                self._intake.park_suspect(suspect)
            else:
                self._intake.put_back(batch)
            await anyio.sleep(_OUTAGE_RETRY_S)
            return True
        now = self._clock.monotonic()
        for delivery, reply in zip(batch, replies, strict=True):
            self._settle(delivery, reply, now)
        return True

    def _settle(self, delivery: Delivery, reply: ClaimReply, now: float) -> None:
        verdict = reply.verdict
        if verdict > 0:
            delivery.attempt, delivery.crashes, delivery.failures = verdict, reply.crashes, reply.failures
            delivery.lease_at = now
            self._executor.start(delivery)
            return
        self._executor.unreserve(1)
        if verdict == FINAL:
            delivery.done()
        elif verdict == WAIT:
            self._intake.park(delivery, min(reply.wait_ms / 1000 + 0.005, _WAIT_CAP_S))
        elif verdict == SUSPECT:
            log.warning("%r has ended %d workers: it runs with no other suspect beside it", delivery, reply.crashes)
            self._intake.park_suspect(delivery)

    def _runs_here(self, delivery: Delivery) -> bool:
        if delivery.envelope.id in self._executor.running:
            self._intake.park_double(delivery)
            return True
        return False
