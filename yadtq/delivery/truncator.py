"""Periodically truncates this worker's partitions below the committed watermark."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yadtq.runtime.service import Periodic, Stage

if TYPE_CHECKING:
    from yadtq.delivery.partitions import Partitions
    from yadtq.outside import Outside
    from yadtq.settings import WorkerSettings

__all__ = ["Truncator"]


class Truncator(Periodic):
    """A service."""

    name = "truncator"
    stage = Stage.COMMIT

    def __init__(self, *, partitions: Partitions, outside: Outside, options: WorkerSettings) -> None:
        super().__init__()
        self._partitions = partitions
        self._outside = outside
        self._groups = (outside.names.group, *options.other_groups)
        self._interval_s = options.truncate_interval_s

    def interval_s(self) -> float:
        # Spread out: workers that were started together should not call Kafka together.
        return self._interval_s * self._outside.chance.uniform(0.5, 1.5)

    async def tick(self) -> None:
        await self._outside.broker.truncate(self._groups, list(self._partitions.trackers))
