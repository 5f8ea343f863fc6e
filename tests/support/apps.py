"""Apps, workers in this process, and single deliveries, for tests of the core."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from yadtq import Yadtq
from yadtq.delivery.checked import CheckedDelivery
from yadtq.delivery.place import LIFE, Place
from yadtq.delivery.tracker import PartitionTracker
from yadtq.execution.attempt import Attempt
from yadtq.settings import WorkerSettings
from yadtq.testing.doubles import MemoryRecord
from yadtq.wire.envelope import Envelope
from yadtq.worker.worker import make_worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.stacks import Servers
    from yadtq.delivery.delivery import Delivery
    from yadtq.task import Task
    from yadtq.worker.worker import Worker

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
    **fields: Any,
) -> CheckedDelivery:
    """As the fetcher makes one. fields: of the envelope; `name` if there is no task."""
    tracker = tracker if tracker is not None else PartitionTracker(0)
    offset = tracker.last_seen + 1 if offset is None else offset
    name = task.name if task is not None else fields.pop("name", "nobody")
    envelope = Envelope(task_id or f"id{next(_ids)}", name, list(args), **fields)
    delivery = CheckedDelivery(make_record(b"value", offset), envelope, task, source=tracker, now=0.0)
    tracker.receive(offset, delivery, len(delivery.record.value or b""))
    return delivery


def make_attempt(
    task: Task[Any, Any] | None = None,
    *args: Any,
    of: Delivery | None = None,
    number: int = 1,
    crashes: int = 0,
    failures: int = 0,
    lease_at: float = 0.0,
    **fields: Any,
) -> Attempt:
    """As the claimer makes one of a granted claim. of: its delivery, in any place; a new one of `fields` if left out."""
    delivery = of if of is not None else make_delivery(task, *args, **fields)
    bring(delivery, Place.CLAIMING)
    delivery.nonce = delivery.nonce or f"nonce{next(_ids)}"
    return Attempt(
        delivery.envelope, delivery.task, number, delivery.nonce, crashes, failures, lease_at, lease_at, delivery
    )


def bring(delivery: Delivery, to: Place) -> Delivery:
    """Move it along the shortest way that the table of its life allows, as the parts before would have done."""
    ways: dict[Place, list[Place]] = {delivery.place: []}
    todo = [delivery.place]
    while to not in ways:
        here = todo.pop(0)
        for move in LIFE:
            if move.place is here and move.then not in ways:
                ways[move.then] = [*ways[here], move.then]
                todo.append(move.then)
    for place in ways[to]:
        delivery.place = place
    return delivery


async def committed_and_ends(
    servers: Servers, app: str, queue: str = "default"
) -> tuple[dict[int, int], dict[int, int]]:
    """Per partition of a task topic: what the app's group has committed (0 for nothing), and the next offset."""
    topic = f"yadtq.{app}.tasks.{queue}"
    consumer = AIOKafkaConsumer(
        **servers.clients, group_id=f"yadtq.{app}", enable_auto_commit=False, group_instance_id=None
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
