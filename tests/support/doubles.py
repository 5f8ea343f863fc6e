"""Kafka for one part of a worker: a consumer that hands out what the test gives it, and a producer that keeps what it
gets.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from yadtq.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from yadtq.runtime.seams import ConsumedRecord, OutRecord, Partition
    from yadtq.testing.doubles import MemoryRecord

__all__ = ["ScriptedConsumer", "Sink"]


class ScriptedConsumer:
    """`seams.TaskConsumer`. polls: what was asked for, in order. refuse: commits are refused. assigned: at the start."""

    def __init__(self, *assigned: Partition) -> None:
        self.batches: deque[dict[Partition, list[MemoryRecord]]] = deque()
        self.polls: list[tuple[frozenset[Partition] | None, int]] = []
        self.timeouts: list[float] = []
        self.commits: list[dict[Partition, int]] = []
        self.refuse = False
        self._assigned = assigned
        self._news = asyncio.Event()

    async def start(
        self,
        on_assigned: Callable[[Mapping[Partition, str]], None],
        watermarks: Callable[[], Mapping[Partition, int]],
    ) -> None:
        self.assign, self.watermarks = on_assigned, watermarks
        self.assign(dict.fromkeys(self._assigned, ""))

    def give(self, *records: MemoryRecord) -> None:
        batch: dict[Partition, list[MemoryRecord]] = {}
        for record in records:
            batch.setdefault((record.topic, record.partition), []).append(record)
        self.batches.append(batch)
        self._news.set()

    async def poll(
        self, partitions: Collection[Partition] | None, max_records: int, timeout_s: float
    ) -> Mapping[Partition, Sequence[ConsumedRecord]]:
        self.polls.append((None if partitions is None else frozenset(partitions), max_records))
        self.timeouts.append(timeout_s)
        self._news.clear()
        if not self.batches:
            try:
                await asyncio.wait_for(self._news.wait(), min(timeout_s, 0.02))
            except TimeoutError:
                return {}
        return self.batches.popleft()

    async def commit(self, offsets: Mapping[Partition, int]) -> bool:
        await asyncio.sleep(0)
        if not self.refuse:
            self.commits.append(dict(offsets))
        return not self.refuse

    async def position(self, partition: Partition) -> int | None:
        return None

    def lag(self, partition: Partition, offset: int) -> int:
        return 100 - offset

    async def stop(self) -> None: ...


class Sink:
    """`seams.Producer`. calls: how often it was asked. batches: what it took, call by call. down: takes nothing."""

    def __init__(self) -> None:
        self.down = False
        self.calls = 0
        self.batches: list[list[OutRecord]] = []

    @property
    def appended(self) -> list[OutRecord]:
        return [record for batch in self.batches for record in batch]

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def append(self, records: Sequence[OutRecord]) -> None:
        self.calls += 1
        await asyncio.sleep(0)
        if self.down:
            raise BrokerUnavailable("down")
        self.batches.append(list(records))
