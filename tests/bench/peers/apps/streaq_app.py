"""streaq. Its command line always logs at INFO, a line a task; so it is started here."""

from __future__ import annotations

import asyncio
import json
import logging
import os

import recorder
from streaq import Worker

worker = Worker(
    redis_url=os.environ["BENCH_REDIS"],
    concurrency=int(os.environ.get("BENCH_CONCURRENCY", "100")),
    queue_name="bench",
    serializer=json.dumps,
    deserializer=json.loads,
    anyio_kwargs={"use_uvloop": True},
)


@worker.task(name="noop", ttl=3600)
async def noop(i: int) -> int:
    recorder.hit()
    return i


@worker.task(name="sleep50", ttl=3600)
async def sleep50(i: int) -> int:
    recorder.hit()
    await asyncio.sleep(0.05)
    return i


if __name__ == "__main__":
    import streaq_app

    logging.basicConfig(level=logging.WARNING)
    streaq_app.worker.run_sync()
