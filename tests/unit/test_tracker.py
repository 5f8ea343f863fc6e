"""The watermark never passes what is not finished, whatever comes again, in whatever order tasks end."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from yadtq.delivery.tracker import PartitionTracker


class TrackerMachine(RuleBasedStateMachine):
    """Model: a log of which some offsets are gaps (compaction, transaction markers), and the set of finished offsets."""

    @initialize(start=st.integers(0, 100))
    def begin(self, start: int) -> None:
        self.tracker: PartitionTracker[int] = PartitionTracker(start)
        self.start = start
        self.position = start
        self.received: list[int] = []
        self.finished: set[int] = set()
        self.committed = start
        self.again: list[int] = []

    @rule(gap=st.integers(0, 3))
    def receive_the_next(self, gap: int) -> None:
        # The first record is what a tracker is made for: gaps come after it.
        offset = self.position + (gap if self.received else 0)
        assert self.tracker.receive(offset, offset), "it is new"
        assert not self.tracker.is_rewind(offset)
        self.received.append(offset)
        self.position = self.tracker.position = offset + 1
        self.again = []

    @precondition(lambda self: self.received)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(self.received))
        self.tracker.done(offset)
        self.finished.add(offset)

    @precondition(lambda self: set(self.received) - self.finished)
    @rule(data=st.data())
    def finish_the_head_or_the_newest(self, data: st.DataObject) -> None:
        unfinished = sorted(set(self.received) - self.finished)
        offset = data.draw(st.sampled_from([unfinished[0], unfinished[-1]]))
        self.tracker.done(offset)
        self.finished.add(offset)

    @rule()
    def a_rebalance(self) -> None:
        self.tracker.reassigned()
        self.again = [each for each in self.received if each >= self.committed]

    @precondition(lambda self: self.again)
    @rule(data=st.data())
    def what_was_not_committed_then_comes_again(self, data: st.DataObject) -> None:
        # Batch by batch, while tasks end and are committed.
        batch = [self.again.pop(0) for _ in range(data.draw(st.integers(1, len(self.again))))]
        assert not self.tracker.is_rewind(batch[0]), "delivered again is not a rewind"
        for offset in batch:
            assert not self.tracker.receive(offset, -1), "it came before"
        self.tracker.position = batch[-1] + 1

    @rule()
    def commit(self) -> None:
        self.committed = self.tracker.committed = self.tracker.watermark

    @precondition(lambda self: self.tracker.position > 0)
    @rule(data=st.data())
    def an_offset_below_where_the_log_goes_on_is_a_rewind(self, data: st.DataObject) -> None:
        assert self.tracker.is_rewind(data.draw(st.integers(0, self.tracker.position - 1)))

    @invariant()
    def the_watermark_is_the_lowest_unfinished(self) -> None:
        unfinished = [offset for offset in self.received if offset not in self.finished]
        after_all = self.received[-1] + 1 if self.received else self.start
        expected = min(unfinished, default=after_all)
        assert self.tracker.watermark == expected
        assert self.tracker.head() == (expected if unfinished else None)
        assert self.tracker.in_flight == len(unfinished)
        assert self.tracker.span == after_all - expected
        assert self.tracker.watermark >= self.committed, "what is committed is never taken back"


TestTracker = TrackerMachine.TestCase
TestTracker.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


def test_a_new_tracker_has_nothing_to_commit() -> None:
    tracker: PartitionTracker[str] = PartitionTracker(7)
    assert (tracker.watermark, tracker.committed, tracker.span, tracker.in_flight, tracker.head()) == (7, 7, 0, 0, None)


def test_an_offset_below_the_first_is_dropped_and_never_tracked() -> None:
    tracker: PartitionTracker[str] = PartitionTracker(7)
    assert not tracker.receive(6, "old")
    assert tracker.in_flight == 0


@pytest.mark.parametrize("offset", [3, 9])
def test_done_of_something_unknown_changes_nothing(offset: int) -> None:
    tracker: PartitionTracker[str] = PartitionTracker(5)
    tracker.receive(5, "a")
    tracker.done(offset)
    assert (tracker.watermark, tracker.in_flight) == (5, 1)
