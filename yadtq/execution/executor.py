"""Runs attempts: each in an asyncio task of its own, within the slots, and passes every outcome on.

Nothing here talks to a server or knows about records.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import anyio

from yadtq.execution.attempt import StopReason
from yadtq.execution.outcome import Outcome, outcome_of
from yadtq.execution.quarantine.quarantine import Unconfined
from yadtq.execution.running import RUNNING
from yadtq.runtime.service import Service, Stage
from yadtq.wire.states import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskStatus as Started

    from yadtq.execution.attempt import Attempt
    from yadtq.execution.calls import Calls
    from yadtq.execution.quarantine.quarantine import Suspects
    from yadtq.execution.slots import Slots
    from yadtq.outside import Outside

__all__ = ["Executor"]

log = logging.getLogger("yadtq.worker")

# As globals: an access to a member of an enum costs 70 ns in Python 3.11, and these are made for every task.
_SUCCESS = TaskStatus.SUCCESS


class Executor(Service):
    """A service that owns the running attempts.

    suspects: runs tasks that were running when a worker died. on_outcome: gets each outcome, after the slot is free
    again; must not wait. Attempts are not children of a task group: a group waits for ever for a task that swallows its
    cancellation, and a worker has to end (docs/decisions/0009-attempts-beside-a-group.md). Here they are abandoned, and
    listed in `unstoppable`.
    """

    name = "executor"
    stage = Stage.RUN

    def __init__(
        self,
        *,
        outside: Outside,
        slots: Slots,
        calls: Calls,
        on_outcome: Callable[[Outcome], None],
        suspects: Suspects | None = None,
    ) -> None:
        self._chance = outside.chance
        self._calls = calls
        self._suspects = suspects or Unconfined()
        self._on_outcome = on_outcome
        self.slots = slots
        #: By task id, since a lease is of a task and not of a record.
        self.running: dict[str, Attempt] = {}
        #: Cancelled because another attempt of the same task was granted here, and not ended yet.
        self._replaced: set[Attempt] = set()
        self._stopped = asyncio.Event()
        self._broken_off: StopReason | None = None

    def stop(self) -> None:
        """`run` returns when the last running attempt has ended."""
        self._stopped.set()

    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        try:
            await self._stopped.wait()
            await self.slots.idle()
        except asyncio.CancelledError:
            # The worker is ending without a drain: that is not the tasks' fault, so it must not fail them.
            self.cancel_all(StopReason.SHUTDOWN)
            raise

    async def drained(self) -> None:
        await self.slots.idle()

    def hurry(self) -> None:
        self.cancel_all(StopReason.SHUTDOWN)

    def start(self, attempt: Attempt) -> None:
        """Run a claimed task, in a slot that was taken for it."""
        task_id = attempt.envelope.id
        if (other := self.running.get(task_id)) is not None:
            # Its lease ended while this claim was in flight, or the claim would not have been granted.
            other.cancel(StopReason.LEASE_LOST)
            self._replaced.add(other)
        self.running[task_id] = attempt
        attempt.stop = self._broken_off
        attempt.running = asyncio.get_running_loop().create_task(self._run(attempt))

    async def _run(self, attempt: Attempt) -> None:
        RUNNING.set(attempt)  # in the context of this asyncio task only
        try:
            if attempt.stop is not None or attempt.task is None:  # before the first step
                outcome = Outcome(attempt, None)
            elif attempt.crashes:
                outcome = await self._suspects.outcome(attempt, self._plain)
            else:
                outcome = Outcome(attempt, _SUCCESS, await self._calls.result(attempt, attempt.task))
        except BaseException as error:
            # BaseException: a task that raises SystemExit or CancelledError has failed, and must not end its
            # neighbours.
            outcome = outcome_of(attempt, error, self._chance.random())
        attempt.running = None
        if self.running.get(attempt.envelope.id) is attempt:
            del self.running[attempt.envelope.id]
        elif self._replaced:
            self._replaced.discard(attempt)
        self.slots.leave()
        self._on_outcome(outcome)

    async def _plain(self, attempt: Attempt) -> Outcome:
        assert attempt.task is not None
        return Outcome(attempt, _SUCCESS, await self._calls.result(attempt, attempt.task))

    def cancel_all(self, reason: StopReason) -> None:
        """Also attempts that are started from now on."""
        self._broken_off = reason
        for attempt in list(self.running.values()):
            attempt.cancel(reason)

    @property
    def unstoppable(self) -> list[Attempt]:
        """After a drain: the attempts that have not ended although they were cancelled."""
        return [*self._calls.left_behind(), *self.attempts()]

    def attempts(self) -> list[Attempt]:
        """All that have a slot."""
        return [*self.running.values(), *self._replaced]
