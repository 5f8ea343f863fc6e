"""What may be fetched never breaks the window or the span, and never starves a partition that has room."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yadtq.broker.flow import Allowance, allowance
from yadtq.broker.tracker import PartitionTracker
from yadtq.ports import Partition

A, B, C = ("t", 0), ("t", 1), ("t", 2)


def tracker(*, span: int, in_flight: int) -> PartitionTracker[int]:
    """Of `span` offsets from the watermark on, of which `in_flight` are not finished (the first among them)."""
    made: PartitionTracker[int] = PartitionTracker(0)
    for offset in range(span):
        made.receive(offset, offset)
    for offset in range(1, span - in_flight + 1):
        made.done(offset)
    assert (made.span, made.in_flight) == (span, in_flight)
    return made


states = st.integers(0, 40).flatmap(
    lambda span: st.tuples(st.just(span), st.integers(1, span) if span else st.just(0))
)


@given(
    shapes=st.lists(states, max_size=4),
    window=st.integers(10, 60),
    span=st.integers(10, 40),
    most=st.integers(1, 50),
    data=st.data(),
)
def test_whatever_kafka_returns_no_bound_is_broken(
    shapes: list[tuple[int, int]], window: int, span: int, most: int, data: st.DataObject
) -> None:
    trackers = {("t", n): tracker(span=s, in_flight=f) for n, (s, f) in enumerate(shapes)}
    before = sum(each.in_flight for each in trackers.values())
    room = allowance(trackers, window=window, span=span, most=most)
    assert 0 <= room.max_records <= most
    assert set(room.stalled) == {place for place, each in trackers.items() if each.span >= span}
    if room.max_records == 0:
        assert before >= window or room.stalled == list(trackers)
        return
    if room.partitions is not None:
        assert set(room.partitions) == trackers.keys() - set(room.stalled)
        assert room.partitions, "an empty list means all partitions to aiokafka"
    # The worst that may come: all records from one partition, or from one that has had none so far.
    choices: list[Partition] = list(room.partitions or trackers) + [("t", 9)]
    place = data.draw(st.sampled_from(choices))
    got = trackers.get(place, PartitionTracker(0))
    for offset in range(got.last_seen + 1, got.last_seen + 1 + room.max_records):
        got.receive(offset, offset)
    assert got.span <= span
    assert before + room.max_records <= window


def test_all_partitions_are_asked_at_once_while_none_is_stalled() -> None:
    trackers = {A: tracker(span=3, in_flight=3), B: tracker(span=0, in_flight=0)}
    assert allowance(trackers, window=100, span=10, most=50) == Allowance(7, None, [])


def test_without_any_tracker_the_window_is_the_bound() -> None:
    assert allowance({}, window=30, span=100, most=50) == Allowance(30, None, [])


def test_a_stalled_partition_is_left_out_and_named() -> None:
    trackers = {A: tracker(span=10, in_flight=1), B: tracker(span=4, in_flight=4), C: tracker(span=0, in_flight=0)}
    assert allowance(trackers, window=100, span=10, most=50) == Allowance(6, [B, C], [A])


@pytest.mark.parametrize("in_flight", [10, 12])
def test_a_full_window_fetches_nothing_and_still_names_the_stalled(in_flight: int) -> None:
    trackers = {A: tracker(span=12, in_flight=in_flight)}
    assert allowance(trackers, window=10, span=11, most=50) == Allowance(0, None, [A])
