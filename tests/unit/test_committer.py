"""Watermarks are committed an interval, not a task; sometimes what was committed before goes again."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.apps import make_delivery
from tests.support.arrivals import P0, release
from tests.support.doubles import ScriptedConsumer
from tests.support.poll import eventually
from yadtq.delivery.committer import Committer
from yadtq.delivery.partitions import Partitions
from yadtq.testing.doubles import ManualClock


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.consumer = ScriptedConsumer(P0)
        self.partitions = Partitions()
        self.partitions.assign({P0: ""})
        self.tracker = self.partitions.tracker(P0, 0, 1)
        self.committer = Committer(
            partitions=self.partitions, consumer=self.consumer, clock=self.clock, interval_s=0.001
        )

    def finish_one(self) -> None:
        release(make_delivery(tracker=self.tracker))


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_nothing_new_is_no_request(bench: Bench) -> None:
    await bench.committer.tick()
    assert bench.consumer.commits == []
    bench.finish_one()
    bench.finish_one()
    await bench.committer.tick()
    await bench.committer.tick()
    assert bench.consumer.commits == [{P0: 2}]


async def test_now_and_then_all_goes_again_since_another_commit_may_have_set_it_back(bench: Bench) -> None:
    bench.finish_one()
    await bench.committer.tick()
    bench.clock.advance(30)
    bench.consumer.refuse = True
    await bench.committer.tick()
    bench.consumer.refuse = False
    await bench.committer.tick()
    assert bench.consumer.commits == [{P0: 1}, {P0: 1}], "and again until it is taken"
    await bench.committer.tick()
    assert len(bench.consumer.commits) == 2, "then not for a while"


async def test_a_drain_waits_until_it_is_taken(bench: Bench) -> None:
    bench.finish_one()
    bench.consumer.refuse = True
    drained = asyncio.create_task(bench.committer.drained())
    done, _ = await asyncio.wait([drained], timeout=0.02)
    assert not done
    bench.consumer.refuse = False
    await asyncio.wait_for(drained, 5)
    assert bench.consumer.commits == [{P0: 1}]


async def test_it_commits_by_itself(bench: Bench) -> None:
    run = asyncio.create_task(bench.committer.run())
    bench.finish_one()
    await eventually(lambda: bench.consumer.commits == [{P0: 1}])
    bench.committer.stop()
    await asyncio.wait_for(run, 5)
