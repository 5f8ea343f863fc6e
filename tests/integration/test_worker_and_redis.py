"""What a whole worker and client make of Redis's worst days: one task's problem, or an outage, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from redis.asyncio import Redis

from tests.support.apps import all_committed, make_app, running
from tests.support.poll import eventually
from tests.support.stacks import Servers
from yadtq.errors import ResultLost, StoreRefused, TaskFailed, TaskNotFound
from yadtq.wire.states import TaskStatus as S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.redis_server import RedisServer
    from yadtq import Yadtq


@pytest.fixture
async def server(redis_server: Callable[..., RedisServer]) -> RedisServer:
    server = redis_server()
    await server.start(aof=False)
    return server


@pytest.fixture
async def admin(server: RedisServer) -> AsyncIterator[Redis]:
    async with Redis.from_url(server.url) as redis:
        yield redis


class Work:
    """An app with one task, on a Redis of its own."""

    def __init__(self, stack: Servers, url: str, name: str, **settings: Any) -> None:
        self.servers = Servers(stack.kafka, url, stack.kind)
        self.app: Yadtq = make_app(self.servers, name, num_partitions=2, **settings)
        self.ran: Counter[int] = Counter()
        self.release = asyncio.Event()

        @self.app.task
        async def work(n: int, hold: bool = False) -> int:
            self.ran[n] += 1
            if hold:
                await self.release.wait()
            return n

        self.task = work

    async def finish(self) -> None:
        await eventually(lambda: all_committed(self.servers, self.app.name), timeout=30, interval=0.3)


async def test_damaged_keys_fail_their_own_tasks_and_no_others(
    stack: Servers, app_name: str, server: RedisServer, admin: Redis
) -> None:
    work = Work(stack, server.url, app_name)
    async with work.app.client() as client:
        handles = await client.submit_many(work.task, [(n,) for n in range(60)])
        for n in (3, 17, 40):
            key = f"yadtq:{{{app_name}}}:t:{handles[n].id}"
            await admin.delete(key)
            if n == 40:
                await admin.hset(key, mapping={"s": "I", "a": "many"})
            else:
                await admin.set(key, "x")
        await admin.set(f"yadtq:{{{app_name}}}:dead", "x")
        async with running(work.app):
            await admin.publish(f"yadtq:{{{app_name}}}:ctl", b"dead \xff")
            outcomes = await asyncio.gather(*(handle.result(timeout=40) for handle in handles), return_exceptions=True)
            await work.finish()
    for n, outcome in enumerate(outcomes):
        if n in (3, 17, 40):
            assert isinstance(outcome, TaskFailed), (n, outcome)
            assert outcome.error_type == "CorruptState"
            assert not work.ran[n]
        else:
            assert outcome == n


async def test_a_task_that_runs_writes_over_its_damaged_key(
    stack: Servers, app_name: str, server: RedisServer, admin: Redis
) -> None:
    work = Work(stack, server.url, app_name)
    async with work.app.client() as client, running(work.app):
        handle = await client.submit(work.task, 1, hold=True)
        await eventually(lambda: work.ran[1])
        await admin.set(f"yadtq:{{{app_name}}}:t:{handle.id}", "x")
        work.release.set()
        assert await handle.result(timeout=20) == 1
        await work.finish()
    assert work.ran == {1: 1}


@pytest.mark.parametrize("rules", [("~*", "+@all"), ("~*", "&*", "+@all", "-@scripting")], ids=str)
async def test_an_account_that_lacks_a_right_is_refused_at_the_start(
    stack: Servers, app_name: str, server: RedisServer, admin: Redis, rules: tuple[str, ...]
) -> None:
    await admin.execute_command("ACL", "SETUSER", "u", "on", ">p", *rules)
    work = Work(stack, server.url.replace("redis://", "redis://u:p@"), app_name)
    with pytest.raises(StoreRefused):
        async with running(work.app):
            pass
    with pytest.raises(StoreRefused):
        async with work.app.client():
            pass


async def test_a_rotated_password_is_an_outage_for_all(
    stack: Servers, app_name: str, server: RedisServer, admin: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    async def allow(password: str) -> None:
        await admin.execute_command("ACL", "SETUSER", "u", "reset", "on", f">{password}", "~*", "&*", "+@all")

    await allow("p")
    work = Work(stack, server.url.replace("redis://", "redis://u:p@"), app_name, redis_timeout_s=1.0)
    async with work.app.client() as client, running(work.app, concurrency=20) as worker:
        held = await client.submit_many(work.task, [(n, True) for n in range(20)])
        queued = await client.submit_many(work.task, [(n,) for n in range(20, 100)])
        await eventually(lambda: len(work.ran) == 20)
        waiting = asyncio.gather(*(handle.result(timeout=60) for handle in held + queued))
        await allow("another")
        await admin.execute_command("CLIENT", "KILL", "USER", "u")
        work.release.set()
        await eventually(lambda: "is away" in caplog.text, timeout=15)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3):  # of an outage
                await asyncio.shield(waiting)
        await allow("p")
        assert await waiting == list(range(100))
        assert worker is not None
        await work.finish()
    assert work.ran == dict.fromkeys(range(100), 1), "no lease was lost, and nothing ran twice"
    lines = [record for record in caplog.records if record.name == "yadtq.store" and "away" in record.getMessage()]
    assert len(lines) <= 4, "a worker and a client, each with a line now and then"


async def test_all_data_is_flushed_before_anyone_waits(
    stack: Servers, app_name: str, server: RedisServer, admin: Redis
) -> None:
    work = Work(stack, server.url, app_name, session_timeout_s=6.0, lease_s=3.0)
    async with work.app.client() as client, running(work.app, concurrency=10):
        done = await client.submit_many(work.task, [(n,) for n in range(20)])

        async def all_done() -> bool:
            return [await handle.status() for handle in done] == [S.SUCCESS] * 20

        await eventually(all_done, timeout=20)
        held = await client.submit_many(work.task, [(n, True) for n in range(20, 25)])
        await eventually(lambda: len(work.ran) == 25)
        await admin.flushall()
        waiting = [asyncio.create_task(handle.result(timeout=60)) for handle in held]
        outcomes = await asyncio.gather(*(handle.result(timeout=60) for handle in done), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {ResultLost}
        work.release.set()
        assert await asyncio.gather(*waiting) == list(range(20, 25))
        await work.finish()
    assert set(work.ran.values()) == {1}


async def test_redis_comes_back_from_an_older_snapshot(
    stack: Servers, app_name: str, server: RedisServer, admin: Redis
) -> None:
    work = Work(stack, server.url, app_name, session_timeout_s=6.0, lease_s=3.0)
    async with work.app.client() as client, running(work.app, concurrency=10):
        held = await client.submit_many(work.task, [(n, True) for n in range(10)])
        queued = await client.submit_many(work.task, [(n,) for n in range(10, 40)])
        await eventually(lambda: len(work.ran) == 10)
        await admin.save()
        count = await admin.hget(f"yadtq:{{{app_name}}}:data", "b")
        assert count is not None

        async def looked_at() -> bool:
            return int(await admin.hget(f"yadtq:{{{app_name}}}:data", "b") or 0) > int(count) + 1

        await eventually(looked_at)
        work.release.set()
        assert await asyncio.gather(*(handle.result(timeout=30) for handle in held + queued)) == list(range(40))
        await work.finish()  # Kafka holds them no more
        await server.kill()  # all that came after the snapshot is lost
        await server.start()
        later = await client.submit_many(work.task, [(n,) for n in range(40, 60)])
        outcomes = await asyncio.gather(*(handle.result(timeout=60) for handle in queued), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {ResultLost}
        assert await asyncio.gather(*(handle.result(timeout=30) for handle in later)) == list(range(40, 60))
        with pytest.raises(TaskNotFound):
            await queued[0].status()
        await work.finish()
    assert set(work.ran.values()) == {1}


async def test_an_id_that_nobody_knows_is_not_found(stack: Servers, app_name: str, server: RedisServer) -> None:
    work = Work(stack, server.url, app_name)
    async with work.app.client() as client:
        with pytest.raises(TaskNotFound):
            await client.handle("never-submitted").result(timeout=20)
