"""The servers of one world, in memory: a Kafka and a Redis that nobody else uses."""

from __future__ import annotations

import copy
import random
from typing import TYPE_CHECKING, cast

from yadtq.outside import Outside, Place
from yadtq.store.memory import MemoryStore
from yadtq.testing.kit.submits import Recording, Submits
from yadtq.testing.memory_app import MemoryAppBroker
from yadtq.testing.memory_broker import MemoryBroker
from yadtq.testing.memory_consumer import MemoryConsumer
from yadtq.wire.deadletter import DeadLetter, dead_letter
from yadtq.wire.names import TopicNames

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from yadtq.app import Yadtq
    from yadtq.runtime.seams import Broker, ConsumedRecord, Partition
    from yadtq.settings import Settings
    from yadtq.testing.kit.virtual_time import VirtualTime

__all__ = ["MemoryServers", "calm", "letters"]


def calm(settings: Settings) -> Settings:
    """Settings for servers that never fail by themselves: with fewer heartbeats an hour of virtual time takes less."""
    return settings.model_copy(
        update={"heartbeat_s": 10.0, "lease_s": 60.0, "session_timeout_s": 60.0, "num_partitions": 1}
    )


def letters(records: Sequence[ConsumedRecord]) -> list[DeadLetter]:
    """Records of the dead-letter topic."""
    return [dead_letter(record.headers, record.value, record.timestamp) for record in records]


class _Consumer(MemoryConsumer):
    async def poll(
        self, partitions: Collection[Partition] | None, max_records: int, timeout_s: float
    ) -> Mapping[Partition, Sequence[ConsumedRecord]]:
        # A poll of all partitions that comes back empty is only repeated: in a virtual day, 86,400 times.
        return await super().poll(partitions, max_records, timeout_s if partitions is not None else 30 * timeout_s)


class _Patient(MemoryAppBroker):
    def consumer(self, topics: Sequence[str], *, instance_id: str | None = None) -> _Consumer:
        return _Consumer(self.cluster, self._names.group, topics, instance_id=instance_id, session_s=600.0)


class MemoryServers:
    """settings: of all processes in this world. store: for the world itself."""

    in_memory = True

    def __init__(self, app: Yadtq, time: VirtualTime) -> None:
        #: The app, as the worker sees it.
        self.app = copy.copy(app)
        self.settings = self.app._settings = calm(app.settings)
        self.names = TopicNames(app.name)
        self.submits = Submits(app.registry, self.names)
        self._time = time
        self._chance = random.Random()
        self._cluster = MemoryBroker(time)
        self.store = self._store = MemoryStore(time, self._chance, self.settings)

    async def start(self) -> None:
        """They run."""

    async def aclose(self) -> None:
        """They end with the world."""

    def outside(self, pid: int) -> Outside:
        """What one process is given."""
        broker = Recording(_Patient(self._cluster, self.names, self.settings), self.submits)
        return Outside(
            broker=cast("Broker", broker),
            store=self._store,
            clock=self._time,
            chance=self._chance,
            names=self.names,
            place=Place("world", pid),
        )

    def lose_redis(self) -> None:
        self._store.flush()
        self._store.server.cut()

    def kafka_down(self, down: bool) -> None:
        self._cluster.down = down

    def redis_down(self, down: bool) -> None:
        self._store.down = down

    async def dead_letters(self) -> list[DeadLetter]:
        return letters(self._cluster.records(self.names.dead))
