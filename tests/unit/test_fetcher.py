"""From Kafka to the waiting room: rebalances, rewinds, undecodable records, and how much is fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.apps import make_record, make_value
from tests.support.arrivals import P0, P1, TOPIC, Arrivals, arrivals, ids, records, release
from tests.support.poll import eventually
from yadtq.delivery.allowance import LEAST_SHARE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def bench() -> AsyncIterator[Arrivals]:
    async with arrivals() as made:
        yield made


async def test_the_watermark_is_the_lowest_unfinished_and_committed_once(bench: Arrivals) -> None:
    bench.consumer.give(*records(5, 6, 7), *records(0, partition=1))
    deliveries = await bench.taken(4)
    assert bench.partitions.watermarks() == {}
    assert await bench.committer.commit()
    assert bench.consumer.commits == []
    for delivery in deliveries:
        if delivery.record.offset in (0, 6, 7):
            release(delivery)
    assert await bench.committer.commit()
    assert bench.consumer.commits == [{P1: 1}], "5 holds 6 and 7 back"
    release(deliveries[0])
    assert await bench.committer.commit()
    assert bench.consumer.commits[1:] == [{P0: 8}]
    assert await bench.committer.commit()
    assert len(bench.consumer.commits) == 2, "nothing new, no request"


async def test_a_refused_commit_goes_again(bench: Arrivals) -> None:
    bench.consumer.give(*records(0))
    release((await bench.taken(1))[0])
    bench.consumer.refuse = True
    assert not await bench.committer.commit()
    assert bench.consumer.watermarks() == {P0: 1}, "also in the last commit before a rebalance"
    bench.consumer.refuse = False
    assert await bench.committer.commit()
    assert bench.consumer.commits == [{P0: 1}]


async def test_a_kept_partitions_records_that_come_again_are_dropped(bench: Arrivals) -> None:
    bench.consumer.give(*records(0, 1, 2))
    first = await bench.taken(3)
    release(first[1])
    bench.consumer.assign(dict.fromkeys([P0], ""))
    bench.consumer.give(*records(0, 1, 2, 3))
    assert ids(await bench.taken(1)) == ["0-3"]
    release(first[0])
    assert bench.partitions.watermarks() == {P0: 2}, "what ran on counts for the kept partition"


async def test_a_lost_partitions_waiting_records_are_dropped_and_its_watermark_is_nobodys(bench: Arrivals) -> None:
    bench.consumer.give(*records(0, 1), *records(0, partition=1))
    running = (await bench.taken(3))[0]
    bench.consumer.give(*records(2), *records(1, partition=1))
    await eventually(lambda: bench.partitions.trackers[P1].last_seen == 1)
    bench.consumer.assign(dict.fromkeys([P1], ""))
    assert ids(await bench.taken(1)) == ["1-1"]
    assert bench.room.take(5) == []
    release(running)
    assert P0 not in bench.partitions.watermarks()
    assert running.source.lost


async def test_a_partition_that_comes_back_starts_anew_where_the_other_worker_stopped(bench: Arrivals) -> None:
    bench.consumer.give(*records(0, 1, 2))
    old = await bench.taken(3)
    bench.consumer.assign(dict.fromkeys([P1], ""))
    bench.consumer.assign(dict.fromkeys([P0, P1], ""))
    bench.consumer.give(*records(2, 3))
    assert ids(await bench.taken(2)) == ["0-2", "0-3"], "2 was not finished by the other"
    for delivery in old:
        release(delivery)
    assert bench.partitions.watermarks() == {}


async def test_a_reset_below_what_is_committed_starts_anew(bench: Arrivals) -> None:
    bench.consumer.give(*records(7, 8))
    for delivery in await bench.taken(2):
        release(delivery)
    assert await bench.committer.commit()
    bench.consumer.give(*records(0, 1))
    assert ids(await bench.taken(2)) == ["0-0", "0-1"]
    assert bench.partitions.trackers[P0].watermark == 0


async def test_a_topic_that_is_made_anew_is_read_from_its_start_though_nothing_was_committed(bench: Arrivals) -> None:
    bench.consumer.give(*records(0, 1, 2))
    await bench.taken(3)
    bench.consumer.give(*records(0, 1))
    assert ids(await bench.taken(2)) == ["0-0", "0-1"]


async def test_a_commit_while_records_come_again_is_no_reset(bench: Arrivals) -> None:
    bench.consumer.give(*records(0, 1, 2, 3))
    deliveries = await bench.taken(4)
    bench.consumer.assign(dict.fromkeys([P0], ""))  # from here on Kafka's position is 0
    for delivery in deliveries[:3]:
        release(delivery)
    assert await bench.committer.commit()
    bench.consumer.give(*records(0, 1))
    bench.consumer.give(*records(2, 3, 4))
    assert ids(await bench.taken(1)) == ["0-4"]
    assert not deliveries[3].source.lost
    assert bench.partitions.trackers[P0].watermark == 3


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"\xff\x00",
        b"[]",
        b'{"v": 1}',
        b'{"v": 2, "id": 7, "task": "work"}',
        b'{"v":1,"id":"a b","task":"t"}',
    ],
)
async def test_an_undecodable_record_is_a_dead_letter_before_its_offset_is_done(
    bench: Arrivals, value: bytes | None
) -> None:
    bench.producer.down = True
    poison = make_record(value, 0, key=b"k", timestamp=12, headers=[("trace", b"1")])
    bench.consumer.give(poison, *records(1))
    (neighbour,) = await bench.taken(1)
    release(neighbour)
    await eventually(lambda: bench.producer.calls)
    assert bench.partitions.watermarks() == {}, "not before Kafka has the letter"
    bench.producer.down = False
    await eventually(lambda: bench.partitions.watermarks() == {P0: 2})
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
    async with arrivals(unknown_task_window_s=30) as bench:
        bench.consumer.give(make_record(make_value("nobody", "x"), 0), *records(1))
        assert ids(await bench.taken(1)) == ["0-1"]
        assert bench.room.next_due() == bench.clock.monotonic() + 1  # then it is asked again
        bench.clock.advance(30)
        (unknown,) = await bench.taken(1)
        assert (unknown.envelope.id, unknown.task) == ("x", None)


class TestBounds:
    async def test_a_partition_with_its_share_is_not_asked_until_some_of_it_is_finished(self) -> None:
        half = LEAST_SHARE // 2
        async with arrivals(window=10) as bench:
            bench.consumer.give(*records(*range(half + 1)))
            deliveries = await bench.taken(half)
            await eventually(lambda: bench.consumer.polls[-1][0] == frozenset({P1}))
            assert all(most <= half for _, most in bench.consumer.polls)
            release(deliveries[3])
            bench.fetcher.wake()
            assert ids(await bench.taken(1)) == [f"0-{half}"]

    async def test_after_a_full_poll_the_other_partitions_are_asked_for_what_is_at_hand(self) -> None:
        half = LEAST_SHARE // 2
        async with arrivals(window=10) as bench:
            bench.consumer.give(*records(*range(half)))
            bench.consumer.give(*records(*range(half), partition=1))
            await bench.taken(2 * half)
            asked = list(zip(bench.consumer.polls, bench.consumer.timeouts, strict=True))
            assert ((frozenset({P1}), half), 0) in asked, "P0 has had what it may have"

    async def test_after_a_poll_with_room_left_nothing_more_is_at_hand(self) -> None:
        async with arrivals(window=10) as bench:
            bench.consumer.give(*records(0))
            await bench.taken(1)
            await bench.polled()
            assert all(bench.consumer.timeouts)

    async def test_a_partition_without_room_is_left_out_and_the_others_go_on(self) -> None:
        async with arrivals(span=10, window=100) as bench:
            bench.producer.down = True
            bench.consumer.give(*records(*range(10)), *records(0, partition=1))
            await bench.taken(11)
            await eventually(lambda: bench.consumer.polls[-1][0] == frozenset({P1}))


async def test_lag_is_counted_from_the_watermark(bench: Arrivals) -> None:
    bench.consumer.give(*records(5, 6))
    await bench.taken(2)
    assert bench.partitions.lags(bench.consumer) == {f"{TOPIC}/0": 95, f"{TOPIC}/1": 0}


@pytest.mark.parametrize(
    "value",
    [
        b'{"v": 2, "id": "a", "task": "work"}',
        b'{"v":1,"id":"a","task":"work","args":[1' + b"0" * 5_000 + b"]}",
        b'{"v":1,"id":"a","task":"work","args":[1,',
        b'{"v":1,"id":"a","task":"no such","args":7}',
        b'{"v":1,"id":"a","task":"work","args":["\xff"]}',
    ],
)
async def test_an_unreadable_record_whose_id_can_be_read_is_claimed_at_once(bench: Arrivals, value: bytes) -> None:
    bench.consumer.give(make_record(value, 0))
    (delivery,) = await bench.taken(1)
    assert (delivery.envelope.id, delivery.envelope.args, delivery.task) == ("a", [], None)
    assert delivery.defect
    release(delivery)


async def test_it_can_be_claimed_again(bench: Arrivals) -> None:
    bench.consumer.give(make_record(b'{"v": 2, "id": "a", "task": "work"}', 0))
    (delivery,) = await bench.taken(1)
    assert [delivery.envelope_for_attempt().id for _ in range(2)] == ["a", "a"], "it is not read once more"
    release(delivery)


async def test_large_arguments_take_no_memory_while_they_wait(bench: Arrivals) -> None:
    """Decoded, they take many times their bytes. Each attempt reads them from the record."""
    large, small = ["[],[]"] * 4_000, [1]
    bench.consumer.give(
        make_record(make_value("work", args=[large])),
        make_record(make_value("work", args=small), 1),
    )
    first, second = await bench.taken(2)
    assert (first.envelope.args, second.envelope.args) == ([], small)
    held = bench.partitions.trackers[P0].bytes
    assert held == len(first.record.value or b"") + len(second.record.value or b"")
    assert first.envelope_for_attempt().args == [large]
    assert first.envelope_for_attempt().args == [large]
    release(first)
    release(second)
    assert bench.partitions.trackers[P0].bytes == 0
