"""What comes in from outside, one fault after the other under load."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos.customer import LIGHT
from tests.chaos.intruders import BadRecords, DamagedKeys, Guest, Poison, RefusingRedis
from tests.chaos.soak import SETTINGS
from tests.chaos.world import QUICK_SETTINGS

if TYPE_CHECKING:
    from tests.chaos.conftest import MakeWorld


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_they_harm_no_task_of_others(make_world: MakeWorld) -> None:
    world = await make_world(settings={**QUICK_SETTINGS, **SETTINGS})
    _fleet, customer = await world.fleet(workers=2), await world.customer()
    await world.watched()
    customer.start_load(LIGHT, 20)
    await world.working(30)
    for fault in (
        BadRecords(),
        DamagedKeys(),
        RefusingRedis("evalsha eval", 1.0),
        RefusingRedis("publish", 1.0),
        Guest(),
        Poison("exit"),
        Poison("segfault"),
    ):
        await fault.inject(world)
        await world.pace.pause(fault.lasts_s)
        await fault.heal(world)
        await world.probe(customer)
    await world.settled()
    assert await world.verdict() == []
