"""The partitions of this worker: which are assigned, and the tracker of each. The one owner of both. No I/O.

Trackers outlive rebalances: a kept partition's records that come again are recognised and dropped; a lost partition's
running tasks go on under their leases, and only lose the right to move its watermark.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from yadtq.delivery.tracker import PartitionTracker

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from yadtq.delivery.delivery import Delivery
    from yadtq.runtime.seams import Partition, TaskConsumer

__all__ = ["Partitions"]

log = logging.getLogger("yadtq.worker")


class Partitions:
    """`assign` after each rebalance, `tracker` before a batch of records, `watermarks` before a commit."""

    def __init__(self) -> None:
        self.trackers: dict[Partition, PartitionTracker[Delivery]] = {}
        self.assigned: tuple[Partition, ...] = ()

    def assign(self, partitions: Collection[Partition]) -> None:
        """Keep the trackers of kept partitions; let go of the others, whose waiting records are another's to claim."""
        # In order: what is done with them must not depend on the hash seed of the process.
        self.assigned = tuple(sorted(partitions))
        for partition in self.trackers.keys() - set(self.assigned):
            self.trackers.pop(partition).lost = True
        for tracker in self.trackers.values():
            tracker.reassigned()

    def tracker(self, partition: Partition, first: int, last: int) -> PartitionTracker[Delivery]:
        """The tracker for a batch of records with the offsets first to last; a new one if the log began again below."""
        tracker = self.trackers.get(partition)
        if tracker is not None and tracker.is_rewind(first):
            log.error("%s/%d was reset to an earlier offset: reading it again from %d", *partition, first)
            tracker.lost = True
            tracker = None
        if tracker is None:
            tracker = self.trackers[partition] = PartitionTracker(first)
        tracker.position = last + 1
        return tracker

    def watermarks(self, *, again: bool = False) -> dict[Partition, int]:
        """What is to be committed: what is new, or everything."""
        return {
            partition: watermark
            for partition, tracker in self.trackers.items()
            if (watermark := tracker.watermark) > tracker.committed or again
        }

    def committed(self, offsets: Mapping[Partition, int]) -> None:
        """Kafka has these."""
        for partition, offset in offsets.items():
            if (tracker := self.trackers.get(partition)) is not None:
                tracker.committed = max(tracker.committed, offset)

    def in_flight(self) -> list[Delivery]:
        """Received and not released, of all partitions."""
        return [delivery for tracker in self.trackers.values() for delivery in tracker.items()]

    def lags(self, consumer: TaskConsumer) -> dict[str, int]:
        """Records not finished, by topic/partition; 0 where none has come since the assignment."""
        lags = {f"{topic}/{number}": 0 for topic, number in self.assigned}
        for (topic, number), tracker in self.trackers.items():
            lags[f"{topic}/{number}"] = consumer.lag((topic, number), tracker.watermark)
        return lags
