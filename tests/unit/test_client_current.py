"""Which client a submit goes through when several are open, and what a call must look like."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.client_bench import ClientBench, Sink
from yadtq import TaskContext, Yadtq
from yadtq.errors import ConfigError, InvalidArguments
from yadtq.sync import YADTQClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from yadtq.client.client import Client


@pytest.fixture
def bench() -> ClientBench:
    return ClientBench()


@pytest.fixture
async def client(bench: ClientBench) -> AsyncIterator[Client]:
    async with bench.client() as connected:
        yield connected


class TestOverlapping:
    async def test_twenty_at_once_all_work_and_the_outer_one_goes_on(self, bench: ClientBench) -> None:
        async def request(n: int) -> str:
            async with bench.client():
                await asyncio.sleep(0)
                for _ in range(n % 5):  # they end in another order than they began
                    await asyncio.sleep(0)
                return (await bench.work.submit(n)).id

        async with bench.client():
            ids = await asyncio.gather(*(request(n) for n in range(20)))
            last = await bench.work.submit(99)
        assert sorted(bench.sink.ids()) == sorted([*ids, last.id])

    async def test_a_submit_uses_the_client_of_its_own_block(self, bench: ClientBench) -> None:
        other = ClientBench()
        async with bench.client(), bench.app.client(outside=other.outside):
            inner = await bench.work.submit(1)

        async def in_a_task_started_outside(go: asyncio.Event) -> str:
            await go.wait()
            return (await bench.work.submit(2)).id

        go = asyncio.Event()
        async with bench.client():
            started_in_the_outer = asyncio.create_task(in_a_task_started_outside(go))
            async with bench.app.client(outside=other.outside):
                go.set()
                outer = await started_in_the_outer
        assert (other.sink.ids(), bench.sink.ids()) == ([inner.id], [outer])

    async def test_one_left_first_though_it_was_opened_first(self, bench: ClientBench) -> None:
        other = ClientBench()
        first, second = bench.client(), bench.app.client(outside=other.outside)
        await first.__aenter__()
        await second.__aenter__()
        await first.__aexit__(None, None, None)
        handle = await bench.work.submit(1)
        await second.__aexit__(None, None, None)
        assert other.sink.ids() == [handle.id]
        with pytest.raises(ConfigError, match="no connected client"):
            await bench.work.submit(2)

    async def test_another_loop_has_none(self, bench: ClientBench, client: Client) -> None:
        async def elsewhere() -> None:
            with pytest.raises(ConfigError, match="in this event loop"):
                await bench.work.submit(1)

        await asyncio.to_thread(asyncio.run, elsewhere())

    async def test_another_app_has_its_own(self, bench: ClientBench, client: Client) -> None:
        app = Yadtq("other")

        @app.task
        async def work() -> None: ...

        with pytest.raises(ConfigError, match="'other'"):
            await work.submit()


class TestCalls:
    def test_a_submit_is_seen_to_be_a_coroutine_function(self, bench: ClientBench) -> None:
        for submit in (bench.work.submit, bench.work.options(retries=1).submit):
            assert inspect.iscoroutinefunction(submit)

    async def test_no_name_of_a_parameter_is_taken(self, bench: ClientBench) -> None:
        sink: Sink = bench.sink

        @bench.app.task
        async def named(self: int = 0, task: str = "", args: int = 0, kwargs: int = 0, options: int = 0) -> None: ...

        every: dict[str, Any] = {"self": 1, "task": "x", "args": 2, "kwargs": 3, "options": 4}
        async with bench.client() as client:
            await client.submit(named, **every)
            await client.submit("named", **every)
            await named.submit(**every)
            await named.options(retries=1).submit(**every)
            await client.submit_many(named, [every])
        assert len(sink.appended) == 5

    async def test_the_name_of_the_context_is_refused_where_any_name_is_taken(
        self, bench: ClientBench, client: Client
    ) -> None:
        @bench.app.task
        async def takes_any(ctx: TaskContext, **values: int) -> None: ...

        @bench.app.task
        async def takes_it_too(ctx: TaskContext, /, **values: int) -> None: ...

        # mypy takes a context beside **values for one of them, unless it is positional only.
        submit: Any = takes_any.submit
        await submit(self=1, task=2)
        await takes_it_too.submit(ctx=1)
        with pytest.raises(InvalidArguments, match="ctx: the worker gives the context"):
            await submit(ctx=1)
        assert len(bench.sink.appended) == 2

    @pytest.mark.parametrize("calls", [["c", "d"], [b"A"], [1, 2], [{1}], [None], "ab", [bytearray(b"a")]])
    async def test_what_is_no_call_is_refused(self, bench: ClientBench, client: Client, calls: Any) -> None:
        with pytest.raises(InvalidArguments, match="list or tuple of arguments"):
            await client.submit_many(bench.work, calls)
        with pytest.raises(InvalidArguments, match="list or tuple of arguments"):
            await client.submit_many("work", calls)
        assert bench.sink.appended == []

    async def test_other_sequences_are_calls(self, bench: ClientBench, client: Client) -> None:
        assert len(await client.submit_many(bench.work, [range(1), [2], (3, "a"), {"n": 4}])) == 4


@pytest.mark.parametrize("partitions", ["4", 2.5, 0, -1, True, 10_001])
def test_a_wrong_number_of_partitions(bench: ClientBench, partitions: Any) -> None:
    with pytest.raises(ConfigError, match="num_partitions"):
        asyncio.run(bench.app.client(num_partitions=partitions, outside=bench.outside).__aenter__())


@pytest.mark.parametrize("app", ["shop", Yadtq("shop")])
def test_the_blocking_client_says_how_an_app_is_given(app: Any) -> None:
    with pytest.raises(ConfigError, match=r"YADTQClient\(app="):
        YADTQClient(app)
