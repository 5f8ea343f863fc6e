"""From Kafka to the intake, and back to Kafka as a watermark: polls, decodes, tracks, commits, and moves stragglers.

It owns the trackers. They outlive rebalances: a kept partition's records that come again are recognised and dropped; a
lost partition's running tasks go on under their leases, and only lose the right to move its watermark.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import anyio

from yadtq.delivery.allowance import allowance
from yadtq.delivery.delivery import Delivery
from yadtq.delivery.tracker import PartitionTracker
from yadtq.errors import BrokerUnavailable, EnvelopeError
from yadtq.runtime.seams import OutRecord
from yadtq.runtime.service import Service
from yadtq.wire.envelope import decode_envelope

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from anyio.abc import TaskGroup, TaskStatus

    from yadtq.delivery.deadletters import DeadLetters
    from yadtq.delivery.waiting import Intake
    from yadtq.registry import Registry
    from yadtq.runtime.clock import Clock
    from yadtq.runtime.seams import ConsumedRecord, Partition, Producer, TaskConsumer
    from yadtq.settings import WorkerSettings

__all__ = ["Fetcher"]

log = logging.getLogger("yadtq.worker")

_MOST = 1_000
#: A poll for all partitions ends with the first record, so it may be long; one that leaves partitions out is cut short,
#: because it can't notice when they have room again.
_LONG_POLL_S = 1.0
_SHORT_POLL_S = 0.05
_ROOM_GATHERS_S = 0.01
_LOOK_AT_AGES_S = 1.0
_STALLED_S = 0.25
_MOVED_AT_ONCE = 100


class Fetcher(Service):
    """A service. After `stop()` nothing is fetched; `commit()` still works."""

    name = "fetcher"

    def __init__(
        self,
        consumer: TaskConsumer,
        producer: Producer,
        registry: Registry,
        intake: Intake,
        dead_letters: DeadLetters,
        options: WorkerSettings,
        clock: Clock,
        on_records: Callable[[], None],
    ) -> None:
        self._consumer = consumer
        self._producer = producer
        self._registry = registry
        self._intake = intake
        self._dead_letters = dead_letters
        self._options = options
        self._clock = clock
        self._on_records = on_records
        self._stopped = False
        self._scope: anyio.CancelScope | None = None
        self._room = asyncio.Event()
        self.trackers: dict[Partition, PartitionTracker[Delivery]] = {}
        self._assigned: frozenset[Partition] = frozenset()
        self._moving: set[Partition] = set()
        self._ages_due = 0.0

    def wake(self) -> None:
        """Records are finished: there may be room for others."""
        self._room.set()

    def stop(self) -> None:
        """The poll under way is broken off: it is the last one, so what a cancelled getmany leaves behind is no matter."""
        self._stopped = True
        if self._scope is not None:
            self._scope.cancel()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        await self._consumer.start(self._assign, self.watermarks)
        task_status.started()
        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as scope:
                self._scope = scope
                while not self._stopped:
                    await self._poll(group)
            group.cancel_scope.cancel()

    def _assign(self, partitions: Collection[Partition]) -> None:
        """Keep the trackers of kept partitions; let go of the others, whose waiting records are another's to claim."""
        kept = frozenset(partitions)
        for partition in self.trackers.keys() - kept:
            self.trackers.pop(partition).lost = True
        for tracker in self.trackers.values():
            tracker.reassigned()
        self._assigned = kept

    async def _poll(self, group: TaskGroup) -> None:
        options = self._options
        room = allowance(self._assigned, self.trackers, window=options.window, span=options.span, most=_MOST)
        self._move_stragglers(room.stalled, group)
        if room.max_records == 0:
            self._room.clear()
            with anyio.move_on_after(_SHORT_POLL_S if room.stalled else _LONG_POLL_S):
                await self._room.wait()
                # A full window is long enough a supply: to look at every partition for each few finished tasks would cost
                # as much as the tasks.
                await anyio.sleep(_ROOM_GATHERS_S)
            return
        if room.partitions is None:
            records = await self._consumer.poll(None, room.max_records, _LONG_POLL_S)
        else:
            records = await self._consumer.poll(room.partitions, room.max_records, _SHORT_POLL_S)
        self._receive_all(records, group)
        # A full poll mostly comes from one partition, and others wait behind it. They are asked under the same allowance,
        # which says how much each of them may bring: with 128 partitions it is worth a hundred records to find out.
        left = set(self._assigned if room.partitions is None else room.partitions)
        received = got = sum(map(len, records.values()))
        while got == room.max_records and received < _MOST and not self._stopped:
            left.difference_update(records)
            if not left:
                break
            records = await self._consumer.poll(left, room.max_records, 0)
            self._receive_all(records, group)
            got = sum(map(len, records.values()))
            received += got
        if received >= room.max_records:
            await asyncio.sleep(0)  # a poll that has records at hand suspends nobody

    def _receive_all(self, records: Mapping[Partition, Sequence[ConsumedRecord]], group: TaskGroup) -> None:
        for partition, batch in records.items():
            self._receive(partition, batch, group)
        if records:
            self._on_records()

    def _receive(self, partition: Partition, records: Sequence[ConsumedRecord], group: TaskGroup) -> None:
        tracker = self.trackers.get(partition)
        if tracker is not None and tracker.is_rewind(records[0].offset):
            log.error("%s/%d was reset to an earlier offset: starting anew at %d", *partition, records[0].offset)
            tracker.lost = True
            tracker = None
        if tracker is None:
            tracker = self.trackers[partition] = PartitionTracker(records[0].offset)
        tracker.position = records[-1].offset + 1
        now = self._clock.monotonic()
        find = self._registry.find
        fresh: list[Delivery] = []
        for record in records:
            if record.offset <= tracker.last_seen:
                continue  # in flight or finished here; it came again with a rebalance
            try:
                envelope = decode_envelope(record.value)
            except EnvelopeError as error:
                self._refuse(record, tracker, now, str(error), group)
                continue
            delivery = Delivery(record, envelope, find(envelope.task), tracker, now)
            tracker.receive(record.offset, delivery)
            if delivery.task is None:
                log.warning(
                    "%r: no such task here; it waits %g s for a deploy", delivery, self._options.unknown_task_window_s
                )
                self._intake.park(delivery, self._options.unknown_task_window_s)
            else:
                fresh.append(delivery)
        self._intake.add(fresh)

    def _refuse(
        self, record: ConsumedRecord, tracker: PartitionTracker[Delivery], now: float, detail: str, group: TaskGroup
    ) -> None:
        """Undecodable: to the dead-letter topic, and only then is its offset done."""
        delivery = Delivery(record, _NO_TASK, None, tracker, now)
        tracker.receive(record.offset, delivery)

        async def append() -> None:
            await self._dead_letters.append(record, "undecodable", detail)
            delivery.done()

        group.start_soon(append)

    def _move_stragglers(self, stalled: list[Partition], group: TaskGroup) -> None:
        """Append what holds a watermark back for too long again at the tail, and let its offset go (D3)."""
        now, age_s = self._clock.monotonic(), self._options.straggler_age_s
        places: Iterable[Partition] = stalled
        if now >= self._ages_due:  # not at every poll: with many partitions the look would cost as much as the tasks
            self._ages_due = now + min(_LOOK_AT_AGES_S, age_s / 4)
            places = self.trackers
        for partition in places:
            tracker = self.trackers[partition]
            # Where the span is used up, half of it at once: after a rebalance as many as another worker has slots may be
            # waited for. What has come just now is no straggler, it waits for its turn.
            end, least_s = (
                (tracker.watermark + self._options.span // 2, _STALLED_S) if partition in stalled else (0, age_s)
            )
            head = tracker.head()
            if head is None or head.received_at > now - least_s or partition in self._moving:
                continue
            late = [
                each
                for each in tracker.items()
                if (each.record.offset < end or each.received_at < now - age_s) and each.envelope is not _NO_TASK
            ]
            if late:
                self._moving.add(partition)
                group.start_soon(self._move, partition, late[:_MOVED_AT_ONCE])

    async def _move(self, partition: Partition, late: list[Delivery]) -> None:
        """Same bytes, same id, same lease: a copy is parked for as long as the task runs, whoever receives it."""
        copies = [
            OutRecord(record.topic, record.value, record.key, record.partition, list(record.headers))
            for record in (delivery.record for delivery in late)
        ]
        try:
            await self._producer.append(copies)
        except BrokerUnavailable as error:
            log.warning("%d records of %s/%d can't be moved to the tail yet: %s", len(late), *partition, error)
        else:
            log.info("%d records moved to the tail of %s/%d: %r first", len(late), *partition, late[0])
            for delivery in late:
                delivery.done()
        finally:
            self._moving.discard(partition)

    def watermarks(self) -> dict[Partition, int]:
        """What is new to commit."""
        return {
            partition: watermark
            for partition, tracker in self.trackers.items()
            if (watermark := tracker.watermark) > tracker.committed
        }

    async def commit(self, *, again: bool = False) -> bool:
        """True: everything finished is committed. again: also what we have committed before."""
        if again:
            offsets = {partition: tracker.watermark for partition, tracker in self.trackers.items()}
        else:
            offsets = self.watermarks()
        if not offsets:
            return True
        done = await self._consumer.commit(offsets)
        if done:
            for partition, offset in offsets.items():
                tracker = self.trackers.get(partition)
                if tracker is not None:
                    tracker.committed = max(tracker.committed, offset)
        return done

    def in_flight(self) -> list[Delivery]:
        """Received and not finished, of all partitions."""
        return [delivery for tracker in self.trackers.values() for delivery in tracker.items()]

    async def positions(self) -> dict[Partition, int]:
        """From where on nothing has been received, of each assigned partition."""
        found = {partition: await self._consumer.position(partition) for partition in self._assigned}
        return {partition: offset for partition, offset in found.items() if offset is not None}

    def lags(self) -> dict[str, int]:
        """Records not finished, by topic/partition; 0 where none has come since the assignment."""
        lags = {f"{topic}/{number}": 0 for topic, number in sorted(self._assigned)}
        for (topic, number), tracker in self.trackers.items():
            lags[f"{topic}/{number}"] = self._consumer.lag((topic, number), tracker.watermark)
        return lags


_NO_TASK = decode_envelope(b'{"v": 1, "id": "undecodable", "task": "undecodable"}')
