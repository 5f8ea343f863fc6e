"""Whoever waits for a task gets its end, or a typed error in bounded time; nobody is forgotten, and nothing grows."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.outside import memory_outside
from tests.support.poll import eventually
from yadtq.client.waiters import Waiters
from yadtq.errors import ResultLost, ResultUnreadable, TaskNotFound
from yadtq.runtime.clock import SystemClock
from yadtq.settings import Settings
from yadtq.store.tasks.verbs import Claim, Finish
from yadtq.testing.doubles import ManualClock, MemoryStore
from yadtq.wire.states import TaskStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from yadtq.store.tasks.verbs import Found

SETTINGS = Settings.load(redis_timeout_s=0.2)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> MemoryStore:
    return MemoryStore(clock, random.Random(1), SETTINGS)


@asynccontextmanager
async def running(waiters: Waiters) -> AsyncIterator[Waiters]:
    run = asyncio.create_task(waiters.run())
    try:
        yield waiters
    finally:
        waiters.stop()
        await run


@pytest.fixture
async def waiters(clock: ManualClock, store: MemoryStore) -> AsyncIterator[Waiters]:
    async with running(Waiters(memory_outside(clock=clock, store=store), SETTINGS)) as waiters:
        await eventually(lambda: waiters._doubts._data_set)
        yield waiters


async def end(store: MemoryStore, task_id: str) -> None:
    await store.tasks.claim("w", [Claim(task_id, "n")], 0)
    await store.tasks.finish([Finish(task_id, "n", 1, TaskStatus.SUCCESS, b"1")])


async def waiting_for(waiters: Waiters, task_id: str) -> asyncio.Task[object]:
    task = asyncio.create_task(waiters.final(task_id))
    before = len(waiters)
    await eventually(lambda: len(waiters) > before or task_id in waiters._waiting)
    return task


async def test_an_id_that_nobody_knows_is_not_found_after_a_moment(store: MemoryStore) -> None:
    """On the real clock: nobody has to look."""
    outside = memory_outside(clock=SystemClock(), store=store)
    async with running(Waiters(outside, SETTINGS)) as waiters, asyncio.timeout(10):
        with pytest.raises(TaskNotFound):
            await waiters.final("never submitted")
        assert len(waiters) == 0


async def test_one_whose_registration_is_on_its_way_is_never_not_found(store: MemoryStore, clock: ManualClock) -> None:
    """Redis went away between a submit and its registration, and comes and goes since."""
    pending = {"t"}
    made = Waiters(memory_outside(clock=clock, store=store), SETTINGS, is_pending=pending.__contains__)
    async with running(made) as waiters:
        task = await waiting_for(waiters, "t")
        for _ in range(3):
            await waiters._recheck()
            clock.advance(60)
        assert not task.done()
        pending.clear()
        await waiters._recheck()
        clock.advance(60)
        await waiters._recheck()
        with pytest.raises(TaskNotFound):
            await task


async def test_one_that_is_registered_between_the_question_and_its_answer_is_not_called_unknown(
    store: MemoryStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by seed 5081 of the simulation: a doubt from before the registration was held against it."""
    pending = {"t"}
    made = Waiters(memory_outside(clock=clock, store=store), SETTINGS, is_pending=pending.__contains__)
    async with running(made) as waiters:
        task = await waiting_for(waiters, "t")
        await waiters._recheck()
        clock.advance(60)
        ask = store.tasks.wait

        async def answer_late(channel: str, task_ids: Sequence[str]) -> list[Found]:
            found = await ask(channel, task_ids)
            pending.clear()
            return found

        monkeypatch.setattr(store.tasks, "wait", answer_late)
        await waiters._recheck()
        assert not task.done()
        await end(store, "t")
        await task


async def test_one_that_is_registered_late_is_waited_for(
    waiters: Waiters, store: MemoryStore, clock: ManualClock
) -> None:
    task = await waiting_for(waiters, "t")
    await waiters._recheck()
    await store.tasks.register(["t"])
    for _ in range(3):
        clock.advance(60)
        await waiters._recheck()
    assert not task.done()
    await end(store, "t")
    await task


async def test_an_outage_adds_nothing_to_the_time_in_which_it_was_unknown(
    waiters: Waiters, store: MemoryStore, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    store.down = True
    task = await waiting_for(waiters, "t")
    for _ in range(3):
        clock.advance(60)
        await waiters._recheck()
    store.down = False
    await waiters._recheck()
    assert not task.done()
    await store.tasks.register(["t"])
    await waiters._recheck()
    await end(store, "t")
    await task
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING], "the store tells of outages"


async def test_a_loss_before_anyone_waits_is_noticed(waiters: Waiters, store: MemoryStore, clock: ManualClock) -> None:
    store.flush()
    task = await waiting_for(waiters, "t")
    for _ in range(4):
        await waiters._recheck()
        clock.advance(6)
    await waiters._recheck()
    with pytest.raises(ResultLost):
        await task


async def test_going_back_in_time_loses_what_had_ended_meanwhile(
    waiters: Waiters, store: MemoryStore, clock: ManualClock
) -> None:
    await store.tasks.register(["ended", "queued"])
    saved = store.snapshot()
    await end(store, "ended")
    store.restore(saved)
    tasks = [await waiting_for(waiters, name) for name in ("ended", "queued")]
    await store.tasks.register(["queued"])  # a worker, from Kafka
    for _ in range(5):
        await waiters._recheck()
        clock.advance(6)
    with pytest.raises(ResultLost):
        await tasks[0]
    assert not tasks[1].done()
    await end(store, "queued")
    await tasks[1]


async def test_damage_is_told_if_nobody_ends_it(waiters: Waiters, store: MemoryStore, clock: ManualClock) -> None:
    store.tasks.damage("t")
    task = await waiting_for(waiters, "t")
    await waiters._recheck()
    clock.advance(1)
    await waiters._recheck()
    with pytest.raises(ResultUnreadable):
        await task


async def test_who_gives_up_is_taken_off_the_list(waiters: Waiters, store: MemoryStore) -> None:
    await store.tasks.register(["t"])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await waiters.final("t")
    assert "c" in store.tasks.dump()["t"]
    await waiters._recheck()
    assert "c" not in store.tasks.dump()["t"]
    await end(store, "t")
    assert (await waiters.final("t")).payload == b"1"


async def test_many_waits_at_once_are_no_outage(
    waiters: Waiters, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    """More than are served within `redis_timeout_s`: the re-check registers those that were not."""
    ids = [f"t{number}" for number in range(5_000)]
    await store.tasks.register(ids)
    slow = store.tasks.wait

    async def wait(channel: str, task_ids: list[str]) -> object:
        await asyncio.sleep(0.1)
        return await slow(channel, task_ids)

    store.tasks.wait = wait  # type: ignore[method-assign,assignment]
    tasks = [asyncio.create_task(waiters.final(task_id)) for task_id in ids]
    await eventually(lambda: len(waiters) == len(ids))
    await eventually(lambda: waiters._registrations.busy is False, timeout=10)
    store.tasks.wait = slow  # type: ignore[method-assign]
    await waiters._recheck()
    for task_id in ids:
        await end(store, task_id)
    await asyncio.gather(*tasks)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
