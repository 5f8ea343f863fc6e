"""A slow task holds up neither its partition nor the commits behind it, and a copy of a task runs nothing twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.support.apps import all_committed, committed_and_ends, make_app, make_value, running
from tests.support.poll import eventually
from yadtq.broker.producer import KafkaProducer
from yadtq.runtime.seams import OutRecord

if TYPE_CHECKING:
    from tests.support.stacks import Servers


@pytest.mark.smoke
async def test_others_of_its_partition_end_first_and_the_commit_waits_for_it(stack: Servers, app_name: str) -> None:
    app = make_app(stack, app_name, num_partitions=1)
    release = asyncio.Event()

    @app.task
    async def work(n: int) -> int:
        if n == 20:
            await release.wait()
        return n

    async with app.client() as client, running(app) as worker:
        handles = await client.submit_many(work, [(n,) for n in range(100)])
        slow = handles.pop(20)
        async for _ in client.as_completed(handles, timeout=30):
            pass

        async def commit_stands_before_it() -> bool:
            committed, ends = await committed_and_ends(stack, app_name)
            assert committed[0] <= 20, "a crash now would lose the slow task"
            return committed[0] == 20 and ends[0] == 100

        await eventually(commit_stands_before_it, timeout=15, interval=0.2)
        assert list(worker.parts.executor.running) == [slow.id]
        release.set()
        assert await slow.result(timeout=10) == 20
        await eventually(lambda: all_committed(stack, app_name), timeout=15, interval=0.2)


async def test_copies_of_a_record_run_once_and_all_their_offsets_are_done(stack: Servers, app_name: str) -> None:
    app = make_app(stack, app_name, num_partitions=3)
    ran: Counter[str] = Counter()

    @app.task
    async def work(name: str) -> str:
        ran[name] += 1
        await asyncio.sleep(0.3)
        return name

    async with app.client() as client:
        producer = KafkaProducer(app.settings)
        await producer.start()
        topic = f"yadtq.{app_name}.tasks.default"
        names = [f"copied{n}" for n in range(10)]
        copies = [
            OutRecord(topic, make_value("work", name, args=[name]), partition=copy % 3)
            for copy in range(5)
            for name in names
        ]
        async with running(app), running(app):
            await producer.append(copies[:25])
            assert await client.handle("copied0").result(timeout=20) == "copied0"
            await producer.append(copies[25:])
            for name in names:
                assert await client.handle(name).result(timeout=20) == name
            # Sooner than a parked copy looks at a lease again: the end of a task here is told to its copies here.
            await eventually(lambda: all_committed(stack, app_name), timeout=20, interval=0.2)
        await producer.stop()
    assert ran == dict.fromkeys(names, 1)


async def test_a_straggler_is_moved_to_the_tail_and_still_runs_once(stack: Servers, app_name: str) -> None:
    app = make_app(stack, app_name, num_partitions=1)
    release = asyncio.Event()
    ran: Counter[int] = Counter()

    @app.task
    async def work(n: int) -> int:
        ran[n] += 1
        if n == 0:
            await release.wait()
        return n

    async with app.client() as client, running(app, span=50, window=40):
        slow = await client.submit(work, 0)
        handles = await client.submit_many(work, [(n,) for n in range(1, 300)])
        async for _ in client.as_completed(handles, timeout=30):
            pass

        async def passed_its_first_offset() -> bool:
            committed, ends = await committed_and_ends(stack, app_name)
            return committed[0] >= 250 and ends[0] > 300

        await eventually(passed_its_first_offset, timeout=15, interval=0.2)
        release.set()
        assert await slow.result(timeout=10) == 0
        await eventually(lambda: all_committed(stack, app_name), timeout=15, interval=0.2)
    assert set(ran.values()) == {1}
