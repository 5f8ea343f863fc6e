"""Keeps the leases of running tasks, from the loop that runs them: a blocked or frozen worker loses them, as it should.

Also the one who notices that Redis has lost its data: then running tasks are written anew, with the same nonces, and
everything parked is looked at again.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from yadtq.delivery.delivery import StopReason
from yadtq.errors import StoreUnavailable
from yadtq.runtime.service import Service
from yadtq.store.tasks.verbs import Lease

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskStatus

    from yadtq.execution.executor import Executor
    from yadtq.runtime.clock import Clock
    from yadtq.settings import Settings
    from yadtq.store.verbs import Store

__all__ = ["Renewer"]

log = logging.getLogger("yadtq.worker")

_MOST = 500


class Renewer(Service):
    """A service."""

    name = "renewer"

    def __init__(
        self,
        worker_id: str,
        store: Store,
        executor: Executor,
        settings: Settings,
        clock: Clock,
        on_data_lost: Callable[[], None],
    ) -> None:
        self._worker_id = worker_id
        self._store = store
        self._executor = executor
        self._clock = clock
        self._interval_s = settings.heartbeat_s
        self._restorable_s = settings.result_ttl_s / 2
        self._on_data_lost = on_data_lost
        self._incarnation: str | None = None
        self._stopped = anyio.Event()

    def stop(self) -> None:
        self._stopped.set()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while not self._stopped.is_set():
            await self.renew()
            with anyio.move_on_after(self._interval_s):
                await self._stopped.wait()

    async def renew(self) -> None:
        """One round. A lease that is lost stops its task: another attempt owns it, and this one's result can't count."""
        now = self._clock.monotonic()
        # A younger lease is a heartbeat old at most; most tasks end before theirs is ever renewed.
        due = [
            delivery for delivery in self._executor.running.values() if now - delivery.lease_at >= self._interval_s / 2
        ]
        try:
            incarnation = await self._store.incarnation()
            for at in range(0, len(due), _MOST):
                part = due[at : at + _MOST]
                leases = [
                    Lease(
                        delivery.envelope.id,
                        delivery.nonce,
                        delivery.attempt,
                        now - delivery.lease_at < self._restorable_s,
                    )
                    for delivery in part
                ]
                held = await self._store.tasks.renew(self._worker_id, leases)
                for delivery, lease, ok in zip(part, leases, held, strict=True):
                    if ok:
                        delivery.lease_at = now
                    elif delivery.nonce == lease.nonce and self._executor.running.get(lease.task_id) is delivery:
                        log.warning("%r has lost its lease: attempt %d is stopped", delivery, delivery.attempt)
                        self._executor.cancel(delivery, StopReason.LEASE_LOST)
        except StoreUnavailable as error:
            log.warning("leases are not renewed: %s", error)
            return
        if self._incarnation not in (None, incarnation):
            log.error("Redis has lost its data (incarnation %s is now %s)", self._incarnation, incarnation)
            self._on_data_lost()
        self._incarnation = incarnation
