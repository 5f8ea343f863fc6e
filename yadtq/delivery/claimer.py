"""From waiting to running: claims as many tasks as there are free slots, a batch a call, and starts what is granted.

Two claims may be in flight at once, each for up to half of the slots: while Redis answers one, the tasks of the other
run. With one claim for all slots, worker and Redis would take turns, and each would be idle half of the time.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import anyio

from yadtq.delivery.place import Place
from yadtq.errors import StoreUnavailable
from yadtq.execution.attempt import Attempt
from yadtq.runtime.service import Service, Stage
from yadtq.store.tasks.verbs import DAMAGED, ENDED, FOREIGN, SUSPECT, SUSPECT_FROM, WAIT, Claim
from yadtq.wire.deadletter import DeadReason

if TYPE_CHECKING:
    from anyio.abc import TaskStatus as Started

    from yadtq.delivery.delivery import Delivery
    from yadtq.delivery.gates.suspects import SuspectGate
    from yadtq.delivery.sequels import Endings
    from yadtq.delivery.unrunnable import Unrunnable
    from yadtq.delivery.waiting import WaitingRoom
    from yadtq.execution.executor import Executor
    from yadtq.outside import Outside
    from yadtq.store.tasks.verbs import ClaimReply

__all__ = ["Claimer", "Destinations"]

log = logging.getLogger("yadtq.worker")

# As globals: an access to a member of an enum costs 70 ns in Python 3.11, and these are made for every task.
_RUNNING = Place.RUNNING
_LANES = 2
_MOST = 500
_OUTAGE_RETRY_S = 0.25
#: A task that another worker runs is checked again after this long, then after twice as long, and so on. Most end soon:
#: after a rebalance there may be as many as the other worker has slots, and they hold the watermark back.
_FIRST_LOOK_S = 0.1
_LOOK_CAP_S = 5.0
#: Added to the time that Redis gives, so that the next claim does not come a millisecond too early.
_LATE_S = 0.005


@dataclass(frozen=True, slots=True)
class Destinations:
    """Where a claimed delivery goes: granted; granted and not to be run; ended already; a suspect."""

    executor: Executor
    unrunnable: Unrunnable
    endings: Endings
    suspects: SuspectGate


class Claimer(Service):
    """A service. `wake()` whenever something waits that may be claimed, or a slot is free again."""

    name = "claimer"
    stage = Stage.CLAIM

    def __init__(self, *, worker_id: str, outside: Outside, room: WaitingRoom, to: Destinations) -> None:
        self._worker_id = worker_id
        self._tasks = outside.store.tasks
        self._clock = outside.clock
        self._room = room
        self._to = to
        self._start = to.executor.start
        self._slots = to.executor.slots
        self._share = min(_MOST, -(-self._slots.total // _LANES))
        # A fencing token: 64 random bits of this process and a number. Drawing random bits for each claim would cost
        # three times as much.
        self._process = f"{outside.chance.getrandbits(64):016x}"
        self._serial = count(1)
        self._woken = asyncio.Event()
        self._stopped = False
        #: Deliveries whose claim is in flight.
        self.claiming = 0

    def wake(self) -> None:
        self._woken.set()

    def stop(self) -> None:
        """Send no claim after those in flight."""
        self._stopped = True
        self._woken.set()

    async def drained(self) -> None:
        self.stop()

    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
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
        # Without a free slot nothing due can be claimed: the end of an attempt will wake us.
        due = self._room.next_due() if self._slots.free > 0 else None
        if due is None:
            await self._woken.wait()
        else:
            with anyio.move_on_after(max(0.0, due - self._clock.monotonic())):
                await self._woken.wait()

    async def _claim_some(self) -> bool:
        """False: nothing to do until woken."""
        most = min(self._slots.free, self._share)
        if most <= 0 or self._stopped:
            return False
        taken = self._room.take(most)
        if not taken:
            return False
        running = self._to.executor.running
        batch = [delivery for delivery in taken if delivery.envelope.id not in running]
        if len(batch) != len(taken):
            for delivery in taken:
                if delivery.envelope.id in running:
                    self._hold_double(delivery)
        if batch:
            self._slots.reserve(len(batch))
            self.claiming += len(batch)
            if not await self._claim(batch):
                await anyio.sleep(_OUTAGE_RETRY_S)
        return True

    async def _claim(self, batch: list[Delivery]) -> bool:
        """False: Redis is away."""
        claims = []
        for delivery in batch:
            if not delivery.nonce:
                delivery.nonce = f"{self._process}{next(self._serial):x}"
            claims.append(Claim(delivery.envelope.id, delivery.nonce, delivery.home))
        try:
            replies = await self._tasks.claim(self._worker_id, claims, self._to.suspects.allowance())
        except StoreUnavailable:
            # Redis may have executed the claim: it is sent again with the same nonces and gets the same answer. The
            # store itself logs that Redis is away.
            self._give_back(batch, 0)
            for delivery in batch:
                self._room.came_back(delivery)
            self._room.put_first(batch)
            return False
        now = self._clock.monotonic()
        granted = 0
        for delivery, reply in zip(batch, replies, strict=True):
            if reply.verdict > 0 and self._grant(delivery, reply, now):
                granted += 1
            elif reply.verdict <= 0:
                self._refuse(delivery, reply)
        self._give_back(batch, granted)
        return True

    def _give_back(self, batch: list[Delivery], granted: int) -> None:
        """The claim is answered: slots are taken by what was granted, the others are free again."""
        self.claiming -= len(batch)
        self._slots.start(granted)
        self._slots.give_back(len(batch) - granted)

    def _refuse(self, delivery: Delivery, reply: ClaimReply) -> None:
        verdict = reply.verdict
        self._room.came_back(delivery)
        if verdict == ENDED:
            self._to.endings.ended(delivery)
        elif verdict == WAIT:
            # It may have started here since this claim was sent: then its end wakes the delivery at once.
            if delivery.envelope.id in self._to.executor.running:
                self._room.hold(delivery, delivery.envelope.id)
            else:
                delivery.parked_s = min(max(_FIRST_LOOK_S, 2 * delivery.parked_s), _LOOK_CAP_S)
                self._room.park(delivery, min(reply.wait_ms / 1000 + _LATE_S, delivery.parked_s))
        elif verdict == SUSPECT:
            log.info("%r was running when %d workers died: it runs in quarantine", delivery, reply.crashes)
            self._to.suspects.suspected(delivery, reply.crashes)
            self._room.put_first([delivery])
        elif verdict == FOREIGN:
            self._to.unrunnable.reject(
                delivery, DeadReason.FOREIGN_ID, "its id is that of another task, or of another queue"
            )
        elif verdict == DAMAGED:
            # The claim holds it, so no other worker takes it meanwhile.
            attempt = self._attempt(delivery, reply, self._clock.monotonic())
            self._to.unrunnable.end(attempt, DeadReason.CORRUPT_STATE, "what Redis holds of this task can't be read")

    def _grant(self, delivery: Delivery, reply: ClaimReply, now: float) -> bool:
        """Whether it runs, and so has a slot."""
        if reply.crashes >= SUSPECT_FROM:
            self._to.suspects.suspected(delivery, reply.crashes)
        attempt = self._attempt(delivery, reply, now)
        # A task without crashes and with a known name can be run.
        if (reply.crashes or delivery.task is None) and self._to.unrunnable.takes(attempt):
            self._room.came_back(delivery)
            return False
        delivery.place = _RUNNING
        self._start(attempt)
        return True

    @staticmethod
    def _attempt(delivery: Delivery, reply: ClaimReply, now: float) -> Attempt:
        return Attempt(
            delivery.envelope_for_attempt(),
            delivery.task,
            max(0, reply.verdict),
            delivery.nonce,
            reply.crashes,
            reply.failures,
            now,
            now,
            delivery,
        )

    def _hold_double(self, delivery: Delivery) -> None:
        """Its task runs here already, under another delivery's lease: it waits for the end of that one."""
        self._room.came_back(delivery)
        self._room.hold(delivery, delivery.envelope.id)
