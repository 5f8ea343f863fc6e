"""`StoreMachine` on the memory store alone, and on both stores in lock-step."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.contract.store_harness import MemoryHarness, RedisHarness
from tests.contract.store_machine import CHANNELS, QUEUED_TTL_S, StoreMachine

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.contract.store_harness import Harness
    from tests.support.stacks import Servers


def run(machine: type[StoreMachine], examples: int, steps: int) -> None:
    rules = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    run_state_machine_as_test(machine, settings=rules)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def test_memory(loop: asyncio.AbstractEventLoop) -> None:
    class Memory(StoreMachine):
        def open(self) -> Sequence[Harness]:
            memory = MemoryHarness(queued_ttl_s=QUEUED_TTL_S)
            for channel in CHANNELS:
                self.run(memory.listen(channel))
            return [memory]

    Memory.loop = loop
    run(Memory, examples=1500, steps=40)


def test_memory_and_redis_in_lock_step(stack: Servers, app_name: str, loop: asyncio.AbstractEventLoop) -> None:
    redis = RedisHarness(stack.redis, app_name, queued_ttl_s=QUEUED_TTL_S)
    for channel in CHANNELS:
        loop.run_until_complete(redis.listen(channel))

    class LockStep(StoreMachine):
        def open(self) -> Sequence[Harness]:
            self.memory = MemoryHarness(queued_ttl_s=QUEUED_TTL_S)
            for channel in CHANNELS:
                self.run(self.memory.listen(channel))
            return [self.memory, redis]

        async def synchronise(self) -> None:
            self.memory.clock.set_time((await redis.now_ms() + self.now_ms) / 1000)

    LockStep.loop = loop
    try:
        run(LockStep, examples=300, steps=50)
    finally:
        loop.run_until_complete(redis.aclose())
