"""The way of records without what runs them: from a scripted consumer to the waiting room, and back as a watermark."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from tests.support.apps import bring, make_record, make_value
from tests.support.doubles import ScriptedConsumer, Sink
from tests.support.poll import eventually
from yadtq import Yadtq
from yadtq.delivery.checked import CheckedDelivery
from yadtq.delivery.committer import Committer
from yadtq.delivery.deadletters import DeadLetters
from yadtq.delivery.fetcher import Decoder, Fetcher
from yadtq.delivery.gates.unknown import UnknownTasks
from yadtq.delivery.outbox import Outbox
from yadtq.delivery.partitions import Partitions
from yadtq.delivery.place import Place
from yadtq.delivery.stragglers import Stragglers
from yadtq.delivery.turns.partitions import PartitionTurns
from yadtq.delivery.waiting import WaitingRoom
from yadtq.settings import WorkerSettings
from yadtq.testing.doubles import ManualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from yadtq.delivery.delivery import Delivery
    from yadtq.testing.doubles import MemoryRecord

__all__ = ["P0", "P1", "TOPIC", "Arrivals", "arrivals", "ids", "records", "release"]

TOPIC = "yadtq.t.tasks.default"
P0, P1 = (TOPIC, 0), (TOPIC, 1)


class Arrivals:
    """Fetcher, stragglers and outbox of a worker with two partitions. The committer is only asked by the test."""

    def __init__(self, **options: Any) -> None:
        self.clock = ManualClock()
        self.consumer, self.producer = ScriptedConsumer(P0, P1), Sink()
        settings = WorkerSettings.load(**options)
        app = Yadtq("t")

        @app.task
        async def work() -> None: ...

        self.partitions = Partitions()
        self.outbox = Outbox(producer=self.producer, clock=self.clock)
        self.room = WaitingRoom(
            clock=self.clock, turns=PartitionTurns(), gates=[UnknownTasks(settings.unknown_task_window_s)]
        )
        self.stragglers = Stragglers(partitions=self.partitions, outbox=self.outbox, clock=self.clock, options=settings)
        letters = DeadLetters(topic="yadtq.t.dead", worker_id="w", outbox=self.outbox, clock=self.clock)
        self.told = 0
        self.fetcher = Fetcher(
            consumer=self.consumer,
            decoder=Decoder(self.partitions, app.registry, self.room, letters, self.clock, CheckedDelivery),
            stragglers=self.stragglers,
            options=settings,
            on_records=self._tell,
        )
        self.committer = Committer(
            partitions=self.partitions, consumer=self.consumer, clock=self.clock, interval_s=settings.commit_interval_s
        )

    def _tell(self) -> None:
        self.told += 1

    async def taken(self, count: int) -> list[Delivery]:
        """So many, taken to be claimed."""
        found: list[Delivery] = []

        def all_there() -> bool:
            found.extend(self.room.take(count - len(found)))
            return len(found) == count

        await eventually(all_there, what=f"{count} deliveries")
        return found

    async def polled(self) -> None:
        """Another poll or two have come back."""
        before = len(self.consumer.polls)
        await eventually(lambda: len(self.consumer.polls) > before + 2)


@asynccontextmanager
async def arrivals(**options: Any) -> AsyncIterator[Arrivals]:
    """options: of the worker."""
    made = Arrivals(**options)
    services = (made.fetcher, made.stragglers, made.outbox)
    runs = [asyncio.create_task(service.run()) for service in services]
    await eventually(lambda: made.consumer.polls)
    yield made
    for service in services:
        service.stop()
    await asyncio.wait_for(asyncio.gather(*runs), 5)


def records(*offsets: int, partition: int = 0) -> list[MemoryRecord]:
    return [make_record(make_value(task_id=f"{partition}-{each}"), each, partition=partition) for each in offsets]


def ids(deliveries: list[Delivery]) -> list[str]:
    return [delivery.envelope.id for delivery in deliveries]


def release(delivery: Delivery) -> None:
    """Its task has ended."""
    bring(delivery, Place.RUNNING)
    bring(delivery, Place.STORING)
    delivery.release()
