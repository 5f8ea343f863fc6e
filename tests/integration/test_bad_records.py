"""Good tasks among forty kinds of bad records: all are done, and what can be kept of the bad ones is kept."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaProducer

from tests.support.apps import make_app, running
from tests.support.bad_records import BATCHES, VALUES, produce_bad
from tests.support.poll import eventually
from yadtq.wire.names import TopicNames
from yadtq.wire.states import TaskStatus as S

if TYPE_CHECKING:
    from tests.support.stacks import Servers

#: Those that are tasks: one waits for a deploy, and one has no dead letter because its caller is told.
_TASKS = {"unknown-task", "wrong-arguments"}


async def test_good_tasks_among_bad_records(stack: Servers, app_name: str) -> None:
    app = make_app(stack, app_name)

    @app.task
    async def noop(n: int) -> int:
        return n

    topic = TopicNames(app_name).tasks("default")
    async with app.client() as client, AIOKafkaProducer(**stack.clients) as producer:
        handles = await client.submit_many(noop, [(n,) for n in range(20)])
        for partition in range(2):
            await produce_bad(producer, stack.clients, topic, partition)
        handles += await client.submit_many(noop, [(n,) for n in range(20, 40)])
        async with running(app) as worker:
            async with asyncio.timeout(30):
                assert [await handle.result() for handle in handles] == list(range(40))
            assert await (await noop.submit(41)).result(timeout=10) == 41

            async def failed() -> bool:
                return await client.status("bad-arguments") is S.FAILED

            await eventually(failed)

            wanted = [value or b"" for name, value in VALUES.items() if name not in _TASKS]

            async def missing() -> set[bytes]:
                return set(wanted) - {letter.value for letter in await client.dead_letters()}

            async def all_kept() -> bool:
                assert not await missing(), await missing()
                return True

            await eventually(all_kept, what=f"a dead letter of each, {len(BATCHES)} batches among them")
            assert worker.parts.audit() == []
