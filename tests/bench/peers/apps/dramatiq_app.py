"""Dramatiq over Redis. Its async actors take a worker thread each, so plain ones lose nothing."""

from __future__ import annotations

import os
import time

import dramatiq
import recorder
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

broker = RedisBroker(url=os.environ["BENCH_REDIS"])
backend = RedisBackend(url=os.environ["BENCH_REDIS"])
broker.add_middleware(Results(backend=backend))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def noop(i: int) -> int:
    recorder.hit()
    return i


@dramatiq.actor(store_results=True)
def sleep50(i: int) -> int:
    recorder.hit()
    time.sleep(0.05)
    return i
