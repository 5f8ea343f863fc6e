"""Recovers the readable records of a batch that aiokafka can't read, from the bytes as the broker sent them.

Pure. aiokafka rejects a whole batch for one header name that is not UTF-8. Here names are read with escapes, so that
such a record is a record; what really can't be read becomes an `Unreadable`, with the bytes. For any bytes the result
leads to a higher offset.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import ConsumerRecord
from aiokafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode
from aiokafka.errors import KafkaError
from aiokafka.record.util import calc_crc32c, decode_varint

from yadtq.runtime.seams import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from yadtq.runtime.seams import ConsumedRecord, Partition

__all__ = ["Salvaged", "salvage", "salvage_many"]

#: The head of a batch: base offset, length, leader epoch, magic, checksum, attributes, last offset delta, first and
#: greatest time stamp, producer id and epoch, first sequence number, number of records.
_HEAD = struct.Struct(">qiibIhiqqqhii")
_CHECKED_FROM = struct.calcsize(">qiibI")
_LENGTH_ENDS = struct.calcsize(">qi")
_CODECS: dict[int, Callable[[bytes], Any]] = {1: gzip_decode, 2: snappy_decode, 3: lz4_decode, 4: zstd_decode}
_CONTROL, _LOG_APPEND_TIME, _CODEC = 0x20, 0x08, 0x07


class Salvaged(NamedTuple):
    """next: where to go on; above the position that was asked for. size: bytes of the batch, all if that is not known."""

    records: list[ConsumedRecord]
    next: int
    size: int


class _Damaged(Exception):
    """The reason, in words."""


class _Batch(NamedTuple):
    base: int
    next: int
    crc: int
    attributes: int
    first_ms: int
    greatest_ms: int
    size: int
    whole: bytes


def salvage(partition: Partition, raw: bytes, position: int) -> Salvaged:
    """The records of the first batch in `raw` from this position on. raw: of a fetch at that position, not empty."""
    try:
        batch = _first(raw, position)
    except _Damaged as damage:
        lost = Unreadable(*partition, position, position + 1, str(damage), value=raw)
        return Salvaged([lost], position + 1, len(raw))
    if batch.attributes & _CONTROL:
        return Salvaged([], batch.next, len(batch.whole))
    found: list[ConsumedRecord] = []
    expected = max(batch.base, position)
    try:
        for record in _records(partition, batch):
            if record.offset >= expected:
                expected = record.offset + 1
                found.append(record)
    except _Damaged as damage:
        lost = Unreadable(*partition, expected, max(batch.next, expected + 1), str(damage), value=batch.whole)
        found.append(lost)
    return Salvaged(found, max(batch.next, expected), len(batch.whole))


def salvage_many(partition: Partition, raw: bytes, position: int, most: int) -> Salvaged:
    """As `salvage`, and the batches behind it as far as they are whole, until there are `most` records.

    They are at hand, and a consumer that steps over each bad batch alone fetches the rest of `raw` again each time.
    """
    found = salvage(partition, raw, position)
    records, position, at = list(found.records), found.next, found.size
    while len(records) < most and _is_whole(raw, at):
        found = salvage(partition, raw[at:], position)
        records += found.records
        position, at = found.next, at + found.size
    return Salvaged(records, position, at)


def _is_whole(raw: bytes, at: int) -> bool:
    """Whether a batch begins here and ends within `raw`: the broker cuts the last one off."""
    if len(raw) - at < _HEAD.size:
        return False
    _, length, *_ = _HEAD.unpack_from(raw, at)
    return bool(_HEAD.size - _LENGTH_ENDS <= length <= len(raw) - at - _LENGTH_ENDS)


def _first(raw: bytes, position: int) -> _Batch:
    """Of the batch with this position. Raises `_Damaged` if not even its head can be read."""
    if len(raw) < _HEAD.size:
        raise _Damaged(f"a batch of {len(raw)} bytes, less than its head")
    base, length, _, magic, crc, attributes, delta, first_ms, greatest_ms, *_, count = _HEAD.unpack_from(raw)
    if magic < 2:
        raise _Damaged(f"message format {magic}, of before Kafka 0.11")
    whole = raw[: _LENGTH_ENDS + length] if length >= _HEAD.size - _LENGTH_ENDS else raw
    following = base + delta + 1
    after = raw[len(whole) :]
    if len(after) >= _HEAD.size:  # read before the batch's own header, because no checksum of this batch covers it
        following = _HEAD.unpack_from(after)[0]
    if not position < following <= position + 2**31:
        raise _Damaged(f"a batch that ends at offset {following}")
    return _Batch(base, following, crc, attributes, first_ms, greatest_ms, count, whole)


def _records(partition: Partition, batch: _Batch) -> Iterator[ConsumedRecord]:
    if calc_crc32c(batch.whole[_CHECKED_FROM:]) != batch.crc:
        raise _Damaged("the checksum of the batch is wrong")
    data = batch.whole[_HEAD.size :]
    if codec := batch.attributes & _CODEC:
        data = _unpacked(codec, data)
    # aiokafka's functions want this type.
    buffer, at = bytearray(data), 0
    for _ in range(batch.size):
        try:
            record, at = _record(partition, batch, buffer, at)
        except (IndexError, ValueError, struct.error, OverflowError) as error:
            raise _Damaged(f"a record that breaks off: {error}") from None
        if not batch.base <= record.offset < batch.next:
            raise _Damaged(f"a record with the offset {record.offset} in a batch from {batch.base} to {batch.next}")
        yield record


def _unpacked(codec: int, data: bytes) -> bytes:
    decode = _CODECS.get(codec)
    if decode is None:
        raise _Damaged(f"an unknown compression, number {codec}")
    try:
        return bytes(decode(data))
    except (KafkaError, Exception) as error:
        raise _Damaged(f"{decode.__name__.partition('_')[0]} can't unpack it: {error}") from None


def _record(partition: Partition, batch: _Batch, buffer: bytearray, at: int) -> tuple[ConsumedRecord, int]:
    """One record, and where the next begins."""
    length, at = decode_varint(buffer, at)
    end = at + length
    if length <= 0 or end > len(buffer):
        raise ValueError(f"{length} bytes, where {len(buffer) - at} are left")
    at += 1  # its attributes are not used
    since_first, at = decode_varint(buffer, at)
    delta, at = decode_varint(buffer, at)
    key, at = _bytes(buffer, at, end)
    value, at = _bytes(buffer, at, end)
    count, at = decode_varint(buffer, at)
    headers = []
    for _ in range(count):
        name, at = _bytes(buffer, at, end)
        content, at = _bytes(buffer, at, end)
        headers.append(((name or b"").decode("utf-8", "backslashreplace"), content))
    stamp = batch.greatest_ms if batch.attributes & _LOG_APPEND_TIME else batch.first_ms + since_first
    kind = 1 if batch.attributes & _LOG_APPEND_TIME else 0
    sizes = (len(key) if key is not None else -1, len(value) if value is not None else -1)
    record: ConsumedRecord = ConsumerRecord(
        *partition, batch.base + delta, stamp, kind, key, value, None, *sizes, tuple(headers)
    )
    return record, end


def _bytes(buffer: bytearray, at: int, end: int) -> tuple[bytes | None, int]:
    length, at = decode_varint(buffer, at)
    if length < 0:
        return None, at
    if at + length > end:
        raise ValueError(f"a field of {length} bytes in a record that has {end - at} left")
    return bytes(buffer[at : at + length]), at + length
