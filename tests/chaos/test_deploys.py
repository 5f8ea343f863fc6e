"""Rolling restarts, scaling, members that come and go, supervisors that die: none of it runs a task twice."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.chaos.customer import LIGHT, Mix
from tests.chaos.faults import FreezeSupervisor, KillSupervisor, RollingRestart, Scale, Storm

if TYPE_CHECKING:
    from tests.chaos.conftest import MakeWorld
    from tests.chaos.faults import Fault
    from tests.chaos.world import World

#: Nothing here is about leases, so they are those of production: a slow start must not look like a death.
SETTINGS = {"YADTQ_SESSION_TIMEOUT_S": "6", "YADTQ_SUPERVISOR_SILENCE_S": "60"}


@pytest.fixture
async def world(make_world: MakeWorld) -> World:
    return await make_world(settings=SETTINGS)


async def undergo(world: World, faults: list[Fault], *, mix: Mix) -> None:
    """One after the other, under load; nothing may run twice."""
    customer = world.customers[0]
    await world.watched()
    customer.start_load(mix, per_second=30)
    await world.working(30)
    for fault in faults:
        await fault.inject(world)
        await world.pace.pause(fault.lasts_s)
        await fault.heal(world)
    await world.settled()
    assert world.repeated() == {}
    assert await world.verdict() == []


@pytest.mark.slow
@pytest.mark.kafka
async def test_a_rolling_restart_of_all_workers_runs_nothing_twice(world: World) -> None:
    fleet, _ = await world.fleet(workers=3), await world.customer()
    await undergo(world, [RollingRestart(fleet)], mix=LIGHT)


@pytest.mark.slow
async def test_slots_that_come_and_go_run_nothing_twice(world: World) -> None:
    fleet, _ = await world.fleet(workers=2), await world.customer()
    await undergo(world, [Scale(fleet, lasts_s=2.0), Scale(fleet, lasts_s=1.0)], mix=LIGHT)


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.timeout(120)
async def test_a_rebalance_storm_runs_nothing_twice_and_work_goes_on(world: World) -> None:
    """Tasks of 50 ms to 14 s, of which the long ones outlive many rebalances."""
    fleet, customer = await world.fleet(workers=2), await world.customer()
    long = [customer.next_job(Mix({"sleep": 1}, sleep_ms=(14_000, 14_000))) for _ in range(4)]
    for job in long:
        customer.send(job)
    await world.executing([job.id for job in long])
    storm = Storm("a", lasts_s=15.0)
    await world.watched()
    customer.start_load(Mix({"quick": 2, "sleep": 3}, sleep_ms=(50, 3_000)), per_second=20)
    await storm.inject(world)
    done_at = []
    while world.pace.now() - storm.since < storm.lasts_s:
        await world.pace.pause(3.0)
        done_at.append(len(world.states.final))
    await storm.heal(world)
    await world.settled()
    assert storm.rebalances >= 4
    assert all(later > earlier for earlier, later in pairwise(done_at)), done_at
    assert world.repeated() == {}
    assert fleet.spawned() == 2
    assert await world.verdict() == []


@pytest.mark.slow
async def test_a_frozen_and_then_killed_supervisor_costs_no_second_execution(world: World) -> None:
    fleet, _ = await world.fleet(workers=2), await world.customer()
    await undergo(world, [FreezeSupervisor(fleet, lasts_s=3.0), KillSupervisor(fleet)], mix=LIGHT)
