"""A member of a consumer group on the memory broker: `seams.TaskConsumer`.

What happens to it happens in steps of its own loop, never on the stack of the process that caused it: a rebalance, a
wake-up, a new assignment. It beats as aiokafka does, so one whose loop stands still loses its place.
"""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from typing import TYPE_CHECKING

from yadtq.errors import BrokerUnavailable
from yadtq.testing.memory_group import Beat, Committed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from yadtq.runtime.seams import ConsumedRecord, Partition
    from yadtq.testing.memory_cluster import MemoryCluster

__all__ = ["MemoryConsumer"]

#: Beats a session; aiokafka makes three.
_BEATS = 20


class MemoryConsumer:
    """session_s: how long it may be silent. join_s: until a start is given up."""

    def __init__(
        self,
        broker: MemoryCluster,
        group: str,
        topics: Sequence[str],
        *,
        instance_id: str | None = None,
        session_s: float = 7.0,
        join_s: float = 24.0,
    ) -> None:
        self.topics = frozenset(topics)
        self._broker = broker
        self._group_name, self._group = group, broker.group(group)
        self._instance_id, self._session_s, self._join_s = instance_id, session_s, join_s
        self._member_id = ""
        self._generation = 0
        self._joining = False
        self._logs: dict[Partition, str] = {}
        self._positions: dict[Partition, int] = {}
        self._turns = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._news = asyncio.Event()
        self._on_assigned: Callable[[Mapping[Partition, str]], None] = lambda assignment: None
        self._watermarks: Callable[[], Mapping[Partition, int]] = dict

    async def start(
        self,
        on_assigned: Callable[[Mapping[Partition, str]], None],
        watermarks: Callable[[], Mapping[Partition, int]] = dict,
    ) -> None:
        await asyncio.sleep(0)
        self._broker.refuse_if_down()
        self._on_assigned, self._watermarks = on_assigned, watermarks
        self._loop = asyncio.get_running_loop()
        self._broker.listeners[self] = self._loop, copy_context()
        self._join()
        self._arm()
        try:
            async with asyncio.timeout(self._join_s):
                while self._joining:
                    await self._heard()
        except TimeoutError:
            await self.stop()
            raise BrokerUnavailable(f"no place in group {self._group_name} within {self._join_s:g} s") from None

    def _join(self) -> None:
        self._member_id = self._broker.new_id()
        self._joining = True
        self._group.join(
            self._broker.now(),
            self._member_id,
            self.topics,
            instance_id=self._instance_id,
            session_s=self._session_s,
        )
        self._broker.settle(self._group)
        if self._loop is not None:
            self._loop.call_soon(self.notice)

    def notice(self, topic: str | None = None) -> None:
        """In a step of this member's own loop: there are records of this topic, or (None) the cluster has changed."""
        if self._loop is None:
            return
        self._news.set()
        if topic is None and not self._broker.down:
            self._beat()

    def _beat(self) -> None:
        broker = self._broker
        self._group.expire(broker.now())
        answer = self._group.beat(broker.now(), self._member_id)
        if answer is Beat.UNKNOWN:
            self._forget()
            self._join()
        elif answer is Beat.REJOIN:
            self._give_up()
            self._joining = True
            self._group.rejoin(broker.now(), self._member_id)
        broker.settle(self._group)
        member = self._group.members.get(self._member_id)
        if member is None or self._group.preparing:
            return
        replaced = any(broker.log_id(partition) != log_id for partition, log_id in self._logs.items())
        if self._joining or replaced or self._generation != self._group.generation:
            self._take(member.assigned)

    def _arm(self) -> None:
        if self._loop is not None:
            self._timer = self._loop.call_later(self._session_s / _BEATS, self._on_time)

    def _on_time(self) -> None:
        self.notice()
        self._arm()

    def _give_up(self) -> None:
        """The last commit, while the coordinator still takes it."""
        offsets = {each: offset for each, offset in self._watermarks().items() if each in self._logs}
        self._commit(offsets)
        self._forget()

    def _take(self, assigned: Collection[Partition]) -> None:
        broker = self._broker
        self._joining, self._generation = False, self._group.generation
        self._turns += 1
        before = self._logs
        self._logs = {partition: broker.log_id(partition) for partition in assigned}
        kept = {each for each, log_id in self._logs.items() if before.get(each) == log_id and each in self._positions}
        self._positions = {
            each: self._positions[each] if each in kept else self._first(each, log_id)
            for each, log_id in self._logs.items()
        }
        self._on_assigned(dict(self._logs))
        self._news.set()

    def _first(self, partition: Partition, log_id: str) -> int:
        """The committed offset, if it is one of this log."""
        log, committed = self._broker.logs.get(partition), self._group.committed.get(partition)
        if log is None or committed is None or committed.log_id not in ("", log_id):
            return log.start if log is not None else 0
        return committed.offset

    def _forget(self) -> None:
        self._logs, self._positions = {}, {}
        self._turns += 1
        self._news.set()

    async def _heard(self) -> None:
        self._news.clear()
        await self._news.wait()

    async def poll(
        self, partitions: Collection[Partition] | None, max_records: int, timeout_s: float
    ) -> Mapping[Partition, Sequence[ConsumedRecord]]:
        """Ends, empty, also when a rebalance takes its partitions away."""
        turn = self._turns
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(timeout_s):
                while turn == self._turns or self._joining:
                    turn = self._turns
                    # No await between taking and returning: what is taken is never lost.
                    if found := dict(self._take_records(partitions, max_records)):
                        return found
                    await self._heard()
        except TimeoutError:
            pass  # nothing came in time
        return {}

    def _take_records(
        self, partitions: Collection[Partition] | None, most: int
    ) -> Iterator[tuple[Partition, list[ConsumedRecord]]]:
        # The next time it is another's turn to come first, as with Kafka: no partition keeps the others out.
        wanted = [each for each in self._positions if partitions is None or each in partitions]
        for partition in wanted:
            log = self._broker.logs.get(partition)
            if log is None or log.id != self._logs[partition] or self._broker.down or most <= 0:
                continue
            if records := self._broker.read(log, self._positions[partition], most):
                most -= len(records)
                self._positions[partition] = self._broker.after(records[-1])
                self._positions[partition] = self._positions.pop(partition)
                yield partition, records

    async def commit(self, offsets: Mapping[Partition, int]) -> bool:
        await asyncio.sleep(0)
        if self._broker.down or not offsets:
            return not offsets
        mine = {partition: offset for partition, offset in offsets.items() if partition in self._logs}
        return self._commit(mine) and len(mine) == len(offsets)

    def _commit(self, offsets: Mapping[Partition, int]) -> bool:
        if any(self._broker.log_id(partition) != self._logs[partition] for partition in offsets):
            return False
        commits = {partition: Committed(offset, self._logs[partition]) for partition, offset in offsets.items()}
        return bool(commits) and self._group.commit(self._member_id, self._generation, commits)

    async def position(self, partition: Partition) -> int | None:
        await asyncio.sleep(0)
        return self._positions.get(partition)

    def lag(self, partition: Partition, offset: int) -> int:
        log = self._broker.logs.get(partition)
        return max(0, log.end - offset) if log is not None else 0

    async def stop(self) -> None:
        await asyncio.sleep(0)
        if self._loop is not None:
            self.die()
            self._group.leave(self._member_id)
            self._broker.settle(self._group)

    def die(self) -> None:
        """As a killed process: it is heard of no more, and the group waits for the end of its session."""
        self._loop = None
        self._broker.listeners.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
        self._forget()
