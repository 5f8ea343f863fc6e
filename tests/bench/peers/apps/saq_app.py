"""SAQ over Redis, with a larger pool than its default: each slot holds a connection, and redis-py 8 caps a pool at 100."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import recorder
from redis import asyncio as aioredis
from saq.queue.redis import RedisQueue

queue = RedisQueue(aioredis.from_url(os.environ["BENCH_REDIS"], max_connections=1000), name="bench")


async def noop(ctx: dict[str, Any], *, i: int) -> int:
    recorder.hit()
    return i


async def sleep50(ctx: dict[str, Any], *, i: int) -> int:
    recorder.hit()
    await asyncio.sleep(0.05)
    return i


settings = {
    "queue": queue,
    "functions": [noop, sleep50],
    "concurrency": int(os.environ.get("BENCH_CONCURRENCY", "100")),
}
