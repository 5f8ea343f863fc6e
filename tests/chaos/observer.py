"""Looks on from outside, with other clients than those under test and by ways that no fault of the network touches.

States are read from Redis as they lie there, the log and the committed offsets with librdkafka. When a server is down
there is nothing to see: what was seen before and after is what is judged.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaException, TopicPartition
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.support.invariants import FINAL_STATES, CommitSample, Observation, Record, lowest_unfinished
from yadtq.store.keys import Keys
from yadtq.wire.names import TopicNames
from yadtq.wire.states import STATE_OF_CODE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.support.chaos_pace import Pace

LOOK_S = 0.5
COMMITS_EVERY = 10
FINALS_A_LOOK = 200
KAFKA_S = 3.0
#: How the ids begin of what faults put into the log themselves, and what stands for a record that is no task.
FOREIGN = "foreign-"


class StateWatch:
    """Observations of every task that was submitted. Changes are kept, and final states are looked at again."""

    def __init__(self, redis: str, app: str) -> None:
        self._redis = Redis.from_url(redis, socket_timeout=2, socket_connect_timeout=2, decode_responses=True)
        self._keys = Keys(app)
        self._last: dict[str, Observation] = {}
        self._looking = asyncio.Lock()
        self._random = random.Random(0)
        self.observations: list[Observation] = []
        #: Those that were ever seen final. After a loss of Redis's data one may run again, and is looked at as often.
        self.final: set[str] = set()
        #: Monotonic seconds at which each was first seen to be final.
        self.final_at: dict[str, float] = {}

    async def close(self) -> None:
        await self._redis.aclose()

    async def look(self, task_ids: Iterable[str]) -> bool:
        """At these, but of those that are final only at a few. False: Redis is away."""
        open_ids = [task_id for task_id in task_ids if task_id not in self.final]
        again = self._random.sample(sorted(self.final), min(FINALS_A_LOOK, len(self.final)))
        return await self.look_at(open_ids + again)

    async def look_at(self, task_ids: list[str]) -> bool:
        # One look at a time: an answer that is noted late would make time run backwards.
        async with self._looking:
            return await self._look_at(task_ids)

    async def _look_at(self, task_ids: list[str]) -> bool:
        for at in range(0, len(task_ids), 1000):
            part = task_ids[at : at + 1000]
            try:
                async with asyncio.timeout(3):
                    async with self._redis.pipeline(transaction=False) as pipe:
                        for task_id in part:
                            pipe.hmget(self._keys.task + task_id, "s", "a", "n", "r")
                        answers = await pipe.execute()
            except (RedisError, OSError, TimeoutError):
                return False
            for task_id, (state, attempt, nonce, result) in zip(part, answers, strict=True):
                if state is not None:
                    self._note(task_id, str(STATE_OF_CODE[state]), int(attempt or 0), nonce, result)
        return True

    def _note(self, task_id: str, state: str, attempt: int, nonce: str | None, result: str | None) -> None:
        final = state in FINAL_STATES
        now = time.monotonic()
        seen = Observation(task_id, state, now, attempt, result if final else None, nonce if final else None)
        last = self._last.get(task_id)
        if last is not None and (last.state, last.attempt, last.result) == (state, attempt, seen.result):
            return
        self._last[task_id] = seen
        self.observations.append(seen)
        if final and task_id not in self.final:
            self.final.add(task_id)
            self.final_at[task_id] = now

    async def keys_without_end(self) -> list[str]:
        """Keys that would stay for ever, but for the two that shall."""
        shall = (self._keys.dead, self._keys.data_set)
        keys = self._redis.scan_iter(match="yadtq:*", count=1000)
        return [key async for key in keys if key not in shall and await self._redis.ttl(key) == -1]

    async def used_memory(self) -> int:
        return int((await self._redis.info("memory"))["used_memory"])


class LogWatch:
    """The tasks topic and what the group has committed of it. Blocking: call it in a thread."""

    def __init__(self, kafka: str, app: str) -> None:
        names = TopicNames(app)
        self._topic = names.tasks("default")
        options = {"bootstrap.servers": kafka, "enable.auto.commit": False, "log_level": 0}
        # Assigned by hand; neither ever joins a group.
        self._reader = Consumer({**options, "group.id": f"onlooker-{app}", "auto.offset.reset": "earliest"})
        self._committed = Consumer({**options, "group.id": names.group})
        self._partitions: list[TopicPartition] = []
        self._next: dict[int, int] = {}
        self.records: list[Record] = []
        self.samples: list[CommitSample] = []

    def close(self) -> None:
        self._reader.close()
        self._committed.close()

    def sample(self, finished: Callable[[], set[str] | None]) -> bool:
        """Compare. finished: asked after the offsets were read, so that a late finish never looks bad; None: unknown."""
        try:
            partitions = self._assigned()
            committed = self._committed.committed(partitions, timeout=KAFKA_S)
            self._read()
        except KafkaException:
            return False
        if (done := finished()) is None:
            return False
        lowest = lowest_unfinished(
            self.records, finished=done | {each.task_id for each in self.records if each.task_id.startswith(FOREIGN)}
        )
        now = time.monotonic()
        for place in committed:
            if place.error is None and place.offset >= 0 and place.partition in lowest:
                self.samples.append(CommitSample(place.partition, place.offset, lowest[place.partition], now))
        return True

    def committed(self) -> dict[int, int]:
        """By partition; without those that have no offset yet."""
        places = self._committed.committed(self._assigned(), timeout=KAFKA_S)
        return {place.partition: place.offset for place in places if place.offset >= 0}

    def ends(self) -> dict[int, int]:
        # Not by the reader: on its connection the question would wait behind a fetch that waits for records.
        return {
            place.partition: self._committed.get_watermark_offsets(place, timeout=KAFKA_S, cached=False)[1]
            for place in self._assigned()
        }

    def _assigned(self) -> list[TopicPartition]:
        if not self._partitions:
            topic = self._reader.list_topics(self._topic, timeout=KAFKA_S).topics[self._topic]
            self._partitions = [TopicPartition(self._topic, number) for number in sorted(topic.partitions)]
            self._reader.assign([TopicPartition(self._topic, place.partition, 0) for place in self._partitions])
        return self._partitions

    def _read(self) -> None:
        """What was in the log when it was asked; under load there is always more."""
        missing = {partition: end for partition, end in self.ends().items() if end > self._next.get(partition, 0)}
        deadline = time.monotonic() + KAFKA_S
        while missing and time.monotonic() < deadline:
            for message in self._reader.consume(1000, timeout=0.05):
                partition, offset, value = message.partition(), message.offset(), message.value()
                if message.error() is None and partition is not None and offset is not None and value is not None:
                    self.records.append(Record(partition, offset, _id_of(value)))
                    self._next[partition] = offset + 1
                    if offset + 1 >= missing.get(partition, 0):
                        missing.pop(partition, None)


def _id_of(value: bytes) -> str:
    try:
        return str(json.loads(value)["id"])
    except (ValueError, TypeError, KeyError):
        return FOREIGN


async def watch(
    states: StateWatch, log: LogWatch, task_ids: Callable[[], list[str]], pace: Pace, stopped: asyncio.Event
) -> None:
    """Until stopped; a cancellation would leave a thread behind that goes on asking."""
    looks = 0
    while not stopped.is_set():
        await states.look(task_ids())
        if looks % COMMITS_EVERY == 0:
            await sample_commits(states, log, task_ids())
        looks += 1
        await pace.pause(LOOK_S)


async def sample_commits(states: StateWatch, log: LogWatch, task_ids: list[str]) -> None:
    """One I4 sample: offsets first, then the log, then the states."""
    loop = asyncio.get_running_loop()

    def finished() -> set[str] | None:
        # Whatever lies in the log, not only what was submitted by the time we began: a task may be appended, run and
        # committed while the offsets are read, and before its submit has returned.
        known = list({*task_ids, *(each.task_id for each in log.records if not each.task_id.startswith(FOREIGN))})
        seen = asyncio.run_coroutine_threadsafe(states.look(known), loop).result(30)
        return set(states.final) if seen else None

    await asyncio.to_thread(log.sample, finished)
