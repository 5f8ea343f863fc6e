"""A worker that is asked to stop finishes what it runs; asked again, it gives it back; and it always ends."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.apps import all_committed, make_app, running, running_worker
from tests.support.poll import consistently, eventually
from yadtq import TaskContext
from yadtq.settings import WorkerSettings
from yadtq.wire.states import TaskStatus as S
from yadtq.worker.worker import make_worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.redis_server import RedisServer
    from tests.support.stacks import Servers


@pytest.mark.smoke
async def test_running_tasks_finish_and_waiting_ones_are_left_to_the_next(stack: Servers, app_name: str) -> None:
    app = make_app(stack, app_name)
    ran: list[tuple[int, int]] = []

    @app.task
    async def work(ctx: TaskContext, n: int) -> int:
        ran.append((n, ctx.attempt))
        await asyncio.sleep(0.3)
        return n

    async with app.client() as client:
        handles = await client.submit_many(work, [(n,) for n in range(60)])
        async with running(app, concurrency=10) as worker:
            await eventually(lambda: len(worker.parts.executor.running) == 10)
        first = len(ran)
        assert worker.parts.executor.running == {}
        statuses = [await handle.status() for handle in handles]
        assert statuses.count(S.SUCCESS) == first < 60
        assert statuses.count(S.QUEUED) == 60 - first, "and none is FAILED, or left IN_PROGRESS"
        started = time.monotonic()
        async with running(app, concurrency=60):
            assert [await handle.result(timeout=20) for handle in handles] == list(range(60))
            assert time.monotonic() - started < 5, "no lease had to run out"
            await eventually(lambda: all_committed(stack, app_name), timeout=15, interval=0.2)
    assert sorted(ran) == [(n, 1) for n in range(60)]


@pytest.mark.parametrize("sync", [False, True])
async def test_the_second_call_breaks_off_and_another_worker_starts_them_at_once(
    stack: Servers, app_name: str, sync: bool
) -> None:
    app = make_app(stack, app_name)
    attempts: list[int] = []
    hold = asyncio.Event()

    if sync:

        @app.task(name="work")
        def sync_work(ctx: TaskContext) -> int:
            attempts.append(ctx.attempt)
            if ctx.attempt == 1:
                time.sleep(1.5)  # in a thread, which can't be ended
            return ctx.attempt
    else:

        @app.task
        async def work(ctx: TaskContext) -> int:
            attempts.append(ctx.attempt)
            if ctx.attempt == 1:
                await hold.wait()
            return ctx.attempt

    async with app.client() as client:
        handles = await client.submit_many("work", [()] * 8)
        async with running(app) as worker:
            await eventually(lambda: len(attempts) == 8)
            worker.drain()
        assert {await handle.status() for handle in handles} == {S.QUEUED}
        started = time.monotonic()
        async with running(app):
            assert [await handle.result(timeout=20) for handle in handles] == [2] * 8
        assert time.monotonic() - started < 5, "a lease was left behind"


async def test_after_the_grace_they_are_broken_off_without_a_second_call(stack: Servers, app_name: str) -> None:
    app = make_app(stack, app_name)

    @app.task
    async def endless() -> None:
        await asyncio.Event().wait()

    async with app.client():
        handle = await endless.submit()
        async with running(app, grace_s=0.2) as worker:
            await eventually(lambda: worker.parts.executor.running)
        assert await handle.status() is S.QUEUED


async def test_a_drain_in_the_middle_of_everything_leaves_no_lease_behind(stack: Servers, app_name: str) -> None:
    app = make_app(stack, app_name)
    ran: dict[int, int] = {}

    @app.task
    async def work(n: int) -> None:
        ran[n] = ran.get(n, 0) + 1
        await asyncio.sleep(0)

    def more_ran_than(count: int) -> bool:
        return len(ran) > count

    async with app.client() as client:
        handles = await client.submit_many(work, [(n,) for n in range(3_000)])
        for concurrency in (7, 50, 100):
            async with running(app, concurrency=concurrency) as worker:
                await eventually(partial(more_ran_than, len(ran) + 200), interval=0.001)
            assert worker.parts.executor.slots.is_idle
            assert not [handle.id for handle in handles[: len(ran) + 200] if await handle.status() is S.IN_PROGRESS], (
                "a claim was on its way when it drained"
            )
        async with running(app):
            async for _ in client.as_completed(handles, timeout=30):
                pass
    assert set(ran.values()) == {1}, "a deploy runs nothing twice (G3)"


async def test_a_claim_on_its_way_is_waited_for(stack: Servers, app_name: str) -> None:
    app = make_app(stack, app_name)
    granted, answer = asyncio.Event(), asyncio.Event()

    @app.task
    async def work() -> str:
        return "done"

    async with app.client():
        async with running(app) as worker:
            tasks = worker.outside.store.tasks
            claim = tasks.claim

            async def slow_claim(*args: Any) -> Any:
                replies = await claim(*args)
                granted.set()
                await answer.wait()
                return replies

            tasks.claim = slow_claim  # type: ignore[method-assign, assignment]
            handle = await work.submit()
            await granted.wait()
            worker.drain()
            # Time enough to overlook it: nothing runs as yet.
            await consistently(lambda: worker.parts.heart.phase in ("running", "draining"), during=0.5)
            answer.set()
        assert await handle.status() is S.SUCCESS, "a lease was left behind, for nobody to use"


async def test_a_task_that_refuses_to_end_does_not_keep_its_worker(
    stack: Servers, app_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yadtq.worker.drain._HURRY_S", 0.5)
    monkeypatch.setattr("yadtq.worker.worker._END_S", 0.5)
    app = make_app(stack, app_name)
    release = asyncio.Event()

    @app.task
    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async with app.client():
        await stubborn.submit()
        async with asyncio.timeout(30):
            async with running(app, grace_s=0.1) as worker:
                await eventually(lambda: worker.parts.executor.running)
        release.set()
        await eventually(lambda: worker.parts.executor.slots.is_idle)


async def test_a_drain_while_redis_is_gone_ends(
    stack: Servers, app_name: str, redis_server: Callable[..., RedisServer]
) -> None:
    redis = redis_server()
    await redis.start()
    app = make_app(stack, app_name, redis=redis.url, lease_s=3, heartbeat_s=0.5, redis_timeout_s=1)

    @app.task
    async def work() -> None:
        await asyncio.sleep(0.5)

    worker = make_worker(app, WorkerSettings.load(grace_s=1))
    async with running_worker(worker) as run:
        async with app.client():
            await work.submit()
            await eventually(lambda: worker.parts.executor.running)
        await redis.kill()
        worker.drain()
        started = time.monotonic()
        await asyncio.wait([run], timeout=40)
        assert run.done(), "it waits for Redis for ever"
        assert time.monotonic() - started < 25
