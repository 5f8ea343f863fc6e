"""When to give up waiting for a task that Redis does not know, or can't show. No I/O.

At first, unknown does not mean missing: a task is registered a moment after its submit, and after a loss of data it is
registered again from Kafka. A task that is unknown for longer than that takes was never submitted, has expired, or had
ended before the loss.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from yadtq.client.registrar import BUSY_LINGER_S
from yadtq.errors import ResultLost, ResultUnreadable, TaskNotFound
from yadtq.shown import shown

if TYPE_CHECKING:
    from yadtq.errors import YadtqError
    from yadtq.runtime.clock import Clock
    from yadtq.settings import Settings
    from yadtq.store.tasks.verbs import Unreadable

__all__ = ["Doubts"]

log = logging.getLogger("yadtq.store")

_MARGIN_S = 0.3


class Doubts:
    """One per client. The time that a task was unknown is measured between answers of Redis: an outage adds nothing to
    it.
    """

    def __init__(self, clock: Clock, settings: Settings) -> None:
        self._clock = clock
        #: In the order in which they began.
        self._since: dict[str, float] = {}
        self._data_set: str | None = None
        #: Whether Redis has lost data since this client began.
        self.has_lost = False
        # A registration is sent after BUSY_LINGER_S, and again if the call timed out after `redis_timeout_s`.
        self._registered_after_s = settings.redis_timeout_s + BUSY_LINGER_S + _MARGIN_S
        # After a loss workers write what they hold within two heartbeats, and what they claim next as soon as leases
        # and sessions allow; what was on its way to Kafka then is registered by the second look of `rebuilder.py`. What is
        # still unknown after that had ended before the loss.
        self._lost_after_s = max(
            settings.lease_s + settings.session_timeout_s + 2 * settings.heartbeat_s,
            settings.submit_timeout_s + settings.redis_timeout_s + 3 * settings.heartbeat_s,
        )

    def notice(self, data_set: str) -> None:
        """data_set: its name, as Redis says now."""
        if self._data_set not in (None, data_set):
            log.error(
                "Redis has lost its data, or went back in time (%s is now %s)", shown(self._data_set), shown(data_set)
            )
            self.has_lost = True
        self._data_set = data_set

    def loss(self) -> None:
        """Redis has lost data, though perhaps before this client first asked which data set it has."""
        self.has_lost = True

    def outage(self) -> None:
        """Redis did not answer. A task that was unknown before may have waited for its registration since then: count
        from the start.
        """
        self._since.clear()

    def clear(self, task_id: str) -> None:
        """The task is known, or no caller waits for it any more."""
        if self._since:
            self._since.pop(task_id, None)

    def doubt(self, task_id: str, found: Unreadable | None) -> YadtqError | None:
        """Redis does not know the task, or can't read it. Returns the error to raise if that is final."""
        if found is not None and found.status is not None and found.status.final:
            return ResultUnreadable(task_id, found.problem)
        now = self._clock.monotonic()
        # Not decided by the age of the loss: a task submitted long after it, in another outage, is unknown for a while,
        # too.
        if now - self._since.setdefault(task_id, now) < self._limit_s:
            return None
        if found is not None:
            return ResultUnreadable(task_id, found.problem)
        return ResultLost(task_id) if self.has_lost else TaskNotFound(task_id)

    @property
    def _limit_s(self) -> float:
        return self._lost_after_s if self.has_lost else self._registered_after_s

    def next_due(self) -> float | None:
        """Monotonic time at which the first of them must be checked again."""
        first = next(iter(self._since.values()), None)
        return None if first is None else first + self._limit_s

    def overdue(self) -> list[str]:
        """Those that must be checked now."""
        until = self._clock.monotonic() - self._limit_s
        return [task_id for task_id, since in self._since.items() if since <= until]
