"""Reading a whole topic from its end, or from a while ago, without a consumer group.

Every reader sees all records, independent of the others: the supervisor's watch and the client's view of the workers
read the heartbeat topic in this way. A tail outlives its connections: on an error, or if it receives nothing although
the topic has grown (a dead fetcher raises no error), it creates a new consumer and continues where it stopped.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING

import anyio
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from yadtq.broker.aiokafka_life import connected, stopped
from yadtq.broker.connecting import connection_options
from yadtq.broker.reader import Reader
from yadtq.errors import BrokerUnavailable
from yadtq.runtime.clock import SystemClock
from yadtq.runtime.outages import OutageLog
from yadtq.runtime.seams import Unreadable, next_offset

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from yadtq.runtime.clock import Clock
    from yadtq.runtime.seams import ConsumedRecord
    from yadtq.settings import Settings

__all__ = ["Tail", "read_from", "read_recent"]

log = logging.getLogger("yadtq.broker")

_POLL_S = 0.25
_READ_S = 0.2
_REBUILD_S = 0.5
_STOP_S = 2.0
_POLL_RECORDS = 2_000


class Tail:
    """`async with Tail(...) as tail: async for record in tail: ...`

    Entering it waits until the starting point is fixed: what is appended afterwards is seen. Up to `buffer` records
    wait for a slow reader, then the oldest are dropped: this is for views of the present state, not for tasks. The loop
    ends only by `stop()` or by leaving the `async with`.
    """

    def __init__(
        self,
        settings: Settings,
        topic: str,
        *,
        since_s: float = 0.0,
        buffer: int = 10_000,
        stall_s: float = 10.0,
        clock: Clock | None = None,
    ) -> None:
        self._settings, self._topic, self._since_s = settings, topic, since_s
        self._stall_s = stall_s
        self._clock = clock or SystemClock()
        self._outages = OutageLog(log, self._clock, f"Kafka, for topic {topic},")
        self._positions: dict[TopicPartition, int] = {}
        self._records: deque[ConsumedRecord] = deque(maxlen=buffer)
        self._news = asyncio.Event()
        self._stopping = False
        self._consumer: AIOKafkaConsumer | None = None
        self._pump: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Raises `BrokerUnavailable` after `connect_timeout_s`."""
        self._consumer = await self._connected()
        self._pump = asyncio.get_running_loop().create_task(self._run(), name=f"yadtq-tail-{self._topic}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Bounded: a consumer that doesn't stop in time is abandoned."""
        self.stop()
        if self._pump is None:
            return
        with anyio.CancelScope(shield=True):
            # The pump is asked to stop first: a cancelled getmany leaves wrong counters in the consumer.
            await asyncio.wait([self._pump], timeout=_POLL_S + _STOP_S + 1)
            self._pump.cancel()
            await asyncio.wait([self._pump])
        if not self._pump.cancelled() and (failure := self._pump.exception()) is not None:
            raise failure

    def stop(self) -> None:
        """Ends the iteration. Never waits."""
        self._stopping = True
        self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ConsumedRecord:
        while not self._records:
            if self._stopping or (self._pump is not None and self._pump.done()):
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._records.popleft()

    async def _run(self) -> None:
        try:
            while not self._stopping:
                try:
                    if self._consumer is None:
                        self._consumer = await self._connected()
                    await self._read(self._consumer)
                except Exception as error:
                    # Any exception: a broken aiokafka also raises errors that are not Kafka's, and a new consumer fixes
                    # it.
                    self._outages.failed(str(error) or type(error).__name__)
                    await self._drop()
                    await asyncio.sleep(_REBUILD_S)
        finally:
            await self._drop()
            self._news.set()

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        """Until `stop()`, or an error, or new partitions, or a stall; the caller starts again after each."""
        heard = self._clock.monotonic()
        while not self._stopping:
            batches = await Reader(consumer).poll(None, _POLL_RECORDS, _POLL_S)
            if self._outages.open:
                self._outages.answered()
            for partition, records in batches.items():
                self._take(partition, records)
            if batches:
                heard = self._clock.monotonic()
            elif self._clock.monotonic() - heard > self._stall_s:
                await self._refuse_stall(consumer)
                heard = self._clock.monotonic()
            if consumer.assignment() != self._positions.keys():
                self._resume(consumer)

    def _take(self, partition: TopicPartition, records: Sequence[ConsumedRecord]) -> None:
        # A consumer that notices new partitions resets all of them, and may do so before we correct it.
        position = self._positions.get(partition, 0)
        new = [record for record in records if record.offset >= position]
        if new:
            self._records.extend(_readable(new))
            self._positions[partition] = next_offset(new[-1])
            self._news.set()

    def _resume(self, consumer: AIOKafkaConsumer) -> None:
        """Known partitions go on where they were; added ones are read from their beginning."""
        self._positions = {partition: self._positions.get(partition, 0) for partition in consumer.assignment()}
        _seek(consumer, self._positions)

    async def _refuse_stall(self, consumer: AIOKafkaConsumer) -> None:
        async with asyncio.timeout(self._settings.kafka_request_timeout_s):
            ends = await consumer.end_offsets(list(self._positions))
        behind = [
            partition.partition
            for partition, end in ends.items()
            if end > max(self._positions[partition], await consumer.position(partition))
        ]
        if behind:
            raise TimeoutError(f"nothing read for {self._stall_s:g} s, though there is more in partitions {behind}")

    async def _connected(self) -> AIOKafkaConsumer:
        return await _connect(self._settings, self._topic, self._prepare)

    async def _prepare(self, consumer: AIOKafkaConsumer) -> None:
        if not self._positions:
            partitions = list(consumer.assignment())
            self._positions = await _positions(consumer, partitions, _since_ms(self._clock, self._since_s))
        self._resume(consumer)

    async def _drop(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await stopped(consumer, _STOP_S)


async def read_recent(
    settings: Settings, topic: str, since_s: float, timeout_s: float, *, clock: Clock | None = None
) -> list[ConsumedRecord]:
    """All records of the last `since_s`, up to the end of the topic as it is now, oldest first per partition.

    Raises `BrokerUnavailable` after `timeout_s`.
    """
    ends: dict[TopicPartition, int] = {}
    starts: dict[TopicPartition, int] = {}

    async def prepare(consumer: AIOKafkaConsumer) -> None:
        partitions = list(consumer.assignment())
        ends.update(await consumer.end_offsets(partitions))
        starts.update(await _positions(consumer, partitions, _since_ms(clock or SystemClock(), since_s), ends))
        _seek(consumer, starts)

    found: list[ConsumedRecord] = []
    try:
        async with asyncio.timeout(timeout_s):
            consumer = await _connect(settings, topic, prepare)
            try:
                # Asking for positions, not for offsets of records: gaps by compaction count as read.
                while behind := [each for each, end in ends.items() if await consumer.position(each) < end]:
                    for each, records in (await Reader(consumer).poll(behind, _POLL_RECORDS, _READ_S)).items():
                        found += [record for record in _readable(records) if starts[each] <= record.offset < ends[each]]
            finally:
                await stopped(consumer, _STOP_S)
    except TimeoutError:
        raise BrokerUnavailable(f"topic {topic} could not be read within {timeout_s:g} s") from None
    except (KafkaError, OSError) as error:
        raise BrokerUnavailable(f"topic {topic} could not be read: {error}") from error
    return found


async def read_from(
    settings: Settings, topic: str, starts: Mapping[int, int]
) -> AsyncGenerator[Sequence[ConsumedRecord], None]:
    """Batches of records of some partitions, each from its start up to the end as it is now.

    starts: partition number to offset. Raises `BrokerUnavailable`.
    """
    ends: dict[TopicPartition, int] = {}
    wanted = {TopicPartition(topic, number): offset for number, offset in starts.items()}

    async def prepare(consumer: AIOKafkaConsumer) -> None:
        ends.update(await consumer.end_offsets(list(wanted)))
        _seek(consumer, wanted)
        consumer.pause(*(consumer.assignment() - wanted.keys()))

    consumer = await _connect(settings, topic, prepare)
    try:
        while behind := [each for each, end in ends.items() if await consumer.position(each) < end]:
            for each, records in (await Reader(consumer).poll(behind, _POLL_RECORDS, _READ_S)).items():
                yield [record for record in _readable(records) if record.offset < ends[each]]
    except (KafkaError, OSError) as error:
        raise BrokerUnavailable(f"topic {topic} could not be read: {error}") from error
    finally:
        await stopped(consumer, _STOP_S)


async def _connect(
    settings: Settings, topic: str, prepare: Callable[[AIOKafkaConsumer], Awaitable[None]]
) -> AIOKafkaConsumer:
    """A started consumer on which `prepare` has been called. Raises `BrokerUnavailable` after `connect_timeout_s`."""
    # Subscribed, not assigned: without a group aiokafka assigns all partitions by itself, those added later too. And a
    # second assign() shortly before stop() makes it hang (the fetcher swallows the cancellation).
    return await connected(
        lambda: AIOKafkaConsumer(
            topic,
            **connection_options(settings),
            group_id=None,
            enable_auto_commit=False,
            # Only for a position that is no longer there: read what is, rather than skip it.
            auto_offset_reset="earliest",
            fetch_max_wait_ms=200,
        ),
        settings.connect_timeout_s,
        f"topic {topic} on Kafka at {settings.kafka} can't be read",
        prepare=prepare,
    )


def _readable(records: Sequence[ConsumedRecord]) -> list[ConsumedRecord]:
    """Unreadable records were logged already, and a view has no use for them."""
    return [record for record in records if not isinstance(record, Unreadable)]


def _since_ms(clock: Clock, since_s: float) -> int | None:
    return int((clock.time() - since_s) * 1000) if since_s > 0 else None


async def _positions(
    consumer: AIOKafkaConsumer,
    partitions: list[TopicPartition],
    since_ms: int | None,
    ends: Mapping[TopicPartition, int] | None = None,
) -> dict[TopicPartition, int]:
    # The ends are asked for first: a record that comes in between is read then, instead of being skipped.
    positions: dict[TopicPartition, int] = dict(ends or await consumer.end_offsets(partitions))
    if since_ms is not None:
        found = await consumer.offsets_for_times(dict.fromkeys(partitions, since_ms))
        for partition, hit in found.items():
            if hit is not None:
                positions[partition] = min(hit.offset, positions[partition])
    return positions


def _seek(consumer: AIOKafkaConsumer, positions: Mapping[TopicPartition, int]) -> None:
    for partition, offset in positions.items():
        consumer.seek(partition, offset)
