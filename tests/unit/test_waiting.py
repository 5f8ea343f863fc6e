"""What waits to be claimed: in which order it comes, when, and what is dropped on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.apps import make_delivery
from yadtq import Yadtq
from yadtq.delivery.delivery import On, Until
from yadtq.delivery.place import Place
from yadtq.delivery.tracker import PartitionTracker
from yadtq.delivery.turns.partitions import PartitionTurns
from yadtq.delivery.waiting import WaitingRoom
from yadtq.testing.doubles import ManualClock

if TYPE_CHECKING:
    from collections.abc import Hashable

    from yadtq.delivery.delivery import Delivery
    from yadtq.task import Task


class OneAtATime:
    """`delivery.Gate`: one of its tasks after the other."""

    KEY = ("one",)

    def __init__(self, *tasks: Task[Any, Any] | None) -> None:
        self._tasks = tasks
        self.holder: Delivery | None = None
        self.asked = 0

    def concerns(self, task: Task[Any, Any] | None) -> bool:
        return task in self._tasks

    def ask(self, delivery: Delivery, now: float) -> Until | On | None:
        self.asked += 1
        if self.holder is not None:
            return On(self.KEY)
        self.holder = delivery
        return None

    def came_back(self, delivery: Delivery) -> Hashable | None:
        if self.holder is not delivery:
            return None
        self.holder = None
        return self.KEY


class NotBefore:
    """`delivery.Gate`: nothing before a time."""

    def __init__(self, at: float) -> None:
        self._at = at

    def concerns(self, task: Task[Any, Any] | None) -> bool:
        return True

    def ask(self, delivery: Delivery, now: float) -> Until | On | None:
        return Until(self._at - now) if now < self._at else None

    def came_back(self, delivery: Delivery) -> Hashable | None:
        return None


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def room(clock: ManualClock) -> WaitingRoom:
    return WaitingRoom(clock=clock, turns=PartitionTurns())


def make(*ids: str, task: Task[Any, Any] | None = None) -> list[Delivery]:
    """Of one partition."""
    tracker: PartitionTracker[Delivery] = PartitionTracker(0)
    return [make_delivery(task, task_id=each, tracker=tracker) for each in ids]


def claimed(room: WaitingRoom, *ids: str) -> list[Delivery]:
    """Of one partition, as they are after their turn."""
    deliveries = make(*ids)
    room.add(deliveries)
    assert room.take(len(ids)) == deliveries
    return deliveries


def ids(deliveries: list[Delivery]) -> list[str]:
    return [delivery.envelope.id for delivery in deliveries]


def test_first_come_first_claimed_and_no_more_than_asked_for(room: WaitingRoom) -> None:
    deliveries = make("a", "b", "c")
    room.add(deliveries[:2])
    room.add(deliveries[2:])
    assert ids(room.take(2)) == ["a", "b"]
    assert room.contents()[Place.WAITING] == deliveries[2:]
    assert ids(room.take(2)) == ["c"]
    assert not any(room.contents().values())
    assert room.take(2) == []


def test_what_could_not_be_claimed_goes_back_to_the_front_in_its_order(room: WaitingRoom) -> None:
    room.add(make("a", "b", "c"))
    room.put_first(room.take(2))
    assert ids(room.take(3)) == ["a", "b", "c"]


def test_parked_comes_back_when_due_in_the_order_of_its_time_before_what_is_fresh(
    room: WaitingRoom, clock: ManualClock
) -> None:
    deliveries = make("late", "early", "same", "fresh")
    room.add(deliveries[:3])
    late, early, same = room.take(3)
    room.park(late, 2.0)
    room.park(early, 1.0)
    room.park(same, 1.0)
    assert room.next_due() == clock.monotonic() + 1.0
    assert room.parked == 3
    clock.advance(0.999)
    assert room.take(5) == []
    clock.advance(0.001)
    room.add(deliveries[3:])
    assert ids(room.take(5)) == ["early", "same", "fresh"], "equal times: first parked, first out"
    clock.advance(1.0)
    assert ids(room.take(5)) == ["late"]
    assert room.next_due() is None
    assert room.parked == 0


def test_a_wake_up_makes_everything_parked_due_in_the_order_of_its_time(room: WaitingRoom) -> None:
    a, b = claimed(room, "a", "b")
    room.park(a, 60.0)
    room.park(b, 30.0)
    room.wake_all()
    assert (room.parked, room.next_due()) == (0, None)
    assert ids(room.take(5)) == ["b", "a"]


def test_a_double_waits_for_its_task_to_end_here_and_for_no_other(room: WaitingRoom) -> None:
    first, second, other = claimed(room, "a", "a", "b")
    for delivery in (first, second, other):
        room.hold(delivery, delivery.envelope.id)
    assert room.parked == 3
    room.wake_all()
    assert room.take(5) == [], "a death certificate says nothing of what runs here"
    room.opened("c")
    assert room.take(5) == []
    room.opened("a")
    assert room.take(5) == [first, second]
    assert room.parked == 1


def test_deliveries_of_a_lost_partition_are_dropped_wherever_they_wait(room: WaitingRoom, clock: ManualClock) -> None:
    gone, kept = claimed(room, "gone0", "gone1", "gone2"), claimed(room, "fresh", "parked", "double")
    for fresh, parked, double in (gone, kept):
        room.put_first([fresh])
        room.park(parked, 1.0)
        room.hold(double, double.envelope.id)
    gone[0].source.lost = True
    clock.advance(1.0)
    room.opened("gone2")
    room.opened("double")
    assert sorted(ids(room.take(3))) == ["double", "fresh", "parked"], "what is dropped does not count"
    assert {delivery.place for delivery in gone} == {Place.DROPPED}


class TestGates:
    def test_are_asked_for_their_tasks_only(self, clock: ManualClock) -> None:
        app = Yadtq("t")

        @app.task
        async def free() -> None: ...

        @app.task
        async def alone() -> None: ...

        gate = OneAtATime(alone)
        room = WaitingRoom(clock=clock, turns=PartitionTurns(), gates=[gate])
        room.add(make("f0", "f1", task=free))
        room.add(make("a0", "a1", task=alone))
        assert sorted(ids(room.take(9))) == ["a0", "f0", "f1"]
        assert gate.asked == 2, "free tasks pay nothing"
        assert (room.parked, room.next_due()) == (1, None)

    def test_what_comes_back_lets_the_one_go_that_has_waited_longest(self, clock: ManualClock) -> None:
        gate = OneAtATime(None)
        room = WaitingRoom(clock=clock, turns=PartitionTurns(), gates=[gate])
        room.add(make("a", "b", "c"))
        (a,) = room.take(9)
        room.came_back(a)
        assert ids(room.take(9)) == ["b"]
        assert room.parked == 1

    def test_an_event_is_not_used_up_by_what_nobody_here_may_claim(self, clock: ManualClock) -> None:
        """The oldest that waits for it may be of a partition that has gone: it is dropped, and the next one goes."""
        gate = OneAtATime(None)
        room = WaitingRoom(clock=clock, turns=PartitionTurns(), gates=[gate])
        room.add(make("holder"))
        gone = make("gone")
        room.add(gone)
        kept = make("kept0", "kept1")
        room.add(kept)
        (holder,) = room.take(9)
        assert room.parked == 3
        gone[0].source.lost = True
        room.came_back(holder)
        assert room.take(9) == [kept[0]]
        assert {delivery.place for delivery in gone} == {Place.DROPPED}

    def test_nor_by_one_whose_partition_goes_just_then(self, clock: ManualClock) -> None:
        gate = OneAtATime(None)
        room = WaitingRoom(clock=clock, turns=PartitionTurns(), gates=[gate])
        room.add(make("holder"))
        gone, kept = make("gone"), make("kept")
        room.add(gone)
        room.add(kept)
        (holder,) = room.take(9)
        room.came_back(holder)
        gone[0].source.lost = True  # after it was let go, and before its turn
        room.rebalanced()
        assert room.take(9) == kept

    def test_a_rebalance_leaves_nothing_behind_of_what_is_lost(self, clock: ManualClock) -> None:
        gate = OneAtATime(None)
        room = WaitingRoom(clock=clock, turns=PartitionTurns(), gates=[gate])
        room.add(make("holder"))
        gone, kept = make("gone0", "gone1"), make("kept")
        room.add(gone)
        room.add(kept)
        room.take(9)
        gone[0].source.lost = True
        room.rebalanced()
        assert room.take(9) == []
        assert room.contents()[Place.GATED] == kept
        assert {delivery.place for delivery in gone} == {Place.DROPPED}

    def test_one_that_was_let_go_and_came_too_late_keeps_its_turn(self, clock: ManualClock) -> None:
        """Another partition's fresh one may be asked before it: it must not have to queue behind all others again."""
        gate = OneAtATime(None)
        room = WaitingRoom(clock=clock, turns=PartitionTurns(), gates=[gate])
        room.add(make("holder"))
        room.add(make("old", "younger"))
        (holder,) = room.take(9)
        # Its partition has just had its turn, so that of the fresh one comes first.
        room.add(make("fresh"))
        room.came_back(holder)
        order = []
        for _ in range(3):
            (delivery,) = room.take(9)
            order.append(delivery.envelope.id)
            room.came_back(delivery)
        assert order.index("old") < order.index("younger")

    def test_an_earlier_gate_is_told_when_a_later_one_refuses(self, clock: ManualClock) -> None:
        one = OneAtATime(None)
        room = WaitingRoom(clock=clock, turns=PartitionTurns(), gates=[one, NotBefore(10.0)])
        room.add(make("a"))
        assert room.take(9) == []
        assert one.holder is None, "what does not go holds nothing"
        assert room.next_due() == 10.0
        clock.advance(10.0)
        assert ids(room.take(9)) == ["a"]
        assert one.holder is not None

    def test_a_gate_that_names_a_time_is_asked_again_then(self, clock: ManualClock) -> None:
        room = WaitingRoom(clock=clock, turns=PartitionTurns(), gates=[NotBefore(10.0)])
        room.add(make("a"))
        clock.advance(4.0)
        assert room.take(9) == []
        room.wake_all()
        assert room.take(9) == [], "a wake-up opens no gate"
        assert room.next_due() == 10.0
        clock.advance(6.0)
        assert ids(room.take(9)) == ["a"]
