"""The partitions of this worker: which are assigned, and the tracker of each. The only owner of both. No I/O.

Trackers outlive rebalances: a kept partition's records that come again are recognised and dropped; a lost partition's
running tasks continue under their leases, but can't move its watermark any more.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from yadtq.delivery.tracker import PartitionTracker

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yadtq.delivery.delivery import Delivery
    from yadtq.runtime.seams import Partition, TaskConsumer

__all__ = ["Partitions"]

log = logging.getLogger("yadtq.worker")


class Partitions:
    """`assign` after each rebalance, `tracker` before a batch of records, `watermarks` before a commit."""

    def __init__(self) -> None:
        self.trackers: dict[Partition, PartitionTracker[Delivery]] = {}
        self.assigned: tuple[Partition, ...] = ()
        #: The identity of each partition's log, "" where it is not known.
        self._logs: dict[Partition, str] = {}

    def assign(self, partitions: Mapping[Partition, str]) -> None:
        """Keep the trackers of kept partitions; drop the others, whose waiting records another worker claims.

        partitions: each with the identity of its log. Another identity is another log (its topic was deleted and made
        again): what is known of the old one is dropped, and nothing of it is committed any more.
        """
        # Sorted: the order of what follows must not depend on the hash seed of the process.
        self.assigned = tuple(sorted(partitions))
        for partition in [
            each for each in self.trackers if each not in partitions or self._is_another(partitions, each)
        ]:
            self.trackers.pop(partition).lost = True
        self._logs = dict(partitions)
        for tracker in self.trackers.values():
            tracker.reassigned()

    def _is_another(self, partitions: Mapping[Partition, str], partition: Partition) -> bool:
        before, now = self._logs.get(partition, ""), partitions[partition]
        return before != now and "" not in (before, now)

    def tracker(self, partition: Partition, first: int, position: int) -> PartitionTracker[Delivery]:
        """The tracker for a batch of records that begins at `first`; a new one if the log began again below.

        position: the first offset after the batch.
        """
        tracker = self.trackers.get(partition)
        if tracker is not None and tracker.is_rewind(first):
            log.error("%s/%d was reset to an earlier offset: reading it again from %d", *partition, first)
            tracker.lost = True
        elif tracker is not None:
            self.goes_on(partition, first)
            tracker = self.trackers.get(partition)
        if tracker is None or tracker.lost:
            tracker = self.trackers[partition] = PartitionTracker(first)
        tracker.position = position
        return tracker

    def goes_on(self, partition: Partition, offset: int) -> None:
        """The next record of a partition, after an assignment, is at `offset` or above it."""
        tracker = self.trackers.get(partition)
        if tracker is None:
            return
        if tracker.is_overtaken(offset):
            tracker.lost = True
            self.trackers[partition] = PartitionTracker(offset)
        tracker.unconfirmed = False

    def unconfirmed(self) -> list[Partition]:
        """Assigned again, and not known yet where they go on."""
        return [partition for partition, tracker in self.trackers.items() if tracker.unconfirmed]

    def watermarks(self, *, again: bool = False) -> dict[Partition, int]:
        """What is to be committed: what is new, or everything."""
        return {
            partition: tracker.watermark
            for partition, tracker in self.trackers.items()
            if not tracker.unconfirmed and (again or tracker.watermark > tracker.committed)
        }

    def committed(self, offsets: Mapping[Partition, int]) -> None:
        """Kafka has stored these commits."""
        for partition, offset in offsets.items():
            if (tracker := self.trackers.get(partition)) is not None:
                tracker.committed = max(tracker.committed, offset)

    def in_flight(self, partition: Partition | None = None) -> list[Delivery]:
        """Received and not released, of one partition or of all."""
        if partition is not None:
            return self.trackers[partition].items() if partition in self.trackers else []
        return [delivery for tracker in self.trackers.values() for delivery in tracker.items()]

    def seen_to(self, partition: Partition) -> int:
        """The first offset that this worker has not received; 0 if it has received none."""
        tracker = self.trackers.get(partition)
        return 0 if tracker is None else tracker.last_seen + 1

    def oldest_ms(self, partition: Partition) -> int | None:
        """The time stamp of the oldest record in flight, or else of the last one received; None if none has come."""
        tracker = self.trackers.get(partition)
        if tracker is None or tracker.last_ms is None:
            return None
        head = tracker.head()
        return tracker.last_ms if head is None else min(tracker.last_ms, head.record.timestamp)

    def lags(self, consumer: TaskConsumer) -> dict[str, int]:
        """Records not finished, by topic/partition; 0 where none has come since the assignment."""
        lags = {f"{topic}/{number}": 0 for topic, number in self.assigned}
        for (topic, number), tracker in self.trackers.items():
            lags[f"{topic}/{number}"] = consumer.lag((topic, number), tracker.watermark)
        return lags
