"""What waits to be claimed: in which order it comes, when, and what is dropped on the way."""

from __future__ import annotations

import pytest

pytest.skip("being ported to the new parts", allow_module_level=True)

import pytest

from tests.support.apps import make_delivery
from yadtq.delivery.delivery import Delivery
from yadtq.delivery.tracker import PartitionTracker
from yadtq.delivery.waiting import Intake
from yadtq.testing import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def intake(clock: ManualClock) -> Intake:
    return Intake(clock)


def make(*ids: str) -> list[Delivery]:
    return [make_delivery(task_id=each) for each in ids]


def ids(deliveries: list[Delivery]) -> list[str]:
    return [delivery.envelope.id for delivery in deliveries]


def test_first_come_first_claimed_and_no_more_than_asked_for(intake: Intake) -> None:
    intake.add(make("a", "b"))
    intake.add(make("c"))
    assert ids(intake.take(2)) == ["a", "b"]
    assert intake.has_fresh
    assert ids(intake.take(2)) == ["c"]
    assert not intake.has_fresh
    assert intake.take(2) == []


def test_what_could_not_be_claimed_goes_back_to_the_front_in_its_order(intake: Intake) -> None:
    intake.add(one_partition("a", "b", "c"))
    intake.put_first(intake.take(2))
    assert ids(intake.take(3)) == ["a", "b", "c"]


def one_partition(*ids: str) -> list[Delivery]:
    tracker: PartitionTracker[Delivery] = PartitionTracker(0)
    return [make_delivery(task_id=each, tracker=tracker) for each in ids]


def test_partitions_take_turns(intake: Intake) -> None:
    """A long backlog of one partition keeps no task of another waiting."""
    intake.add(one_partition(*(f"long{n}" for n in range(10))))
    intake.add(one_partition("short0", "short1"))
    assert ids(intake.take(3)) == ["long0", "short0", "long1"]
    intake.add(one_partition("late"))
    assert ids(intake.take(3)) == ["short1", "long2", "late"]
    assert ids(intake.take(9)) == [f"long{n}" for n in range(3, 10)]


def test_with_more_partitions_than_room_each_has_a_short_turn(intake: Intake) -> None:
    for name in "abcde":
        intake.add(one_partition(*(f"{name}{n}" for n in range(9))))
    assert ids(intake.take(4)) == ["a0", "a1", "a2", "a3"]
    assert ids(intake.take(1)) == ["b0"]
    assert ids(intake.take(5)) == ["c0", "d0", "e0", "a4", "b1"]


def test_parked_comes_back_when_due_in_the_order_of_its_time_before_what_is_fresh(
    intake: Intake, clock: ManualClock
) -> None:
    late, early, same, fresh = one_partition("late", "early", "same", "fresh")
    intake.park(late, 2.0)
    intake.park(early, 1.0)
    intake.park(same, 1.0)
    assert intake.next_due() == clock.monotonic() + 1.0
    assert intake.parked == 3
    clock.advance(0.999)
    assert intake.take(5) == []
    clock.advance(0.001)
    intake.add([fresh])
    assert ids(intake.take(5)) == ["early", "same", "fresh"], "equal times: first parked, first out"
    clock.advance(1.0)
    assert ids(intake.take(5)) == ["late"]
    assert intake.next_due() is None
    assert intake.parked == 0


def test_a_wake_up_makes_everything_parked_due_in_the_order_of_its_time(intake: Intake) -> None:
    a, b = one_partition("a", "b")
    intake.park(a, 60.0)
    intake.park(b, 30.0)
    intake.wake_all()
    assert (intake.parked, intake.next_due()) == (0, None)
    assert ids(intake.take(5)) == ["b", "a"]


def test_a_double_waits_for_its_task_to_end_here_and_for_no_other(intake: Intake) -> None:
    first, second, other = one_partition("a", "a", "b")
    for delivery in (first, second, other):
        intake.park_double(delivery)
    assert intake.parked == 3
    intake.wake_all()
    assert intake.take(5) == [], "a death certificate says nothing of what runs here"
    intake.ended("c")
    assert not intake.has_fresh
    intake.ended("a")
    assert intake.take(5) == [first, second]
    assert intake.parked == 1


def test_suspects_are_a_queue_of_their_own(intake: Intake) -> None:
    a, b = make("a", "b")
    assert intake.take_suspect() is None
    intake.park_suspect(a)
    intake.park_suspect(b)
    assert intake.has_suspects
    assert (intake.parked, intake.take(5)) == (2, [])
    assert intake.take_suspect() is a
    assert intake.take_suspect() is b
    assert not intake.has_suspects
    assert intake.take_suspect() is None


def test_deliveries_of_a_lost_partition_are_dropped_wherever_they_wait(intake: Intake, clock: ManualClock) -> None:
    lost: PartitionTracker[Delivery] = PartitionTracker(0)
    gone = [make_delivery(task_id=f"gone{n}", tracker=lost) for n in range(4)]
    kept = make("fresh", "parked", "suspect", "double")
    intake.add([gone[0], kept[0]])
    intake.park(gone[1], 1.0)
    intake.park(kept[1], 1.0)
    intake.park_suspect(gone[2])
    intake.park_suspect(kept[2])
    intake.park_double(gone[3])
    intake.park_double(kept[3])
    lost.lost = True
    clock.advance(1.0)
    intake.ended("gone3")
    intake.ended("double")
    assert sorted(ids(intake.take(3))) == ["double", "fresh", "parked"], "what is dropped does not count"
    assert intake.take_suspect() is kept[2]
    assert intake.take_suspect() is None
