"""One handle on every broker: the same calls for processes of one app, and for what an operator does to a cluster."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.support.poll import eventually
from yadtq.broker.connecting import connection_options
from yadtq.broker.kafka import KafkaBroker
from yadtq.runtime.clock import SystemClock
from yadtq.settings import Settings
from yadtq.testing.doubles import MemoryBroker
from yadtq.wire.names import TopicNames

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from tests.support.stacks import Servers
    from yadtq.runtime.seams import Broker, ConsumedRecord, Partition


def settings(**given: object) -> Settings:
    fixed: dict[str, object] = {"num_partitions": 2, "connect_timeout_s": 20}
    return Settings.load(**{**fixed, **given})


class BrokerHarness(Protocol):
    """session_s: the least session time-out that this broker takes."""

    name: str
    session_s: float
    names: TopicNames

    def process(self) -> Broker:
        """What one more process of the app is given."""
        ...

    async def configure(self, topic: str, **values: str) -> None:
        """As kafka-configs.sh --alter; "_" for "."."""
        ...

    async def delete(self, topic: str) -> None: ...
    async def create(self, topic: str) -> None:
        """One partition, and nothing set."""
        ...

    async def config(self, topic: str) -> Mapping[str, str]: ...


class MemoryHarness:
    name = "memory"
    session_s = 1.0

    def __init__(self, app: str) -> None:
        self.names = TopicNames(app)
        self.cluster = MemoryBroker()

    def process(self) -> Broker:
        return self.cluster.for_app(self.names, settings(session_timeout_s=self.session_s))

    async def configure(self, topic: str, **values: str) -> None:
        self.cluster.configs[topic].update(dotted(values))

    async def delete(self, topic: str) -> None:
        self.cluster.delete_topic(topic)

    async def create(self, topic: str) -> None:
        self.cluster.create_topic(topic)

    async def config(self, topic: str) -> Mapping[str, str]:
        return self.cluster.configs[topic]


class KafkaHarness:
    """On a devbroker or on Apache Kafka."""

    def __init__(self, servers: Servers, app: str) -> None:
        self.name = servers.kind
        self.session_s = 6.0 if servers.kind == "embedded" else 1.5
        self.names = TopicNames(app)
        self._settings = settings(kafka=servers.kafka, redis=servers.redis, session_timeout_s=self.session_s)

    def process(self) -> Broker:
        return KafkaBroker(self._settings, self.names, SystemClock())

    async def configure(self, topic: str, **values: str) -> None:
        admin = await self._admin()
        try:
            resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs=dotted(values))
            await admin.alter_configs([resource])

            async def in_effect() -> bool:
                return dotted(values).items() <= (await self.config(topic)).items()

            await eventually(in_effect, what="the configuration to be in effect")
        finally:
            await admin.close()

    async def delete(self, topic: str) -> None:
        admin = await self._admin()
        try:
            await admin.delete_topics([topic])
        finally:
            await admin.close()

    async def create(self, topic: str) -> None:
        admin = await self._admin()
        try:
            await admin.create_topics([NewTopic(topic, 1, 1)])
        finally:
            await admin.close()

    async def config(self, topic: str) -> Mapping[str, str]:
        admin = await self._admin()
        try:
            (response,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
            ((_code, _message, _type, _topic, entries),) = response.resources
            return {entry[0]: entry[1] for entry in entries}
        finally:
            await admin.close()

    async def _admin(self) -> AIOKafkaAdminClient:
        admin = AIOKafkaAdminClient(**connection_options(self._settings))
        await admin.start()
        return admin


def dotted(values: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "."): value for name, value in values.items()}


class Member:
    """A consumer of a process, what it was told, and what it was handed out."""

    def __init__(self, harness: BrokerHarness, *queues: str, instance_id: str | None = None) -> None:
        topics = [harness.names.tasks(queue) for queue in queues or ("default",)]
        self.consumer = harness.process().consumer(topics, instance_id=instance_id)
        self.assignments: list[dict[Partition, str]] = []
        self.records: list[ConsumedRecord] = []
        self.marks: dict[Partition, int] = {}
        self.early: list[ConsumedRecord] = []
        self._told_at = 0

    @property
    def assigned(self) -> set[Partition]:
        return set(self.assignments[-1]) if self.assignments else set()

    @property
    def values(self) -> list[bytes | None]:
        return [record.value for record in self.records]

    async def start(self) -> Member:
        await self.consumer.start(self._assigned, lambda: self.marks)
        return self

    def _assigned(self, assignment: Mapping[Partition, str]) -> None:
        self.assignments.append(dict(assignment))
        self._told_at = len(self.records)

    @property
    def fresh(self) -> list[bytes | None]:
        """What has come since the last assignment was told."""
        return self.values[self._told_at :]

    async def poll(self, most: int = 100, partitions: Collection[Partition] | None = None, seconds: float = 0.2) -> int:
        found = await self.consumer.poll(partitions, most, seconds)
        for partition, records in found.items():
            if partition not in self.assigned:
                self.early += records
            self.records += records
        return sum(map(len, found.values()))

    async def until_polled(self, partitions: Collection[Partition], count: int, *, most: int = 100) -> None:
        """Poll these until so many more records have come."""
        wanted = len(self.records) + count
        async with asyncio.timeout(20):
            while len(self.records) < wanted:
                await self.poll(most, partitions)

    async def until(self, condition: Callable[[], object], *, seconds: float = 20) -> None:
        """Poll until it is so; a member that does not poll can't notice a rebalance."""
        async with asyncio.timeout(seconds):
            while not condition():
                await self.poll()


async def together(*members: Member, until: Callable[[], object], seconds: float = 25) -> None:
    """All of them poll side by side until it is so."""
    await asyncio.gather(*(member.until(until, seconds=seconds) for member in members))
