"""The tasks that a bare `python -m yadtq.worker` runs: something to try, of every kind.

from yadtq.sync import YADTQClient
with YADTQClient() as client:
    client.get_result(client.submit_task("addition", args=[100, 25]))
"""

from __future__ import annotations

import asyncio

from yadtq.app import Yadtq
from yadtq.context import TaskContext  # noqa: TC001 - a task's annotations are read at run time

app = Yadtq("default")


@app.task
async def addition(x: int, y: int) -> int:
    """x + y"""
    return x + y


@app.task
async def subtraction(x: int, y: int) -> int:
    """x - y"""
    return x - y


@app.task
async def multiplication(x: float, y: float) -> float:
    """x · y"""
    return x * y


@app.task
async def division(x: float, y: float) -> float:
    """x / y; by zero it fails, as it should"""
    return x / y


@app.task
async def word_count(text: str) -> dict[str, int]:
    """How often each word occurs, in lower case."""
    counts: dict[str, int] = {}
    for word in text.lower().split():
        counts[word] = counts.get(word, 0) + 1
    return counts


@app.task
async def slow(seconds: float) -> float:
    """Waits, as a call to a remote service would, and returns how long."""
    await asyncio.sleep(seconds)
    return seconds


@app.task(retries=2, retry_base=0.1)
async def flaky(ctx: TaskContext, fail_times: int) -> int:
    """Fails on its first attempts and returns the number of the one that succeeds."""
    if ctx.attempt <= fail_times:
        raise RuntimeError(f"attempt {ctx.attempt} of {fail_times} that fail")
    return ctx.attempt


@app.task
async def failing(message: str = "on purpose") -> None:
    """Always fails."""
    raise RuntimeError(message)


@app.task
def primes(limit: int) -> int:
    """How many primes are below `limit`: CPU-bound, so a sync function, which runs in a thread."""
    sieve = bytearray([1]) * max(limit, 2)
    sieve[:2] = b"\0\0"
    for number in range(2, int(limit**0.5) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, limit, number)))
    return sum(sieve[:limit]) if limit > 0 else 0
