"""Keeps the leases of running tasks, from the loop that runs them: a blocked or frozen worker loses them, as it should.

It also detects that Redis has lost its data: then running tasks are written again, with the same nonces, and all parked
deliveries are checked again.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from yadtq.errors import StoreUnavailable
from yadtq.execution.attempt import StopReason
from yadtq.runtime.service import Periodic, Stage
from yadtq.shown import shown
from yadtq.store.tasks.verbs import Lease

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from yadtq.execution.attempt import Attempt
    from yadtq.outside import Outside
    from yadtq.settings import Settings

__all__ = ["Renewer"]

log = logging.getLogger("yadtq.worker")

_MOST = 500


class Renewer(Periodic):
    """A service. held: the attempts whose leases are to be kept."""

    name = "renewer"
    stage = Stage.REPORT
    at_once = True

    def __init__(
        self,
        *,
        worker_id: str,
        outside: Outside,
        settings: Settings,
        held: Callable[[], Iterable[Attempt]],
        on_data_lost: Callable[[], None],
    ) -> None:
        super().__init__()
        self._worker_id = worker_id
        self._store = outside.store
        self._clock = outside.clock
        self._held = held
        self._interval_s = settings.heartbeat_s
        self._restorable_s = settings.result_ttl_s / 2
        self._on_data_lost = on_data_lost
        #: The name of Redis's data set, "" until it has answered.
        self.data_set = ""

    def interval_s(self) -> float:
        return self._interval_s

    async def tick(self) -> None:
        """One round. A task whose lease is lost is stopped: another attempt owns it, and this one's result would be
        refused.
        """
        now = self._clock.monotonic()
        # A younger lease is a heartbeat old at most; most tasks end before theirs is ever renewed.
        due = [attempt for attempt in self._held() if now - attempt.lease_at >= self._interval_s / 2]
        try:
            data_set = (await self._store.data_set()).name
            for at in range(0, len(due), _MOST):
                await self._renew(due[at : at + _MOST], now)
        except StoreUnavailable:
            return  # the store itself logs it; leases last for some more rounds
        if self.data_set not in ("", data_set):
            log.error(
                "Redis has lost its data, or went back in time (%s is now %s)", shown(self.data_set), shown(data_set)
            )
            self._on_data_lost()
        self.data_set = data_set

    async def _renew(self, attempts: list[Attempt], now: float) -> None:
        leases = [
            Lease(
                attempt.envelope.id,
                attempt.nonce,
                attempt.number,
                now - attempt.lease_at < self._restorable_s,
                attempt.origin.home,
            )
            for attempt in attempts
        ]
        held = await self._store.tasks.renew(self._worker_id, leases)
        for attempt, ok in zip(attempts, held, strict=True):
            if ok:
                attempt.lease_at = now
            elif attempt.running is not None:
                # An attempt that has ended meanwhile, and whose outcome is stored, holds no lease: that is not a loss.
                log.warning("%r has lost its lease and is stopped", attempt)
                attempt.cancel(StopReason.LEASE_LOST)
