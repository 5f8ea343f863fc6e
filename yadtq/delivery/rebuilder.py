"""Writes QUEUED again for the backlog after Redis has lost its data (D1): Kafka has it all.

Nothing depends on it for the tasks themselves, which are claimed from their records whatever Redis knows. But without it
whoever asks for a task in a long backlog would be told that nothing is known of it, and whoever waits, that it is lost.
Each worker does its own partitions; registering a task that is known already changes nothing.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from contextlib import aclosing
from typing import TYPE_CHECKING

import anyio

from yadtq.errors import BrokerUnavailable, EnvelopeError, StoreUnavailable
from yadtq.runtime.service import Service, Stage
from yadtq.wire.envelope import decode_envelope

if TYPE_CHECKING:
    from anyio.abc import TaskStatus as Started

    from yadtq.delivery.partitions import Partitions
    from yadtq.outside import Outside
    from yadtq.runtime.seams import TaskConsumer

__all__ = ["Rebuilder"]

log = logging.getLogger("yadtq.worker")

_RETRY_S = 1.0
_MOST = 500


class Rebuilder(Service):
    """A service. `wake()` when Redis has lost its data."""

    name = "rebuilder"
    stage = Stage.INTAKE

    def __init__(self, *, outside: Outside, partitions: Partitions, consumer: TaskConsumer) -> None:
        self._tasks = outside.store.tasks
        self._broker = outside.broker
        self._partitions = partitions
        self._consumer = consumer
        self._woken = anyio.Event()
        self._stopped = anyio.Event()

    def wake(self) -> None:
        self._woken.set()

    def stop(self) -> None:
        self._stopped.set()
        self._woken.set()

    async def run(self, *, task_status: Started[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while not self._stopped.is_set():
            await self._woken.wait()
            self._woken = anyio.Event()
            if self._stopped.is_set():
                return
            try:
                count = await self._rebuild()
                log.info("%d tasks of the backlog are registered again", count)
            except (BrokerUnavailable, StoreUnavailable) as error:
                log.info("the backlog can't be registered yet: %s", error)
                await anyio.sleep(_RETRY_S)
                self._woken.set()

    async def _rebuild(self) -> int:
        # Not simply from the watermark on: what is finished above it must not be told as QUEUED, for nobody would ever
        # run it again. What runs is not harmed: a renewal goes over a mere registration.
        starts: defaultdict[str, dict[int, int]] = defaultdict(dict)
        for partition in self._partitions.assigned:
            if (offset := await self._consumer.position(partition)) is not None:
                starts[partition[0]][partition[1]] = offset
        count = await self._register([delivery.record.value for delivery in self._partitions.in_flight()])
        for topic, offsets in starts.items():
            async with aclosing(self._broker.read(topic, offsets)) as batches:
                async for records in batches:
                    count += await self._register([record.value for record in records])
                    if self._stopped.is_set():
                        return count
        return count

    async def _register(self, values: list[bytes | None]) -> int:
        task_ids = []
        for value in values:
            try:
                task_ids.append(decode_envelope(value).id)
            except EnvelopeError:
                continue  # the fetcher will come to it, and dead-letter it
        for at in range(0, len(task_ids), _MOST):
            await self._tasks.register(task_ids[at : at + _MOST])
        return len(task_ids)
