"""The worker's place in the consumer group, given up as late as possible: earlier, it would start a rebalance while
tasks run.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from yadtq.errors import BrokerUnavailable
from yadtq.runtime.service import Service, Stage

if TYPE_CHECKING:
    from anyio.abc import TaskStatus as Started

    from yadtq.runtime.seams import Broker, TaskConsumer
    from yadtq.worker.parent import Parent

__all__ = ["Membership"]

log = logging.getLogger("yadtq.worker")

_LEAVE_S = 5.0


class Membership(Service):
    """A service that only acts at the end. slot: the static membership id; a member without one (None) leaves by
    itself.
    """

    name = "membership"
    stage = Stage.MEMBERSHIP

    def __init__(self, *, consumer: TaskConsumer, broker: Broker, parent: Parent, slot: str | None) -> None:
        self._consumer = consumer
        self._broker = broker
        self._parent = parent
        self._slot = slot
        self._stopped = anyio.Event()

    def stop(self) -> None:
        self._stopped.set()

    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await self._stopped.wait()

    async def drained(self) -> None:
        await self._consumer.stop()
        if self._slot is not None and self._parent.orphaned:
            # Without a supervisor there is no successor: the others get the partitions now, not at the session timeout.
            try:
                await self._broker.leave([self._slot], timeout_s=_LEAVE_S)
            except BrokerUnavailable as error:
                log.warning("the group waits for the session timeout of %s: %s", self._slot, error)
