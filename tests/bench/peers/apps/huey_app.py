"""Huey over Redis. It ships no JSON, so its bodies are pickles."""

from __future__ import annotations

import os
import time

import recorder
from huey import RedisHuey

huey = RedisHuey("bench", url=os.environ["BENCH_REDIS"], notify_result=os.environ.get("BENCH_NOTIFY") == "1")


@huey.task()
def noop(i: int) -> int:
    recorder.hit()
    return i


@huey.task()
def sleep50(i: int) -> int:
    recorder.hit()
    time.sleep(0.05)
    return i
