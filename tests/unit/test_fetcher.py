"""From Kafka to the intake and back as a watermark: rebalances, rewinds, undecodable records and stragglers."""

from __future__ import annotations

import pytest

pytest.skip("being ported to the new parts", allow_module_level=True)

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.apps import make_record, make_value
from tests.support.poll import eventually
from yadtq import Yadtq
from yadtq.delivery.allowance import LEAST_SHARE
from yadtq.delivery.deadletters import DeadLetters
from yadtq.delivery.fetcher import Fetcher
from yadtq.delivery.waiting import Intake
from yadtq.errors import BrokerUnavailable
from yadtq.settings import WorkerSettings
from yadtq.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence

    from yadtq.delivery.delivery import Delivery
    from yadtq.runtime.seams import ConsumedRecord, OutRecord, Partition
    from yadtq.testing import MemoryRecord

TOPIC = "yadtq.t.tasks.default"
P0, P1 = (TOPIC, 0), (TOPIC, 1)


class Script:
    """`seams.TaskConsumer` that hands out what the test puts in, and remembers what it was asked."""

    def __init__(self) -> None:
        self.batches: deque[dict[Partition, list[MemoryRecord]]] = deque()
        self.polls: list[tuple[frozenset[Partition] | None, int]] = []
        self.timeouts: list[float] = []
        self.commits: list[dict[Partition, int]] = []
        self.refuse = False
        self.news = asyncio.Event()

    async def start(
        self,
        on_assigned: Callable[[Collection[Partition]], None],
        watermarks: Callable[[], Mapping[Partition, int]],
    ) -> None:
        self.assign, self.watermarks = on_assigned, watermarks
        self.assign([P0, P1])

    def give(self, *records: MemoryRecord) -> None:
        batch: dict[Partition, list[MemoryRecord]] = {}
        for record in records:
            batch.setdefault((record.topic, record.partition), []).append(record)
        self.batches.append(batch)
        self.news.set()

    async def poll(
        self, partitions: Collection[Partition] | None, max_records: int, timeout_s: float
    ) -> Mapping[Partition, Sequence[ConsumedRecord]]:
        self.polls.append((None if partitions is None else frozenset(partitions), max_records))
        self.timeouts.append(timeout_s)
        self.news.clear()
        if not self.batches:
            try:
                await asyncio.wait_for(self.news.wait(), min(timeout_s, 0.02))
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
    """`seams.Producer`."""

    def __init__(self) -> None:
        self.down = False
        self.calls = 0
        self.appended: list[OutRecord] = []

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def append(self, records: Sequence[OutRecord]) -> None:
        self.calls += 1
        await asyncio.sleep(0)
        if self.down:
            raise BrokerUnavailable("down")
        self.appended.extend(records)


class Bench:
    def __init__(self, **options: Any) -> None:
        self.clock = ManualClock()
        self.consumer, self.producer = Script(), Sink()
        self.intake = Intake(self.clock)
        app = Yadtq("t")

        @app.task
        async def work() -> None: ...

        self.fetcher = Fetcher(
            self.consumer,
            self.producer,
            app.registry,
            self.intake,
            DeadLetters("yadtq.t.dead", "w", self.producer, self.clock),
            WorkerSettings.load(**options),
            self.clock,
            lambda: None,
        )

    async def taken(self, count: int) -> list[Delivery]:
        found: list[Delivery] = []

        def all_there() -> bool:
            found.extend(self.intake.take(count - len(found)))
            return len(found) == count

        await eventually(all_there, what=f"{count} deliveries")
        return found

    async def polled(self) -> None:
        """Another poll or two have come back."""
        before = len(self.consumer.polls)
        await eventually(lambda: len(self.consumer.polls) > before + 2)


@asynccontextmanager
async def bench_with(**options: Any) -> AsyncIterator[Bench]:
    made = Bench(**options)
    run = asyncio.create_task(made.fetcher.run())
    await eventually(lambda: made.consumer.polls)
    yield made
    made.fetcher.stop()
    await asyncio.wait_for(run, 5)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with bench_with() as made:
        yield made


def records(*offsets: int, partition: int = 0) -> list[MemoryRecord]:
    return [make_record(make_value(task_id=f"{partition}-{each}"), each, partition=partition) for each in offsets]


def ids(deliveries: list[Delivery]) -> list[str]:
    return [delivery.envelope.id for delivery in deliveries]


async def test_the_watermark_is_the_lowest_unfinished_and_committed_once(bench: Bench) -> None:
    bench.consumer.give(*records(5, 6, 7), *records(0, partition=1))
    deliveries = await bench.taken(4)
    assert bench.fetcher.watermarks() == {}
    assert await bench.fetcher.commit()
    assert bench.consumer.commits == []
    for delivery in deliveries:
        if delivery.record.offset in (0, 6, 7):
            delivery.done()
    assert await bench.fetcher.commit()
    assert bench.consumer.commits == [{P1: 1}], "5 holds 6 and 7 back"
    deliveries[0].done()
    assert await bench.fetcher.commit()
    assert bench.consumer.commits[1:] == [{P0: 8}]
    assert await bench.fetcher.commit()
    assert len(bench.consumer.commits) == 2, "nothing new, no request"


async def test_a_refused_commit_goes_again(bench: Bench) -> None:
    bench.consumer.give(*records(0))
    (await bench.taken(1))[0].done()
    bench.consumer.refuse = True
    assert not await bench.fetcher.commit()
    assert bench.consumer.watermarks() == {P0: 1}, "also in the last commit before a rebalance"
    bench.consumer.refuse = False
    assert await bench.fetcher.commit()
    assert bench.consumer.commits == [{P0: 1}]


async def test_a_kept_partitions_records_that_come_again_are_dropped(bench: Bench) -> None:
    bench.consumer.give(*records(0, 1, 2))
    first = await bench.taken(3)
    first[1].done()
    bench.consumer.assign([P0])
    bench.consumer.give(*records(0, 1, 2, 3))
    assert ids(await bench.taken(1)) == ["0-3"]
    first[0].done()
    assert bench.fetcher.watermarks() == {P0: 2}, "what ran on counts for the kept partition"


async def test_a_lost_partitions_waiting_records_are_dropped_and_its_watermark_is_nobodys(bench: Bench) -> None:
    bench.consumer.give(*records(0, 1), *records(0, partition=1))
    running = (await bench.taken(3))[0]
    bench.consumer.give(*records(2), *records(1, partition=1))
    await eventually(lambda: bench.fetcher.trackers[P1].last_seen == 1)
    bench.consumer.assign([P1])
    assert ids(await bench.taken(1)) == ["1-1"]
    assert bench.intake.take(5) == []
    running.done()
    assert P0 not in bench.fetcher.watermarks()
    assert running.tracker.lost


async def test_a_partition_that_comes_back_starts_anew_where_the_other_worker_stopped(bench: Bench) -> None:
    bench.consumer.give(*records(0, 1, 2))
    old = await bench.taken(3)
    bench.consumer.assign([P1])
    bench.consumer.assign([P0, P1])
    bench.consumer.give(*records(2, 3))
    assert ids(await bench.taken(2)) == ["0-2", "0-3"], "2 was not finished by the other"
    for delivery in old:
        delivery.done()
    assert bench.fetcher.watermarks() == {}


async def test_a_reset_below_what_is_committed_starts_anew(bench: Bench) -> None:
    bench.consumer.give(*records(7, 8))
    for delivery in await bench.taken(2):
        delivery.done()
    assert await bench.fetcher.commit()
    bench.consumer.give(*records(0, 1))
    assert ids(await bench.taken(2)) == ["0-0", "0-1"]
    assert bench.fetcher.trackers[P0].watermark == 0


async def test_a_topic_that_is_made_anew_is_read_from_its_start_though_nothing_was_committed(bench: Bench) -> None:
    bench.consumer.give(*records(0, 1, 2))
    await bench.taken(3)
    bench.consumer.give(*records(0, 1))
    assert ids(await bench.taken(2)) == ["0-0", "0-1"]


async def test_a_commit_while_records_come_again_is_no_reset(bench: Bench) -> None:
    bench.consumer.give(*records(0, 1, 2, 3))
    deliveries = await bench.taken(4)
    bench.consumer.assign([P0])  # from here on Kafka's position is 0
    for delivery in deliveries[:3]:
        delivery.done()
    assert await bench.fetcher.commit()
    bench.consumer.give(*records(0, 1))
    bench.consumer.give(*records(2, 3, 4))
    assert ids(await bench.taken(1)) == ["0-4"]
    assert not deliveries[3].tracker.lost
    assert bench.fetcher.trackers[P0].watermark == 3


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"\xff\x00",
        b"[]",
        b'{"v": 1}',
        b'{"v": 2, "id": "a", "task": "work"}',
        b'{"v":1,"id":"a b","task":"t"}',
    ],
)
async def test_an_undecodable_record_is_a_dead_letter_before_its_offset_is_done(
    bench: Bench, value: bytes | None
) -> None:
    bench.producer.down = True
    poison = make_record(value, 0, key=b"k", timestamp=12, headers=[("trace", b"1")])
    bench.consumer.give(poison, *records(1))
    (neighbour,) = await bench.taken(1)
    neighbour.done()
    await eventually(lambda: bench.producer.calls)
    assert bench.fetcher.watermarks() == {}, "not before Kafka has the letter"
    bench.producer.down = False
    await eventually(lambda: bench.fetcher.watermarks() == {P0: 2})
    (letter,) = bench.producer.appended
    assert (letter.topic, letter.key, letter.value) == ("yadtq.t.dead", b"k", value)
    headers = dict(letter.headers)
    assert headers["trace"] == b"1"
    assert headers["yadtq-reason"] == b"undecodable"
    assert headers["yadtq-detail"]
    assert (
        headers["yadtq-topic"],
        headers["yadtq-partition"],
        headers["yadtq-offset"],
        headers["yadtq-timestamp"],
    ) == (
        TOPIC.encode(),
        b"0",
        b"0",
        b"12",
    )


async def test_an_unknown_name_waits_for_a_deploy() -> None:
    async with bench_with(unknown_task_window_s=30) as bench:
        bench.consumer.give(make_record(make_value("nobody", "x"), 0), *records(1))
        assert ids(await bench.taken(1)) == ["0-1"]
        assert bench.intake.next_due() == bench.clock.monotonic() + 30
        bench.clock.advance(30)
        (unknown,) = await bench.taken(1)
        assert (unknown.envelope.id, unknown.task) == ("x", None)


class TestStragglers:
    async def test_by_age(self) -> None:
        async with bench_with(straggler_age_s=60) as bench:
            (original,) = records(0)
            original.key, original.headers = b"k", [("h", b"1")]
            bench.consumer.give(original, *records(1, 2))
            head, *others = await bench.taken(3)
            for delivery in others:
                delivery.done()
            bench.clock.advance(60)
            await bench.polled()
            assert bench.producer.appended == [], "not before its time"
            bench.clock.advance(1.001)  # ages are looked at once a second
            await eventually(lambda: bench.fetcher.watermarks() == {P0: 3})
            (copy,) = bench.producer.appended
            assert (copy.topic, copy.partition, copy.key, copy.value, list(copy.headers)) == (
                TOPIC,
                0,
                b"k",
                original.value,
                [("h", b"1")],
            )
            head.done()
            assert bench.fetcher.watermarks() == {P0: 3}, "its end changes nothing any more"

    async def test_by_span(self) -> None:
        async with bench_with(span=10, window=100) as bench:
            bench.consumer.give(*records(*range(10)))
            head, *others = await bench.taken(10)
            for delivery in others:
                delivery.done()
            await bench.polled()
            assert bench.producer.appended == [], "it has only just come"
            bench.clock.advance(0.25)
            await eventually(lambda: bench.fetcher.watermarks() == {P0: 10})
            assert [each.value for each in bench.producer.appended] == [head.record.value]

    async def test_by_span_half_of_it_at_once(self) -> None:
        async with bench_with(span=10, window=100) as bench:
            bench.consumer.give(*records(*range(10)))
            deliveries = await bench.taken(10)
            for delivery in deliveries[7:]:
                delivery.done()
            bench.clock.advance(0.25)
            await eventually(lambda: bench.fetcher.watermarks() == {P0: 5})
            assert [each.value for each in bench.producer.appended] == [each.record.value for each in deliveries[:5]]

    async def test_the_old_offset_is_held_until_kafka_has_the_copy(self) -> None:
        async with bench_with(straggler_age_s=60) as bench:
            bench.producer.down = True
            bench.consumer.give(*records(0))
            await bench.taken(1)
            bench.clock.advance(60)

            def a_second_later(held: Callable[[], bool]) -> bool:
                bench.clock.advance(1)
                return held()

            await eventually(lambda: a_second_later(lambda: bench.producer.calls >= 2))
            assert bench.fetcher.watermarks() == {}
            bench.producer.down = False
            await eventually(lambda: a_second_later(lambda: bench.fetcher.watermarks() == {P0: 1}))
            assert len(bench.producer.appended) == 1


class TestBounds:
    async def test_a_partition_with_its_share_is_not_asked_until_some_of_it_is_finished(self) -> None:
        half = LEAST_SHARE // 2
        async with bench_with(window=10) as bench:
            bench.consumer.give(*records(*range(half + 1)))
            deliveries = await bench.taken(half)
            await eventually(lambda: bench.consumer.polls[-1][0] == frozenset({P1}))
            assert all(most <= half for _, most in bench.consumer.polls)
            deliveries[3].done()
            bench.fetcher.wake()
            assert ids(await bench.taken(1)) == [f"0-{half}"]

    async def test_after_a_full_poll_the_other_partitions_are_asked_for_what_is_at_hand(self) -> None:
        half = LEAST_SHARE // 2
        async with bench_with(window=10) as bench:
            bench.consumer.give(*records(*range(half)))
            bench.consumer.give(*records(*range(half), partition=1))
            await bench.taken(2 * half)
            asked = list(zip(bench.consumer.polls, bench.consumer.timeouts, strict=True))
            assert ((frozenset({P1}), half), 0) in asked, "P0 has had what it may have"

    async def test_after_a_poll_with_room_left_nothing_more_is_at_hand(self) -> None:
        async with bench_with(window=10) as bench:
            bench.consumer.give(*records(0))
            await bench.taken(1)
            await bench.polled()
            assert all(bench.consumer.timeouts)

    async def test_a_partition_without_room_is_left_out_and_the_others_go_on(self) -> None:
        async with bench_with(span=10, window=100) as bench:
            bench.producer.down = True
            bench.consumer.give(*records(*range(10)), *records(0, partition=1))
            await bench.taken(11)
            await eventually(lambda: bench.consumer.polls[-1][0] == frozenset({P1}))


async def test_lag_is_counted_from_the_watermark(bench: Bench) -> None:
    bench.consumer.give(*records(5, 6))
    await bench.taken(2)
    assert bench.fetcher.lags() == {f"{TOPIC}/0": 95, f"{TOPIC}/1": 0}
