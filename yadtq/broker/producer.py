"""Appending to Kafka, a batch a call, in bounded time.

Idempotence is off on purpose: aiokafka's idempotent batches never expire, and one refused batch blocks the producer
permanently (aio-libs/aiokafka#1017). A duplicate is harmless here, because a task is identified by its id. A failure
takes bounded time and is ambiguous: the record may be in the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAuthorizationFailedError
from aiokafka.partitioner import DefaultPartitioner

from yadtq.broker.aiokafka_life import connected, health, led_to, stopped
from yadtq.broker.connecting import connection_options
from yadtq.broker.refusals import refusal
from yadtq.errors import BrokerRefused, BrokerUnavailable
from yadtq.runtime.deadlines import Deadlines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiokafka.producer.message_accumulator import BatchBuilder

    from yadtq.runtime.seams import OutRecord, Partition
    from yadtq.settings import Settings

__all__ = ["KafkaProducer"]

log = logging.getLogger("yadtq.broker")

_BATCH_BYTES = 256 * 1024
#: What a topic with a lower limit gets, at the least: halves of refused batches come to it.
_LEAST_BATCH = 1_024
_RECORD_OVERHEAD = 40
#: The broker decides what is too large, by its topic. It would not answer a request over its `socket.request.max.bytes`
#: (100 MiB), but close the connection.
_MOST_BYTES = 90_000_000
_FLUSH_S = 4.0
#: A producer that has failed this many times in a row is replaced: its connections or its sender may not recover.
_FAILURES_BEFORE_REPLACEMENT = 3


#: The place of a record in the append, and the record.
_Entry: TypeAlias = "tuple[int, OutRecord]"


class _Answers(NamedTuple):
    """Of one append. errors: by index. stored: acknowledged."""

    errors: dict[int, BaseException]
    stored: list[Sequence[_Entry]]


class KafkaProducer:
    """`seams.Producer` on aiokafka. acks=all; no linger, because the callers have already batched concurrent records."""

    def __init__(self, settings: Settings, *, timeout_s: float | None = None) -> None:
        self._settings = settings
        self._timeout_s = timeout_s if timeout_s is not None else settings.submit_timeout_s
        self._producer: AIOKafkaProducer | None = None
        self._replacing = asyncio.Lock()
        self._ended: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._turn = 0
        self._limits: dict[str, int] = {}
        self._deadlines = Deadlines(self._timeout_s)
        self._partitioner = DefaultPartitioner()

    async def start(self) -> None:
        """Connect. Raises `BrokerUnavailable` after `connect_timeout_s`, `ConfigError` if waiting does not help."""
        self._producer = await self._connected(at_start=True)

    async def _connected(self, *, at_start: bool = False) -> AIOKafkaProducer:
        options = connection_options(self._settings)
        return await connected(
            lambda: AIOKafkaProducer(
                **options, acks="all", linger_ms=0, max_batch_size=_BATCH_BYTES, max_request_size=_MOST_BYTES
            ),
            self._settings.connect_timeout_s,
            f"Kafka at {self._settings.kafka}",
            at_start=at_start,
        )

    async def append(self, records: Sequence[OutRecord]) -> None:
        """Returns when all are acknowledged. Each partition's batch has its own answer, and a refused record its own.

        Raises `BrokerRefused` or `BrokerUnavailable`, which say of which records.
        """
        if len(records) == 1:
            await self._append_one(records)
            return
        answers = _Answers({}, [])
        try:
            with self._deadlines.within():
                await self._append(await self._usable(), records, answers)
        except (TimeoutError, KafkaError, OSError) as error:
            self._tell(records, answers, error)
        else:
            if answers.errors:
                self._tell(records, answers)
        self._failures = 0

    async def _append_one(self, records: Sequence[OutRecord]) -> None:
        """A single record is sent directly: aiokafka chooses the partition, and there is nothing to group."""
        (record,) = records
        try:
            with self._deadlines.within():
                producer = await self._usable()
                await producer.send_and_wait(
                    record.topic, record.value, record.key, record.partition, headers=list(record.headers)
                )
        except (TimeoutError, KafkaError, OSError) as error:
            self._tell(records, _Answers({}, []), error)
        self._failures = 0

    def _tell(self, records: Sequence[OutRecord], answers: _Answers, rest: BaseException | None = None) -> None:
        """Raises the error that the answers amount to. rest: what happened to records without an answer."""
        stored = {index for part in answers.stored for index, _ in part}
        refused: dict[int, str] = {}
        too_large: set[int] = set()
        uncertain: dict[int, BaseException] = {}
        for index, record in enumerate(records):
            error = answers.errors.get(index, None if index in stored else rest)
            if (found := refusal(record.topic, error)) is not None:
                refused[index] = found.reason
                too_large |= {index} if found.too_large else set()
            elif error is not None:
                uncertain[index] = error
        if uncertain:
            self._failures += 1
            cause = next(iter(uncertain.values()))
            reason = str(cause) or type(cause).__name__
            if isinstance(cause, TimeoutError):
                reason = f"no acknowledgement within {self._timeout_s:g} s"
            led = led_to(self._producer) if self._producer is not None else ""
            message = f"Kafka at {self._settings.kafka}: {reason}{led}"
            raise BrokerUnavailable(message, uncertain=uncertain, refused=refused) from cause
        self._failures = 0  # it answers
        if refused:
            more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
            raise BrokerRefused(f"Kafka refused a record{more}: {next(iter(refused.values()))}", refused, too_large)

    async def _append(self, producer: AIOKafkaProducer, records: Sequence[OutRecord], answers: _Answers) -> None:
        placed: defaultdict[Partition, list[_Entry]] = defaultdict(list)
        counts: dict[str, list[int]] = {}
        for index, record in enumerate(records):
            topic = record.topic
            partitions = counts.get(topic)
            if partitions is None:
                partitions = counts[topic] = await self._partitions(producer, topic)
            if record.partition is not None:
                partition = record.partition
            elif not partitions:
                answers.errors[index] = TopicAuthorizationFailedError(topic)
                continue
            elif record.key is not None:
                partition = self._partitioner(record.key, partitions, partitions)
            else:
                self._turn += 1
                partition = partitions[self._turn % len(partitions)]
            placed[topic, partition].append((index, record))
        # Concurrently: a partition with a batch in flight delays its next batch, but not those of other partitions.
        await asyncio.gather(*(self._fill(producer, place, entries, answers) for place, entries in placed.items()))

    @staticmethod
    async def _partitions(producer: AIOKafkaProducer, topic: str) -> list[int]:
        """[]: it may not even be described."""
        try:
            return sorted(await producer.partitions_for(topic))
        except TopicAuthorizationFailedError:
            return []

    async def _fill(
        self,
        producer: AIOKafkaProducer,
        place: Partition,
        entries: list[_Entry],
        answers: _Answers,
    ) -> None:
        """Batch after batch, so that the order stays when one has to be sent again in parts."""
        waiting = [entries]
        while waiting:
            batch, taken, left = self._filled(producer, place[0], waiting.pop())
            if left:
                waiting.append(left)
            error = await _answer(producer, batch, place)
            found = refusal(place[0], error)
            if found is not None and found.alone and len(taken) > 1:
                if found.too_large:
                    self._limits[place[0]] = max(_LEAST_BATCH, sum(_size(record) for _, record in taken) // 2)
                half = len(taken) // 2
                waiting += [taken[half:], taken[:half]]
            elif error is None:
                answers.stored.append(taken)
            else:
                answers.errors.update((index, error) for index, _ in taken)

    def _filled(
        self, producer: AIOKafkaProducer, topic: str, entries: list[_Entry]
    ) -> tuple[BatchBuilder, list[_Entry], list[_Entry]]:
        """A batch of the first entries, as many as it may hold; which they are, and the rest."""
        batch = producer.create_batch()
        append, most = batch.append, self._limits.get(topic)
        fits = len(entries) if most is None else _fitting(entries, most)
        for at, (_, record) in enumerate(entries):
            if (
                at == fits
                or append(timestamp=None, key=record.key, value=record.value, headers=list(record.headers)) is None
            ):
                break
        else:
            at = len(entries)
        batch.close()
        return batch, entries[:at], entries[at:]

    async def _usable(self) -> AIOKafkaProducer:
        producer = self._producer
        if producer is not None and not self._is_wedged(producer):
            return producer
        async with self._replacing:
            if self._producer is producer:  # nobody else has replaced it while we waited
                self._producer = None
                if producer is not None:
                    log.warning("replacing the Kafka producer after %d failures", self._failures)
                    self._end(producer)
                self._producer = await self._connected()
                self._failures = 0
            if self._producer is None:
                raise BrokerUnavailable(f"Kafka at {self._settings.kafka}: the producer is closed")
            return self._producer

    def _is_wedged(self, producer: AIOKafkaProducer) -> bool:
        return self._failures >= _FAILURES_BEFORE_REPLACEMENT or health(producer) is not None

    def _end(self, producer: AIOKafkaProducer) -> None:
        """Stop in the background: a blocked producer takes long."""

        task = asyncio.get_running_loop().create_task(stopped(producer, _FLUSH_S))
        self._ended.add(task)
        task.add_done_callback(self._ended.discard)

    async def stop(self) -> None:
        """Flush and close, in 5 s at most."""
        producer, self._producer = self._producer, None
        if producer is not None:
            self._end(producer)
        if self._ended:
            await asyncio.wait(self._ended)
        self._deadlines.close()


async def _answer(producer: AIOKafkaProducer, batch: BatchBuilder, place: Partition) -> BaseException | None:
    """None: it is acknowledged."""
    topic, partition = place
    try:
        done = await producer.send_batch(batch, topic, partition=partition)
    except (KafkaError, OSError) as error:
        return error
    # Its error is retrieved even if no caller waits for it any more: asyncio would report it as a bug of ours.
    done.add_done_callback(lambda done: done.cancelled() or done.exception())
    # Not awaited itself: that would cancel it with us, and then nobody would read the error of a batch that fails
    # later.
    await asyncio.wait([done])
    problem: BaseException | None = (
        KafkaConnectionError("the producer was given up") if done.cancelled() else done.exception()
    )
    return problem


def _fitting(entries: Sequence[_Entry], most: int) -> int:
    """How many of the first entries have at most so many bytes together; one at least."""
    for at, (_, record) in enumerate(entries):
        most -= _size(record)
        if most < 0 and at:
            return at
    return len(entries)


def _size(record: OutRecord) -> int:
    """Bytes of a record in a batch, or a few more."""
    headers = sum(len(name) + len(value) + 10 for name, value in record.headers)
    return len(record.value or b"") + len(record.key or b"") + headers + _RECORD_OVERHEAD
