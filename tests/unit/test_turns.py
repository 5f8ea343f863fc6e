"""Whose turn it is: partitions one after the other, and within each first come, first served."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.apps import bring, make_delivery
from yadtq.delivery.place import Place
from yadtq.delivery.tracker import PartitionTracker
from yadtq.delivery.turns.partitions import PartitionTurns

if TYPE_CHECKING:
    from yadtq.delivery.delivery import Delivery


@pytest.fixture
def turns() -> PartitionTurns:
    return PartitionTurns()


def partition(*ids: str) -> list[Delivery]:
    """Of one partition, as they wait."""
    tracker: PartitionTracker[Delivery] = PartitionTracker(0)
    return [bring(make_delivery(task_id=each, tracker=tracker), Place.WAITING) for each in ids]


def ids(deliveries: list[Delivery]) -> list[str]:
    return [delivery.envelope.id for delivery in deliveries]


def test_partitions_take_turns(turns: PartitionTurns) -> None:
    """A long backlog of one partition keeps no task of another waiting."""
    turns.add(partition(*(f"long{n}" for n in range(10))))
    turns.add(partition("short0", "short1"))
    assert ids(turns.take(3)) == ["long0", "short0", "long1"]
    turns.add(partition("late"))
    assert ids(turns.take(3)) == ["short1", "long2", "late"]
    assert ids(turns.take(9)) == [f"long{n}" for n in range(3, 10)]


def test_with_more_partitions_than_room_each_has_a_short_turn(turns: PartitionTurns) -> None:
    for name in "abcde":
        turns.add(partition(*(f"{name}{n}" for n in range(9))))
    assert ids(turns.take(4)) == ["a0", "a1", "a2", "a3"]
    assert ids(turns.take(1)) == ["b0"]
    assert ids(turns.take(5)) == ["c0", "d0", "e0", "a4", "b1"]


def test_what_is_put_first_comes_before_the_others_of_its_partition(turns: PartitionTurns) -> None:
    first, second, third = partition("first", "second", "third")
    turns.add([second, third])
    turns.put_first(first)
    assert turns.take(5) == [first, second, third]


def test_what_is_lost_is_dropped_on_its_way_out_and_does_not_count(turns: PartitionTurns) -> None:
    gone, kept = partition("gone0", "gone1"), partition("kept0", "kept1")
    turns.add(gone)
    turns.add(kept)
    gone[0].source.lost = True
    assert turns.take(2) == kept
    assert {delivery.place for delivery in gone} == {Place.DROPPED}
    assert turns.waiting() == []


def test_nothing_is_no_turn(turns: PartitionTurns) -> None:
    turns.add([])
    assert (turns.take(5), turns.waiting()) == ([], [])


@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=8), takes=st.lists(st.integers(1, 20), min_size=1))
def test_all_come_out_once_in_the_order_of_their_partition(sizes: list[int], takes: list[int]) -> None:
    turns = PartitionTurns()
    made = [partition(*(f"{name}-{n}" for n in range(size))) for name, size in enumerate(sizes)]
    for each in made:
        turns.add(each)
    out: list[Delivery] = []
    while turns.waiting():
        most = takes[len(out) % len(takes)]
        before = len(turns.waiting())
        taken = turns.take(most)
        assert len(taken) == min(most, before), "fewer only if there are no more"
        out += taken
    for each in made:
        assert [delivery for delivery in out if delivery.source is each[0].source] == each
