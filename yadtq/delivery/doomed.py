"""Tasks that were claimed and can't be run: their record goes to the dead-letter topic, then they end FAILED.

They hold their lease meanwhile, and no slot: a burst of them in an outage of Kafka must not keep others from running (G6).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from yadtq.delivery.place import Place
from yadtq.execution.outcome import Outcome, error_payload
from yadtq.wire.deadletter import DeadReason
from yadtq.wire.states import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from yadtq.delivery.deadletters import DeadLetters
    from yadtq.delivery.delivery import Delivery
    from yadtq.execution.attempt import Attempt

__all__ = ["Doomed"]


class Doomed:
    """on_outcome: gets the FAILED outcome of each as soon as its dead letter is in Kafka. crash_limit: see the settings."""

    def __init__(
        self, *, dead_letters: DeadLetters, on_outcome: Callable[[Outcome], None], app: str, crash_limit: int
    ) -> None:
        self._dead_letters = dead_letters
        self._on_outcome = on_outcome
        self._app = app
        self._crash_limit = crash_limit
        #: By task id, like the running ones: their leases are renewed, too.
        self.attempts: dict[str, Attempt] = {}

    def takes(self, attempt: Attempt) -> bool:
        """Whether it can't be run; then it is taken care of from here on."""
        if attempt.crashes >= self._crash_limit:
            self.end(attempt, DeadReason.CRASHED, f"{attempt.crashes} attempts ended with their worker")
        elif attempt.task is None:
            name = attempt.envelope.task
            self.end(attempt, DeadReason.UNKNOWN_TASK, f"no task {name!r} in app {self._app!r}")
        else:
            return False
        return True

    def end(self, attempt: Attempt, reason: DeadReason, detail: str) -> None:
        """Its dead letter, and then FAILED."""
        delivery: Delivery = attempt.origin
        delivery.place = Place.OUTBOX
        self.attempts[attempt.envelope.id] = attempt

        def written() -> None:
            if self.attempts.get(attempt.envelope.id) is attempt:
                del self.attempts[attempt.envelope.id]
            self._on_outcome(Outcome(attempt, TaskStatus.FAILED, error_payload(reason.error, detail)))

        self._dead_letters.put(delivery, reason, detail, written)
