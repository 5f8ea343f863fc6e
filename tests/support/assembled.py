"""A whole worker on doubles: its parts as they are in production, the cluster and Redis in memory, every move checked."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from tests.support.apps import make_value, running_worker
from tests.support.outside import memory_outside
from tests.support.poll import eventually
from yadtq.delivery.checked import CheckedDelivery
from yadtq.errors import BrokerUnavailable
from yadtq.runtime.clock import SystemClock
from yadtq.runtime.seams import OutRecord
from yadtq.settings import WorkerSettings
from yadtq.store.tasks.verbs import Snapshot
from yadtq.testing.doubles import MemoryBroker, MemoryStore
from yadtq.wire.names import TopicNames
from yadtq.worker.assembly import Given
from yadtq.worker.heartbeat import Identity
from yadtq.worker.machine import Machine
from yadtq.worker.parent import Parent
from yadtq.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from yadtq import Yadtq
    from yadtq.delivery.sequels import Sequel
    from yadtq.testing.doubles import MemoryRecord

__all__ = ["Assembled", "assembled"]


class Cluster(MemoryBroker):
    """away: topics whose partitions have no leader now."""

    def __init__(self) -> None:
        super().__init__()
        self.away: set[str] = set()

    def append(self, record: OutRecord) -> None:
        if record.topic in self.away:
            raise BrokerUnavailable(f"{record.topic} has no leader")
        super().append(record)


class Assembled:
    """worker: not run yet. audits: how often it was audited, once a turn of the loop. violations: what was found."""

    def __init__(self, app: Yadtq, *, partitions: int = 2, sequels: Sequence[Sequel] = (), **options: Any) -> None:
        self.names = TopicNames(app.name)
        self.cluster = Cluster()
        clock = SystemClock()
        self.store = MemoryStore(clock, random.Random(1), app.settings)
        self.topic = self.names.tasks("default")
        outside = memory_outside(
            app.name,
            clock=clock,
            broker=self.cluster.for_app(self.names, app.settings),
            store=self.store,
            settings=app.settings,
        )
        for topic, count in ((self.topic, partitions), (self.names.dead, 1), (self.names.heartbeats, 1)):
            self.cluster.create_topic(topic, count)
        settings = WorkerSettings.load(**{"commit_interval_s": 0.01, **options})
        self.worker = Worker(
            Given(
                app=app,
                identity=Identity("w", None, settings.queues, settings.concurrency),
                options=settings,
                outside=outside,
                machine=Machine(parent=Parent()),
                sequels=sequels,
                delivery=CheckedDelivery,
            )
        )
        self.parts = self.worker.parts
        self.audits = 0
        self.violations: list[str] = []

    def submit(self, task: str, *args: Any, task_id: str, **fields: Any) -> str:
        """As a client does: the record is in the log when this returns."""
        value = make_value(task, task_id, args=list(args), **fields)
        self.cluster.append(OutRecord(self.topic, value, task_id.encode()))
        self.cluster.wake(self.topic)
        return task_id

    async def snapshot(self, task_id: str) -> Snapshot:
        """Of a task that Redis knows."""
        found = (await self.store.tasks.snapshots([task_id]))[0]
        assert isinstance(found, Snapshot)
        return found

    async def statuses(self, *task_ids: str) -> set[str]:
        found = await self.store.tasks.snapshots(task_ids)
        return {each.status.name if each is not None and each.status is not None else "-" for each in found}

    async def ended(self, *task_ids: str) -> None:
        """They are final."""

        async def all_final() -> bool:
            found = await self.store.tasks.snapshots(task_ids)
            return all(each is not None and each.status is not None and each.status.final for each in found)

        await eventually(all_final, what=f"the end of {len(task_ids)} tasks", interval=0.005)

    def letters(self) -> list[MemoryRecord]:
        return self.cluster.records(self.names.dead)

    def committed_all(self) -> bool:
        return all(
            (self.cluster.committed(self.names.group, partition) or 0) == end
            for partition, (_, end) in self.cluster.ends(self.topic).items()
        )

    async def turns(self, count: int) -> None:
        """So many turns of the loop have passed, each of them audited."""
        end = self.audits + count
        await eventually(lambda: self.audits >= end, interval=0.005)

    async def audit_on(self) -> None:
        """Between any two turns of the loop."""
        while True:
            self.violations += self.parts.audit()
            self.audits += 1
            await asyncio.sleep(0)


@asynccontextmanager
async def assembled(app: Yadtq, **options: Any) -> AsyncIterator[Assembled]:
    """options: see `Assembled`. The worker runs, is drained at the end, and nothing may have been violated meanwhile."""
    made = Assembled(app, **options)
    auditing = asyncio.create_task(made.audit_on())
    try:
        async with running_worker(made.worker):
            yield made
    finally:
        auditing.cancel()
        await asyncio.wait([auditing])
    assert made.audits > 10
    assert made.violations == []
    assert made.parts.executor.slots.is_idle
