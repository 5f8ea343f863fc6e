"""Celery over Redis."""

from __future__ import annotations

import os
import time

import recorder
from celery import Celery

app = Celery("bench", broker=os.environ["BENCH_REDIS"], backend=os.environ["BENCH_REDIS"])
app.conf.update(
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    result_expires=3600,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)


@app.task(name="noop")
def noop(i: int) -> int:
    recorder.hit()
    return i


@app.task(name="sleep50")
def sleep50(i: int) -> int:
    recorder.hit()
    time.sleep(0.05)
    return i
