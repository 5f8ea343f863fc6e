"""A member of a simulated consumer group, as `KafkaTaskConsumer` behaves over aiokafka.

A rebalance comes at any moment: what is new to commit is committed for a second at most, positions are forgotten, and
every record that was received and not committed is delivered again. A poll never raises.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import anyio

from yadtq.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from yadtq.runtime.seams import ConsumedRecord, Partition
    from yadtq.testing.memory_log import MemoryRecord
    from yadtq.testing.sim.group import Member
    from yadtq.testing.sim.kafka import SimKafka
    from yadtq.testing.sim.net import Link

__all__ = ["SimConsumer"]

_COMMIT_TIMEOUT_S = 5.0
_REVOKE_COMMIT_S = 1.0
_FETCH_TIMEOUT_S = 10.0
_RETRY_S = 0.2


class SimConsumer:
    """`seams.TaskConsumer`. One poll at a time."""

    def __init__(
        self,
        kafka: SimKafka,
        link: Link,
        group: str,
        topics: Sequence[str],
        *,
        instance_id: str | None,
        session_s: float,
    ) -> None:
        self.link = link
        self.topics: Collection[str] = frozenset(topics)
        self.instance_id = instance_id
        self.session_timeout_s = session_s
        self._kafka = kafka
        self._group = kafka.group(group)
        self._world = kafka.world
        self._member: Member | None = None
        self._generation = 0
        self._assignment: frozenset[Partition] = frozenset()
        self._positions: dict[Partition, int] = {}
        #: The identity of each partition's log, in the order of the assignment.
        self._logs: dict[Partition, str] = {}
        #: Counts changes of the assignment: an answer of before them is thrown away.
        self._era = 0
        self._on_assigned: Callable[[Mapping[Partition, str]], None] = lambda _: None
        self._watermarks: Callable[[], Mapping[Partition, int]] = dict
        self._wake: asyncio.Future[None] | None = None
        self._first = asyncio.Event()
        self._joining: asyncio.Task[None] | None = None
        self._stopped = False

    # The port

    async def start(
        self,
        on_assigned: Callable[[Mapping[Partition, str]], None],
        watermarks: Callable[[], Mapping[Partition, int]],
    ) -> None:
        self._on_assigned, self._watermarks = on_assigned, watermarks
        self._rejoin()
        try:
            async with asyncio.timeout(10.0 + 2 * self.session_timeout_s):
                await self._first.wait()
        except TimeoutError:
            raise BrokerUnavailable("no place in the group") from None

    async def poll(
        self, partitions: Collection[Partition] | None, max_records: int, timeout_s: float
    ) -> Mapping[Partition, Sequence[ConsumedRecord]]:
        loop = self.link.node.loop
        deadline = self._world.now + timeout_s
        while not self._stopped:
            era = self._era
            wanted = self._readable(partitions)
            if wanted:
                records = await self._fetch(wanted, max_records)
                if era == self._era and records:
                    for partition, batch in records.items():
                        self._positions[partition] = batch[-1].offset + 1
                    return records
                if era == self._era:  # no answer: aiokafka asks again by itself
                    await asyncio.sleep(min(_RETRY_S, max(0.0, deadline - self._world.now)))
            if self._world.now >= deadline:
                break
            if not wanted or era != self._era:
                await self._news(loop.create_future(), partitions, deadline)
        return {}

    def _readable(self, partitions: Collection[Partition] | None) -> list[Partition]:
        logs = self._kafka.logs
        now = self._world.now
        found = []
        for partition, position in self._positions.items():
            if partitions is None or partition in partitions:
                log = logs[partition]
                if log.end > position and log.leaderless_until <= now:
                    found.append(partition)
        return found

    async def _fetch(self, wanted: list[Partition], most: int) -> dict[Partition, list[MemoryRecord]]:
        positions = {partition: self._positions[partition] for partition in wanted}

        def answer() -> dict[Partition, list[MemoryRecord]]:
            found: dict[Partition, list[MemoryRecord]] = {}
            left = most
            for partition, position in positions.items():
                log = self._kafka.logs[partition]
                if left <= 0 or log.leaderless_until > self._world.now or self._is_another(partition):
                    continue
                if position < log.start or position > log.end:
                    position = log.start  # auto_offset_reset="earliest"
                if batch := log.read(position, left):
                    found[partition] = batch
                    left -= len(batch)
            return found

        try:
            return await self.link.call("fetch", answer, timeout_s=_FETCH_TIMEOUT_S, error=BrokerUnavailable)
        except BrokerUnavailable:
            return {}

    async def _news(
        self, news: asyncio.Future[None], partitions: Collection[Partition] | None, deadline: float
    ) -> None:
        """Until something was appended, or the assignment has changed, or the deadline."""

        def tell() -> None:
            if not news.done() and self.link.node.alive:
                news.set_result(None)

        self._wake = news
        logs = [self._kafka.logs[each] for each in self._positions if partitions is None or each in partitions]
        for log in logs:
            log.readers[tell] = None
        timer = self.link.node.loop.call_at(deadline, tell)
        try:
            await news
        finally:
            timer.cancel()
            for log in logs:
                log.readers.pop(tell, None)

    async def commit(self, offsets: Mapping[Partition, int]) -> bool:
        mine = {partition: offset for partition, offset in offsets.items() if partition in self._assignment}
        if not mine:
            return not offsets
        return await self._commit(mine, _COMMIT_TIMEOUT_S) and len(mine) == len(offsets)

    async def _commit(self, offsets: Mapping[Partition, int], seconds: float) -> bool:
        member, generation = self._member, self._generation
        if member is None:
            return False
        known = {each: self._logs[each] for each in offsets}

        def answer() -> bool:
            if not self._kafka.coordinating:
                return False
            ours = {each: offset for each, offset in offsets.items() if self._identities([each])[each] == known[each]}
            return self._group.commit(member, generation, ours) and len(ours) == len(offsets)

        try:
            return await self.link.call(
                "commit", answer, timeout_s=seconds, error=BrokerUnavailable, detail=_offsets(offsets)
            )
        except BrokerUnavailable:
            return False

    async def position(self, partition: Partition) -> int | None:
        await asyncio.sleep(0)
        return self._positions.get(partition)

    def lag(self, partition: Partition, offset: int) -> int:
        if partition not in self._assignment:
            return 0
        return max(0, self._kafka.logs[partition].end - offset)

    async def stop(self) -> None:
        """A static member only goes quiet."""
        self._stopped = True
        self._changed()
        if self._joining is not None:
            self._joining.cancel()
        member, self._member = self._member, None
        self._positions = {}
        self._assignment = frozenset()
        if member is not None and self.instance_id is None:
            with contextlib.suppress(BrokerUnavailable):  # then the session timeout does it
                await self.link.call("leave", lambda: self._group.leave(member), timeout_s=5.0, error=BrokerUnavailable)

    # What the coordinator says

    def on_rebalance(self, member: Member) -> None:
        if member is self._member and not self._stopped:
            self.link.node.loop.call_soon(self._rejoin)

    def on_gone(self, member: Member) -> None:
        """Fenced or evicted: join again as somebody new."""
        if member is self._member and not self._stopped:
            self.link.node.loop.call_soon(self._rejoin)

    def on_sync(self, member: Member, generation: int, assignment: tuple[Partition, ...]) -> None:
        if not self._stopped:
            self.link.node.loop.call_soon(self._install, member, generation, assignment)

    def on_topics(self) -> None:
        """A look at the topics: a log may be another one by now."""
        if self.link.up:
            self.link.node.loop.call_soon(self._look_at_logs)
        elif self.link.node.alive:
            self._world.call_later(0.3, self.on_topics)

    def _look_at_logs(self) -> None:
        if not self._stopped and self._assignment and self._identities(self._logs) != self._logs:
            self._begin(tuple(self._logs))

    def _identities(self, partitions: Iterable[Partition]) -> dict[Partition, str]:
        return {each: f"{self._kafka.logs[each].generation}" for each in partitions}

    def _is_another(self, partition: Partition) -> bool:
        """Nothing is read from, and nothing committed to, a log that has taken the place of ours."""
        return self._logs.get(partition) != f"{self._kafka.logs[partition].generation}"

    def _changed(self) -> None:
        self._era += 1
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _rejoin(self) -> None:
        if (self._joining is None or self._joining.done()) and not self._stopped:
            self._joining = self.link.node.loop.create_task(self._join())

    async def _join(self) -> None:
        """Give up what we have, and ask for a place until there is an answer."""
        if self._assignment:
            offsets = {each: at for each, at in self._watermarks().items() if each in self._assignment}
            if offsets:
                await self._commit(offsets, _REVOKE_COMMIT_S)
        self._positions = {}
        self._assignment = frozenset()
        self._changed()

        def answer() -> Member:
            if not self._kafka.coordinating:
                raise BrokerUnavailable("no coordinator")
            return self._group.join(self, self._member)

        while not self._stopped:
            try:
                self._member = await self.link.call("join", answer, timeout_s=5.0, error=BrokerUnavailable)
            except BrokerUnavailable:
                await asyncio.sleep(_RETRY_S)
            else:
                return

    def _install(self, member: Member, generation: int, assignment: tuple[Partition, ...]) -> None:
        if self._stopped or member.gone or member.consumer is not self:
            return
        self._member, self._generation = member, generation
        self._begin(assignment)

    def _begin(self, assignment: tuple[Partition, ...]) -> None:
        self._assignment = frozenset(assignment)
        self._logs = self._identities(assignment)
        self._positions = {}
        self._changed()
        self._on_assigned(dict(self._logs))
        self._first.set()
        self.link.node.loop.create_task(self._fetch_positions(self._era, assignment))

    async def _fetch_positions(self, era: int, assignment: tuple[Partition, ...]) -> None:
        def answer() -> dict[Partition, int]:
            committed = self._group.committed
            return {each: committed.get(each, self._kafka.logs[each].start) for each in assignment}

        while era == self._era and not self._stopped:
            try:
                found = await self.link.call("positions", answer, timeout_s=5.0, error=BrokerUnavailable)
            except BrokerUnavailable:
                await anyio.sleep(_RETRY_S)
                continue
            if era == self._era:
                self._positions = found
                if self._wake is not None and not self._wake.done():
                    self._wake.set_result(None)
            return


def _offsets(offsets: Mapping[Partition, int]) -> str:
    return " ".join(f"{number}@{offset}" for (_, number), offset in sorted(offsets.items()))
