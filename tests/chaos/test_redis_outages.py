"""Redis ends, hangs, and loses its data: no task fails for it, no process is restarted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos.customer import LIGHT
from tests.chaos.faults import EmptyRedis, FreezeServer, RestartServer

if TYPE_CHECKING:
    from tests.chaos.faults import Fault
    from tests.chaos.world import World

#: Throughput is back so many seconds after the server is.
BACK_S = 10.0


async def outage(world: World, fault: Fault, *, per_second: float = 40) -> float:
    """Under load; returns how long it took until fresh tasks were done. Nothing may be wrong at the end."""
    await world.fleet(workers=2)
    customer = await world.customer()
    await world.watched()
    customer.start_load(LIGHT, per_second)
    await world.working(50)
    before = world.spawned()
    await fault.inject(world)
    await world.pace.pause(fault.lasts_s)
    await fault.heal(world)
    took = await world.probe(customer)
    await world.settled()
    assert world.spawned() == before, "a process was restarted"
    assert await world.verdict() == []
    return took


async def test_a_restart_with_data(world: World) -> None:
    assert await outage(world, RestartServer("redis", lasts_s=1.0)) < BACK_S
    assert world.repeated() == {}


@pytest.mark.slow
async def test_an_outage_longer_than_the_lease(world: World) -> None:
    assert await outage(world, RestartServer("redis", lasts_s=5.0)) < BACK_S


@pytest.mark.slow
async def test_a_freeze_longer_than_the_lease(world: World) -> None:
    assert await outage(world, FreezeServer("redis", lasts_s=5.0)) < BACK_S


@pytest.mark.slow
@pytest.mark.parametrize("restart", [True, False], ids=["restart", "flushall"])
async def test_the_loss_of_all_data(world: World, *, restart: bool) -> None:
    fault = EmptyRedis(restart)
    fault.lasts_s = 0.0
    assert await outage(world, fault) < BACK_S
