"""After a loss of data the backlog is known again; what has ended is not told as QUEUED, for nobody would run it again."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from tests.support.apps import make_delivery, make_value
from tests.support.arrivals import P0, release
from tests.support.doubles import ScriptedConsumer
from tests.support.outside import memory_outside
from yadtq.delivery.partitions import Partitions
from yadtq.delivery.rebuilder import Rebuilder
from yadtq.runtime.seams import OutRecord
from yadtq.settings import Settings
from yadtq.testing.doubles import ManualClock, MemoryBroker, MemoryStore
from yadtq.wire.names import TopicNames

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from yadtq.runtime.seams import ConsumedRecord, Partition

RECORDS = 6


class Reader(ScriptedConsumer):
    """at: where it reads on."""

    at: int | None = 0

    async def position(self, partition: Partition) -> int | None:
        return self.at

    def lag(self, partition: Partition, offset: int) -> int:
        return RECORDS - offset


class Given:
    """A log of six tasks, `t0` to `t5`, and Redis without a word of them."""

    def __init__(self) -> None:
        self.clock = clock = ManualClock()
        self.cluster = cluster = MemoryBroker(clock)
        cluster.create_topic(P0[0], 1)
        for number in range(RECORDS):
            cluster.append(OutRecord(P0[0], make_value("any", f"t{number}"), b""))
        self.settings = settings = Settings.load()
        self.store = MemoryStore(clock, random.Random(1), settings)
        self.partitions = Partitions()
        self.partitions.assign({P0: ""})
        self.reader = Reader(P0)
        self.data_set = f"{int(clock.time() * 1000)}-a"
        outside = memory_outside(
            clock=clock, broker=cluster.for_app(TopicNames("t"), settings), store=self.store, settings=settings
        )
        self.rebuilder = Rebuilder(
            outside=outside,
            settings=settings,
            partitions=self.partitions,
            consumer=self.reader,
            data_set=lambda: self.data_set,
        )

    def receive(self, *, ended: int) -> None:
        """The first three records have come; so many of them have ended."""
        tracker = self.partitions.tracker(P0, 0, 3)
        deliveries = [make_delivery(tracker=tracker, offset=offset, name="any") for offset in range(3)]
        for delivery in deliveries[-ended:] if ended else ():
            release(delivery)
        tracker.last_ms, self.reader.at = 0, 3

    async def known(self) -> set[str]:
        ids = [f"t{number}" for number in range(RECORDS)]
        return {each for each, found in zip(ids, await self.store.tasks.snapshots(ids), strict=True) if found}


@pytest.fixture
def given() -> Given:
    return Given()


async def test_all_of_a_partition_of_which_nothing_was_read_is_known_again_at_the_second_look(given: Given) -> None:
    await given.rebuilder.tick()
    assert await given.known() == set(), "the first batch may come in a moment"
    await given.rebuilder.tick()
    assert await given.known() == {"t0", "t1", "t2", "t3", "t4", "t5"}


async def test_what_is_ahead_of_the_reader_is_known_again(given: Given) -> None:
    given.receive(ended=2)
    await given.rebuilder.tick()
    assert await given.known() == {"t3", "t4", "t5"}, "t1 and t2 have ended"


async def test_what_had_ended_before_a_rebalance_is_not_known_again(given: Given) -> None:
    """Found by seed 6035 of the simulation: the reader goes back to what is committed, and reads it again to drop it."""
    given.receive(ended=2)
    given.reader.at = 0
    await given.rebuilder.tick()
    assert await given.known() == {"t3", "t4", "t5"}


async def test_one_look_is_enough_for_each_data_set(given: Given) -> None:
    given.receive(ended=2)
    await given.rebuilder.tick()
    given.store.flush()
    await given.rebuilder.tick()
    assert await given.known() == set(), "nothing tells of a loss but another data set"
    given.data_set += "b"
    await given.rebuilder.tick()
    assert await given.known() == {"t3", "t4", "t5"}


async def test_what_was_on_its_way_to_kafka_during_the_loss_is_known_by_the_last_look(given: Given) -> None:
    """Its client can't know whether it has ended in what was lost, and leaves it to the workers."""
    given.receive(ended=2)
    await given.rebuilder.tick()
    given.cluster.append(OutRecord(P0[0], make_value("any", "late"), b""))
    await given.rebuilder.tick()
    assert await given.store.tasks.snapshots(["late"]) == [None], "one look at once, one at the end"
    given.clock.advance(given.settings.submit_timeout_s + given.settings.redis_timeout_s)
    given.store.tasks.clear()
    await given.rebuilder.tick()
    assert [found is not None for found in await given.store.tasks.snapshots(["t3", "late"])] == [False, True]
    given.store.tasks.clear()
    await given.rebuilder.tick()
    assert await given.store.tasks.snapshots(["late"]) == [None], "then never again"


async def test_a_batch_of_which_nothing_can_be_read_is_stepped_over(
    given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read leaves out what is unreadable, and may have nothing left."""
    broker = given.rebuilder._broker

    async def with_gaps(topic: str, starts: dict[int, int]) -> AsyncGenerator[Sequence[ConsumedRecord], None]:
        yield []
        async for batch in broker.read(topic, starts):
            yield batch
        yield []

    given.receive(ended=2)
    monkeypatch.setattr(given.rebuilder, "_broker", SimpleNamespace(read=with_gaps))
    await given.rebuilder.tick()
    assert await given.known() == {"t3", "t4", "t5"}
    assert given.rebuilder._read_to == {P0: RECORDS}


async def test_an_unknown_position_is_waited_for(given: Given) -> None:
    given.receive(ended=2)
    given.reader.at = None
    await given.rebuilder.tick()
    assert await given.known() == set()
    given.reader.at = 3
    await given.rebuilder.tick()
    assert await given.known() == {"t3", "t4", "t5"}
