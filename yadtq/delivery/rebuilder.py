"""Writes QUEUED again for the backlog after Redis has lost its data (D1): Kafka still has all of it.

The tasks themselves do not depend on it: they are claimed from their records, known to Redis or not. But without it, a
status call for a task in a long backlog would raise `TaskNotFound`, and a call that waits for its result `ResultLost`.
Each worker does its own partitions; registering a task that is known already changes nothing.

Clients leave to the workers what they sent before the loss and had not registered yet (client/registrar.py). Such a record
may reach Kafka a little later, so a partition is read twice: at once, and from there on when no such record can come any
more.
"""

from __future__ import annotations

import logging
from contextlib import aclosing
from typing import TYPE_CHECKING

from yadtq.errors import BrokerUnavailable, EnvelopeError, StoreUnavailable
from yadtq.runtime.service import Periodic, Stage
from yadtq.wire.envelope import decode_envelope
from yadtq.wire.ids import home_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from yadtq.delivery.partitions import Partitions
    from yadtq.outside import Outside
    from yadtq.runtime.seams import ConsumedRecord, Partition, TaskConsumer
    from yadtq.settings import Settings

__all__ = ["Rebuilder"]

log = logging.getLogger("yadtq.worker")

_MOST = 500
#: Time stamps of records are by the clocks of clients and brokers, the birth of a data set by Redis's.
_SKEW_MS = 60_000
_SILENT_LOOKS = 2


class Rebuilder(Periodic):
    """A service. data_set: the name of Redis's data set, which begins with the time of its birth in ms; "" if unknown.

    A partition is checked once for each data set and each assignment, not when a loss is noticed: the worker that
    noticed it may die, or lose the partition, before it has registered the backlog.
    """

    name = "rebuilder"
    stage = Stage.INTAKE

    def __init__(
        self,
        *,
        outside: Outside,
        settings: Settings,
        partitions: Partitions,
        consumer: TaskConsumer,
        data_set: Callable[[], str],
    ) -> None:
        super().__init__()
        self._tasks = outside.store.tasks
        self._broker = outside.broker
        self._partitions = partitions
        self._consumer = consumer
        self._data_set = data_set
        self._clock = outside.clock
        self._interval_s = settings.heartbeat_s  # a loss is noticed with a renewal of leases
        self._settled_s = settings.submit_timeout_s + settings.redis_timeout_s
        #: The data set that all of this is about, and when it was noticed (monotonic).
        self._noticed = ("", 0.0)
        #: Partitions that need no further check.
        self._done: set[Partition] = set()
        #: Partitions that were read once, and up to where.
        self._read_to: dict[Partition, int] = {}
        #: How many checks ago a partition was assigned.
        self._silent: dict[Partition, int] = {}

    def interval_s(self) -> float:
        return self._interval_s

    async def tick(self) -> None:
        data_set, partitions = self._data_set(), self._partitions
        born_ms, _, _ = data_set.partition("-")
        if not born_ms.isdigit():
            return
        if data_set != self._noticed[0]:
            self._noticed = (data_set, self._clock.monotonic())
            self._done.clear()
            self._read_to.clear()
        self._done.intersection_update(partitions.assigned)
        self._read_to = {each: self._read_to[each] for each in partitions.assigned if each in self._read_to}
        self._silent = {each: self._silent.get(each, 0) + 1 for each in partitions.assigned}
        for partition in partitions.assigned:
            if partition not in self._done:
                await self._check(partition, int(born_ms))

    async def _check(self, partition: Partition, born_ms: int) -> None:
        settled = self._clock.monotonic() - self._noticed[1] >= self._settled_s
        if partition in self._read_to and not settled:
            return
        oldest_ms = self._partitions.oldest_ms(partition)
        if oldest_ms is None:
            # The first batch tells how old the backlog is. If there is no room for one, its age is unknown, and it is
            # registered.
            if self._silent[partition] < _SILENT_LOOKS or await self._is_empty(partition):
                return
            oldest_ms = 0
        try:
            if oldest_ms < born_ms + _SKEW_MS:
                count = await self._rebuild(partition)
                if count:
                    log.info("%d unfinished tasks of %s/%d are registered in Redis", count, *partition)
                if not settled:
                    return
        except (BrokerUnavailable, StoreUnavailable) as error:
            # Once a second, for each partition; that the server is away is told elsewhere.
            log.debug("the backlog of %s/%d can't be registered yet: %s", *partition, error)
        else:
            self._done.add(partition)

    async def _is_empty(self, partition: Partition) -> bool:
        position = await self._consumer.position(partition)
        return position is None or self._consumer.lag(partition, position) == 0

    async def _rebuild(self, partition: Partition) -> int:
        # Not simply from the watermark on: a task that is finished above it must not become QUEUED, because it would
        # never be run again. Running tasks are safe: a renewal overwrites a registration.
        topic, number = partition
        position = await self._consumer.position(partition)
        if position is None:
            raise BrokerUnavailable("its position is not known")
        # After a rebalance the position goes back to what is committed: what this worker has seen comes again, and is
        # dropped.
        position = max(position, self._partitions.seen_to(partition), self._read_to.get(partition, 0))
        count = await self._register([delivery.record for delivery in self._partitions.in_flight(partition)])
        async with aclosing(self._broker.read(topic, {number: position})) as batches:
            async for records in batches:
                count += await self._register(records)
                position = max((position, *(record.offset + 1 for record in records)))
                if self._stopped.is_set():
                    return count
        self._read_to[partition] = position
        return count

    async def _register(self, records: Sequence[ConsumedRecord]) -> int:
        tasks = []
        for record in records:
            try:
                envelope = decode_envelope(record.value)
            except EnvelopeError:
                continue  # the fetcher will read it later, and dead-letter it
            tasks.append((envelope.id, home_of(record.topic, envelope.task)))
        for at in range(0, len(tasks), _MOST):
            task_ids, homes = zip(*tasks[at : at + _MOST], strict=True)
            await self._tasks.register(task_ids, homes=homes)
        return len(tasks)
