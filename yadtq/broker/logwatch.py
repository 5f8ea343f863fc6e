"""Checks that the logs a member of the group reads are still the same ones, and complete.

After each rebalance it finds out which logs they are and where to begin. Only then is the assignment used. Later it
checks every few seconds for a log that was replaced and for records that were deleted before they were run, and less
often for a topic whose configuration would lose tasks.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from yadtq.broker.aiokafka_life import committed, wire
from yadtq.broker.metadata import topics_as_they_are
from yadtq.broker.starts import Commit, Where, start_of
from yadtq.broker.topics import check_topics
from yadtq.errors import BrokerUnavailable, ConfigError
from yadtq.runtime.seams import next_offset

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from aiokafka import AIOKafkaConsumer

    from yadtq.runtime.clock import Clock
    from yadtq.runtime.seams import ConsumedRecord, Partition
    from yadtq.settings import Settings

__all__ = ["LogWatch"]

log = logging.getLogger("yadtq.broker")

_LOOK_S = 5.0
_CHECK_TOPICS_S = 60.0
_ANSWER_S = 10.0
_RETRY_S = 0.2


class LogWatch:
    """Outlives the consumers of one member. logs: identity of each log that was told to `on_assigned`.

    known: set while the assignment is known and reported. Nothing is handed out or committed before that.
    """

    def __init__(self, settings: Settings, topics: Sequence[str], clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._topics = sorted(topics)
        self._on_assigned: Callable[[Mapping[Partition, str]], None] = lambda _: None
        self._consumer: AIOKafkaConsumer | None = None
        self._pending: frozenset[TopicPartition] | None = None
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        #: The highest offset that this member has committed, and the next one that it will see.
        self._ours: dict[Partition, int] = {}
        self._next: dict[Partition, int] = {}
        self._check_due = clock.monotonic() + _CHECK_TOPICS_S
        self.logs: dict[Partition, str] = {}
        self.known = asyncio.Event()

    def start(self, on_assigned: Callable[[Mapping[Partition, str]], None]) -> None:
        self._on_assigned = on_assigned
        self._task = asyncio.get_running_loop().create_task(self._run(), name="yadtq-logwatch")

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def assigned(self, consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition]) -> None:
        """After a rebalance, with the whole assignment. Never waits: the whole group would wait with it."""
        self._consumer, self._pending = consumer, frozenset(partitions)
        self.known.clear()
        self._woken.set()

    def committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """These are being committed."""
        for partition, offset in offsets.items():
            self._ours[partition] = max(offset, self._ours.get(partition, offset))

    def handed_out(self, records: Mapping[TopicPartition, Sequence[ConsumedRecord]]) -> None:
        for partition, batch in records.items():
            self._next[partition] = next_offset(batch[-1])

    async def _run(self) -> None:
        while True:
            try:
                if self._pending is not None and self._consumer is not None:
                    async with asyncio.timeout(_ANSWER_S):
                        await self._look_up(self._consumer, self._pending)
                    continue
                self._woken.clear()
                try:
                    async with asyncio.timeout(_LOOK_S):
                        await self._woken.wait()
                except TimeoutError:
                    await self._look()
            except (KafkaError, OSError, BrokerUnavailable, ConfigError) as error:
                # The outage that stops everything else, too; the check is repeated when it is over.
                log.debug("the logs can't be checked: %s", error)
                await asyncio.sleep(_RETRY_S)
            except Exception:
                # A broken aiokafka raises anything. Without this task nothing would be handed out any more.
                log.exception("looking at the logs")
                await asyncio.sleep(_LOOK_S)

    async def _look_up(self, consumer: AIOKafkaConsumer, assigned: frozenset[TopicPartition]) -> None:
        identities = await self._identities(consumer)
        commits = await committed(consumer, assigned) if assigned else {}
        logs = {tuple(partition): identities.get(partition.topic, "") for partition in sorted(assigned)}
        ours: dict[Partition, int] = {}
        positions: dict[Partition, int] = {}
        for partition in sorted(assigned):
            found = commits.get(partition)
            commit = Commit(found.offset, found.metadata or "") if found is not None else Commit(-1)
            known = self.logs.get(partition, "")
            start = start_of(commit, logs[partition], known_id=known, ours=self._ours.get(partition))
            if self._pending is not assigned:
                return  # the next rebalance was faster
            if start.problem:
                log.error("%s/%d: %s", *partition, start.problem)
            if start.note:
                log.warning("%s/%d: %s", *partition, start.note)
            if start.where is Where.EARLIEST:
                await consumer.seek_to_beginning(partition)
            elif start.where is Where.OFFSET:
                consumer.seek(partition, start.offset)
            if start.where is not Where.EARLIEST and partition in self._ours:
                ours[partition] = self._ours[partition]
            if start.where is Where.COMMITTED and commit.offset >= 0:
                positions[partition] = commit.offset
        if self._pending is assigned:
            self._pending = None
            self.logs, self._ours, self._next = logs, ours, positions
            self._on_assigned(dict(logs))
            self.known.set()

    async def _identities(self, consumer: AIOKafkaConsumer) -> dict[str, str]:
        """Of the topics that exist. A topic that has more or fewer partitions than aiokafka knows of is made known to
        it.
        """
        try:
            found = await topics_as_they_are(wire(consumer), self._topics)
        except ConfigError:  # a Kafka that has no identities
            return {}
        if any(len(consumer.partitions_for_topic(topic) or ()) != info.partitions for topic, info in found.items()):
            # It would find out within metadata_max_age_ms; until then nobody would read those partitions.
            wire(consumer).force_metadata_update()
        return {topic: info.id for topic, info in found.items()}

    async def _look(self) -> None:
        consumer, logs = self._consumer, self.logs
        if consumer is None:
            return
        places = [TopicPartition(*partition) for partition in logs]
        async with asyncio.timeout(_ANSWER_S):
            identities = await self._identities(consumer)
            if self.logs is not logs or self._pending is not None:
                return
            if any(identities.get(topic, log_id) != log_id for (topic, _), log_id in logs.items()):
                await self._replace(consumer, logs, identities)
                return
            if places:
                await self._look_for_holes(consumer, places)
        if self._clock.monotonic() >= self._check_due:
            self._check_due = self._clock.monotonic() + _CHECK_TOPICS_S
            # One member of the group is enough.
            for problem in await check_topics(self._settings, sorted({topic for topic, n in logs if n == 0})):
                log.error("%s", problem)

    async def _replace(
        self, consumer: AIOKafkaConsumer, logs: Mapping[Partition, str], identities: Mapping[str, str]
    ) -> None:
        """Begin the logs of topics that were made again, as after a rebalance; others go on."""
        self.known.clear()
        try:
            fresh = {each: identities.get(each[0], log_id) for each, log_id in logs.items()}
            for partition, log_id in fresh.items():
                if log_id != logs[partition]:
                    start = start_of(Commit(-1), log_id, known_id=logs[partition])
                    log.error("%s/%d: %s", *partition, start.problem)
                    await consumer.seek_to_beginning(TopicPartition(*partition))
                    self._ours.pop(partition, None)
                    self._next.pop(partition, None)
            if self._pending is None:
                self.logs = fresh
                self._on_assigned(dict(fresh))
        finally:
            if self._pending is None:
                self.known.set()

    async def _look_for_holes(self, consumer: AIOKafkaConsumer, places: list[TopicPartition]) -> None:
        try:
            starts = await consumer.beginning_offsets(places)
        except IllegalStateError:  # a rebalance came in between
            return
        for partition, start in starts.items():
            expected = self._next.get(partition)
            if expected is not None and start > expected:
                log.error(
                    "%s/%d: the records from %d to %d were deleted before this group had read them, by a limit of the topic "
                    "or by hand: their tasks are lost",
                    *partition,
                    expected,
                    start - 1,
                )
                self._next[partition] = start
