"""One partition's log in memory. Pure: no loop, no clock. Offsets are never reused, even after truncation or
compaction.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yadtq.runtime.seams import OutRecord

__all__ = ["Log", "MemoryRecord"]


@dataclass(slots=True)
class MemoryRecord:
    """`seams.ConsumedRecord`."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


_offset = attrgetter("offset")


@dataclass(slots=True)
class Log:
    """id: its identity; a topic that is deleted and made again has another. start: the first offset that is kept."""

    topic: str
    partition: int
    id: str = ""
    start: int = 0
    end: int = 0
    records: list[MemoryRecord] = field(default_factory=list)

    def append(self, record: OutRecord, stamp_ms: int) -> MemoryRecord:
        """stamp_ms: milliseconds since the epoch."""
        kept = MemoryRecord(
            self.topic, self.partition, self.end, stamp_ms, record.key, record.value, tuple(record.headers)
        )
        self.records.append(kept)
        self.end += 1
        return kept

    def valid(self, offset: int) -> int:
        """This offset, or the start if there is no such place in the log (any more): a reset to earliest."""
        return offset if self.start <= offset <= self.end else self.start

    def read(self, offset: int, most: int) -> list[MemoryRecord]:
        """Up to `most` records from this offset on."""
        at = bisect_left(self.records, self.valid(offset), key=_offset)
        return self.records[at : at + most]

    def since(self, stamp_ms: int) -> int:
        """The offset of the first record that is not older, or the end."""
        return next((record.offset for record in self.records if record.timestamp >= stamp_ms), self.end)

    def truncate(self, before: int) -> None:
        """DeleteRecords: what lies before this offset goes."""
        self.start = max(self.start, min(before, self.end))
        del self.records[: bisect_left(self.records, self.start, key=_offset)]

    def compact(self) -> None:
        """Of each key only the last record stays, and none if that has no value. Records without a key stay."""
        last = {record.key: record.offset for record in self.records if record.key is not None}
        self.records = [
            record
            for record in self.records
            if record.key is None or (record.offset == last[record.key] and record.value is not None)
        ]
