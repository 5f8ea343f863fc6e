"""Which partitions are here, and what of each may be committed, through rebalances and logs that are made again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.apps import bring, make_delivery
from tests.support.arrivals import P0, P1, release
from tests.support.doubles import ScriptedConsumer
from yadtq.delivery.partitions import Partitions
from yadtq.delivery.place import Place

if TYPE_CHECKING:
    from yadtq.delivery.delivery import Delivery
    from yadtq.delivery.tracker import PartitionTracker


@pytest.fixture
def partitions() -> Partitions:
    made = Partitions()
    made.assign({P0: "one", P1: "one"})
    return made


def receive(partitions: Partitions, first: int, last: int) -> list[Delivery]:
    """A batch of P0, as the fetcher takes it in; those that run."""
    tracker: PartitionTracker[Delivery] = partitions.tracker(P0, first, last + 1)
    return [
        bring(make_delivery(tracker=tracker, offset=offset), Place.RUNNING)
        for offset in range(max(first, tracker.last_seen + 1), last + 1)
    ]


def test_what_is_assigned_is_told_in_order(partitions: Partitions) -> None:
    partitions.assign({P1: "", P0: ""})
    assert partitions.assigned == (P0, P1), "not in that of a hash seed"


def test_only_what_is_new_is_to_be_committed(partitions: Partitions) -> None:
    first, second = receive(partitions, 5, 6)
    assert partitions.watermarks() == {}
    release(second)
    assert partitions.watermarks() == {}
    release(first)
    assert partitions.watermarks() == {P0: 7}
    partitions.committed({P0: 7, P1: 3})
    assert partitions.watermarks() == {}
    assert partitions.watermarks(again=True) == {P0: 7}
    partitions.committed({P0: 5})
    assert partitions.watermarks() == {}, "a late answer takes nothing back"


def test_a_kept_partition_keeps_what_it_knows(partitions: Partitions) -> None:
    first, _ = receive(partitions, 0, 1)
    partitions.assign({P0: "one"})
    assert receive(partitions, 0, 2)[0].record.offset == 2, "what came before is known"
    release(first)
    assert partitions.watermarks() == {P0: 1}


@pytest.mark.parametrize("after", [{P1: "one"}, {P0: "two", P1: "one"}], ids=["lost", "another log"])
def test_of_a_partition_that_is_lost_or_another_log_by_now_nothing_is_committed(
    partitions: Partitions, after: dict[tuple[str, int], str]
) -> None:
    (delivery,) = receive(partitions, 0, 0)
    partitions.assign(after)
    release(delivery)
    assert delivery.source.lost
    assert partitions.watermarks(again=True) == {}
    assert partitions.in_flight() == []


@pytest.mark.parametrize("log", ["one", ""])
def test_a_log_whose_identity_is_not_told_is_taken_for_the_same(partitions: Partitions, log: str) -> None:
    (delivery,) = receive(partitions, 0, 0)
    partitions.assign({P0: log})
    assert not delivery.source.lost


def test_a_log_that_begins_again_below_is_read_again(partitions: Partitions, caplog: pytest.LogCaptureFixture) -> None:
    (old,) = receive(partitions, 7, 7)
    (new,) = receive(partitions, 0, 0)
    assert old.source.lost
    assert not new.source.lost
    assert "reset" in caplog.text
    assert partitions.in_flight() == [new]


def test_lag_is_counted_from_the_watermark(partitions: Partitions) -> None:
    receive(partitions, 5, 6)
    assert partitions.lags(ScriptedConsumer()) == {"yadtq.t.tasks.default/0": 95, "yadtq.t.tasks.default/1": 0}
