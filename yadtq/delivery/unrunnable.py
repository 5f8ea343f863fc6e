"""Tasks that were claimed and can't be run: their record goes to the dead-letter topic, then they end FAILED.

Meanwhile they hold their lease, but no slot: a burst of them in an outage of Kafka must not keep others from running
(G6).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio

from yadtq.delivery.place import Place
from yadtq.execution.attempt import StopReason
from yadtq.execution.outcome import Outcome, error_payload
from yadtq.runtime.service import Service, Stage
from yadtq.wire.deadletter import DeadReason
from yadtq.wire.states import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskStatus as Started

    from yadtq.delivery.deadletters import DeadLetters
    from yadtq.delivery.delivery import Delivery
    from yadtq.execution.attempt import Attempt

__all__ = ["Unrunnable"]


class Unrunnable(Service):
    """A service that only acts at the end: like running tasks, they have to end before outcomes are stored for the last
    time.

    on_outcome: gets the FAILED outcome of each as soon as its dead letter is in Kafka. crash_limit: see the settings.
    """

    name = "unrunnable"
    stage = Stage.RUN

    def __init__(
        self, *, dead_letters: DeadLetters, on_outcome: Callable[[Outcome], None], app: str, crash_limit: int
    ) -> None:
        self._dead_letters = dead_letters
        self._on_outcome = on_outcome
        self._app = app
        self._crash_limit = crash_limit
        #: By nonce: after a lost lease there may be two of one task. Their leases are renewed, too.
        self.attempts: dict[str, Attempt] = {}
        self._none = asyncio.Event()
        self._none.set()
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        self._stopped.set()

    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await self._stopped.wait()

    async def drained(self) -> None:
        await self._none.wait()

    def hurry(self) -> None:
        """Leave them to other workers, at once: their leases are given back. A dead letter that is acknowledged later
        changes nothing.
        """
        for attempt in list(self.attempts.values()):
            attempt.stop = StopReason.SHUTDOWN
            self._leave(attempt, Outcome(attempt, None))

    def takes(self, attempt: Attempt) -> bool:
        """Whether it can't be run; then it is handled from here on."""
        if attempt.crashes >= self._crash_limit:
            self.end(attempt, DeadReason.CRASHED, f"{attempt.crashes} attempts ended with their worker")
        elif attempt.origin.defect:
            self.end(attempt, DeadReason.UNDECODABLE, attempt.origin.defect)
        elif attempt.task is None:
            name = attempt.envelope.task
            self.end(attempt, DeadReason.UNKNOWN_TASK, f"no task {name!r} in app {self._app!r}")
        else:
            return False
        return True

    def reject(self, delivery: Delivery, reason: DeadReason, detail: str) -> None:
        """Its dead letter, and nothing else: no task ends with it."""
        delivery.place = Place.OUTBOX
        self._dead_letters.put(delivery, reason, detail, delivery.release)

    def end(self, attempt: Attempt, reason: DeadReason, detail: str) -> None:
        """Its dead letter, and then FAILED."""
        delivery: Delivery = attempt.origin
        delivery.place = Place.OUTBOX
        self.attempts[attempt.nonce] = attempt
        self._none.clear()

        def written() -> None:
            if attempt.nonce in self.attempts:
                self._leave(attempt, Outcome(attempt, TaskStatus.FAILED, error_payload(reason.error, detail)))

        self._dead_letters.put(delivery, reason, detail, written)

    def _leave(self, attempt: Attempt, outcome: Outcome) -> None:
        del self.attempts[attempt.nonce]
        if not self.attempts:
            self._none.set()
        self._on_outcome(outcome)
