"""What the measured client processes do: the real client, one function for each kind of use."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaProducer
from pydantic_core import to_json

from tests.bench.app import app, hold, noop, sleep50
from tests.bench.profiling import profiled
from tests.support.bad_records import produce_bad
from yadtq.wire.names import TopicNames

if TYPE_CHECKING:
    from yadtq.client.client import Client

_TASKS = {"noop": noop, "sleep50": sleep50}
_WARM_UP = 200


async def fill(words: dict[str, Any]) -> dict[str, Any]:
    """Queue `n` tasks, for a worker to drain."""
    async with app.client(num_partitions=words.get("partitions", 4)) as client:
        handles = await client.submit_many(_TASKS[words.get("task", "noop")], [(i,) for i in range(words["n"])])
    return {"ids": [handle.id for handle in handles]}


async def fill_among_bad(words: dict[str, Any]) -> dict[str, Any]:
    """As `fill`, and every tenth record in the topic is bad, in forty ways."""
    topic, partitions, n = TopicNames(words["app"]).tasks("default"), words.get("partitions", 4), words["n"]
    ids: list[str] = []
    bad = turn = 0
    async with (
        app.client(num_partitions=partitions) as client,
        AIOKafkaProducer(bootstrap_servers=words["kafka"], acks="all", linger_ms=0) as producer,
    ):
        while len(ids) < n:
            if bad * 9 <= len(ids):
                bad += await produce_bad(producer, words["kafka"], topic, turn % partitions)
                turn += 1
            calls = [(i,) for i in range(len(ids), min(n, len(ids) + 360))]
            ids += [handle.id for handle in await client.submit_many(noop, calls)]
    return {"ids": ids, "bad": bad}


async def stragglers(words: dict[str, Any]) -> dict[str, Any]:
    """Queue `n` tasks that run until the file `path` exists."""
    async with app.client() as client:
        handles = await client.submit_many(hold, [(words["path"],)] * words["n"])
    return {"ids": [handle.id for handle in handles]}


async def submit_each(words: dict[str, Any]) -> dict[str, Any]:
    """One submit awaited after the other."""
    async with app.client() as client:
        for i in range(_WARM_UP):
            await client.submit(noop, i)
        with _Timed(words) as timed:
            for i in range(words["n"]):
                await client.submit(noop, i)
    return timed.result(words["n"])


async def submit_in_turns(words: dict[str, Any]) -> dict[str, Any]:
    """One submit awaited after the other, and one bare `send_and_wait` after the other: by turns, in one loop.

    In processes of their own the two met other states of the servers and of the machine, and the floor paid for making its
    records: the ratio said 0.95 where this says 0.77. Between the turns what is written behind is awaited, in our time.
    """
    topic = TopicNames(words["app"]).tasks("default")
    n, turns = words["n"], words["turns"]
    ours = floor = 0.0
    async with (
        app.client() as client,
        AIOKafkaProducer(bootstrap_servers=words["kafka"], acks="all", linger_ms=0) as producer,
    ):
        handle = await client.submit(noop, 0)
        record = to_json({"v": 1, "id": handle.id, "task": "noop", "args": [0], "kwargs": {}, "at": time.time()})
        for turn in range(-1, turns):  # the first one warms up
            start = time.perf_counter()
            for _ in range(n // turns):
                await producer.send_and_wait(topic, record)
            between = time.perf_counter()
            for i in range(n // turns):
                handle = await client.submit(noop, i)
            await handle.status()
            if turn >= 0:
                floor += between - start
                ours += time.perf_counter() - between
    return {"rate": n // turns * turns / ours, "floor": n // turns * turns / floor}


async def submit_many(words: dict[str, Any]) -> dict[str, Any]:
    """One `submit_many` of all, until every task is acknowledged by Kafka and visibly QUEUED."""
    calls = [(i,) for i in range(words["n"])]
    async with app.client() as client:
        await client.submit_many(noop, calls[:_WARM_UP])
        with _Timed(words) as timed:
            handles = await client.submit_many(noop, calls)
            await handles[-1].status()  # returns when what is written behind is written
    return {**timed.result(words["n"]), "ids": [handle.id for handle in handles]}


async def submit_gathered(words: dict[str, Any]) -> dict[str, Any]:
    """`submit` for each, all of them in one `asyncio.gather`, until every task is visibly QUEUED."""
    async with app.client() as client:
        await asyncio.gather(*(client.submit(noop, i) for i in range(_WARM_UP)))
        with _Timed(words) as timed:
            handles = await asyncio.gather(*(client.submit(noop, i) for i in range(words["n"])))
            await handles[-1].status()
    return {**timed.result(words["n"]), "ids": [handle.id for handle in handles]}


async def round_trips(words: dict[str, Any]) -> dict[str, Any]:
    """Submit and wait for the result, one at a time. The first result comes when the worker has joined."""
    async with app.client() as client:
        await _settle(client)
        times = []
        with _Timed(words):
            for i in range(words["n"]):
                start = time.perf_counter()
                value = await (await client.submit(noop, i)).result(timeout=30)
                times.append(time.perf_counter() - start)
                assert value == i
    return {"times": times}


async def one(words: dict[str, Any]) -> dict[str, Any]:
    """A single task, to know that the worker runs."""
    async with app.client() as client:
        await _settle(client)
    return {}


async def _settle(client: Client) -> None:
    for i in range(_WARM_UP):
        await (await client.submit(noop, i)).result(timeout=30)


class _Timed(profiled):
    """Wall and CPU time of a block, which is profiled if the runner asked for it."""

    def __init__(self, words: dict[str, Any]) -> None:
        super().__init__(words.get("profile"))
        self._wall = self._cpu = 0.0

    def __enter__(self) -> _Timed:
        super().__enter__()
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *exc: object) -> None:
        self._wall, self._cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        super().__exit__(*exc)

    def result(self, n: int) -> dict[str, float]:
        return {"rate": n / self._wall, "cpu_us": self._cpu / n * 1e6}


FUNCTIONS = {
    f.__name__: f
    for f in (
        fill,
        fill_among_bad,
        stragglers,
        submit_each,
        submit_in_turns,
        submit_many,
        submit_gathered,
        round_trips,
        one,
    )
}
