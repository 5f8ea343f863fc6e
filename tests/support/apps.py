"""Apps, workers in this process, and single deliveries, for tests of the core."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from yadtq import Yadtq
from yadtq.delivery.delivery import Delivery
from yadtq.delivery.tracker import PartitionTracker
from yadtq.settings import WorkerSettings
from yadtq.testing import MemoryRecord
from yadtq.wire.envelope import Envelope
from yadtq.worker.worker import Worker, make_worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.stacks import Servers
    from yadtq.task import Task

_ids = count(1)


def make_app(servers: Servers, name: str, **settings: Any) -> Yadtq:
    return Yadtq(name, **{"kafka": servers.kafka, "redis": servers.redis, "num_partitions": 2, **settings})


@asynccontextmanager
async def running(app: Yadtq, **options: Any) -> AsyncIterator[Worker]:
    """A worker in this process, drained at the end. Entered when it has joined its group."""
    worker = make_worker(app, WorkerSettings.load(**{"commit_interval_s": 0.1, **options}))
    async with running_worker(worker):
        yield worker


@asynccontextmanager
async def running_worker(worker: Worker) -> AsyncIterator[asyncio.Task[None]]:
    started = asyncio.Event()

    class Status:
        def started(self, value: None = None) -> None:
            started.set()

    run = asyncio.create_task(worker.run(task_status=Status()))
    waiting = asyncio.create_task(started.wait())
    await asyncio.wait([run, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    try:
        yield run
    finally:
        worker.drain()
        async with asyncio.timeout(60):
            await run


def make_record(value: bytes | None, offset: int = 0, **fields: Any) -> MemoryRecord:
    place = {"topic": "yadtq.t.tasks.default", "partition": 0, "timestamp": 0, "key": None, "headers": (), **fields}
    return MemoryRecord(value=value, offset=offset, **place)


def make_value(task: str = "work", task_id: str = "", **fields: Any) -> bytes:
    """The least task record, as any client may write it."""
    return json.dumps({"v": 1, "id": task_id or f"id{next(_ids)}", "task": task, **fields}).encode()


def make_delivery(
    task: Task[Any, Any] | None = None,
    *args: Any,
    tracker: PartitionTracker[Delivery] | None = None,
    offset: int | None = None,
    task_id: str = "",
    attempt: int = 1,
    **fields: Any,
) -> Delivery:
    """As the fetcher makes one and the claimer grants it. fields: of the envelope."""
    tracker = tracker if tracker is not None else PartitionTracker(0)
    offset = tracker.last_seen + 1 if offset is None else offset
    name = task.name if task is not None else fields.pop("name", "nobody")
    envelope = Envelope(task_id or f"id{next(_ids)}", name, list(args), **fields)
    delivery = Delivery(make_record(b"value", offset), envelope, task, tracker, 0.0)
    tracker.receive(offset, delivery)
    delivery.attempt = attempt
    return delivery


async def committed_and_ends(
    servers: Servers, app: str, queue: str = "default"
) -> tuple[dict[int, int], dict[int, int]]:
    """Per partition of a task topic: what the app's group has committed (0 for nothing), and the next offset."""
    topic = f"yadtq.{app}.tasks.{queue}"
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers.kafka, group_id=f"yadtq.{app}", enable_auto_commit=False, group_instance_id=None
    )
    await consumer.start()
    try:
        await consumer._client.force_metadata_update()
        partitions = sorted(consumer.partitions_for_topic(topic) or await _partitions(consumer, topic))
        places = [TopicPartition(topic, number) for number in partitions]
        ends = await consumer.end_offsets(places)
        committed = {place.partition: await consumer.committed(place) or 0 for place in places}
        return committed, {place.partition: end for place, end in ends.items()}
    finally:
        await consumer.stop()


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> set[int]:
    await consumer._client.add_topic(topic)
    return set(consumer.partitions_for_topic(topic) or ())


async def all_committed(servers: Servers, app: str) -> bool:
    committed, ends = await committed_and_ends(servers, app)
    return committed == ends
