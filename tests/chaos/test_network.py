"""One party's way to one server is cut, in every manner a network knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos.customer import LIGHT
from tests.chaos.faults import Cut
from tests.chaos.test_redis_outages import BACK_S

if TYPE_CHECKING:
    from tests.chaos.world import World


async def cut(world: World, *faults: Cut) -> None:
    """Two fleets share the work; parties are cut off one after the other."""
    for party in ("a", "b"):
        await world.fleet(party, workers=1)
    customer = await world.customer()
    await world.watched()
    customer.start_load(LIGHT, per_second=40)
    await world.working(50)
    before = world.spawned()
    for fault in faults:
        await fault.inject(world)
        await world.pace.pause(fault.lasts_s)
        await fault.heal(world)
        assert await world.probe(customer) < BACK_S, fault.describe()
    await world.settled()
    assert world.spawned() == before, "a process was restarted"
    assert await world.verdict() == []


@pytest.mark.slow
async def test_half_of_the_workers_lose_redis_for_longer_than_their_lease(world: World) -> None:
    await cut(world, Cut("a", "redis", "black-hole", 5.0))


@pytest.mark.slow
async def test_broken_and_slow_connections_to_redis(world: World) -> None:
    short = [Cut("a", "redis", how, 1.0) for how in ("reset", "drop", "half-close", "cut", "delay", "deaf")]
    await cut(world, *short, Cut("client", "redis", "deaf", 3.0))


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.timeout(120)
async def test_half_of_the_workers_lose_kafka_for_longer_than_their_session(world: World) -> None:
    if world.stack != "kafka":
        pytest.skip("the devbroker can't tell parties apart")
    await cut(world, Cut("a", "kafka", "black-hole", 8.0))
    assert world.repeated() == {}


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.timeout(120)
async def test_broken_and_slow_connections_to_kafka(world: World) -> None:
    if world.stack != "kafka":
        pytest.skip("the devbroker can't tell parties apart")
    short = [Cut("a", "kafka", how, 1.5) for how in ("reset", "half-close", "cut", "delay")]
    await cut(world, *short, Cut("client", "kafka", "deaf", 7.0))
    assert world.repeated() == {}
