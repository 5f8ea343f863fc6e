"""How much of an app's task topics is not finished yet, and since when. For people and metrics, never for decisions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError

from yadtq.broker.aiokafka_life import connected, stopped, wire
from yadtq.broker.connecting import connection_options
from yadtq.broker.metadata import topics_as_they_are
from yadtq.broker.reader import Reader
from yadtq.broker.starts import is_of_log
from yadtq.errors import BrokerUnavailable
from yadtq.runtime.seams import Backlog

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yadtq.settings import Settings
    from yadtq.wire.names import TopicNames

__all__ = ["read_backlog"]

_TIMEOUT_S = 20.0
_STOP_S = 2.0
_POLL_S = 0.2
_AGAIN_S = 0.2
_POLL_RECORDS = 500


async def read_backlog(settings: Settings, names: TopicNames) -> dict[tuple[str, int], Backlog]:
    """Of every partition of every task topic of the app. Raises `BrokerUnavailable`."""
    what = f"Kafka at {settings.kafka}"
    consumer = await connected(
        # One fetch brings the first records of every partition, and only the first is looked at.
        lambda: AIOKafkaConsumer(**connection_options(settings), group_id=None, max_partition_fetch_bytes=16_384),
        settings.connect_timeout_s,
        what,
    )
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            committed = await _committed(settings, names)
            ends = await consumer.end_offsets(list(committed))
            firsts = await consumer.beginning_offsets(list(committed))
            starts = {place: max(firsts[place], offset) for place, offset in committed.items()}
            oldest = await _stamps(consumer, {at: start for at, start in starts.items() if start < ends[at]}, ends)
    except TimeoutError:
        raise BrokerUnavailable(f"{what}: the backlog could not be read within {_TIMEOUT_S:g} s") from None
    except (KafkaError, OSError) as error:
        raise BrokerUnavailable(f"{what}: the backlog can't be read: {str(error) or type(error).__name__}") from error
    finally:
        await stopped(consumer, _STOP_S)
    return {
        tuple(place): Backlog(max(0, ends[place] - start), oldest.get(place)) for place, start in sorted(starts.items())
    }


async def _committed(settings: Settings, names: TopicNames) -> dict[TopicPartition, int]:
    """What the app's group has committed, 0 where that is nothing, or was of a deleted log."""
    admin = await connected(
        lambda: AIOKafkaAdminClient(**connection_options(settings)),
        settings.connect_timeout_s,
        f"Kafka at {settings.kafka}",
    )
    try:
        topics = [topic for topic in await admin.list_topics() if names.queue_of(topic) is not None]
        found = await topics_as_they_are(wire(admin), topics) if topics else {}
        commits = await _commits(admin, names.group)
    finally:
        await stopped(admin, _STOP_S)
    offsets = {}
    for topic, info in found.items():
        for number in range(info.partitions):
            place = TopicPartition(topic, number)
            commit = commits.get(place)
            offsets[place] = 0
            if commit is not None and is_of_log(commit.metadata or "", info.id):
                offsets[place] = max(0, commit.offset)
    return offsets


async def _commits(admin: AIOKafkaAdminClient, group: str) -> dict[TopicPartition, Any]:
    """A cluster that has had no group yet creates its topic for them first, which takes a moment."""
    while True:
        try:
            return dict(await admin.list_consumer_group_offsets(group))
        except GroupCoordinatorNotAvailableError:
            await asyncio.sleep(_AGAIN_S)


async def _stamps(
    consumer: AIOKafkaConsumer, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int]:
    """The time stamp, in ms, of the first record at or above each start."""
    stamps: dict[TopicPartition, int] = {}
    if starts:
        consumer.assign(list(starts))
    for place, offset in starts.items():
        consumer.seek(place, offset)
    # By position: what is left of a log may be without records, such as the marks of transactions.
    while missing := [each for each in starts if each not in stamps and await consumer.position(each) < ends[each]]:
        for place, records in (await Reader(consumer).poll(missing, _POLL_RECORDS, _POLL_S)).items():
            stamps.setdefault(place, records[0].timestamp)
    return stamps
