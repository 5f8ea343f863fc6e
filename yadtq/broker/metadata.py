"""Topics as the cluster has them: how many partitions, and which identity. Asking never creates one.

aiokafka supports Metadata up to version 5, always allows the broker to create topics, and gets no topic ids; hence the
declarations of version 10 here. A topic that is deleted and made again has another id, and its offsets begin at 0
again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka.errors import (
    KafkaConnectionError,
    NoError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from yadtq.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from io import BytesIO

    from aiokafka.client import AIOKafkaClient

__all__ = ["TopicInfo", "topics_as_they_are", "until_there"]

_AGAIN_S = 0.05


class TopicInfo(NamedTuple):
    """id: in hex."""

    partitions: int
    id: str


class _Uuid(AbstractType):  # type: ignore[misc]
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> str:
        return data.read(16).hex()


class _MetadataResponse(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _MetadataRequestStruct(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 10
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("topic", CompactString("utf-8")), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _MetadataRequest(Request[_MetadataRequestStruct]):  # type: ignore[misc]
    API_KEY = 3

    def __init__(self, topics: Iterable[str]) -> None:
        self._topics = list(topics)

    def build(self, request_struct_class: type[_MetadataRequestStruct]) -> _MetadataRequestStruct:
        return request_struct_class([(bytes(16), topic, {}) for topic in self._topics], False, False, False, {})


async def topics_as_they_are(client: AIOKafkaClient, topics: Iterable[str]) -> dict[str, TopicInfo]:
    """Those of these topics that exist. Raises a `KafkaError`, or `ConfigError` for a cluster that is too old."""
    node = client.get_random_node()
    if node is None:
        raise KafkaConnectionError("no broker is known")
    try:
        response: Any = await client.send(node, _MetadataRequest(topics))
    except NotImplementedError:
        raise ConfigError("this Kafka is too old: YADTQ needs version 2.8 or newer") from None
    found = {}
    for code, topic, topic_id, _internal, partitions, *_ in response.topics:
        error = for_code(code)
        if error is NoError:
            found[topic] = TopicInfo(len(partitions), topic_id)
        elif error is TopicAuthorizationFailedError:
            raise error(topic)
        elif error is not UnknownTopicOrPartitionError and not error.retriable:
            raise error()
    return found


async def until_there(client: AIOKafkaClient, topics: dict[str, int]) -> dict[str, TopicInfo]:
    """Wait until each has so many partitions at least: the brokers learn of what the controller has done a moment
    later.
    """
    while True:
        found = await topics_as_they_are(client, topics)
        if all(topic in found and found[topic].partitions >= count for topic, count in topics.items()):
            return found
        await asyncio.sleep(_AGAIN_S)
