"""Routes: what may change a submit between its encoding and Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.client_bench import ClientBench
from yadtq.client.client import Client
from yadtq.client.routes import Existing
from yadtq.errors import StoreUnavailable
from yadtq.options import CallOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from yadtq.client.routes import Submission, TaskOrName


class Fake:
    """A route that counts, and does what the test says."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Mapping[str, Any]]] = []
        self.topic: str | None = None
        self.header: str | None = None
        self.known: dict[str, str] = {}
        self.away = False

    async def __call__(
        self, submission: Submission, task: TaskOrName, options: Mapping[str, Any]
    ) -> Submission | Existing:
        task_id, record = submission
        self.asked.append((task_id, task if isinstance(task, str) else task.name, options))
        if self.away:
            raise StoreUnavailable("nothing was sent: Redis is away")
        if task_id in self.known:
            return Existing(self.known[task_id])
        if self.topic is not None:
            record = record._replace(topic=self.topic)
        if self.header is not None:
            record = record._replace(headers=[*record.headers, (self.header, b"1")], key=b"k")
        return task_id, record


@pytest.fixture
def bench() -> ClientBench:
    return ClientBench()


@pytest.fixture
def routes() -> list[Fake]:
    return [Fake(), Fake()]


@pytest.fixture
async def client(bench: ClientBench, routes: list[Fake]) -> AsyncIterator[Client]:
    async with Client(bench.outside, bench.app.settings, bench.app.registry, routes=routes) as connected:
        yield connected


async def test_they_are_asked_in_order_and_all_of_the_record_reaches_kafka(
    bench: ClientBench, client: Client, routes: list[Fake]
) -> None:
    routes[0].topic, routes[0].header = "yadtq.t.delayed", "first"
    routes[1].header = "second"
    handle = await client.submit(bench.work.options(retries=2), 1)
    (record,) = bench.sink.appended
    assert (record.topic, record.key) == ("yadtq.t.delayed", b"k")
    assert [name for name, _ in record.headers] == ["first", "second"]
    assert [route.asked for route in routes] == [[(handle.id, "work", {"retries": 2})]] * 2


async def test_one_that_knows_the_task_ends_the_way(bench: ClientBench, client: Client, routes: list[Fake]) -> None:
    routes[0].known["mine"] = "the-first"
    handle = await client.submit(bench.work.options(task_id="mine"), 1)
    assert (handle.id, bench.sink.appended, routes[1].asked) == ("the-first", [], [])


async def test_of_many_each_is_asked(bench: ClientBench, client: Client, routes: list[Fake]) -> None:
    original = routes[0].__call__

    class Every:
        async def __call__(self, submission: Submission, task: TaskOrName, options: Any) -> Submission | Existing:
            await original(submission, task, options)
            known = len(routes[0].asked) % 2 == 0
            return Existing(f"known-{len(routes[0].asked)}") if known else submission

    async with Client(bench.outside, bench.app.settings, bench.app.registry, routes=[Every()]) as other:
        handles = await other.submit_many(bench.work, [(n,) for n in range(12)], CallOptions(retries=1))
    assert [handle.id for handle in handles][1::2] == [f"known-{n}" for n in range(2, 13, 2)]
    assert bench.sink.ids() == [handle.id for handle in handles][0::2]


async def test_what_it_raises_goes_to_the_caller_and_nothing_is_sent(
    bench: ClientBench, client: Client, routes: list[Fake]
) -> None:
    routes[1].away = True
    with pytest.raises(StoreUnavailable):
        await client.submit(bench.work, 1)
    with pytest.raises(StoreUnavailable):
        await client.submit_many(bench.work, [(1,), (2,)])
    assert bench.sink.appended == []
    assert client._submitter._admission.pending == 0
