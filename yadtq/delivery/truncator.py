"""Every so often cuts this worker's partitions off behind the committed watermark."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import anyio

from yadtq.runtime.service import Service

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from yadtq.delivery.fetcher import Fetcher
    from yadtq.runtime.seams import Broker
    from yadtq.settings import WorkerSettings

__all__ = ["Truncator"]


class Truncator(Service):
    """A service."""

    name = "truncator"

    def __init__(self, fetcher: Fetcher, broker: Broker, group: str, options: WorkerSettings) -> None:
        self._fetcher = fetcher
        self._groups = (group, *options.other_groups)
        self._broker = broker
        self._interval_s = options.truncate_interval_s
        self._stopped = anyio.Event()

    def stop(self) -> None:
        self._stopped.set()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while not self._stopped.is_set():
            # Spread out: workers that were started together need not come to Kafka together.
            with anyio.move_on_after(self._interval_s * random.uniform(0.5, 1.5)):
                await self._stopped.wait()
                return
            await self._broker.truncate(self._groups, list(self._fetcher.trackers))
