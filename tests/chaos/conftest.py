"""Chaos tests have servers of their own: they break them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.chaos.world import World
from tests.support import stacks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    MakeWorld = Callable[..., Awaitable[World]]


def _stack(request: pytest.FixtureRequest) -> stacks.StackName:
    """What `--stack` says; else Apache Kafka for the tests that are marked `kafka`, as the others start faster."""
    option = request.config.getoption("--stack")
    if option or not stacks.available("embedded"):
        return stacks.choose(option)
    return "kafka" if request.node.get_closest_marker("kafka") else "embedded"


@pytest.fixture
async def make_world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MakeWorld]:
    """`await make_world(settings=..., ...)`, on the stack of this test unless it is given."""
    chosen = _stack(request)
    async with AsyncExitStack() as cleanup:

        async def make(*, stack: stacks.StackName = chosen, **options: Any) -> World:
            if not (found := stacks.available(stack)):
                stacks.missing(found.reason)
            return await cleanup.enter_async_context(World(tmp_path / "world", stack, **options))

        yield make


@pytest.fixture
async def world(make_world: MakeWorld) -> World:
    """With settings that make leases and sessions short."""
    return await make_world()
