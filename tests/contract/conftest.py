"""The stores under contract: each test that takes `harness` runs on every one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.store_harness import MemoryHarness, RedisHarness

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.contract.store_harness import Harness
    from tests.support.stacks import Servers


@pytest.fixture
async def memory_harness() -> MemoryHarness:
    return MemoryHarness()


@pytest.fixture
async def redis_harness(stack: Servers, app_name: str) -> AsyncIterator[RedisHarness]:
    harness = RedisHarness(stack.redis, app_name)
    yield harness
    await harness.aclose()


@pytest.fixture(params=["memory", "redis"])
def harness(request: pytest.FixtureRequest) -> Harness:
    harness: Harness = request.getfixturevalue(f"{request.param}_harness")
    return harness
