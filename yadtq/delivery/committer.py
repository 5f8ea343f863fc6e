"""Commits the watermarks of all partitions, one request an interval, never one a task."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from yadtq.runtime.service import Periodic, Stage

if TYPE_CHECKING:
    from yadtq.delivery.partitions import Partitions
    from yadtq.runtime.clock import Clock
    from yadtq.runtime.seams import TaskConsumer

__all__ = ["Committer"]

#: Also commit again what was committed before: a late commit of another worker may have set it back.
_AGAIN_S = 30.0
_RETRY_S = 0.1


class Committer(Periodic):
    """A service."""

    name = "committer"
    stage = Stage.COMMIT

    def __init__(self, *, partitions: Partitions, consumer: TaskConsumer, clock: Clock, interval_s: float) -> None:
        super().__init__()
        self._partitions = partitions
        self._consumer = consumer
        self._clock = clock
        self._interval_s = interval_s
        self._again_at = clock.monotonic() + _AGAIN_S

    def interval_s(self) -> float:
        return self._interval_s

    async def tick(self) -> None:
        again = self._clock.monotonic() >= self._again_at
        if await self.commit(again=again) and again:
            self._again_at = self._clock.monotonic() + _AGAIN_S

    async def commit(self, *, again: bool = False) -> bool:
        """True: everything finished is committed. again: also what was committed before."""
        for partition in self._partitions.unconfirmed():
            if (position := await self._consumer.position(partition)) is not None:
                self._partitions.goes_on(partition, position)
        offsets = self._partitions.watermarks(again=again)
        if not offsets:
            return True
        done = await self._consumer.commit(offsets)
        if done:
            self._partitions.committed(offsets)
        return done

    async def drained(self) -> None:
        while not await self.commit():  # noqa: ASYNC110 - Kafka tells nobody when a rebalance is over
            await anyio.sleep(_RETRY_S)
