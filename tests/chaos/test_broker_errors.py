"""What a broker does that no signal can make it do: on the devbroker, by its control channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos.customer import LIGHT
from tests.chaos.faults import BrokerDrops, BrokerErrors, MoveCoordinator, MoveLeaders

if TYPE_CHECKING:
    from tests.chaos.conftest import MakeWorld
    from tests.chaos.faults import Fault
    from tests.chaos.world import World


@pytest.fixture
async def world(make_world: MakeWorld) -> World:
    return await make_world(stack="embedded")


async def undergo(world: World, faults: list[Fault]) -> None:
    """One after the other under load; nothing may run twice, and nobody may have to be restarted."""
    await world.fleet(workers=2)
    customer = await world.customer()
    await world.watched()
    customer.start_load(LIGHT, per_second=40)
    await world.working(50)
    for fault in faults:
        await fault.inject(world)
        await world.probe(customer)
        await fault.heal(world)
    await world.settled()
    assert world.spawned() == 2
    assert world.repeated() == {}
    assert await world.verdict() == []


@pytest.mark.slow
async def test_appends_that_are_applied_and_then_said_to_have_timed_out(world: World) -> None:
    """Each is a copy of a task, in another partition maybe: one execution, whatever is appended how often."""
    await undergo(world, [BrokerErrors("Produce", "REQUEST_TIMED_OUT", 10, applied=True) for _ in range(3)])


@pytest.mark.slow
async def test_leaders_and_coordinators_that_move(world: World) -> None:
    await undergo(world, [MoveLeaders(), MoveCoordinator(), MoveLeaders(), MoveCoordinator()])


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_errors_by_kind_of_request(world: World) -> None:
    await undergo(
        world,
        [
            BrokerErrors("Produce", "NOT_LEADER_FOR_PARTITION", 5),
            BrokerErrors("Fetch", "NOT_LEADER_FOR_PARTITION", 5),
            BrokerErrors("OffsetCommit", "NOT_COORDINATOR", 3),
            BrokerErrors("OffsetCommit", "COORDINATOR_LOAD_IN_PROGRESS", 3),
            BrokerErrors("OffsetCommit", "REQUEST_TIMED_OUT", 3, applied=True),
            BrokerErrors("Heartbeat", "REBALANCE_IN_PROGRESS", 2),
            BrokerErrors("Heartbeat", "UNKNOWN_MEMBER_ID", 1),
            BrokerErrors("JoinGroup", "COORDINATOR_NOT_AVAILABLE", 2),
            BrokerDrops("Fetch", 5),
            BrokerDrops("Produce", 5),
            BrokerDrops("Heartbeat", 2),
        ],
    )
