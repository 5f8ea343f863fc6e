"""Batches of records as bytes, to be damaged, and appended as they are: what no well-behaved client sends."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Any

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import NoError, for_code
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["append_raw", "batch_of", "with_bad_header", "with_checksum"]

CRC_AT, CHECKED_FROM = 17, 21


def batch_of(
    *values: bytes,
    codec: int = 0,
    base: int = 0,
    key: bytes | None = None,
    headers: Sequence[tuple[str, bytes]] = (),
) -> bytes:
    """codec: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd. base: offset of the first record."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 20)
    for offset, value in enumerate(values):
        builder.append(offset, timestamp=1_700_000_000_000, key=key, value=value, headers=list(headers))
    raw = bytearray(builder.build())
    struct.pack_into(">q", raw, 0, base)
    return bytes(raw)


def with_checksum(raw: bytes) -> bytes:
    """The same batch with the checksum that its bytes have now."""
    fixed = bytearray(raw)
    struct.pack_into(">I", fixed, CRC_AT, calc_crc32c(bytes(fixed[CHECKED_FROM:])))
    return bytes(fixed)


def with_bad_header(*values: bytes, base: int = 0, key: bytes | None = None) -> bytes:
    """A header name that is Latin-1, not UTF-8."""
    raw = batch_of(*values, base=base, key=key, headers=[("cafeX", b"1")])
    return with_checksum(raw.replace(b"cafeX", b"caf\xe9X"))


async def append_raw(kafka: str | dict[str, Any], topic: str, partition: int, raw: bytes) -> None:
    """kafka: host:port, or options of a client. Raises the broker's error."""
    client = AIOKafkaClient(**(kafka if isinstance(kafka, dict) else {"bootstrap_servers": kafka}))
    await client.bootstrap()
    try:
        client.add_topic(topic)
        await client.force_metadata_update()
        node = client.cluster.leader_for_partition(TopicPartition(topic, partition))
        request = ProduceRequest(
            transactional_id=None, required_acks=-1, timeout=10_000, topics=[(topic, [(partition, raw)])]
        )
        while True:
            response = await client.send(node, request)
            error = for_code(response.topics[0][1][0][1])
            if error is NoError:
                return
            if not error.retriable:
                raise error()
            await asyncio.sleep(0.05)  # a topic that was made a moment ago
    finally:
        await client.close()
