"""Faults that come in from outside: records that are no tasks, damaged keys, refusals, guests, and poison.

What they put in themselves has ids that begin with `FOREIGN`; the onlookers take no notice of those.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, Producer
from redis.asyncio import Redis

from tests.chaos.faults import PARTITIONS, RECOVERS_S, Blow, Fault
from tests.chaos.observer import FOREIGN
from tests.chaos.oracle import Touch
from tests.support.poll import eventually
from tests.support.raw_batches import append_raw, with_bad_header
from yadtq.errors import YadtqError
from yadtq.store.keys import Keys
from yadtq.wire.names import TopicNames

if TYPE_CHECKING:
    from tests.chaos.world import World

_BAD_VALUES = (b"", b"\xff\xfe", b"[]", b'{"v":99}', b'{"v":1,"id":7}', b"x" * 50_000)


def _tasks_topic(world: World) -> str:
    return TopicNames(world.app).tasks("default")


@dataclass
class BadRecords(Blow):
    """Values that are no tasks, and a batch whose header no client of ours can read, in every partition."""

    kind = "bad-records"

    async def inject(self, world: World) -> None:
        await asyncio.to_thread(self._produce, world)
        for partition in range(PARTITIONS):
            await append_raw(world.servers.direct_kafka, _tasks_topic(world), partition, with_bad_header(b"{}"))

    def _produce(self, world: World) -> None:
        producer = Producer({"bootstrap.servers": world.servers.direct_kafka})
        for partition in range(PARTITIONS):
            for value in _BAD_VALUES:
                producer.produce(_tasks_topic(world), value, partition=partition)
        assert producer.flush(10) == 0


@dataclass
class DamagedKeys(Fault):
    """Keys of tasks hold what no worker can read; the tasks come nevertheless."""

    kind = "damaged-keys"
    lasts_s: float = 2.0
    ids: list[str] = field(default_factory=list)

    async def inject(self, world: World) -> None:
        task, keys = world.customers[0].app.registry.get("poison"), Keys(world.app)
        self.ids = [f"{FOREIGN}damaged-{world.pace.now():.3f}-{n}" for n in range(3)]
        async with Redis.from_url(world.servers.direct_redis) as redis:
            await redis.set(keys.task + self.ids[0], "no hash")
            await redis.hset(keys.task + self.ids[1], mapping={"s": "Q", "a": "many"})
            await redis.hset(keys.task + self.ids[2], mapping={"s": "?"})
            for key in self.ids:
                await redis.expire(keys.task + key, 600)
        for task_id in self.ids:
            with contextlib.suppress(YadtqError):  # it may be told at once
                await task.options(task_id=task_id).submit("none")

    async def heal(self, world: World) -> None:
        async with Redis.from_url(world.servers.direct_redis) as redis:
            await redis.delete(*(Keys(world.app).task + task_id for task_id in self.ids))


@dataclass
class RefusingRedis(Fault):
    """An account that may run no scripts, or publish nothing. Excuses nothing: it is shorter than half a lease."""

    kind = "refusing-redis"
    refused: str
    lasts_s: float

    async def inject(self, world: World) -> None:
        world.redis_away[self.kind] = world.pace.now()
        await self._rule(world, *(f"-{word}" for word in self.refused.split()))

    async def heal(self, world: World) -> None:
        await self._rule(world, "+@all")
        world.redis_away.pop(self.kind, None)

    async def _rule(self, world: World, *rules: str) -> None:
        async with Redis.from_url(world.servers.direct_redis) as redis:
            await redis.execute_command("ACL", "SETUSER", "default", *rules)

    def describe(self) -> str:
        return f"{self.kind} ({self.refused}) {self.lasts_s:.1f} s"


@dataclass
class Guest(Blow):
    """A stranger with our group's id: it must get no partition."""

    kind = "guest"
    seconds: float = 2.0

    async def inject(self, world: World) -> None:
        assert not await asyncio.to_thread(self._visit, world), "a guest was given partitions"

    def _visit(self, world: World) -> list[object]:
        names = TopicNames(world.app)
        guest = Consumer({"bootstrap.servers": world.servers.direct_kafka, "group.id": names.group, "log_level": 0})
        try:
            guest.subscribe([names.tasks("default")])
            guest.poll(self.seconds)
            return list(guest.assignment())
        finally:
            guest.close()


@dataclass
class Poison(Blow):
    """A task that ends its process: it kills one worker, and then the children in which its neighbours are, too."""

    kind = "poison"
    way: str
    task_id: str = ""

    async def inject(self, world: World) -> None:
        since = world.pace.now()
        self.task_id = f"{FOREIGN}poison-{since:.3f}"
        task = world.customers[0].app.registry.get("poison").options(task_id=self.task_id)

        async def accepted() -> bool:
            with contextlib.suppress(YadtqError):
                await task.submit(self.way)
                return True
            return False

        async def ended() -> bool:
            await world.states.look_at([self.task_id])
            return self.task_id in world.states.final

        await eventually(accepted, timeout=RECOVERS_S, interval=0.2, what="the submit of poison")
        await eventually(ended, timeout=RECOVERS_S, interval=0.2, what="the end of poison")
        # The worker's death, and one for each size of group in which a neighbour may have been.
        world.touches += [Touch(self.kind, since, world.pace.now())] * 4

    def describe(self) -> str:
        return f"{self.kind} ({self.way})"
