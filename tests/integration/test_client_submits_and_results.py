"""A task's way from submit to result, over real servers: what users see when nothing breaks."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from redis.asyncio import Redis

from tests.support.apps import all_committed, make_app, running
from tests.support.poll import eventually
from tests.support.ports import reserve_port
from yadtq import TaskContext, Yadtq
from yadtq.errors import (
    BrokerUnavailable,
    ConfigError,
    InvalidArguments,
    PayloadTooLarge,
    StoreUnavailable,
    TaskFailed,
    TaskNotFound,
    UnknownTask,
)
from yadtq.wire.states import TaskStatus as S

if TYPE_CHECKING:
    from tests.support.stacks import Servers


@pytest.mark.smoke
async def test_a_typed_result(stack: Servers, app_name: str) -> None:
    app = make_app(stack, app_name)

    @app.task
    async def addition(x: int, y: int) -> int:
        return x + y

    @app.task
    def pairs(n: int) -> list[tuple[int, str]]:
        return [(each, str(each)) for each in range(n)]

    async with app.client(num_partitions=4) as client, running(app):
        assert await (await client.submit(addition, 100, 25)).result(timeout=20) == 125
        assert await (await addition.submit(1, y=2)).result(timeout=20) == 3
        assert await (await client.submit("addition", 3, 4)).result(timeout=20) == 7
        assert await (await pairs.submit(2)).result(timeout=20) == [(0, "0"), (1, "1")], "as annotated, not as JSON"


async def test_the_states_on_the_way(stack: Servers, app_name: str) -> None:
    app = make_app(stack, app_name)
    go, failed = asyncio.Event(), asyncio.Event()

    @app.task(retries=1, retry_base=30)
    async def work() -> str:
        await go.wait()
        if not failed.is_set():
            failed.set()
            raise RuntimeError("once")
        return "done"

    async with app.client() as client:
        handle = await work.submit()
        assert await handle.status() is S.QUEUED
        async with running(app) as worker:
            await eventually(lambda: worker.parts.executor.running)
            assert await handle.status() is S.IN_PROGRESS
            with pytest.raises(TimeoutError, match="it continues"):
                await handle.result(timeout=0.05)
            go.set()

            async def status_is(wanted: S) -> bool:
                return await client.status(handle.id) is wanted

            await eventually(lambda: status_is(S.RETRYING), timeout=5)
        with pytest.raises(TaskNotFound):
            await client.status("never-submitted")


@pytest.mark.smoke
async def test_many_at_once_come_back_as_they_end(stack: Servers, app_name: str) -> None:
    app = make_app(stack, app_name)

    @app.task
    async def square(n: int) -> int:
        await asyncio.sleep(0.4 if n == 0 else 0)
        return n * n

    async with app.client() as client, running(app):
        handles = await client.submit_many(square, [(n,) if n % 2 else {"n": n} for n in range(300)])
        assert len({handle.id for handle in handles}) == 300
        order = [handle async for handle in client.as_completed(handles, timeout=30)]
        assert set(order) == set(handles)
        assert order[-1] == handles[0], "the slow one is the last"
        assert [await handle.result(5) for handle in handles] == [n * n for n in range(300)]
        await eventually(lambda: all_committed(stack, app_name), timeout=20, interval=0.3)


async def test_retries_until_it_succeeds(stack: Servers, app_name: str) -> None:
    app = make_app(stack, app_name)
    seen: list[tuple[int, str, str]] = []

    @app.task(retries=3, retry_base=0.05)
    async def flaky(ctx: TaskContext) -> int:
        seen.append((ctx.attempt, ctx.idempotency_key, ctx.fencing_token))
        if ctx.attempt < 3:
            raise RuntimeError("not yet")
        return ctx.attempt

    async with app.client(), running(app) as worker:
        handle = await flaky.submit()
        assert await handle.result(timeout=20) == 3
        assert [attempt for attempt, _, _ in seen] == [1, 2, 3]
        assert {key for _, key, _ in seen} == {handle.id}
        assert len({token for _, _, token in seen}) == 3
        assert (worker.parts.counters.retried, worker.parts.counters.succeeded) == (2, 1)


async def test_a_failure_says_what_was_raised_and_where(stack: Servers, app_name: str) -> None:
    app = make_app(stack, app_name)
    calls = []

    @app.task(retries=1, retry_base=0.05)
    async def failing(text: str) -> None:
        calls.append(text)
        raise ValueError(text)

    async with app.client(), running(app):
        handle = await failing.submit("no such colour")
        with pytest.raises(TaskFailed) as failed:
            await handle.result(timeout=20)
        error = failed.value
        assert (error.task_id, error.error_type, error.message, error.attempt) == (
            handle.id,
            "ValueError",
            "no such colour",
            2,
        )
        assert "in failing" in error.traceback
        assert await handle.status() is S.FAILED
        assert len(calls) == 2


async def test_a_time_out_and_a_result_of_every_size(stack: Servers, app_name: str) -> None:
    app = make_app(stack, app_name, max_result_bytes=400_000)

    @app.task(timeout=0.1)
    async def endless() -> None:
        await asyncio.Event().wait()

    @app.task
    async def blob(size: int) -> str:
        return "x" * size

    async with app.client() as client, running(app):
        with pytest.raises(TaskFailed, match="TaskTimeout"):
            await (await endless.submit()).result(timeout=20)
        for size in (0, 61, 62, 63, 64, 65, 5_000, 300_000):
            assert len(await (await client.submit(blob, size)).result(timeout=20)) == size
        with pytest.raises(TaskFailed, match="ResultTooLarge"):
            await (await client.submit(blob, 400_000)).result(timeout=20)


async def test_another_client_gets_the_handle_by_its_id(stack: Servers, app_name: str) -> None:
    app, elsewhere = make_app(stack, app_name), make_app(stack, app_name)

    @app.task
    async def addition(x: int, y: int) -> int:
        return x + y

    async with app.client() as client, elsewhere.client() as other, running(app):
        ids = [(await client.submit(addition, 1, 2)).id, (await other.submit("addition", 3, 4)).id]
        assert [await other.handle(each).result(timeout=20) for each in ids] == [3, 7]
        assert [await client.result(each, timeout=20) for each in ids] == [3, 7]
        assert await other.status(ids[0]) is S.SUCCESS


async def test_the_same_id_again_runs_once(stack: Servers, app_name: str) -> None:
    app = make_app(stack, app_name)
    ran: Counter[str] = Counter()

    @app.task
    async def work(name: str) -> str:
        ran[name] += 1
        await asyncio.sleep(0.05)
        return name

    async with app.client(), running(app):
        handles = [await work.options(task_id="order-1").submit("first") for _ in range(5)]
        assert await handles[-1].result(timeout=20) == "first"
        again = await work.options(task_id="order-1").submit("second")
        assert again == handles[0]
        assert await again.result(timeout=20) == "first", "a final state never changes"
        await eventually(lambda: all_committed(stack, app_name), timeout=20, interval=0.3)
        assert ran == {"first": 1}


async def test_queues_are_topics_of_their_own(stack: Servers, app_name: str) -> None:
    app = make_app(stack, app_name)

    @app.task(queue="mail")
    async def send() -> str:
        return "sent"

    async with app.client() as client, running(app, queues=("mail", "urgent")):
        assert await (await send.submit()).result(timeout=20) == "sent"
        assert await (await send.options(queue="urgent").submit()).result(timeout=20) == "sent"
        elsewhere = await client.submit(send.options(queue="default"))
        with pytest.raises(TimeoutError):
            await elsewhere.result(timeout=0.5)


class TestRefusedBeforeAnythingIsSent:
    async def test_each_with_its_type(self, stack: Servers, app_name: str) -> None:
        app = make_app(stack, app_name, max_task_bytes=10_000)

        @app.task
        async def work(text: str, n: int = 0) -> str:
            return text

        async with app.client() as client:
            with pytest.raises(InvalidArguments, match="Input should be a valid integer"):
                await work.submit("a", "many")  # type: ignore[arg-type]
            with pytest.raises(InvalidArguments):
                await client.submit_many(work, [("a",), ("b", 1), ("c", "bad")])
            with pytest.raises(PayloadTooLarge):
                await work.submit("x" * 10_001)
            with pytest.raises(PayloadTooLarge):
                await client.submit_many(work, [("a",), ("x" * 10_001,)])
            with pytest.raises(UnknownTask):
                await client.submit("wrok", "a")
            for bad in ("has space", "{x}", "x" * 129, "", "new\nline"):
                with pytest.raises(ConfigError, match="task_id"):
                    await work.options(task_id=bad).submit("a")
            assert await all_committed(stack, app_name), "the topic is empty"
            async with Redis.from_url(stack.redis) as redis:
                assert await redis.keys(f"yadtq:{{{app_name}}}:t:*") == []
            handle = await work.submit("fits")
            assert await handle.status() is S.QUEUED, "and the client is none the worse for it"

    async def test_by_name_without_tasks_what_no_worker_could_decode(self, stack: Servers, app_name: str) -> None:
        async with make_app(stack, app_name).client() as client:
            deep: list[object] = []
            for _ in range(230):
                deep = [deep]
            with pytest.raises(InvalidArguments):
                await client.submit("work", deep)
            with pytest.raises(InvalidArguments):
                await client.submit("work", object())
            for name in ("", "x" * 201):
                with pytest.raises(ConfigError):
                    await client.submit(name, 1)
            assert await all_committed(stack, app_name)


async def test_addresses_where_nobody_listens() -> None:

    dead = reserve_port()
    started = time.monotonic()
    app = Yadtq("t", kafka=f"127.0.0.1:{dead}", redis=f"redis://127.0.0.1:{dead}/0", connect_timeout_s=1.0)
    with pytest.raises(StoreUnavailable, match="YADTQ_REDIS"):
        async with app.client():
            pass
    assert time.monotonic() - started < 5


async def test_kafka_where_nobody_listens(stack: Servers) -> None:

    for address in (f"127.0.0.1:{reserve_port()}", "no-such-host.invalid:9092"):
        started = time.monotonic()
        app = Yadtq("t", kafka=address, redis=stack.redis, connect_timeout_s=1.0)
        with pytest.raises(BrokerUnavailable, match="YADTQ_KAFKA"):
            async with app.client():
                pass
        with pytest.raises(BrokerUnavailable):
            async with running(app):
                pass
        assert time.monotonic() - started < 12


async def test_whoever_waits_when_the_client_closes_is_told(stack: Servers, app_name: str) -> None:
    app = make_app(stack, app_name)

    @app.task
    async def work() -> None: ...

    async with app.client() as client:
        handle = await work.submit()
        waiting = asyncio.create_task(handle.result())
        await eventually(lambda: len(client._waiters) == 1)
    with pytest.raises(ConfigError, match="closed"):
        await asyncio.wait_for(waiting, 5)
