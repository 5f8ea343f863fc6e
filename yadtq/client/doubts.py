"""When to give up waiting for a task that Redis does not know, or can't show. No I/O.

Unknown means little at first: a task is registered a moment after its submit, and after a loss of data it is registered
again from Kafka. What is unknown for longer than that takes was never submitted, has expired, or had ended before the loss.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from yadtq.client.registrar import BUSY_LINGER_S
from yadtq.errors import ResultLost, ResultUnreadable, TaskNotFound

if TYPE_CHECKING:
    from yadtq.errors import YadtqError
    from yadtq.runtime.clock import Clock
    from yadtq.settings import Settings
    from yadtq.store.tasks.verbs import Unreadable

__all__ = ["Doubts"]

log = logging.getLogger("yadtq.store")

_MARGIN_S = 0.3


class Doubts:
    """Of one client. The time that a task was unknown counts by Redis's own answers: an outage adds nothing to it."""

    def __init__(self, clock: Clock, settings: Settings) -> None:
        self._clock = clock
        #: In the order in which they began.
        self._since: dict[str, float] = {}
        self._incarnation: str | None = None
        #: Whether Redis has lost data since this client began.
        self.has_lost = False
        # A registration leaves after BUSY_LINGER_S, and is repeated after a call has taken `redis_timeout_s` in vain.
        self._registered_after_s = settings.redis_timeout_s + BUSY_LINGER_S + _MARGIN_S
        # After a loss workers write what they hold within two heartbeats, and what they claim next as soon as leases and
        # sessions allow. What is still unknown then had ended before the loss.
        self._lost_after_s = settings.lease_s + settings.session_timeout_s + 2 * settings.heartbeat_s

    def notice(self, incarnation: str) -> None:
        """incarnation: of the data set, as Redis says now."""
        if self._incarnation not in (None, incarnation):
            log.error("Redis has lost its data, or went back in time (%s is now %s)", self._incarnation, incarnation)
            self.has_lost = True
        self._incarnation = incarnation

    def outage(self) -> None:
        """Redis did not answer. What was unknown before may have waited for its registration ever since: count again."""
        self._since.clear()

    def clear(self, task_id: str) -> None:
        """It is known, or nobody waits for it any more."""
        if self._since:
            self._since.pop(task_id, None)

    def doubt(self, task_id: str, found: Unreadable | None) -> YadtqError | None:
        """Redis knows nothing of it, or can't show it: what to raise if that is final."""
        if found is not None and found.status is not None and found.status.final:
            return ResultUnreadable(task_id, found.problem)
        now = self._clock.monotonic()
        # Not by the age of the loss: a task submitted long after it, in another outage, is unknown for a while, too.
        if now - self._since.setdefault(task_id, now) < self._limit_s:
            return None
        if found is not None:
            return ResultUnreadable(task_id, found.problem)
        return ResultLost(task_id) if self.has_lost else TaskNotFound(task_id)

    @property
    def _limit_s(self) -> float:
        return self._lost_after_s if self.has_lost else self._registered_after_s

    def next_due(self) -> float | None:
        """Monotonic time at which the first of them is to be looked at again."""
        first = next(iter(self._since.values()), None)
        return None if first is None else first + self._limit_s

    def overdue(self) -> list[str]:
        """Those to be looked at now."""
        until = self._clock.monotonic() - self._limit_s
        return [task_id for task_id, since in self._since.items() if since <= until]
