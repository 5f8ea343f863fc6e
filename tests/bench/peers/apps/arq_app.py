"""arq. JSON instead of its pickle, like everyone here."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import recorder
from arq.connections import RedisSettings

SETTINGS = RedisSettings.from_dsn(os.environ["BENCH_REDIS"])


def dumps(data: dict[str, Any]) -> bytes:
    return json.dumps(data, default=repr).encode()


async def noop(ctx: dict[str, Any], i: int) -> int:
    recorder.hit()
    return i


async def sleep50(ctx: dict[str, Any], i: int) -> int:
    recorder.hit()
    await asyncio.sleep(0.05)
    return i


class WorkerSettings:
    functions = (noop, sleep50)
    redis_settings = SETTINGS
    max_jobs = int(os.environ.get("BENCH_CONCURRENCY", "100"))
    poll_delay = float(os.environ.get("BENCH_POLL", "0.5"))
    keep_result = 3600
    job_serializer = staticmethod(dumps)
    job_deserializer = staticmethod(json.loads)


quiet = {"version": 1, "disable_existing_loggers": False}
