"""What may be fetched never breaks the window or the span, and never starves a partition that has room."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from yadtq.delivery.allowance import LEAST_SHARE, Allowance, allowance
from yadtq.delivery.tracker import PartitionTracker
from yadtq.runtime.seams import Partition

MOST_BYTES = 1_000
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


states = st.integers(0, 40).flatmap(lambda span: st.tuples(st.just(span), st.integers(1, span) if span else st.just(0)))


@given(
    shapes=st.lists(states, min_size=1, max_size=4),
    window=st.integers(10, 400),
    span=st.integers(10, 40),
    most=st.integers(1, 50),
    data=st.data(),
)
def test_whatever_kafka_returns_no_bound_is_broken(
    shapes: list[tuple[int, int]], window: int, span: int, most: int, data: st.DataObject
) -> None:
    trackers = {("t", n): tracker(span=s, in_flight=f) for n, (s, f) in enumerate(shapes)}
    assigned = [*trackers, ("t", 9)]
    share = max(window // len(assigned), LEAST_SHARE)
    room = allowance(assigned, trackers, window=window, span=span, most=most, most_bytes=MOST_BYTES)
    assert 0 < room.max_records <= most, "a partition without any record always has room"
    assert set(room.stalled) == {place for place, each in trackers.items() if each.span >= span}
    asked = assigned if room.partitions is None else room.partitions
    assert asked, "an empty list means all partitions to aiokafka"
    assert not set(asked) & set(room.stalled)
    for place in set(assigned) - set(asked) - set(room.stalled):
        assert trackers[place].in_flight >= share // 2, "whoever is left out has had its half"
    # The worst that may come: all records from one partition.
    place = data.draw(st.sampled_from(asked))
    got = trackers.get(place, PartitionTracker(0))
    for offset in range(got.last_seen + 1, got.last_seen + 1 + room.max_records):
        got.receive(offset, offset)
    assert got.span <= span
    assert got.in_flight <= share


def test_all_partitions_are_asked_at_once_while_none_is_left_out() -> None:
    trackers = {A: tracker(span=3, in_flight=3), B: tracker(span=0, in_flight=0)}
    assert allowance([A, B], trackers, window=1000, span=10, most=50, most_bytes=MOST_BYTES) == Allowance(7, None, [])


def test_half_a_share_at_once_of_partitions_that_have_none_yet() -> None:
    assert allowance([A], {}, window=400, span=1000, most=500, most_bytes=MOST_BYTES) == Allowance(200, None, [])
    assert allowance([A, B], {}, window=600, span=1000, most=500, most_bytes=MOST_BYTES) == Allowance(150, None, [])


def test_many_partitions_make_the_window_grow_rather_than_the_polls_tiny() -> None:
    many: list[Partition] = [("t", n) for n in range(128)]
    assert allowance(many, {}, window=200, span=1000, most=500, most_bytes=MOST_BYTES) == Allowance(
        LEAST_SHARE // 2, None, []
    )


def test_a_stalled_partition_is_left_out_and_named() -> None:
    trackers = {A: tracker(span=10, in_flight=1), B: tracker(span=4, in_flight=4), C: tracker(span=0, in_flight=0)}
    assert allowance([A, B, C], trackers, window=1000, span=10, most=50, most_bytes=MOST_BYTES) == Allowance(
        6, [B, C], [A]
    )


def test_a_full_partition_does_not_keep_another_from_being_read() -> None:
    trackers = {A: tracker(span=160, in_flight=150), B: tracker(span=0, in_flight=0)}
    assert allowance([A, B], trackers, window=200, span=900, most=500, most_bytes=MOST_BYTES) == Allowance(50, [B], [])


def test_when_all_are_full_nothing_is_fetched_and_the_stalled_are_still_named() -> None:
    trackers = {A: tracker(span=199, in_flight=150), B: tracker(span=200, in_flight=1)}
    assert allowance([A, B], trackers, window=200, span=200, most=500, most_bytes=MOST_BYTES) == Allowance(0, None, [B])


def test_without_any_partition_nothing_is_fetched() -> None:
    assert allowance([], {}, window=200, span=100, most=500, most_bytes=MOST_BYTES) == Allowance(0, None, [])


def test_bytes_are_bounded_too() -> None:
    """Of what runs and of what waits, in all partitions together; the span is told all the same."""
    trackers = {A: PartitionTracker[int](0), B: PartitionTracker[int](0)}
    trackers[A].receive(0, 0, 600)
    room = allowance([A, B], trackers, window=100, span=10, most=10, most_bytes=MOST_BYTES)
    assert room.max_records > 0
    trackers[B].receive(0, 0, 400)
    trackers[B].aside = 1
    assert allowance([A, B], trackers, window=100, span=1, most=10, most_bytes=MOST_BYTES) == Allowance(0, None, [A, B])
