"""From outcome to final state: the only writer of outcomes. Redis first, then the offset, in this order and no other.

Outcomes leave as soon as the call before is answered, carrying all that came in meanwhile. When Redis is away they are
kept and sent again: an attempt is never thrown away for an outage, since its lease can only be taken by somebody whom
Redis has told so.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import anyio

from yadtq.delivery.delivery import StopReason
from yadtq.errors import StoreUnavailable
from yadtq.runtime.service import Service
from yadtq.store.tasks.verbs import Finish, Lease
from yadtq.wire.states import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskStatus as Started

    from yadtq.delivery.waiting import Intake
    from yadtq.execution.outcome import Outcome
    from yadtq.runtime.clock import Clock
    from yadtq.settings import Settings
    from yadtq.store.tasks.verbs import Tasks

__all__ = ["Completer"]

log = logging.getLogger("yadtq.worker")

_MOST = 500
_OUTAGE_RETRY_S = 0.25


class Completer(Service):
    """A service. `put` takes an outcome and returns at once.

    on_settled: told after every batch that records are finished, or parked.
    """

    name = "completer"

    def __init__(
        self, store: Tasks, intake: Intake, settings: Settings, clock: Clock, on_settled: Callable[[], None]
    ) -> None:
        self._store = store
        self._intake = intake
        self._clock = clock
        self._on_settled = on_settled
        # A lease confirmed longer ago might have been taken, finished by another and expired with its final state.
        self._restorable_s = settings.result_ttl_s / 2
        self._outcomes: list[Outcome] = []
        self._woken = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._stopped = False
        self.succeeded = 0
        self.failed = 0
        self.retried = 0
        self.fenced = 0

    def put(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        self._woken.set()
        self._settled.clear()

    def stop(self) -> None:
        """`run` returns once everything is stored, or at the first failure to do so."""
        self._stopped = True
        self._woken.set()

    async def settled(self) -> None:
        """Returns when every outcome is stored."""
        await self._settled.wait()

    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while self._outcomes or not self._stopped:
            if not self._outcomes:
                self._settled.set()
                await self._woken.wait()
                self._woken.clear()
                continue
            batch, self._outcomes = self._outcomes[:_MOST], self._outcomes[_MOST:]
            try:
                await self._store_batch(batch)
            except StoreUnavailable as error:
                if self._stopped:
                    # The drain has waited for `lease_s`: these leases have ended, and the tasks are others' to run again.
                    log.error("%d outcomes are given up: %s", len(batch) + len(self._outcomes), error)
                    break
                log.warning("%d outcomes are kept until Redis answers: %s", len(batch) + len(self._outcomes), error)
                self._outcomes = batch + self._outcomes
                await anyio.sleep(_OUTAGE_RETRY_S)
        self._settled.set()

    async def _store_batch(self, batch: list[Outcome]) -> None:
        """Repeats after an outage are harmless: finish and release are idempotent."""
        restorable_since = self._clock.monotonic() - self._restorable_s
        ended = [outcome for outcome in batch if outcome.status is not None]
        if ended:
            finishes = []
            for delivery, status, payload, retry_in_s in ended:
                assert status is not None
                finishes.append(
                    Finish(
                        delivery.envelope.id,
                        delivery.nonce,
                        delivery.attempt,
                        status,
                        payload,
                        int(retry_in_s * 1000),
                        delivery.lease_at > restorable_since,
                    )
                )
            accepted = await self._store.finish(finishes)
        broken_off = [outcome.delivery for outcome in batch if outcome.status is None]
        if broken_off:
            await self._store.release(
                [
                    Lease(delivery.envelope.id, delivery.nonce, delivery.attempt, False)
                    for delivery in broken_off
                    if delivery.stop_reason is StopReason.SHUTDOWN
                ]
            )
        # Only now, when nothing can fail any more: a batch is settled as a whole or sent again as a whole.
        if ended:
            for outcome, ok in zip(ended, accepted, strict=True):
                self._settle(outcome, ok)
        for delivery in broken_off:
            # After a shutdown nobody takes it here again; after a lost lease the next claim tells how the task stands.
            self._intake.ended(delivery.envelope.id)
            delivery.again()
            self._intake.park(delivery, 0)
        self._on_settled()

    def _settle(self, outcome: Outcome, accepted: bool) -> None:
        delivery, status, _, retry_in_s = outcome
        intake = self._intake
        if not accepted:
            self.fenced += 1
            log.warning("%r was fenced: attempt %d no longer owns the task", delivery, delivery.attempt)
            delivery.again()
            intake.park(delivery, 0)  # the next claim tells how it stands; the record is not done before the task is
        elif status is TaskStatus.RETRYING:
            self.retried += 1
            delivery.again()
            intake.park(delivery, retry_in_s)
        else:
            if status is TaskStatus.SUCCESS:
                self.succeeded += 1
            else:
                self.failed += 1
            delivery.done()
        intake.ended(delivery.envelope.id)
