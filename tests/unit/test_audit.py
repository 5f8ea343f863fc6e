"""The audit finds each kind of violation: one that finds nothing would prove nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.support.apps import bring, make_attempt, make_delivery
from tests.support.assembled import Assembled
from tests.support.execution import forever
from yadtq import Yadtq
from yadtq.delivery.place import Place
from yadtq.execution.attempt import StopReason
from yadtq.execution.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from yadtq.delivery.delivery import Delivery
    from yadtq.worker.assembly import Parts


@pytest.fixture
async def parts() -> AsyncIterator[Parts]:
    """Of a worker that does not run: only what the test does happens in it."""
    app = Yadtq("t")
    app.task(forever)
    made = Assembled(app, concurrency=4).parts
    made.partitions.assign({("t", 0): ""})
    yield made
    made.executor.cancel_all(StopReason.SHUTDOWN)
    for _ in range(5):
        await asyncio.sleep(0)


def received(parts: Parts, place: Place, *, task_id: str = "") -> Delivery:
    """One in flight that says it is in `place`."""
    known = parts.partitions.trackers.get(("t", 0))
    offset = known.last_seen + 1 if known is not None else 0
    delivery = make_delivery(
        tracker=parts.partitions.tracker(("t", 0), offset, offset + 1), offset=offset, task_id=task_id
    )
    return bring(delivery, place)


def run(parts: Parts, task_id: str = "a") -> Delivery:
    """An attempt of it, in a slot."""
    delivery = received(parts, Place.CLAIMING, task_id=task_id)
    attempt = make_attempt(of=delivery)
    bring(delivery, Place.RUNNING)
    parts.executor.slots.reserve(1)
    parts.executor.slots.start(1)
    parts.executor.start(attempt)
    return delivery


async def test_a_worker_in_good_order_has_nothing_to_say(parts: Parts) -> None:
    assert parts.audit() == []
    waiting, parked, gated = (received(parts, Place.RECEIVED) for _ in range(3))
    parts.room.add([waiting])
    parts.room.park(bring(parked, Place.CLAIMING), 60.0)
    parts.room.hold(bring(gated, Place.CLAIMING), "key")
    run(parts)
    ended = make_attempt(of=received(parts, Place.CLAIMING))
    bring(ended.origin, Place.RUNNING)
    parts.completer.put(Outcome(ended, None))
    received(parts, Place.OUTBOX)
    released = received(parts, Place.STORING)
    released.release()
    claimed = received(parts, Place.CLAIMING)
    parts.executor.slots.reserve(1)
    parts.claimer.claiming = 1
    in_flight = parts.partitions.in_flight()
    assert len(in_flight) == 7
    assert claimed in in_flight
    assert parts.audit() == []


@pytest.mark.parametrize("place", [Place.WAITING, Place.PARKED, Place.GATED, Place.RUNNING, Place.STORING])
async def test_one_that_nobody_has(parts: Parts, place: Place) -> None:
    delivery = received(parts, place)
    assert parts.audit() == [f"{delivery!r} ({place.value}) is in 0 places"]


async def test_one_that_was_received_and_forgotten(parts: Parts) -> None:
    received(parts, Place.RECEIVED)
    assert "is in 0 places" in parts.audit()[0]


async def test_one_that_two_have(parts: Parts) -> None:
    delivery = received(parts, Place.RECEIVED)
    delivery.task = Yadtq("t").task(forever)  # no gate holds it
    parts.room.add([delivery])
    parts.room.put_first(parts.room.take(1))
    parts.room._turns.put_first(delivery)
    assert parts.audit() == [f"{delivery!r} (waiting) is in 2 places"]


async def test_one_that_is_not_where_it_says(parts: Parts) -> None:
    delivery = received(parts, Place.RECEIVED)
    parts.room.add([delivery])
    bring(delivery, Place.OUTBOX)
    assert parts.audit() == [f"{delivery!r} is in waiting and says outbox"]


async def test_an_attempt_whose_delivery_is_elsewhere(parts: Parts) -> None:
    delivery = run(parts)
    bring(delivery, Place.STORING)
    assert parts.audit() == [f"{delivery!r} is in running and says storing"]
    bring(delivery, Place.RUNNING)


async def test_one_that_is_claimed_without_a_claim(parts: Parts) -> None:
    received(parts, Place.CLAIMING)
    assert parts.audit() == ["1 deliveries say that they are being claimed, of 0 claims on their way"]


async def test_a_slot_that_nobody_gave_back(parts: Parts) -> None:
    parts.executor.slots.free -= 1
    assert parts.audit() == ["slots: 3 free, 0 reserved, 0 running of 4"]


async def test_a_slot_that_was_given_back_twice(parts: Parts) -> None:
    parts.executor.slots.running, parts.executor.slots.free = -1, 5
    assert "slots: 5 free, 0 reserved, -1 running of 4" in parts.audit()


async def test_a_slot_without_an_attempt(parts: Parts) -> None:
    parts.executor.slots.reserve(1)
    parts.executor.slots.start(1)
    assert parts.audit() == ["slots: 1 taken by 0 attempts"]


async def test_a_slot_that_is_reserved_for_no_claim(parts: Parts) -> None:
    parts.executor.slots.reserve(1)
    assert parts.audit() == ["slots: 1 reserved for 0 claims on their way"]


async def test_what_is_lost_is_nobody_s_business(parts: Parts) -> None:
    """Its record is another worker's, and the task that runs here goes on under its lease."""
    received(parts, Place.CLAIMING)
    parts.partitions.assign({})
    assert parts.audit() == []
