"""From Kafka to the waiting room: polls for as many records as there is room for, and decodes them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from yadtq.delivery.allowance import allowance
from yadtq.delivery.delivery import UNDECODABLE, Delivery
from yadtq.delivery.place import Place
from yadtq.errors import EnvelopeError
from yadtq.runtime.seams import Unreadable, next_offset
from yadtq.runtime.service import Service, Stage
from yadtq.wire.deadletter import DeadReason
from yadtq.wire.envelope import decode_envelope, decode_head

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from anyio.abc import TaskStatus as Started

    from yadtq.delivery.deadletters import DeadLetters
    from yadtq.delivery.partitions import Partitions
    from yadtq.delivery.stragglers import Stragglers
    from yadtq.delivery.waiting import WaitingRoom
    from yadtq.registry import Registry
    from yadtq.runtime.clock import Clock
    from yadtq.runtime.seams import ConsumedRecord, Partition, TaskConsumer
    from yadtq.settings import WorkerSettings

__all__ = ["Decoder", "Fetcher"]

_MOST = 1_000
#: A poll for all partitions ends with the first record, so it may be long; one that leaves partitions out is short,
#: because it can't notice when they have room again.
_LONG_POLL_S = 1.0
_SHORT_POLL_S = 0.05
_ROOM_GATHERS_S = 0.01
#: Decoded, a value takes up to thirty times its bytes (`[],[],...`). A larger one is decoded again for its attempt, so that
#: what waits takes no more than it has on the wire.
_LARGE_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class Decoder:
    """Makes deliveries of records, and sends each on its way. make: `Delivery`, or one that checks its moves."""

    partitions: Partitions
    registry: Registry
    room: WaitingRoom
    dead_letters: DeadLetters
    clock: Clock
    make: type[Delivery] = Delivery

    def receive(self, partition: Partition, records: Sequence[ConsumedRecord]) -> None:
        """Consecutive records of one partition."""
        tracker = self.partitions.tracker(partition, records[0].offset, next_offset(records[-1]))
        tracker.last_ms = records[-1].timestamp
        now, find, make = self.clock.monotonic(), self.registry.find, self.make
        fresh: list[Delivery] = []
        for record in records:
            if record.offset <= tracker.last_seen:
                continue  # in flight or finished here; delivered again by a rebalance
            try:
                envelope = decode_envelope(record.value)
            except EnvelopeError as error:
                detail = record.reason if isinstance(record, Unreadable) else str(error)
                head = None if isinstance(record, Unreadable) else decode_head(record.value)
                delivery = make(record, head or UNDECODABLE, None, source=tracker, now=now)
                delivery.defect = detail
            else:
                delivery = make(record, envelope, find(envelope.task), source=tracker, now=now)
            size = len(record.value or b"")
            tracker.receive(record.offset, delivery, size)
            if size > _LARGE_BYTES:
                delivery.forget_arguments()
            if delivery.envelope is not UNDECODABLE:
                fresh.append(delivery)
            else:
                delivery.place = Place.OUTBOX
                self.dead_letters.put(delivery, DeadReason.UNDECODABLE, delivery.defect, delivery.release)
        self.room.add(fresh)


class Fetcher(Service):
    """A service. After `stop()` nothing is fetched. on_records: told after each batch and each rebalance; must not
    wait.
    """

    name = "fetcher"
    stage = Stage.INTAKE

    def __init__(
        self,
        *,
        consumer: TaskConsumer,
        decoder: Decoder,
        stragglers: Stragglers,
        options: WorkerSettings,
        on_records: Callable[[], None],
    ) -> None:
        self._consumer = consumer
        self._decoder = decoder
        self._partitions = decoder.partitions
        self._stragglers = stragglers
        self._options = options
        self._on_records = on_records
        self._stopped = False
        self._scope: anyio.CancelScope | None = None
        self._room = asyncio.Event()

    def wake(self) -> None:
        """Records were finished: there may be room for others."""
        self._room.set()

    def stop(self) -> None:
        """The current poll is cancelled: it is the last one, so the state that a cancelled getmany leaves behind does
        not matter.
        """
        self._stopped = True
        if self._scope is not None:
            self._scope.cancel()

    async def drained(self) -> None:
        self.stop()

    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
        with anyio.CancelScope() as scope:
            self._scope = scope
            if not self._stopped:
                await self._consumer.start(self._assign, self._partitions.watermarks)
            task_status.started()
            while not self._stopped:
                await self._poll()

    def _assign(self, partitions: Mapping[Partition, str]) -> None:
        self._partitions.assign(partitions)
        self._decoder.room.rebalanced()
        self._on_records()

    async def _poll(self) -> None:
        options, partitions = self._options, self._partitions
        room = allowance(
            partitions.assigned,
            partitions.trackers,
            window=options.window,
            span=options.span,
            most=_MOST,
            most_bytes=options.window_bytes,
        )
        if room.stalled:
            self._stragglers.wake()
        if room.max_records == 0:
            await self._wait_for_room(_SHORT_POLL_S if room.stalled else _LONG_POLL_S)
            return
        if room.partitions is None:
            records = await self._consumer.poll(None, room.max_records, _LONG_POLL_S)
        else:
            records = await self._consumer.poll(room.partitions, room.max_records, _SHORT_POLL_S)
        self._receive(records)
        received = await self._poll_others(records, room.partitions, room.max_records)
        if received >= room.max_records:
            await asyncio.sleep(0)  # a poll that finds records in its buffer does not yield to the event loop

    async def _poll_others(
        self,
        records: Mapping[Partition, Sequence[ConsumedRecord]],
        asked: Collection[Partition] | None,
        max_records: int,
    ) -> int:
        """A full poll mostly comes from one partition, and others wait behind it: they are polled with the same
        allowance.

        Computing a new allowance for 128 partitions costs as much as a hundred records. Returns the number of all
        records that were received.
        """
        left = set(self._partitions.assigned if asked is None else asked)
        received = got = sum(map(len, records.values()))
        while got == max_records and received < _MOST and not self._stopped:
            left.difference_update(records)
            if not left:
                break
            records = await self._consumer.poll(sorted(left), max_records, 0)
            self._receive(records)
            got = sum(map(len, records.values()))
            received += got
        return received

    async def _wait_for_room(self, seconds: float) -> None:
        self._room.clear()
        with anyio.move_on_after(seconds):
            await self._room.wait()
            # A full window keeps the worker busy: checking every partition after each few finished tasks would cost as
            # much as the tasks.
            await anyio.sleep(_ROOM_GATHERS_S)

    def _receive(self, records: Mapping[Partition, Sequence[ConsumedRecord]]) -> None:
        for partition, batch in records.items():
            self._decoder.receive(partition, batch)
        if records:
            self._on_records()
