"""The real supervisor on doubles: no process is started and no server reached."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.poll import eventually
from tests.support.service_contract import exercise_service
from tests.support.supervision import FakeProcess, Fleet, HeartbeatTopic
from yadtq.errors import BrokerUnavailable
from yadtq.supervisor.supervisor import Intent
from yadtq.supervisor.twins import Twins
from yadtq.supervisor.watch import LivenessTable, TopicWatch, Verdict
from yadtq.wire.exits import UNREACHABLE
from yadtq.wire.heartbeat import Heartbeat

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from yadtq.runtime.seams import ConsumedRecord


async def test_a_kill_is_certified_announced_and_answered_by_a_successor() -> None:
    async with Fleet(workers=2).running() as fleet:
        await fleet.settled(2)
        victim, neighbour = fleet.spawn.made
        victim.exit(-signal.SIGKILL)
        await eventually(lambda: len(fleet.spawn.made) == 3, what="a successor")
        successor = fleet.spawn.made[2]
        assert successor.slot is victim.slot
        assert successor.worker != victim.worker
        await eventually(lambda: list(fleet.store.deaths.certified) == [victim.worker], what="the certificate")
        values = [record.value for record in fleet.topic.records if record.key == victim.worker.encode()]
        assert [Heartbeat.decode(value).phase for value in values] == ["dead"]
        assert neighbour.alive
        assert fleet.topic.left == []
    assert fleet.status == 0
    assert sorted(fleet.topic.left) == [slot.slot.id for slot in (victim, neighbour)]
    assert fleet.spawn.alive() == []
    assert set(fleet.store.deaths.certified) == {process.worker for process in fleet.spawn.made}


async def test_a_restart_replaces_one_after_the_other() -> None:
    async with Fleet(workers=3).running() as fleet:
        await fleet.settled(3)
        fleet.supervisor.ask(Intent.RESTART)
        await eventually(lambda: len(fleet.spawn.made) == 6, what="three successors")
        await fleet.settled(3)
        assert [process.slot.number for process in fleet.spawn.made] == [0, 1, 2, 0, 1, 2]
        assert all(process.signals == [signal.SIGTERM] for process in fleet.spawn.made[:3])


async def test_lines_of_workers_that_only_live_on_cost_no_look_at_all_seats(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    check = LivenessTable.check

    def counted(table: LivenessTable) -> dict[str, Verdict]:
        nonlocal looks
        looks += 1
        return check(table)

    monkeypatch.setattr(LivenessTable, "check", counted)
    async with Fleet(workers=40).running() as fleet:
        await eventually(lambda: len(fleet.supervisor.workers) == len(fleet.spawn.alive()) == 40, what="40 workers")
        assert looks <= 4 * 40 + 40, "a few for each start"
        looks, began = 0, time.monotonic()
        for _ in range(50):
            for process in fleet.spawn.made:
                process.say("running")
            await asyncio.sleep(0)
        ticks = (time.monotonic() - began) / 0.01
        assert looks <= 5 + ticks, "2,000 lines"
        fleet.spawn.made[7].exit(-signal.SIGKILL)
        await eventually(lambda: len(fleet.spawn.made) == 41, what="a successor at once")


async def test_more_and_fewer() -> None:
    async with Fleet(workers=1).running() as fleet:
        await fleet.settled(1)
        fleet.supervisor.ask(Intent.MORE)
        await fleet.settled(2)
        fleet.supervisor.ask(Intent.FEWER)
        await eventually(lambda: fleet.topic.left == ["host.shop.slot-1"], what="the place in the group given up")
        await fleet.settled(1)
        fleet.supervisor.ask(Intent.MORE)
        await fleet.settled(2)
        assert fleet.spawn.alive()[1].slot.number == 1


async def test_one_that_crashes_too_often_is_given_up_and_a_restart_revives_it() -> None:
    fleet = Fleet(workers=2, crash_budget=3)
    bad = 0

    def start(process: FakeProcess) -> None:
        process.exit(1) if process.slot.number == bad else process.say("running")

    fleet.spawn.on_spawn = start
    async with fleet.running():
        # What comes before the first canary is not charged: Kafka might be away.
        await eventually(lambda: fleet.topic.left == ["host.shop.slot-0"], what="given up")
        bad = -1
        fleet.supervisor.ask(Intent.RESTART)
        await fleet.settled(2)


async def test_the_third_request_kills() -> None:
    async with Fleet(workers=1).running() as fleet:
        await fleet.settled(1)
        (process,) = fleet.spawn.made
        process.obedient = False
        for _ in range(3):
            fleet.supervisor.ask(Intent.STOP)
        await eventually(lambda: not process.alive, what="the kill")
        assert process.signals == [signal.SIGTERM, signal.SIGTERM]


async def test_a_spawn_that_fails_is_tried_again() -> None:
    fleet = Fleet(workers=1)
    fleet.spawn.failures = 2
    async with fleet.running():
        await fleet.settled(1)


async def test_all_misconfigured_is_status_2(caplog: pytest.LogCaptureFixture) -> None:
    fleet = Fleet(workers=2)

    def refuse(process: FakeProcess) -> None:
        process.say("stopped", error="unknown setting")
        process.exit(2)

    fleet.spawn.on_spawn = refuse
    with caplog.at_level(logging.ERROR, "yadtq.supervisor"):
        assert await fleet.supervisor.run() == 2
    assert [message for message in caplog.messages if "gave-up" in message] == [
        f'event=gave-up slot=host.shop.slot-{n} cause="unknown setting"' for n in range(2)
    ]


async def test_one_that_reaches_no_server_is_never_given_up() -> None:
    """Redis is away, and Kafka is there: the topic is seen, and still no crash is charged."""
    fleet = Fleet(workers=1, crash_budget=3, backoff_cap_s=0.01)
    fleet.spawn.on_spawn = lambda process: process.exit(UNREACHABLE)
    async with fleet.running():
        await eventually(lambda: len(fleet.spawn.made) > 20, what="many attempts")
        fleet.spawn.on_spawn = lambda process: process.say("running")
        await eventually(lambda: fleet.spawn.alive(), what="one that has reached it")
        assert fleet.topic.left == []


async def test_the_later_of_two_supervisors_takes_other_slots() -> None:
    """They have different lock folders, so both begin with slot 0."""
    topic = HeartbeatTopic()
    first, second = Fleet(workers=2, topic=topic, seed=1), Fleet(workers=3, topic=topic, seed=2)
    assert first.supervisor.id < second.supervisor.id

    async def beat(fleet: Fleet) -> None:
        while True:
            for process in fleet.spawn.alive():
                await topic.append([process.heartbeat()])
            await asyncio.sleep(0.05)

    async with first.running(), second.running(), asyncio.TaskGroup() as group:
        beats = [group.create_task(beat(fleet)) for fleet in (first, second)]
        await first.settled(2)
        await eventually(
            lambda: sorted(process.slot.number for process in second.spawn.alive()) == [2, 3, 4],
            what="slots of its own",
        )
        assert [process.slot.number for process in first.spawn.made] == [0, 1], "the first has lost none"
        assert topic.left == [], "nobody has taken the other's worker out of the group"
        for each in beats:
            each.cancel()


async def test_the_watch_keeps_the_contract_of_services() -> None:
    fleet = Fleet()
    table = LivenessTable(clock=fleet.outside.clock, heartbeat_s=1, silence_s=15, start_timeout_s=30)

    twins = Twins(prefix=fleet.slots.prefix, supervisor="1-a", clock=fleet.outside.clock, heartbeat_s=1)

    def make() -> TopicWatch:
        return TopicWatch(outside=fleet.outside, heartbeat_s=1, producer=fleet.topic, table=table, twins=twins)

    await exercise_service(make)


async def test_an_outage_of_kafka_is_told_once_and_kills_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Away(HeartbeatTopic):
        entered = 0

        def tail(
            self, topic: str, *, since_s: float = 0.0
        ) -> AbstractAsyncContextManager[AsyncIterator[ConsumedRecord]]:
            self.entered += 1
            raise BrokerUnavailable("refused")

    topic = Away()
    topic.down = True
    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING, "yadtq.supervisor"):
        patch.setattr("yadtq.supervisor.watch._RETRY_S", 0.001)
        async with Fleet(workers=1, silence_s=0.2, topic=topic).running() as fleet:
            await fleet.settled(1)
            await eventually(lambda: topic.entered > 300, what="many attempts to read")
            assert len(fleet.spawn.made) == 1
    assert len([message for message in caplog.messages if "refused" in message]) == 1
