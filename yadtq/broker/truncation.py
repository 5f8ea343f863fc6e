"""Truncates task topics below what every group has committed (D2): the only way in which their records are deleted.

Task topics have no time limit, so a backlog can't expire. What is committed is finished, so an offset reset to earliest
repeats nothing: the log begins at the first unfinished record, or up to one interval below it, and the records of that
interval have their final state in Redis.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import KafkaError

from yadtq.broker.aiokafka_life import connected, stopped, wire
from yadtq.broker.connecting import connection_options
from yadtq.broker.metadata import topics_as_they_are
from yadtq.broker.starts import is_of_log
from yadtq.errors import BrokerUnavailable, ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from yadtq.runtime.seams import Partition
    from yadtq.settings import Settings

__all__ = ["truncate", "truncation_points"]

log = logging.getLogger("yadtq.broker")

_TIMEOUT_S = 20.0
_STOP_S = 2.0


def truncation_points(
    partitions: Collection[Partition], committed: Sequence[Mapping[Partition, int]]
) -> dict[Partition, int]:
    """Up to where each partition may be cut off: the lowest offset that any group has committed.

    committed: of each group, by partition; a group that has committed nothing there (missing, or -1) forbids the cut.
    """
    points = {}
    for partition in partitions:
        lowest = min((group.get(partition, -1) for group in committed), default=-1)
        if lowest > 0:
            points[partition] = lowest
    return points


async def truncate(
    settings: Settings, groups: Sequence[str], partitions: Collection[Partition]
) -> dict[Partition, int]:
    """Truncate what all groups have committed; returns the new first offsets. {} if Kafka can't do it now: it is not
    urgent.
    """
    if not partitions:
        return {}
    try:
        admin = await connected(
            lambda: AIOKafkaAdminClient(**connection_options(settings)),
            settings.connect_timeout_s,
            f"Kafka at {settings.kafka}",
        )
    except BrokerUnavailable as error:
        log.warning("task topics are not truncated this time: %s", error)
        return {}
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            topics = sorted({topic for topic, _ in partitions})
            identities = {topic: info.id for topic, info in (await topics_as_they_are(wire(admin), topics)).items()}
            committed = [
                {
                    tuple(place): found.offset
                    for place, found in (await admin.list_consumer_group_offsets(group)).items()
                    if is_of_log(found.metadata or "", identities.get(place.topic, ""))
                }
                for group in groups
            ]
            points = truncation_points(partitions, committed)
            if points:
                orders = {TopicPartition(*partition): RecordsToDelete(offset) for partition, offset in points.items()}
                await admin.delete_records(orders, timeout_ms=int(_TIMEOUT_S * 1000))
            return points
    except (KafkaError, ConfigError, TimeoutError, OSError) as error:
        log.warning("task topics are not truncated this time: %s: %s", type(error).__name__, error)
        return {}
    finally:
        await stopped(admin, _STOP_S)
