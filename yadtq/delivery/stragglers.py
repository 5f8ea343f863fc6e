"""Moves records that hold a watermark back for too long to the tail of their partition, and releases their offsets
(D3).

A copy has the same bytes, the same id and so the same lease: a worker that receives it waits for as long as the task
runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING

import anyio

from yadtq.delivery.place import Place
from yadtq.runtime.seams import OutRecord
from yadtq.runtime.service import Service, Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskStatus as Started

    from yadtq.delivery.delivery import Delivery
    from yadtq.delivery.outbox import Outbox
    from yadtq.delivery.partitions import Partitions
    from yadtq.delivery.tracker import PartitionTracker
    from yadtq.runtime.clock import Clock
    from yadtq.runtime.seams import Partition
    from yadtq.settings import WorkerSettings

__all__ = ["Stragglers", "late"]

log = logging.getLogger("yadtq.worker")

_LOOK_S = 1.0
#: A record that has just arrived is not a straggler, it waits for its turn.
_STALLED_S = 0.25
_MOVED_AT_ONCE = 100


#: A delivery that waits for its turn, or for a gate that admits one after the other, is not a straggler: moved, it
#: would only wait again, and endlessly where the span is smaller than the number of records in flight.
_HELD_BACK = (Place.RUNNING, Place.STORING, Place.PARKED, Place.GATED)


def late(tracker: PartitionTracker[Delivery], *, now: float, span: int, age_s: float) -> list[Delivery]:
    """The deliveries to move: those older than `age_s`, and those in the first half of a span that is used up.

    Half of the span at once: after a rebalance as many records may be waiting as another worker has slots.
    """
    stalled = tracker.span >= span
    head = tracker.head()
    if head is None or head.received_at > now - (_STALLED_S if stalled else age_s):
        return []
    end = tracker.watermark + span // 2 if stalled else 0
    return [
        delivery
        for delivery in tracker.items()
        if delivery.place in _HELD_BACK
        and (delivery.received_at < now - age_s or (delivery.record.offset < end and not _in_turn(delivery)))
    ]


def _same_record(delivery: Delivery) -> OutRecord:
    record = delivery.record
    return OutRecord(record.topic, record.value, record.key, record.partition, list(record.headers))


def _in_turn(delivery: Delivery) -> bool:
    return delivery.place is Place.GATED and bool(delivery.gates)


class Stragglers(Service):
    """A service that looks every hundredth of the age, every second at most, and when a partition has no room left
    (`wake`).
    """

    name = "stragglers"
    stage = Stage.INTAKE

    def __init__(
        self,
        *,
        partitions: Partitions,
        outbox: Outbox,
        clock: Clock,
        options: WorkerSettings,
        copy_of: Callable[[Delivery], OutRecord] | None = None,
    ) -> None:
        """copy_of: what is appended instead of a delivery's record; None: the same record."""
        self._copy_of = copy_of or _same_record
        self._partitions = partitions
        self._outbox = outbox
        self._clock = clock
        self._span = options.span
        self._age_s = options.straggler_age_s
        self._woken = asyncio.Event()
        self._stopped = False
        #: Number of copies of a partition in the outbox; the next ones are made when all of these are in Kafka.
        self._moving: Counter[Partition] = Counter()
        #: Kafka refuses copies of these: they stay where they are, and hold the watermark back until they have ended.
        self._immovable: set[Delivery] = set()

    def wake(self) -> None:
        self._woken.set()

    def stop(self) -> None:
        self._stopped = True
        self._woken.set()

    async def drained(self) -> None:
        self.stop()

    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while not self._stopped:
            with anyio.move_on_after(max(min(_LOOK_S, self._age_s / 4), self._age_s / 100)):
                await self._woken.wait()
            self._woken.clear()
            if not self._stopped:
                self.look()

    def look(self) -> None:
        now = self._clock.monotonic()
        self._immovable = {each for each in self._immovable if each.place in _HELD_BACK}
        for partition, tracker in self._partitions.trackers.items():
            if not self._moving[partition]:
                found = late(tracker, now=now, span=self._span, age_s=self._age_s)
                self._move(partition, [each for each in found if each not in self._immovable][:_MOVED_AT_ONCE])

    def _move(self, partition: Partition, found: list[Delivery]) -> None:
        self._moving[partition] = len(found)
        for delivery in found:
            self._copy(partition, delivery)
        if found:
            log.info("%d records are moved to the tail of %s/%d: %r first", len(found), *partition, found[0])

    def _copy(self, partition: Partition, delivery: Delivery) -> None:
        copy = self._copy_of(delivery)

        def moved() -> None:
            self._moving[partition] -= 1
            delivery.source.release(delivery)  # its offset only: the delivery stays in its place

        def refused(reason: str, _too_large: bool) -> None:
            self._moving[partition] -= 1
            self._immovable.add(delivery)
            log.error("%r can't be moved to the tail of its partition, which waits for it: %s", delivery, reason)

        self._outbox.put([copy], moved, refused)
