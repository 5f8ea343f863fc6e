"""Kafka restarts, freezes, dies: submits fail in bounded time and say how, nothing accepted is lost, workers stay."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.apps import all_committed, make_app, running
from tests.support.poll import eventually
from tests.support.stacks import Servers
from yadtq.errors import SubmitUncertain
from yadtq.wire.states import TaskStatus as S

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.kafka_server import KafkaServer
    from yadtq.handle import TaskHandle

pytestmark = pytest.mark.slow


@pytest.fixture
async def kafka(kafka_server: Callable[..., KafkaServer]) -> KafkaServer:
    server = kafka_server()
    await server.start()
    return server


class Load:
    """Submits numbers, one after another, and remembers what came of each."""

    def __init__(self, servers: Servers, name: str, **settings: Any) -> None:
        self.app = make_app(servers, name, **settings)
        self.servers = servers
        self.ran: Counter[str] = Counter()
        self.accepted: dict[str, TaskHandle[str]] = {}
        self.uncertain: list[str] = []
        self.slowest_s = 0.0
        self.stopped = False

        @self.app.task
        async def work(name: str) -> str:
            self.ran[name] += 1
            await asyncio.sleep(0.05)
            return name

        self.task = work

    async def go_on(self) -> None:
        n = 0
        while not self.stopped:
            n += 1
            started = time.monotonic()
            try:
                self.accepted[f"n{n}"] = await self.task.options(task_id=f"n{n}").submit(f"n{n}")
            except SubmitUncertain as error:
                self.uncertain += error.task_ids
            self.slowest_s = max(self.slowest_s, time.monotonic() - started)
            await asyncio.sleep(0.01)

    async def accept(self, more: int) -> None:
        wanted = len(self.accepted) + more
        await eventually(lambda: len(self.accepted) >= wanted, timeout=60, what=f"{more} more submits")

    async def judge(self) -> None:
        for name, handle in self.accepted.items():
            assert await handle.result(timeout=40) == name
            assert await handle.status() is S.SUCCESS
        for name in self.uncertain:
            # Submitted again, as the error says: it never runs twice.
            again = await self.task.options(task_id=name).submit(name)
            assert await again.result(timeout=40) == name
        await eventually(lambda: all_committed(self.servers, self.app.name), timeout=40, interval=0.5)
        assert set(self.ran.values()) == {1}
        assert self.ran.keys() == self.accepted.keys() | set(self.uncertain)


@pytest.mark.timeout(150)
@pytest.mark.parametrize("fault", ["restart", "kill", "freeze"])
async def test_submits_and_work_go_on_after_it(stack: Servers, app_name: str, kafka: KafkaServer, fault: str) -> None:
    servers = Servers(kafka.address, stack.redis, "kafka")
    load = Load(servers, app_name, submit_timeout_s=4.0, kafka_request_timeout_s=4.0)
    async with load.app.client(), running(load.app) as worker:
        submitting = asyncio.create_task(load.go_on())
        await load.accept(100)
        if fault == "restart":
            await kafka.restart()
        elif fault == "kill":
            await kafka.kill()
            await kafka.start()
        else:
            await kafka.freeze()
            frozen = time.monotonic()
            await eventually(lambda: time.monotonic() - frozen > 5, timeout=10)
            await kafka.thaw()
        await load.accept(100)
        load.stopped = True
        await submitting
        await load.judge()
        assert load.slowest_s < 4.0 + 2, "a submit has a deadline"
        assert worker.parts.counters.failed == 0


@pytest.mark.timeout(150)
async def test_while_it_is_gone_a_submit_ends_uncertain_with_its_id(
    stack: Servers, app_name: str, kafka: KafkaServer
) -> None:
    servers = Servers(kafka.address, stack.redis, "kafka")
    load = Load(servers, app_name, submit_timeout_s=2.0)
    release = asyncio.Event()

    @load.app.task
    async def held() -> str:
        await release.wait()
        return "held"

    async with load.app.client() as client, running(load.app) as worker:
        handle = await held.submit()
        await eventually(lambda: worker.parts.executor.running)
        await kafka.kill()
        started = time.monotonic()
        with pytest.raises(SubmitUncertain) as one:
            await load.task.options(task_id="mine").submit("mine")
        with pytest.raises(SubmitUncertain) as many:
            await client.submit_many(load.task, [("a",), ("b",), ("c",)])
        assert time.monotonic() - started < 8
        assert one.value.task_id == "mine"
        assert len(set(many.value.task_ids)) == 3
        release.set()
        assert await handle.result(timeout=10) == "held", "what runs needs no Kafka to end"
        await kafka.start()

        async def accepted() -> bool:
            again = await load.task.options(task_id="mine").submit("mine")
            return await again.result(timeout=20) == "mine"

        await eventually(accepted, timeout=40, interval=0.5)
        await eventually(lambda: all_committed(servers, app_name), timeout=40, interval=0.5)
    assert load.ran["mine"] == 1
