"""Topics of an app: creates and corrects them, even if another program has created them.

Task topics keep records until YADTQ itself truncates them behind the committed watermark (D2): with a time limit, a
backlog older than the limit would be deleted unnoticed. Values that nobody has set on a topic are set here, which
corrects a topic that the broker created by itself with its defaults. A value that somebody has set, and that would lose
tasks, is refused.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    KafkaError,
    NoError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)

from yadtq.broker.aiokafka_life import advice_for, connected, led_to, may_pass, stopped, wire
from yadtq.broker.connecting import connection_options
from yadtq.broker.metadata import topics_as_they_are, until_there
from yadtq.broker.wanted import FOREVER, OVERHEAD, SIZE, USUAL_SIZE, Config, task_topic_problem, topics_of, unset
from yadtq.errors import BrokerUnavailable, ConfigError, TopicMismatch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable, Mapping

    from yadtq.settings import Settings
    from yadtq.wire.names import TopicNames

__all__ = [
    "TopicsSeen",
    "check_topics",
    "provision",
    "seen_topics",
]

log = logging.getLogger("yadtq.broker")

_STOP_S = 2.0
_RETRY_S = 0.2
#: Only where a topic is made. The broker's time: so records of a process with a wrong clock are accepted, and carry a
#: correct time stamp.
_AT_BIRTH = {"message.timestamp.type": "LogAppendTime"}
#: `config_source` of what was set on the topic itself.
_ON_THE_TOPIC = 1


async def provision(
    settings: Settings, names: TopicNames, queues: Iterable[str], partitions: int | None = None
) -> None:
    """Create what is missing, grow what is too small, refuse what would lose tasks. Idempotent; never shrinks.

    partitions: least number for the task topics; None: `settings.num_partitions` for new ones, others are left as they
    are. Raises `BrokerUnavailable` after `connect_timeout_s`, `TopicMismatch` with the topic and the difference.
    """
    async with _admin(settings) as admin:
        provisioning = _Provisioning(admin, settings, names, list(queues))
        while True:
            try:
                return await provisioning.run(partitions)
            except (KafkaError, OSError) as error:
                if not may_pass(error):
                    raise
                log.debug("topics can't be made yet: %s", error)
            await asyncio.sleep(_RETRY_S)


async def check_topics(settings: Settings, topics: Collection[str]) -> list[str]:
    """What is wrong with these task topics of a running app. Values that nobody has set are set again; the other
    problems are returned.

    Raises `BrokerUnavailable`, and `TopicMismatch` if it can't be set.
    """
    problems = []
    async with _admin(settings) as admin:
        for topic, configs in (await _configs(admin, topics)).items():
            changes = unset(configs, FOREVER)
            if problem := task_topic_problem(topic, {**_values(configs), **changes}):
                problems.append(problem)
            elif changes:
                await _set(admin, topic, configs, changes)
    return problems


class TopicsSeen(NamedTuple):
    """What exists. configs: of the topics whose configuration may be read."""

    brokers: int
    partitions: Mapping[str, int]
    configs: Mapping[str, Mapping[str, Config]]


async def seen_topics(settings: Settings, topics: Collection[str]) -> TopicsSeen:
    """Look at these topics and change nothing. Raises `BrokerUnavailable`, or `ConfigError` if waiting won't help."""
    async with _admin(settings) as admin:
        found = await topics_as_they_are(wire(admin), topics)
        brokers = len((await admin.describe_cluster())["brokers"])
        return TopicsSeen(
            brokers, {topic: info.partitions for topic, info in found.items()}, await _configs(admin, sorted(found))
        )


@asynccontextmanager
async def _admin(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    what = f"Kafka at {settings.kafka}"
    admin = await connected(
        lambda: AIOKafkaAdminClient(**connection_options(settings)), settings.connect_timeout_s, what, at_start=True
    )
    try:
        async with asyncio.timeout(settings.connect_timeout_s):
            yield admin
    except TimeoutError:
        reason = f"no answer about topics within {settings.connect_timeout_s:g} s"
        raise BrokerUnavailable(f"{what}: {reason}{led_to(admin)}") from None
    except KafkaError as error:
        if (advice := advice_for(error)) is not None:
            raise ConfigError(f"{what}: {advice}") from error
        raise BrokerUnavailable(f"{what}: topics: {str(error) or type(error).__name__}{led_to(admin)}") from error
    finally:
        await stopped(admin, _STOP_S)


class _Provisioning:
    def __init__(self, admin: AIOKafkaAdminClient, settings: Settings, names: TopicNames, queues: list[str]) -> None:
        self._admin, self._settings, self._names, self._queues = admin, settings, names, queues
        self._task_topics = [names.tasks(queue) for queue in queues]

    async def run(self, partitions: int | None) -> None:
        wanted = topics_of(self._names, self._queues, self._settings, partitions)
        existing = await topics_as_they_are(wire(self._admin), wanted)
        made: set[str] = set()
        if missing := wanted.keys() - existing.keys():
            made = await self._create({topic: wanted[topic] for topic in sorted(missing)})
            existing = await until_there(wire(self._admin), dict.fromkeys(wanted, 1))
        least = dict.fromkeys(self._task_topics, partitions or 1)
        # Also of what was made here: another process, or the broker itself, may have been faster.
        for topic, configs in (await _configs(self._admin, sorted(wanted.keys() - made))).items():
            if await self._correct(topic, configs, wanted[topic][1]) and topic in least:
                least[topic] = max(least[topic], wanted[topic][0])
        small = {topic: count for topic, count in least.items() if existing[topic].partitions < count}
        if small:
            await self._grow(small, {topic: existing[topic].partitions for topic in small})
            await until_there(wire(self._admin), small)

    async def _create(self, topics: dict[str, tuple[int, dict[str, str]]]) -> set[str]:
        """Those that were made by this request."""
        brokers = len((await self._admin.describe_cluster())["brokers"])
        replicas = self._settings.replication_factor or min(3, brokers)
        response = await self._admin.create_topics(
            [
                NewTopic(topic, count, replicas, topic_configs={**configs, **_AT_BIRTH})
                for topic, (count, configs) in topics.items()
            ]
        )
        made = set()
        for topic, code, message in response.topic_errors:
            error = for_code(code)
            if error is NoError:
                log.info("created topic %s", topic)
                made.add(topic)
            elif error is not TopicAlreadyExistsError:
                problem = message or error.__name__
                if error in (TopicAuthorizationFailedError, ClusterAuthorizationFailedError):
                    problem += " Grant this Kafka user (kafka_user) CREATE on it, or create it beforehand"
                raise TopicMismatch(f"topic {topic} can't be created: {problem}")
        return made

    async def _correct(self, topic: str, configs: dict[str, Config], wanted: dict[str, str]) -> bool:
        """True: the topic existed without a setting that it needs, and it is set now."""
        changes = unset(configs, wanted)
        values = {**_values(configs), **changes}
        if topic in self._task_topics:
            if problem := task_topic_problem(topic, values):
                raise TopicMismatch(problem)
            self._compare_sizes(topic, int(values.get(SIZE) or USUAL_SIZE))
        if changes:
            await _set(self._admin, topic, configs, changes)
        return not changes.keys() <= {SIZE}

    def _compare_sizes(self, topic: str, size: int) -> None:
        most = self._settings.max_task_bytes
        if size < most + OVERHEAD:
            log.warning(
                "topic %s takes %d bytes (max.message.bytes), tasks may have %d (max_task_bytes): larger ones are refused; "
                "raise the first or lower the second",
                topic,
                size,
                most,
            )

    async def _grow(self, topics: dict[str, int], before: dict[str, int]) -> None:
        response = await self._admin.create_partitions({topic: NewPartitions(count) for topic, count in topics.items()})
        for topic, code, message in response.topic_errors:
            if code:
                raise TopicMismatch(
                    f"topic {topic} has {before[topic]} partitions and can't grow to {topics[topic]}: "
                    f"{message or for_code(code).__name__}"
                )
            log.info("grew topic %s from %d to %d partitions", topic, before[topic], topics[topic])


def _values(configs: dict[str, Config]) -> dict[str, str | None]:
    return {key: config.value for key, config in configs.items()}


async def _set(admin: AIOKafkaAdminClient, topic: str, configs: dict[str, Config], changes: dict[str, str]) -> None:
    # Not incremental: values that were set before are sent again, or they would be reset.
    before = {key: config.value for key, config in configs.items() if config.is_set and config.value is not None}
    for response in await admin.alter_configs(
        [ConfigResource(ConfigResourceType.TOPIC, topic, configs={**before, **changes})]
    ):
        for code, message, *_ in response.resources:
            if code:
                raise TopicMismatch(f"topic {topic} needs {changes}, which can't be set: {message or for_code(code)}")
    log.warning("topic %s was made with the defaults of the broker; it has %s now", topic, changes)


async def _configs(admin: AIOKafkaAdminClient, topics: Collection[str]) -> dict[str, dict[str, Config]]:
    if not topics:
        return {}
    responses = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics])
    found: dict[str, dict[str, Config]] = {}
    for response in responses:
        for code, message, _type, topic, entries in response.resources:
            if code:  # hosted services may forbid it
                problem = message or for_code(code).__name__
                log.warning("topic %s: its configuration can't be read, so it is not checked: %s", topic, problem)
                continue
            # Before version 1 the fourth was "is it the default".
            found[topic] = {name: Config(value, source == _ON_THE_TOPIC) for name, value, _, source, *_ in entries}
    return found
