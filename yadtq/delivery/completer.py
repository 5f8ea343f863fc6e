"""From outcome to final state: the only writer of outcomes. Redis first, then the offset, always in this order.

A batch is sent as soon as the call before is answered, with all outcomes that arrived meanwhile. While Redis is away
they are kept and sent again: an outage is no reason to discard an attempt, since another worker can take its lease only
through Redis.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import anyio

from yadtq.delivery.place import Place
from yadtq.errors import StoreUnavailable
from yadtq.execution.attempt import StopReason
from yadtq.runtime.service import Service, Stage
from yadtq.store.tasks.verbs import Finish, Lease
from yadtq.wire.states import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskStatus as Started

    from yadtq.delivery.delivery import Delivery
    from yadtq.delivery.sequels import Endings
    from yadtq.delivery.waiting import WaitingRoom
    from yadtq.execution.events import Listener
    from yadtq.execution.outcome import Outcome
    from yadtq.outside import Outside

__all__ = ["Completer"]

log = logging.getLogger("yadtq.worker")

# As globals: an access to a member of an enum costs 70 ns in Python 3.11, and these are made for every task.
_RETRYING = TaskStatus.RETRYING
_STORING = Place.STORING
_MOST = 500
_OUTAGE_RETRY_S = 0.25


class Completer(Service):
    """A service. `put` takes an outcome and returns at once.

    restorable_s: a lease that was confirmed longer ago may have been taken by another worker, which has finished the
    task, and the final state may have expired; it is not written again after a loss of data. on_settled: called after
    every batch.
    """

    name = "completer"
    stage = Stage.OUTCOME

    def __init__(
        self,
        *,
        outside: Outside,
        room: WaitingRoom,
        endings: Endings,
        restorable_s: float,
        listener: Listener,
        on_settled: Callable[[], None],
    ) -> None:
        self._tasks = outside.store.tasks
        self._clock = outside.clock
        self._room = room
        self._endings = endings
        self._restorable_s = restorable_s
        self._listener = listener
        self._on_settled = on_settled
        self._outcomes: list[Outcome] = []
        #: Of the call under way.
        self._sent: list[Outcome] = []
        self._woken = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._stopped = False

    def put(self, outcome: Outcome) -> None:
        delivery: Delivery = outcome.attempt.origin
        delivery.place = _STORING
        if not self._outcomes:
            self._woken.set()
            self._settled.clear()
        self._outcomes.append(outcome)

    def stop(self) -> None:
        """`run` returns when everything is stored, or at the first failure to do so."""
        self._stopped = True
        self._woken.set()

    async def drained(self) -> None:
        await self._settled.wait()

    def storing(self) -> list[Delivery]:
        """Those whose outcomes are not stored yet: for the audit."""
        return [outcome.attempt.origin for outcome in (*self._sent, *self._outcomes)]

    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while self._outcomes or not self._stopped:
            if not self._outcomes:
                self._settled.set()
                await self._woken.wait()
                self._woken.clear()
                continue
            self._sent, self._outcomes = self._outcomes[:_MOST], self._outcomes[_MOST:]
            try:
                await self._store(self._sent)
            except StoreUnavailable as error:
                self._outcomes, self._sent = self._sent + self._outcomes, []
                if self._stopped:
                    # The drain has waited for `lease_s`: these leases have ended, and other workers run the tasks
                    # again.
                    log.error("%d outcomes are given up: %s", len(self._outcomes), error)
                    break
                # The store itself logs that Redis is away.
                log.debug("%d outcomes are kept until Redis answers", len(self._outcomes))
                await anyio.sleep(_OUTAGE_RETRY_S)
        self._settled.set()

    async def _store(self, batch: list[Outcome]) -> None:
        """Repeats after an outage are harmless: finish and release are idempotent."""
        ended = [outcome for outcome in batch if outcome.status is not None]
        accepted = await self._finish(ended) if ended else []
        broken_off = [outcome for outcome in batch if outcome.status is None]
        if broken_off:
            await self._release(broken_off)
        # Only here, where nothing can fail any more: a batch is completed as a whole or sent again as a whole.
        self._sent = []
        for outcome, ok in zip(ended, accepted, strict=True):
            self._settle(outcome, accepted=ok)
        for outcome in broken_off:
            # After a shutdown it is not claimed here again; after a lost lease the next claim returns the state of the
            # task.
            self._again(outcome, 0)
            self._room.opened(outcome.attempt.envelope.id)
        if ended:
            self._listener.ended(ended, accepted)
        self._on_settled()

    async def _finish(self, ended: list[Outcome]) -> list[bool]:
        restorable_since = self._clock.monotonic() - self._restorable_s
        finishes = []
        for attempt, status, payload, retry_in_s, *_ in ended:
            assert status is not None
            task_id, home = attempt.envelope.id, attempt.origin.home
            due_ms = int(retry_in_s * 1000)
            restorable = attempt.lease_at > restorable_since
            finishes.append(Finish(task_id, attempt.nonce, attempt.number, status, payload, due_ms, restorable, home))
        return await self._tasks.finish(finishes)

    async def _release(self, broken_off: list[Outcome]) -> None:
        leases = [
            Lease(attempt.envelope.id, attempt.nonce, attempt.number, False)
            for attempt, *_ in broken_off
            if attempt.stop is not StopReason.LEASE_LOST
        ]
        await self._tasks.release(leases)

    def _settle(self, outcome: Outcome, *, accepted: bool) -> None:
        attempt, status, _, retry_in_s, *_ = outcome
        if not accepted:
            log.warning("%r was fenced: it no longer owns the task", attempt)
            self._again(outcome, 0)  # the next claim returns its state; the record is not done before the task is
        elif status is _RETRYING:
            self._again(outcome, retry_in_s)
        else:
            self._endings.ended(attempt.origin)
        self._room.opened(attempt.envelope.id)

    def _again(self, outcome: Outcome, seconds: float) -> None:
        """Another claim follows, with a token of its own."""
        delivery: Delivery = outcome.attempt.origin
        delivery.nonce = ""
        delivery.parked_s = 0.0
        self._room.park(delivery, seconds)
