"""A client on doubles: a producer that the test holds, a store in memory, and what a worker would do by hand."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from yadtq import Yadtq
from yadtq.errors import BrokerUnavailable
from yadtq.outside import Outside, Place
from yadtq.runtime.clock import SystemClock
from yadtq.store.memory import MemoryStore
from yadtq.store.tasks.verbs import Claim, Finish
from yadtq.testing.doubles import MemoryBroker
from yadtq.testing.memory_app import MemoryAppBroker
from yadtq.wire.codec import decode
from yadtq.wire.names import TopicNames
from yadtq.wire.states import TaskStatus as S

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from contextlib import AbstractAsyncContextManager

    from yadtq.client.client import Client
    from yadtq.runtime.seams import OutRecord

__all__ = ["ClientBench", "Sink"]


class Sink:
    """In place of KafkaProducer. `gate`: appends wait for it. `refuse`: ids whose batch is not acknowledged."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.down = False
        self.appended: list[OutRecord] = []

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def append(self, records: Sequence[OutRecord]) -> None:
        await self.gate.wait()
        if self.down:
            raise BrokerUnavailable("no acknowledgement within 9 s")
        self.appended.extend(records)

    def ids(self) -> list[str]:
        return [decode(record.value or b"")["id"] for record in self.appended]


class Kafka(MemoryAppBroker):
    """A broker whose producer is the test's, and which tells what was provisioned."""

    def __init__(self, sink: Sink) -> None:
        super().__init__(MemoryBroker(), TopicNames("t"), None)
        self.sink = sink
        self.provisioned: list[set[str]] = []

    def producer(self, *, timeout_s: float | None = None) -> Sink:  # type: ignore[override]
        return self.sink

    async def provision(self, queues: Collection[str], partitions: int | None = None) -> None:
        await asyncio.sleep(0)
        self.provisioned.append(set(queues))


class ClientBench:
    """An app with two tasks, and all that its client is given."""

    def __init__(self) -> None:
        self.sink = Sink()
        self.kafka = Kafka(self.sink)
        self.app = Yadtq("t", submit_timeout_s=0.3, max_task_bytes=1_000, max_pending_submits=10, redis_timeout_s=0.3)
        chance = random.Random(7)
        self.store = MemoryStore(SystemClock(), chance, self.app.settings)
        self.outside = Outside(
            broker=self.kafka,
            store=self.store,
            clock=SystemClock(),
            chance=chance,
            names=TopicNames("t"),
            place=Place("host", 1),
        )

        @self.app.task
        async def work(n: int, text: str = "") -> int:
            return n

        @self.app.task(queue="mail")
        async def send() -> None: ...

        self.work, self.send = work, send

    def client(self) -> AbstractAsyncContextManager[Client]:
        return self.app.client(outside=self.outside)

    async def end(self, task_id: str, status: S, payload: bytes = b"", *, attempts: int = 1) -> None:
        """As a worker does."""
        for attempt in range(1, attempts + 1):
            (claimed,) = await self.store.tasks.claim("w", [Claim(task_id, f"n{attempt}")], 0)
            assert claimed.verdict == attempt
            last = attempt == attempts
            ended = Finish(task_id, f"n{attempt}", attempt, status if last else S.RETRYING, payload if last else b"{}")
            assert await self.store.tasks.finish([ended]) == [True]
