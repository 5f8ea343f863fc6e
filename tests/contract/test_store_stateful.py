"""`StoreMachine` on the memory store alone, and on both stores in lock-step."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.contract.store_harness import MemoryHarness, RedisHarness
from tests.contract.store_machine import QUEUED_TTL_S, StoreMachine

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def test_memory() -> None:
    class Memory(StoreMachine):
        async def open(self) -> Sequence[Harness]:
            return [MemoryHarness(queued_ttl_s=QUEUED_TTL_S)]

    run(Memory, examples=150, steps=40)


def test_memory_and_redis_in_lock_step(stack: Servers, app_name: str) -> None:
    numbers = itertools.count()

    class LockStep(StoreMachine):
        async def open(self) -> Sequence[Harness]:
            self.memory = MemoryHarness(queued_ttl_s=QUEUED_TTL_S)
            self.redis = RedisHarness(stack.redis, f"{app_name}-{next(numbers)}", queued_ttl_s=QUEUED_TTL_S)
            return [self.memory, self.redis]

        async def synchronise(self) -> None:
            self.memory.clock.set_time((await self.redis.now_ms() + self.now_ms) / 1000)

    run(LockStep, examples=40, steps=40)
