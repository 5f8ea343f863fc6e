"""What holds a watermark back for too long goes to the tail of its partition, and what only waits for its turn stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.apps import bring, make_delivery, make_record
from tests.support.arrivals import P0, TOPIC, Arrivals, arrivals, records, release
from tests.support.poll import eventually
from yadtq import Yadtq
from yadtq.delivery.place import Place
from yadtq.delivery.stragglers import late
from yadtq.delivery.tracker import PartitionTracker
from yadtq.errors import BrokerRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from yadtq.delivery.delivery import Delivery
    from yadtq.runtime.seams import OutRecord

app = Yadtq("stragglers")


@app.task
async def work() -> None: ...


async def running(bench: Arrivals, count: int) -> list[Delivery]:
    return [bring(delivery, Place.RUNNING) for delivery in await bench.taken(count)]


class TestByAge:
    async def test_its_copy_is_the_same_and_its_offset_is_let_go(self) -> None:
        async with arrivals(straggler_age_s=60) as bench:
            (original,) = records(0)
            original.key, original.headers = b"k", [("h", b"1")]
            bench.consumer.give(original, *records(1, 2))
            head, *others = await running(bench, 3)
            for delivery in others:
                release(delivery)
            bench.clock.advance(60)
            await bench.polled()
            bench.stragglers.look()
            assert bench.producer.appended == [], "not before its time"
            bench.clock.advance(1.001)
            bench.stragglers.wake()
            await eventually(lambda: bench.partitions.watermarks() == {P0: 3})
            (copy,) = bench.producer.appended
            assert (copy.topic, copy.partition, copy.key, copy.value, list(copy.headers)) == (
                TOPIC,
                0,
                b"k",
                original.value,
                [("h", b"1")],
            )
            assert head.place is Place.RUNNING, "it goes on where it is"
            release(head)
            assert bench.partitions.watermarks() == {P0: 3}, "its end changes nothing any more"

    async def test_the_old_offset_is_held_until_kafka_has_the_copy(self) -> None:
        async with arrivals(straggler_age_s=60) as bench:
            bench.producer.down = True
            bench.consumer.give(*records(0))
            await running(bench, 1)
            bench.clock.advance(61)

            def looked_again(held: Callable[[], bool]) -> bool:
                bench.stragglers.wake()
                return held()

            await eventually(lambda: looked_again(lambda: bench.producer.calls >= 2))
            assert bench.partitions.watermarks() == {}
            bench.producer.down = False
            await eventually(lambda: looked_again(lambda: bench.partitions.watermarks() == {P0: 1}))
            assert len(bench.producer.appended) == 1, "one that is on its way is not sent again"

    async def test_one_that_kafka_refuses_stays_and_is_not_tried_again(self, caplog: pytest.LogCaptureFixture) -> None:
        async with arrivals(straggler_age_s=60) as bench:

            async def refuse(sent: Sequence[OutRecord]) -> None:
                bench.producer.calls += 1
                raise BrokerRefused("too large", dict.fromkeys(range(len(sent)), "too large"), range(len(sent)))

            bench.producer.append = refuse  # type: ignore[method-assign, assignment]
            bench.consumer.give(*records(0))
            (head,) = await running(bench, 1)
            bench.clock.advance(61)
            bench.stragglers.wake()
            await eventually(lambda: "can't be moved" in caplog.text)
            for _ in range(3):
                bench.stragglers.look()
                await bench.polled()
            assert bench.producer.calls == 1
            assert bench.partitions.watermarks() == {}
            release(head)
            assert bench.partitions.watermarks() == {P0: 1}


class TestBySpan:
    async def test_not_what_has_only_just_come(self) -> None:
        async with arrivals(span=10, window=100) as bench:
            bench.consumer.give(*records(*range(10)))
            head, *others = await running(bench, 10)
            for delivery in others:
                release(delivery)
            await bench.polled()
            assert bench.producer.appended == []
            bench.clock.advance(0.25)
            await eventually(lambda: bench.partitions.watermarks() == {P0: 10})
            assert [each.value for each in bench.producer.appended] == [head.record.value]

    async def test_half_of_it_at_once(self) -> None:
        async with arrivals(span=10, window=100) as bench:
            bench.consumer.give(*records(*range(10)))
            deliveries = await running(bench, 10)
            for delivery in deliveries[7:]:
                release(delivery)
            bench.clock.advance(0.25)
            await eventually(lambda: bench.partitions.watermarks() == {P0: 5})
            assert [each.value for each in bench.producer.appended] == [each.record.value for each in deliveries[:5]]

    async def test_an_undecodable_one_is_never_moved(self) -> None:
        async with arrivals(span=10, window=100, straggler_age_s=60) as bench:
            bench.producer.down = True
            bench.consumer.give(make_record(b"{", 0), *records(*range(1, 10)))
            for delivery in await running(bench, 9):
                release(delivery)
            bench.clock.advance(61)
            bench.stragglers.look()
            assert len(bench.outbox) == 1, "its dead letter only"


def held(*places: Place, known: bool = True) -> PartitionTracker[Delivery]:
    tracker: PartitionTracker[Delivery] = PartitionTracker(0)
    for place in places:
        bring(make_delivery(work if known else None, tracker=tracker), place)
    return tracker


@pytest.mark.parametrize("by", ["age", "span"])
@pytest.mark.parametrize(
    ("place", "moves"),
    [
        (Place.WAITING, False),
        (Place.CLAIMING, False),
        (Place.RUNNING, True),
        (Place.STORING, True),
        (Place.PARKED, True),
        (Place.GATED, True),
        (Place.OUTBOX, False),
    ],
)
def test_what_waits_for_its_turn_is_no_straggler(place: Place, moves: bool, by: str) -> None:
    """Moved, it would only wait again: a log that grows for ever."""
    tracker = held(*[place] * 10)
    found = late(tracker, now=100.0, span=10 if by == "span" else 1_000, age_s=1_000.0 if by == "span" else 60.0)
    assert len(found) == ((5 if by == "span" else 10) if moves else 0)


def test_so_is_what_no_code_here_knows() -> None:
    """It may wait for minutes; its copy waits for what is left of them."""
    tracker = held(Place.PARKED, known=False)
    assert len(late(tracker, now=1_000.0, span=10, age_s=60.0)) == 1


def test_nor_at_once_what_waits_for_a_gate_that_lets_one_after_the_other_through() -> None:
    tracker = held(*[Place.GATED] * 10)
    for delivery in tracker.items():
        delivery.gates = (object(),)  # type: ignore[assignment]
    assert late(tracker, now=100.0, span=10, age_s=1_000.0) == []
    assert len(late(tracker, now=100.0, span=10, age_s=60.0)) == 10, "but by its age"


def test_nothing_in_flight_is_nothing_late() -> None:
    assert late(PartitionTracker(0), now=1e9, span=1, age_s=0.0) == []
