"""The raw floors: what aiokafka, redis-py and asyncio cost when nothing but the bare work is done.

Each uses the same servers, topic shape and record size as the thing it is the floor of, in a process of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import subprocess
import sys
import time
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from pydantic_core import from_json, to_json
from redis.asyncio import Redis

from yadtq.wire.names import TopicNames

_STORE = "redis.call('SET', KEYS[1], ARGV[1], 'EX', 3600) redis.call('PUBLISH', KEYS[2], ARGV[2]) return 1"
_BATCH = 100
_WARM_UP = 200


def _record(i: int) -> bytes:
    """As long as the client's record of a no-op."""
    return to_json({"v": 1, "id": secrets.token_hex(16), "task": "noop", "args": [i], "kwargs": {}, "at": time.time()})


async def drain(words: dict[str, Any]) -> dict[str, Any]:
    """The least worker: consume in a group, decode, a bounded asyncio task each, pipelined result scripts, commit.

    It drains the very topic that the measured worker drains. No leases, no states, no attempts, no retries, no
    validation; its commit doesn't wait for the tasks. The clock starts with the first records, as the worker's does.
    """
    n, sleep_s = words["n"], words.get("sleep_s", 0.0)
    redis = Redis.from_url(words["redis"])
    script = await redis.script_load(_STORE)
    consumer = AIOKafkaConsumer(
        TopicNames(words["app"]).tasks("default"),
        bootstrap_servers=words["kafka"],
        group_id=f"floor-{secrets.token_hex(4)}",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    slots = asyncio.Semaphore(words.get("concurrency", 100))
    done: list[tuple[str, bytes]] = []
    more = asyncio.Event()

    async def noop(i: int) -> int:
        if sleep_s:
            await asyncio.sleep(sleep_s)
        return i

    async def run(value: bytes) -> None:
        try:
            message = from_json(value)
            result = await noop(*message["args"], **message["kwargs"])
            done.append((message["id"], to_json(result)))
            more.set()
        finally:
            slots.release()

    async def write() -> None:
        written = 0
        while written < n:
            await more.wait()
            more.clear()
            while done:
                part = done[:_BATCH]
                del done[:_BATCH]
                pipe = redis.pipeline(transaction=False)
                for task_id, result in part:
                    pipe.evalsha(script, 2, f"floor:{task_id}", "floor", result, task_id)
                await pipe.execute()
                written += len(part)

    tasks: set[asyncio.Task[None]] = set()
    writer = asyncio.create_task(write())
    received, wall, cpu = 0, 0.0, 0.0
    while received < n:
        batches = await consumer.getmany(timeout_ms=1000, max_records=500)
        if batches and not received:
            wall, cpu = time.perf_counter(), time.process_time()
        for records in batches.values():
            for record in records:
                await slots.acquire()
                task = asyncio.create_task(run(record.value))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            received += len(records)
        if batches:
            await consumer.commit()
    await writer
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    await consumer.stop()
    await redis.aclose()
    return {"rate": n / wall, "wall": wall, "cpu_us": cpu / n * 1e6}


async def produce_many(words: dict[str, Any]) -> dict[str, Any]:
    """`send`, acks=all, a thousand at a time, until all are acknowledged."""
    async with _producer(words) as (producer, topic):
        for i in range(_WARM_UP):
            await producer.send_and_wait(topic, _record(i))
        wall = time.perf_counter()
        for at in range(0, words["n"], 1000):
            await asyncio.gather(
                *[await producer.send(topic, _record(i)) for i in range(at, min(at + 1000, words["n"]))]
            )
        wall = time.perf_counter() - wall
    return {"rate": words["n"] / wall}


async def produce_gathered(words: dict[str, Any]) -> dict[str, Any]:
    """`send_and_wait`, acks=all, gathered by the thousand: more at once, and aiokafka takes a hundred times as long."""
    async with _producer(words) as (producer, topic):
        for i in range(_WARM_UP):
            await producer.send_and_wait(topic, _record(i))
        wall = time.perf_counter()
        for at in range(0, words["n"], 1000):
            part = range(at, min(at + 1000, words["n"]))
            await asyncio.gather(*(producer.send_and_wait(topic, _record(i)) for i in part))
        wall = time.perf_counter() - wall
    return {"rate": words["n"] / wall}


async def round_trips(words: dict[str, Any]) -> dict[str, Any]:
    """A record to a bare consumer in another process, one result script there, its push back here. Nothing else.

    `hops` is the way of the record alone, stamped before the send and after the poll: monotonic time is the same in
    all processes.
    """
    times, hops = [], []
    redis = Redis.from_url(words["redis"])
    async with _producer(words) as (producer, topic), redis.pubsub() as heard:
        await heard.subscribe(topic)
        await heard.get_message(timeout=5)
        echo = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.bench.child", "echo", to_json({**words, "topic": topic}).decode()),
            stdout=subprocess.DEVNULL,
        )
        try:
            for _ in range(_WARM_UP + words["n"]):
                start = time.monotonic_ns()
                await producer.send_and_wait(topic, b"%d %s" % (start, b"x" * 90))
                message = None
                while message is None:
                    message = await heard.get_message(ignore_subscribe_messages=True, timeout=20)
                times.append((time.monotonic_ns() - start) / 1e9)
                hops.append(int(message["data"]) / 1e9)
        finally:
            with contextlib.suppress(ProcessLookupError):
                echo.kill()
            await echo.wait()
    await redis.aclose()
    return {"times": times[_WARM_UP:], "hops": hops[_WARM_UP:]}


async def echo(words: dict[str, Any]) -> dict[str, Any]:
    """The other process of `round_trips`; it is killed when that has ended."""
    topic = words["topic"]
    redis = Redis.from_url(words["redis"])
    script = await redis.script_load(_STORE)
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=words["kafka"], group_id=topic, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    while True:
        for records in (await consumer.getmany(timeout_ms=1000)).values():
            for record in records:
                hop = time.monotonic_ns() - int(record.value.split()[0])
                await redis.evalsha(script, 2, f"floor:{topic}:{record.offset}", topic, b"1", b"%d" % hop)


@contextlib.asynccontextmanager
async def _producer(words: dict[str, Any]) -> Any:
    topic = f"floor-{secrets.token_hex(4)}"
    admin = AIOKafkaAdminClient(bootstrap_servers=words["kafka"])
    await admin.start()
    await admin.create_topics([NewTopic(topic, words.get("partitions", 4), 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=words["kafka"], acks="all", linger_ms=0) as producer:
        yield producer, topic


FUNCTIONS = {f"floor_{f.__name__}": f for f in (drain, produce_many, produce_gathered, round_trips)}
FUNCTIONS["echo"] = echo
