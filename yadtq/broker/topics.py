"""Topics of an app: bringing the cluster to what they must be.

Task topics keep records until YADTQ itself truncates them behind the committed watermark (D2): with a time limit, a
backlog older than the limit would vanish unseen. A task topic that has one is refused, not mended: somebody set it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from yadtq.broker.aiokafka_life import connected, stopped
from yadtq.broker.connecting import connection_options
from yadtq.errors import BrokerUnavailable, TopicMismatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from yadtq.settings import Settings
    from yadtq.wire.names import TopicNames

__all__ = ["provision", "task_topic_problem", "topics_of"]

log = logging.getLogger("yadtq.broker")

_STOP_S = 2.0
_FOREVER = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
_HEARTBEATS = {"cleanup.policy": "compact,delete", "retention.ms": "3600000", "segment.ms": "600000"}


def topics_of(
    names: TopicNames, queues: Iterable[str], settings: Settings, partitions: int | None = None
) -> dict[str, tuple[int, dict[str, str]]]:
    """Number of partitions and configuration of each topic of an app, as it is made."""
    wanted = dict.fromkeys(map(names.tasks, queues), (partitions or settings.num_partitions, _FOREVER))
    wanted[names.heartbeats] = (1, _HEARTBEATS)
    wanted[names.dead] = (1, _FOREVER)
    return wanted


def task_topic_problem(topic: str, values: Mapping[str, str | None]) -> str | None:
    """What of a task topic's configuration would lose tasks."""
    wrong = [
        f"{key}={values[key]} (must be {value})" for key, value in _FOREVER.items() if values.get(key, value) != value
    ]
    if not wrong:
        return None
    return (
        f"topic {topic} would lose tasks: {', '.join(wrong)}; change it with kafka-configs.sh --alter, "
        "or use another app or queue name"
    )


async def provision(
    settings: Settings, names: TopicNames, queues: Iterable[str], partitions: int | None = None
) -> None:
    """Create what is missing, grow what is too small, refuse what would lose tasks. Idempotent; never shrinks.

    partitions: least number for the task topics; None: `settings.num_partitions` for new ones, others are left as they
    are. Raises `BrokerUnavailable` after `connect_timeout_s`, `TopicMismatch` with the topic and the difference.
    """
    what = f"Kafka at {settings.kafka}"
    admin = await connected(
        lambda: AIOKafkaAdminClient(**connection_options(settings)), settings.connect_timeout_s, what
    )
    try:
        async with asyncio.timeout(settings.connect_timeout_s):
            await _provision(admin, settings, names, list(queues), partitions)
    except TimeoutError:
        raise BrokerUnavailable(f"{what}: topics can't be made within {settings.connect_timeout_s:g} s") from None
    except KafkaError as error:
        raise BrokerUnavailable(f"{what}: topics can't be made: {error or type(error).__name__}") from error
    finally:
        await stopped(admin, _STOP_S)


async def _provision(
    admin: AIOKafkaAdminClient, settings: Settings, names: TopicNames, queues: list[str], partitions: int | None
) -> None:
    task_topics = [names.tasks(queue) for queue in queues]
    wanted = topics_of(names, queues, settings, partitions)
    existing = {
        topic["topic"]: len(topic["partitions"])
        for topic in await admin.describe_topics(list(wanted))
        if topic["error_code"] == 0
    }
    missing = wanted.keys() - existing.keys()
    if missing:
        brokers = len((await admin.describe_cluster())["brokers"])
        replicas = settings.replication_factor or min(3, brokers)
        await _create(admin, {topic: wanted[topic] for topic in missing}, replicas)
    if partitions is not None:
        small = {topic: count for topic, count in existing.items() if topic in task_topics and count < partitions}
        if small:
            await _grow(admin, small, partitions)
    await _refuse_retention(admin, [topic for topic in task_topics if topic in existing])


async def _create(admin: AIOKafkaAdminClient, topics: dict[str, tuple[int, dict[str, str]]], replicas: int) -> None:
    response = await admin.create_topics(
        [NewTopic(topic, count, replicas, topic_configs=configs) for topic, (count, configs) in topics.items()]
    )
    for topic, code, message in response.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:  # another process was faster: fine
            raise TopicMismatch(f"topic {topic} can't be created: {message or error.__name__}")
        log.info("created topic %s", topic)


async def _grow(admin: AIOKafkaAdminClient, topics: dict[str, int], partitions: int) -> None:
    response = await admin.create_partitions({topic: NewPartitions(partitions) for topic in topics})
    for topic, code, message in response.topic_errors:
        if code:
            raise TopicMismatch(
                f"topic {topic} has {topics[topic]} partitions and can't grow to {partitions}: "
                f"{message or for_code(code).__name__}"
            )
        log.info("grew topic %s from %d to %d partitions", topic, topics[topic], partitions)


async def _refuse_retention(admin: AIOKafkaAdminClient, topics: list[str]) -> None:
    if not topics:
        return
    responses = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics])
    for response in responses:
        for _code, _message, _type, topic, entries in response.resources:
            values = {entry[0]: entry[1] for entry in entries}
            if problem := task_topic_problem(topic, values):
                raise TopicMismatch(problem)
